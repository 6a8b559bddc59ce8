"""Rules that decline, fail or are stopped: the graph is as it was."""

from __future__ import annotations

from typing import Any

import pytest

from anec import Value, mil, reject, var
from anec.errors import AnecError, UnsupportedError
from anec.ir.verify import verify
from anec.rewrite import Rewriter, Rule
from anec.rewrite.records import Rewrite
from rewriting import module_of, roots, rule, run, soft

x, y = var("x"), var("y")


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
    assert "test_driver_undo.py:" in (caught.value.hint or "")


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
