"""Each rule on a tiny program that it speaks of, and on one where it is silent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ane.ane_programs import made
from ane.rule_cases import CASES, COST, X4, one
from anec.ane import CATALOGUE, Confidence, Effect, limits_of, predict
from anec.ane.site import Program
from anec.dialects import mil
from anec.ir.graph import Module, Value


def applied(module: Module, generation: str) -> dict[str, str]:
    """The reasons by rule, of ops and of the function."""
    program = Program(module, module.main, limits_of(generation))
    found = [finding for site in program.sites for finding in CATALOGUE.of_op(site)]
    return {finding.rule.id: finding.reason for finding in (*found, *CATALOGUE.of_program(program))}


@pytest.mark.parametrize("rule", CASES)
def test_rule(rule: str) -> None:
    speaks, silent, generation = CASES[rule]
    target = "iOS16" if rule == "B38" else "iOS18"
    module = made(speaks, target)
    found = applied(module, generation)
    assert rule in found
    assert found[rule]
    assert "\n" not in found[rule]
    assert rule not in applied(made(silent, target), generation)
    if CATALOGUE.by_id[rule].rejects:
        placements = predict(module, generation).functions[0].placements
        assert any(rule in {f.rule.id for f in p.blockers} for p in placements), "it keeps the op off the Neural Engine"


def _softmax_of_logs(x: Value) -> Value:
    shift = mil.clip(mil.reduce_max(x, axes=[1], keep_dims=True), alpha=-65504.0, beta=65504.0)
    return mil.reduce_log_sum_exp(mil.sub(x, shift), axes=[1], keep_dims=True)


def _by_largest(x: Value) -> Value:
    return mil.real_div(x, mil.maximum(mil.reduce_max(mil.abs(x), axes=[1], keep_dims=True), 2.0**-24))


# What fp16-safe writes, and what looks like it.
REPAIRED: dict[str, tuple[str, Callable[[Value], Value], bool]] = {
    "exponentials behind their maximum": ("B36l", _softmax_of_logs, False),
    "behind the maximum of others": (
        "B36l", lambda x: mil.reduce_log_sum_exp(mil.sub(x, mil.reduce_max(mil.relu(x), axes=[1], keep_dims=True)),
                                                 axes=[1], keep_dims=True), True,
    ),
    "the norm of what its largest divides": ("A34", lambda x: mil.reduce_l2_norm(_by_largest(x), axes=[1]), False),
    "squares of it": ("A34", lambda x: mil.reduce_mean(mil.square(_by_largest(x)), axes=[1]), False),
    "squares of another quotient": (
        "A34", lambda x: mil.reduce_mean(mil.square(mil.real_div(x, mil.maximum(mil.abs(x), 1.0))), axes=[1]), True,
    ),
    "softplus of what is never above 0": ("B36s", lambda x: mil.softplus(mil.mul(mil.abs(x), -1.0)), False),
    "softplus of what is never below 0": ("B36s", lambda x: mil.softplus(mil.mul(mil.abs(x), 2.0)), True),
}  # fmt: skip


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_is_no_finding(name: str) -> None:
    rule, build, speaks = REPAIRED[name]
    assert (rule in applied(made(lambda m: build(m.x(X4))), "M1")) == speaks


def test_every_rule_has_a_case() -> None:
    assert CASES.keys() | COST == CATALOGUE.by_id.keys()


@pytest.mark.parametrize(
    ("rule", "before", "since"), [("B12", "M1", "M2"), ("B13", "M2", "M3"), ("B14s", "M1", "M2"), ("B33", "M2", "M3"),
    ("B01", "M3", None), ("B05", "M1", None), ("B46", "M1", "M2"), ("A39", "M3", "M4")],
)  # fmt: skip
def test_generations_differ(rule: str, before: str, since: str | None) -> None:
    module = made(CASES[rule][0])
    assert rule in applied(module, before)
    if since is not None:
        assert rule not in applied(module, since)


def test_the_limit_is_that_of_the_generation() -> None:
    wide = made(one("relu", "f16[1,65536]"))
    assert "B01" in applied(wide, "M3")
    assert "B01" not in applied(wide, "M4")
    assert limits_of("A15") is limits_of("M2")


def test_rules_are_complete() -> None:
    for rule in CATALOGUE.rules:
        assert rule.statement.endswith(".")
        assert rule.remedy
        assert rule.source
        assert rule.id[0] in "ABF"
        assert (rule.id[0] == "F") <= (rule.confidence is Confidence.FOLKLORE)
        assert not (rule.rejects and rule.confidence is Confidence.FOLKLORE), "folklore is a hint"
        assert {f"mil.{op}" for op in rule.ops} <= {*mil.names(), "mil.model", "mil.segment"}
        assert rule.effect in Effect
