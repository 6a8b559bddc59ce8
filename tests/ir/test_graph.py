"""The graph: use lists, the op list under mutation, names, order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anec import mil
from anec.errors import AnecError
from anec.ir.attrs import Literal
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Op, Origin, legal_name
from anec.ir.types import DType, StateType, TensorType
from anec.ir.weights import Weight

F4 = TensorType(DType.F32, (4,))


def chain(length: int) -> tuple[Graph, list[Op]]:
    """x, relu, relu, ..."""
    graph = Graph()
    value = graph.add_input("x", F4)
    with Builder(graph).active() as builder:
        for _ in range(length):
            value = mil.relu(value)
    graph.outputs = [value]
    return graph, builder.created


def test_use_lists_follow_operands() -> None:
    graph = Graph()
    x, y = graph.add_input("x", F4), graph.add_input("y", F4)
    with Builder(graph).active():
        z = mil.add(x, x)
    assert z.op is not None
    assert list(x.uses) == [(z.op, 0), (z.op, 1)]
    assert x.users == [z.op]
    z.op.set_operand(1, y)
    assert (list(x.uses), list(y.uses)) == ([(z.op, 0)], [(z.op, 1)])
    z.op.set_operand(0, Literal(1.0))
    assert not x.uses
    graph.outputs = [z]
    graph.replace(z, y)
    assert graph.outputs == [y]
    assert y.is_output
    graph.erase(z.op)
    assert not y.uses


def test_erasing_what_is_used_is_refused() -> None:
    graph, ops = chain(2)
    with pytest.raises(AnecError, match="%relu is still used"):
        graph.erase(ops[0])
    with pytest.raises(AnecError, match="%relu_1 is still used"):
        graph.erase(ops[1])
    with pytest.raises(AnecError, match="%x is still used"):
        graph.remove_input(graph.inputs[0])


def test_failed_inference_leaves_no_use_behind() -> None:
    graph = Graph()
    x, y = graph.add_input("x", F4), graph.add_input("y", TensorType(DType.F32, (3,)))
    with Builder(graph).active(), pytest.raises(AnecError):
        mil.add(x, y)
    assert not x.uses
    assert not y.uses
    assert len(graph) == 0


def test_a_user_error_in_inference_leaves_no_use_behind() -> None:
    from anec.ir.opdef import OpDef, Param

    def infer(op: Op) -> tuple[TensorType, ...]:
        raise KeyError("mistake")

    defn = OpDef("test.broken", (Param("x"),), infer=infer)
    graph = Graph()
    x = graph.add_input("x", F4)
    with Builder(graph).active(), pytest.raises(KeyError):
        defn(x)
    assert not x.uses


def test_ops_may_be_erased_while_iterated() -> None:
    graph, ops = chain(6)
    graph.outputs = [ops[1].result]
    seen = []
    for op in graph.ops():
        seen.append(op)
        if op is ops[2]:
            for dead in reversed(ops[2:5]):
                for user, index in list(dead.result.uses):
                    user.set_operand(index, ops[1].result)
                graph.erase(dead)
    assert seen == [*ops[:3], ops[5]]
    assert list(graph) == [*ops[:2], ops[5]]


def test_ops_may_be_inserted_while_iterated() -> None:
    graph, ops = chain(3)
    seen = []
    for op in graph.ops():
        seen.append(op)
        if op in ops:
            with Builder(graph, before=op.next).active():
                mil.abs(op.result)
    assert [op.name for op in seen] == ["mil.relu", "mil.abs"] * 3
    assert list(reversed(list(graph.reversed_ops()))) == list(graph)


@given(st.integers(0, 2**32))
def test_random_edits_keep_the_list_whole(seed: int) -> None:
    rng = random.Random(seed)
    graph = Graph()
    x = graph.add_input("x", F4)
    model: list[Op] = []
    for _ in range(40):
        if model and rng.random() < 0.4:
            op = model.pop(rng.randrange(len(model)))
            graph.erase(op)
        else:
            at = rng.randrange(len(model) + 1)
            before = model[at] if at < len(model) else None
            model.insert(at, Builder(graph, before=before).create(mil.relu, {"x": x}, types=(F4,)))
    assert list(graph.ops()) == model
    assert list(graph.reversed_ops()) == model[::-1]
    assert len(graph) == len(model)
    assert all(a.is_before(b) and not b.is_before(a) for a, b in zip(model, model[1:], strict=False))
    assert len({op.result.name for op in model}) == len(model)
    assert set(x.uses) == {(op, 0) for op in model}


def test_order_holds_after_ten_thousand_insertions_at_one_place() -> None:
    graph = Graph()
    x = graph.add_input("x", F4)
    last = Builder(graph).create(mil.relu, {"x": x}, types=(F4,))
    builder = Builder(graph, before=last, name="y")
    made = [builder.create(mil.abs, {"x": x}, types=(F4,)) for _ in range(10_000)]
    assert list(graph.ops()) == [*made, last]
    assert all(a.is_before(b) for a, b in zip(made, made[1:], strict=False))
    assert made[-1].is_before(last)
    assert [op.result.name for op in made[:3]] == ["y", "y_1", "y_2"]
    assert made[-1].result.name == "y_9999"


def test_names_are_the_smallest_free_whatever_happened_before() -> None:
    graph, ops = chain(12)
    assert [op.result.name for op in ops[:3]] == ["relu", "relu_1", "relu_2"]
    assert graph.unique_name("relu") == "relu_12"
    graph.rename(ops[4].result, "other")
    assert graph.unique_name("relu") == "relu_4"
    graph.rename(ops[2].result, "other")
    assert ops[2].result.name == "other_1"
    assert graph.unique_name("relu") == "relu_2"
    assert graph.unique_name("relu_1") == "relu_1_1"
    graph.rename(ops[1].result, "relu_1")
    assert ops[1].result.name == "relu_1"


@given(st.text(max_size=8))
def test_legal_names(text: str) -> None:
    name = legal_name(text)
    assert name.isidentifier()
    assert name.isascii()
    assert legal_name(name) == name


def test_weights_are_entered_once() -> None:
    module = Module()
    graph = module.functions["main"] = Graph()
    weight = module.add_weight(Weight("layers.0.weight", F4))
    value = graph.add_weight(weight)
    assert graph.add_weight(weight) is value
    assert value.name == "layers_0_weight"
    other = module.add_weight(Weight("layers.0.weight", TensorType(DType.F32, (5,))))
    assert other.name == "layers.0.weight_1"
    graph.remove_weight(value)
    assert not graph.weights
    assert graph.unique_name("layers_0_weight") == "layers_0_weight"


def test_operands_by_parameter() -> None:
    graph = Graph()
    x = graph.add_input("x", F4)
    with Builder(graph).active():
        y = mil.concat([x, x], axis=0)
        z = mil.clip(x, alpha=0.0, beta=1.0)
    assert y.op is not None
    assert y.op.variadic("values") == [x, x]
    assert y.op.param_of(1) == "values"
    assert list(y.op.slot("values")) == [0, 1]
    assert y.op.arguments() == {"values": [x, x]}
    with pytest.raises(AnecError, match="list of operands"):
        y.op.operand("values")
    assert z.op is not None
    with pytest.raises(AnecError, match="one operand, not a list"):
        z.op.variadic("x")
    with pytest.raises(AnecError, match="no operand 'nothing'"):
        z.op.operand("nothing")
    with pytest.raises(AnecError, match="no attribute 'gamma'"):
        z.op.attr("gamma")


def test_listeners_hear_every_change() -> None:
    heard: list[str] = []

    class Ear:
        def op_inserted(self, op: Op) -> None:
            heard.append(f"+{op.defn.root}")

        def op_erased(self, op: Op) -> None:
            heard.append(f"-{op.defn.root}")

        def op_changed(self, op: Op) -> None:
            heard.append(f"~{op.defn.root}")

    graph = Graph()
    x = graph.add_input("x", F4)
    graph.listeners.append(Ear())
    with Builder(graph).active():
        y = mil.clip(x, alpha=0.0, beta=1.0)
        z = mil.relu(y)
    assert y.op is not None
    assert z.op is not None
    y.op.set_attr("beta", 2.0)
    y.op.drop_attr("beta")
    y.op.drop_attr("beta")
    graph.replace(y, x)
    graph.erase(y.op)
    assert heard == ["+clip", "+relu", "~clip", "~clip", "~relu", "-clip"]


def test_origins_tell_where() -> None:
    origin = Origin("layers.0", "model.py:3")
    assert origin.place == "model.py:3 (layers.0)"
    assert str(origin.by("fold").by("fuse").by("fold")) == "layers.0  model.py:3  <fold,fuse>"
    assert Origin("a").place == "a"
    assert Origin().place == ""


def test_states_are_inputs() -> None:
    graph = Graph()
    state = graph.add_input("cache", StateType(F4))
    graph.add_input("x", F4)
    assert graph.states() == [state]
    assert state.shape == (4,)


def test_which_function_is_main() -> None:
    module = Module({"small": Graph("small")})
    assert module.main.name == "small"
    module.functions["large"] = Graph("large")
    with pytest.raises(AnecError, match="which function"):
        _ = module.main
