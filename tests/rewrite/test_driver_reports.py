"""What the driver tells: near misses, traces, checks; and what it hands to rules."""

from __future__ import annotations

from typing import Any

import pytest

from anec import Value, mil, reject, var
from anec.errors import AnecError
from anec.ir.facts import Facts
from anec.ir.graph import Op
from anec.rewrite import Rewriter, RewriteRecord
from anec.rewrite.driver import find_rule
from anec.rewrite.records import Rewrite
from rewriting import module_of, rule, run, soft

x, y = var("x"), var("y")


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
