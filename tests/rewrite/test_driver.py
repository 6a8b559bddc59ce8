"""The driver: naming, fixpoints, undoing, effects, budgets, traces."""

from __future__ import annotations

from typing import Any

import pytest

from anec import Value, mil, nn, reject, rewrite, var
from anec.dialects import registry
from anec.errors import AnecError, UnsupportedError
from anec.ir.facts import Facts
from anec.ir.graph import Module, Op
from anec.ir.parser import parse_module
from anec.ir.types import StateType
from anec.ir.verify import verify
from anec.rewrite import Rewriter, RewriteRecord, Rule
from anec.rewrite.driver import Rewrite, find_rule
from rewriting import lines, module_of, roots, run

x, y = var("x"), var("y")


def rule(*patterns: Any, name: str | None = None) -> Any:
    return rewrite(*patterns, name=name)


# -- names ---------------------------------------------------------------------------------------------


@rule(mil.softplus(x))
def soft(x: Value) -> Value:
    return mil.log(mil.add(mil.exp(x), 1.0))


def test_new_values_are_named_after_the_root() -> None:
    module = module_of(lambda a: mil.relu(mil.softplus(a)))
    run(module, soft)
    assert lines(module) == [
        "%softplus_exp = mil.exp(%x0)",
        "%softplus_add = mil.add(%softplus_exp, 1.0)",
        "%softplus = mil.log(%softplus_add)",
        "%relu = mil.relu(%softplus)",
    ]


def test_names_at_one_site_do_not_depend_on_other_sites() -> None:
    """One more op elsewhere changes no name here: dumps differ where programs do."""

    def program(extra: bool) -> Module:
        def build(a: Value) -> Value:
            first = mil.softplus(mil.softplus(a))
            return mil.softplus(mil.softplus(first) if extra else first)

        return module_of(build)

    short, long = program(False), program(True)
    run(short, soft)
    run(long, soft)
    assert len(lines(short)) == 9
    assert [line for line in lines(long) if line in lines(short)] == lines(short)


def test_replayed_text_gives_the_same_text() -> None:
    module = module_of(lambda a: mil.softplus(mil.add(mil.softplus(a), mil.softplus(mil.relu(a)))))
    read = parse_module(str(module), registry)
    run(module, soft)
    run(read, soft)
    assert str(read) == str(module)


def test_outputs_keep_their_names_and_origins_tell_the_rule() -> None:
    module = module_of(mil.softplus)
    name = module.main.outputs[0].name
    run(module, soft)
    assert module.main.outputs[0].name == name
    assert {op.origin.rules for op in module.ops()} == {("soft",)}
    assert {op.origin.place for op in module.ops()} == {"model.py:1 (net)"}


def test_a_capture_in_the_place_of_the_root_keeps_its_own_name() -> None:
    drop = rule(mil.identity(x), name="drop")(lambda x: x)
    module = module_of(lambda a: mil.relu(mil.identity(mil.tanh(a))))
    run(module, drop)
    assert lines(module) == ["%tanh = mil.tanh(%x0)", "%relu = mil.relu(%tanh)"]


# -- fixpoints -----------------------------------------------------------------------------------------


def test_chains_of_rewrites_reach_a_fixpoint() -> None:
    """A rewrite far inside lets another rule fire at a root that was looked at before."""
    inner = rule(mil.real_div(x, 2.0), name="inner")(lambda x: mil.mul(x, 0.5))
    outer = rule(mil.relu(mil.tanh(mil.abs(mil.mul(x, 0.5)))), name="outer")(lambda x: mil.sigmoid(x))
    module = module_of(lambda a: mil.relu(mil.tanh(mil.abs(mil.real_div(a, 2.0)))))
    statistics = run(module, inner, outer)
    assert statistics.fired == {"inner": 1, "outer": 1}
    assert roots(module) == ["sigmoid"]


def test_fewer_users_let_a_rule_fire() -> None:
    single = rule(mil.relu(mil.tanh(x)), name="single")

    @single
    def fuse(op: Op, x: Value) -> Value:
        if len(op.value("x").uses) > 1:
            reject("shared")
        return mil.sigmoid(x)

    drop = rule(mil.sub(y, y), name="drop")(lambda y: mil.mul(y, 0.0))
    collapse = rule(mil.mul(y, 0.0), name="collapse")(lambda op, ctx: mil.abs(ctx["x"]))
    module = module_of(lambda a: (mil.relu(mil.tanh(a)), None)[0])
    assert run(module, fuse).fired == {"single": 1}

    def shared(a: Value) -> tuple[Value, Value]:
        inner = mil.tanh(a)
        return mil.relu(inner), mil.sub(inner, inner)

    module = module_of(shared)
    statistics = Rewriter(module, [fuse, drop, collapse], ctx={"x": module.main.inputs[0]}).run(module.main)
    verify(module)
    assert statistics.fired == {"drop": 1, "collapse": 1, "single": 1}


def test_a_second_root_that_comes_later() -> None:
    """The first root was looked at before the second one was there."""
    both = rule(mil.mul(x, 2.0), mil.mul(x, 3.0), name="both")(lambda x: (mil.add(x, x), mil.sub(x, -1.0)))
    later = rule(mil.real_div(x, 0.25), name="later")(lambda x: mil.mul(x, 3.0))
    module = module_of(lambda a: (mil.mul(a, 2.0), mil.real_div(a, 0.25)))
    assert run(module, both, later).fired == {"later": 1, "both": 1}


def test_users_of_a_value_that_stays_are_looked_at_again() -> None:
    drop = rule(mil.identity(x), name="drop")(lambda x: x)
    pair = rule(mil.relu(mil.tanh(x)), name="pair")(lambda x: mil.sigmoid(x))
    module = module_of(lambda a: mil.relu(mil.identity(mil.identity(mil.tanh(a)))))
    assert run(module, drop, pair).fired == {"drop": 2, "pair": 1}


def test_a_long_chain_is_one_sweep() -> None:
    """Work is linear: each op is visited a bounded number of times."""
    merge = rule(mil.relu(mil.relu(x)), name="merge")(lambda x: mil.relu(x))

    def program(a: Value) -> Value:
        for _ in range(300):
            a = mil.relu(a)
        return a

    module = module_of(program)
    statistics = run(module, merge)
    assert roots(module) == ["relu"]
    assert statistics.visited <= 5 * 300


# -- declining and undoing -----------------------------------------------------------------------------


class Broken(Exception):
    pass


def builds_then(action: Any) -> Rule:
    @rule(mil.add(mil.tanh(x), y), name="half_done")
    def half_done(x: Value, y: Value) -> Value:
        made = mil.mul(mil.exp(x), y)
        found = action(made, x)
        return made if found is None else found

    return half_done


def unsupported(made: Value, x: Value) -> None:
    raise UnsupportedError("needs iOS99", hint="wait")


def mistake(made: Value, x: Value) -> None:
    raise Broken("a typo")


def own_error(made: Value, x: Value) -> None:
    raise AnecError("the sizes do not fit", hint="cut them")


DECLINING = {"rejects": lambda made, x: reject("not today"), "unsupported": unsupported}
FAILING: dict[str, tuple[Any, str]] = {
    "mistake": (mistake, "the rule half_done failed: Broken: a typo"),
    "own_error": (own_error, "the sizes do not fit"),
    "other_type": (lambda made, x: mil.reduce_sum(made), r"replaced %add: f32\[2,4\] by f32\[\]"),
    "other_count": (lambda made, x: (made, made), "returned 2 values for 1"),
    "no_value": (lambda made, x: 3, "failed: TypeError|returned int"),
    "bad_op": (lambda made, x: mil.add(made, mil.reshape(x, [8])), "mil.add|broadcast"),
}


def program(a: Value, b: Value) -> Value:
    return mil.relu(mil.add(mil.tanh(a), b))


@pytest.mark.parametrize("how", DECLINING)
def test_declining_leaves_the_graph_as_it_was(how: str) -> None:
    module = module_of(program, "f32[2,4]", "f32[2,4]")
    text = str(module)
    statistics = run(module, builds_then(DECLINING[how]))
    assert str(module) == text
    assert not statistics.fired
    wanted = {"rejects": "not today", "unsupported": "needs iOS99 (wait)"}[how]
    assert str(statistics.misses["half_done"]) == f"{wanted} at model.py:1 (net)"


@pytest.mark.parametrize("how", FAILING)
def test_failing_leaves_the_graph_as_it_was(how: str) -> None:
    action, message = FAILING[how]
    module = module_of(program, "f32[2,4]", "f32[2,4]")
    text = str(module)
    with pytest.raises(AnecError, match=message) as caught:
        Rewriter(module, [builds_then(action)]).run(module.main)
    assert str(module) == text
    verify(module)
    assert caught.value.rule == "half_done"
    assert caught.value.where == "model.py:1 (net)"
    assert "> %add = mil.add(%tanh, %x1)" in (caught.value.window or "")


def test_a_mistake_in_a_rule_is_told_with_its_line() -> None:
    module = module_of(program, "f32[2,4]", "f32[2,4]")
    with pytest.raises(AnecError) as caught:
        Rewriter(module, [builds_then(mistake)]).run(module.main)
    assert isinstance(caught.value.__cause__, Broken)
    assert "test_driver.py:" in (caught.value.hint or "")


def test_a_refused_check_leaves_the_graph_as_it_was() -> None:
    def refuse(rewrite: Rewrite) -> None:
        assert rewrite.created
        raise AnecError("the numbers changed")

    module = module_of(mil.softplus)
    text = str(module)
    with pytest.raises(AnecError, match="the numbers changed"):
        Rewriter(module, [soft], on_rewrite=refuse).run(module.main)
    assert str(module) == text


def test_interrupting_leaves_the_graph_as_it_was() -> None:
    def interrupt(made: Value, x: Value) -> None:
        raise KeyboardInterrupt

    module = module_of(program, "f32[2,4]", "f32[2,4]")
    text = str(module)
    with pytest.raises(KeyboardInterrupt):
        Rewriter(module, [builds_then(interrupt)]).run(module.main)
    assert str(module) == text


def test_returning_what_was_matched_is_an_error() -> None:
    same = rule(mil.relu(x), name="same")(lambda op: op.result)
    module = module_of(mil.relu)
    with pytest.raises(AnecError, match="the rule same gave back the value it matched"):
        run(module, same)


def test_building_on_what_is_replaced_is_an_error() -> None:
    wrap = rule(mil.relu(x), name="wrap")(lambda op: mil.abs(op.result))
    module = module_of(mil.relu)
    text = str(module)
    with pytest.raises(AnecError, match="the rule wrap builds mil.abs on %relu, which it replaces"):
        run(module, wrap)
    assert str(module) == text


def test_returning_nothing_erases_only_what_is_unused() -> None:
    nothing = rule(mil.relu(x), name="nothing")(lambda x: None)
    module = module_of(lambda a: (mil.tanh(a), mil.relu(a))[0])
    assert run(module, nothing).fired == {"nothing": 1}
    assert roots(module) == ["tanh"]
    used = module_of(mil.relu)
    statistics = run(used, nothing)
    assert not statistics.fired
    assert statistics.misses["nothing"].reason == "the rule returned nothing"


# -- several results -----------------------------------------------------------------------------------


def test_many_results() -> None:
    @rule(mil.split, name="slices")
    def slices(op: Op) -> list[Value]:
        source = op.value("x")
        return [mil.slice_by_index(source, [0, 2 * i], [2, 2 * i + 2]) for i in range(2)]

    module = module_of(lambda a: mil.split.many(a, num_splits=2, axis=1))
    run(module, slices)
    assert [value.name for value in module.main.outputs] == ["split", "split_1"]
    assert roots(module) == ["slice_by_index", "slice_by_index"]


def test_unused_results_need_no_replacement() -> None:
    values = rule(mil.topk, name="values")(lambda op: mil.reduce_max(op.value("x"), axes=[-1], keep_dims=True))
    module = module_of(lambda a: mil.topk.many(a, k=1)[0])
    assert run(module, values).fired == {"values": 1}
    both = module_of(lambda a: mil.topk.many(a, k=1))
    with pytest.raises(AnecError, match="returned 1 values for 2"):
        run(both, values)


# -- effects -------------------------------------------------------------------------------------------


STATEFUL = """anec 1
module target=iOS18

func main(%x: f32[2], %s: state<f32[2]> {kind="state"}) -> (%y: f32[2]) {
  %old = nn.read_state(%s) : f32[2]
  %new = mil.relu(%old) : f32[2]
  nn.write_state(%s, %new)
  %unused = nn.read_state(%s) : f32[2]
  %y = mil.relu(%x) : f32[2]
  return %y
}
"""


def test_effects_are_neither_matched_inside_nor_erased() -> None:
    through = rule(mil.relu(nn.read_state(x)), name="through")(lambda x: mil.abs(nn.read_state(x)))
    module = parse_module(STATEFUL, registry)
    text = str(module)
    statistics = run(module, through)
    assert str(module) == text
    assert statistics.misses["through"].reason == "nn.read_state has effects, so it cannot be matched inside a pattern"
    plain = rule(mil.relu(x), name="plain")(lambda x: mil.abs(x))
    run(module, plain)
    assert [op.name for op in module.ops()] == [
        "nn.read_state", "mil.abs", "nn.write_state", "nn.read_state", "mil.abs",
    ]  # fmt: skip
    assert isinstance(module.main.inputs[1].type, StateType)


def test_an_op_with_effects_may_be_the_root() -> None:
    lower = rule(nn.read_state, name="lower")(lambda op: mil.read_state(op.value("state")))
    module = parse_module(STATEFUL, registry)
    assert run(module, lower).fired == {"lower": 2}


# -- coming to an end ----------------------------------------------------------------------------------


def test_two_rules_that_undo_each_other() -> None:
    there = rule(mil.relu(x), name="there")(lambda x: mil.abs(x))
    back = rule(mil.abs(x), name="back")(lambda x: mil.relu(x))
    module = module_of(mil.relu)
    with pytest.raises(AnecError, match="does not come to an end: it fired 9 times, in turn with back") as caught:
        run(module, there, back)
    error = caught.value
    assert error.rule == "there"
    assert (error.window or "").split("\n") == ["%relu = mil.relu(%x0) : f32[2,4]"] * 3
    assert "reject()" in (error.hint or "")
    verify(module)


def test_a_rule_that_grows_for_ever() -> None:
    grow = rule(mil.relu(x), name="grow")(lambda x: mil.relu(mil.add(x, 1.0)))
    module = module_of(mil.relu)
    with pytest.raises(AnecError, match="the rule grow does not come to an end"):
        run(module, grow)


def test_the_budget_of_a_rule_that_never_repeats_itself() -> None:
    number = 0

    @rule(mil.clip, name="count")
    def count(op: Op) -> Value:
        nonlocal number
        number += 1
        return mil.clip(op.value("x"), alpha=0.0, beta=float(number))

    module = module_of(lambda a: mil.clip(a, alpha=0.0, beta=0.5))
    with pytest.raises(AnecError, match="it fired 1011 times") as caught:
        run(module, count)
    assert (caught.value.window or "").count("mil.clip") == 3


# -- what is told --------------------------------------------------------------------------------------


def test_near_misses_say_what_was_wanted_and_what_was_there() -> None:
    sigmoid = rule(mil.mul(x, mil.sigmoid(mil.mul(x, 1.702))), name="gelu")(lambda x: mil.gelu(x))
    module = module_of(lambda a: mil.mul(a, mil.sigmoid(mil.mul(a, 1.5))), line="model.py:41")
    miss = run(module, sigmoid).misses["gelu"]
    assert str(miss) == "wanted constant 1.702, got 1.5 at model.py:41 (net)"
    assert miss.depth == 3
    other = module_of(lambda a: mil.mul(a, mil.tanh(a)), line="model.py:7")
    assert str(run(other, sigmoid).misses["gelu"]) == "wanted mil.sigmoid, got mil.tanh at model.py:7 (net)"
    unrelated = module_of(mil.relu)
    assert str(run(unrelated, sigmoid).misses["gelu"]) == ""


def test_a_rule_that_fires_has_no_miss_there() -> None:
    module = module_of(lambda a, b: mil.add(mil.tanh(b), a), "f32[2]", "f32[2]")
    swapped = rule(mil.add(mil.relu(x), mil.tanh(y)), name="swapped")(lambda x, y: mil.sub(x, y))
    assert str(run(module, swapped).misses["swapped"])
    hit = rule(mil.add(x, mil.tanh(y)), name="hit")(lambda x, y: mil.sub(x, y))
    module = module_of(lambda a, b: mil.add(mil.tanh(b), a), "f32[2]", "f32[2]")
    assert str(run(module, hit).misses["hit"]) == ""


@pytest.mark.parametrize(
    ("pattern", "build", "reason"),
    [
        (lambda: mil.relu(mil.clip(x, alpha=0.0, beta=6.0)), lambda a: mil.clip(a, alpha=0.0, beta=1.0), "mil.clip: wanted beta=6.0, got 1.0"),
        (lambda: mil.relu(mil.gelu(x)), lambda a: mil.gelu(a, mode="TANH_APPROXIMATION"), 'mil.gelu: mode is "TANH_APPROXIMATION", not its default'),
        (lambda: mil.relu(mil.add(x, x)), lambda a: mil.add(a, mil.tanh(a)), "x is mil.tanh here and another value elsewhere"),
        (lambda: mil.relu(var("x", where=lambda v: v.rank == 3)), lambda a: mil.tanh(a), "the condition on x does not hold for mil.tanh"),
        (lambda: mil.relu(mil.concat([x], axis=0)), lambda a: mil.concat([a, a], axis=0), "mil.concat: 2 values, wanted 1"),
        (lambda: mil.relu(mil.split(x, num_splits=2, axis=0)[1]), lambda a: mil.split.many(a, num_splits=2, axis=0)[0], "wanted result 1 of mil.split, got 0"),
        (lambda: mil.relu(mil.reshape(x, [8])), lambda a: mil.reshape(a, [4, 2]), "wanted [8], got [4, 2]"),
        (lambda: mil.relu(mil.tanh(x)), lambda a: a, "wanted mil.tanh, got the input %x0"),
    ],
)  # fmt: skip
def test_reasons(pattern: Any, build: Any, reason: str) -> None:
    near = rule(pattern(), name="near")(lambda x: x)
    statistics = run(module_of(lambda a: mil.relu(build(a))), near)
    assert statistics.misses["near"].reason == reason


def test_traces_tell_each_rewrite() -> None:
    records: list[RewriteRecord] = []
    module = module_of(lambda a: mil.relu(mil.softplus(a)))
    run(module, soft, records=records)
    (record,) = records
    told = record.as_json()
    assert told["rule"] == "soft"
    assert told["function"] == "main"
    assert told["site"] == "softplus"
    assert told["origin"] == "model.py:1 (net)"
    assert told["before"] == ["%softplus = mil.softplus(%x0) : f32[2,4]"]
    after = told["after"]
    assert isinstance(after, list)
    assert [line.split(" = ")[0] for line in after] == ["%softplus_exp", "%softplus_add", "%softplus"]
    assert isinstance(told["seconds"], float)


def test_checks_see_both_sides() -> None:
    seen: list[Rewrite] = []

    def look(rewrite: Rewrite) -> None:
        seen.append(rewrite)
        graph = rewrite.graph
        assert all(op.graph is graph for op in (*rewrite.match.ops, *rewrite.created))
        assert [value.name for value in rewrite.old] == ["softplus"]
        assert rewrite.match.captures == {"x": graph.inputs[0]}

    module = module_of(mil.softplus)
    run(module, soft, on_rewrite=look)
    assert len(seen) == 1
    assert [op.defn.root for op in seen[0].created] == ["exp", "add", "log"]


def test_rules_are_handed_options_and_context() -> None:
    @rule(mil.relu(x), name="asks")
    def asks(x: Value, op: Op, ops: tuple[Op, ...], opts: str, ctx: int) -> Value:
        assert (ops, opts, ctx, op.name) == ((op,), "options", 7, "mil.relu")
        return mil.abs(x)

    run(module_of(mil.relu), asks, opts="options", ctx=7)


def test_rules_are_tried_in_order() -> None:
    first = rule(mil.relu(x), name="first")(lambda x: mil.abs(x))
    second = rule(mil.relu(x), name="second")(lambda x: mil.tanh(x))
    assert run(module_of(mil.relu), first, second).fired == {"first": 1}
    shy = rule(mil.relu(x), name="shy")(lambda x: reject("after you"))
    assert run(module_of(mil.relu), shy, second).fired == {"second": 1}


def test_values_may_narrow_when_told_so() -> None:
    narrow = rule(mil.identity, name="narrow")(lambda op: mil.cast(op.value("x"), dtype="int32"))
    module = module_of(lambda a: mil.identity(a), "i64[2]")
    with pytest.raises(AnecError, match=r"replaced %identity: i64\[2\] by i32\[2\]"):
        Rewriter(module, [narrow]).run(module.main)
    assert Rewriter(module, [narrow], narrow=True).run(module.main).fired == {"narrow": 1}


def test_facts_follow_rewrites() -> None:
    module = module_of(lambda a: mil.relu(mil.sigmoid(a)))
    facts = Facts(module.main)
    assert facts.range(module.main.outputs[0]).upper == 1.0
    run(module, rule(mil.sigmoid(x), name="swap")(lambda x: mil.tanh(x)))
    assert facts.range(module.main.outputs[0]).lower == 0.0
    assert facts.range(module.main.outputs[0].op.value("x")).lower == -1.0  # type: ignore[union-attr]


def test_finding_a_rule_by_name() -> None:
    assert find_rule([soft], "soft") is soft
    with pytest.raises(AnecError, match="there is no rule 'sift'") as caught:
        find_rule([soft], "sift")
    assert "'soft'" in (caught.value.hint or "")
