"""The driver: naming, fixpoints, undoing, effects, budgets, traces."""

from __future__ import annotations

import pytest

from anec import Value, mil, nn, reject, var
from anec.dialects import registry
from anec.errors import AnecError
from anec.ir.graph import Module, Op
from anec.ir.parser import parse_module
from anec.ir.types import StateType
from anec.ir.verify import verify
from anec.rewrite import Rewriter
from rewriting import lines, module_of, roots, rule, run, soft

x, y = var("x"), var("y")


# -- names ---------------------------------------------------------------------------------------------


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
