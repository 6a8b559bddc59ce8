"""Facts: ranges hold for whatever the program computes, and forget what changed."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec import aten, mil
from anec.ir.attrs import Literal
from anec.ir.build import Builder
from anec.ir.facts import ANYTHING, Facts, Range, constants, is_constant, scalar_of
from anec.ir.graph import Graph, Module, Value
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate

F6 = TensorType(DType.F32, (2, 3))
UNARY = (
    "relu", "relu6", "sigmoid", "tanh", "erf", "sin", "cos", "abs", "square", "exp", "identity", "sqrt", "rsqrt",
    "reduce_mean", "reduce_max", "softmax", "transpose", "reshape",
)  # fmt: skip
BINARY = ("add", "sub", "mul", "real_div", "concat", "matmul")


def module_with(graph: Graph) -> Module:
    return Module({"main": graph})


def constant(graph: Graph, module: Module, numbers: torch.Tensor, name: str = "w") -> Value:
    dtype = {torch.float32: DType.F32, torch.float16: DType.F16, torch.int32: DType.I32}[numbers.dtype]
    weight = Weight(name, TensorType(dtype, tuple(numbers.shape)), TensorData(numbers))
    return graph.add_weight(module.add_weight(weight))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(UNARY + BINARY), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=8
    ),
    st.integers(0, 9),
)
def test_ranges_hold(program: list[tuple[str, int, int]], seed: int) -> None:
    torch.manual_seed(seed)
    graph = Graph()
    module = module_with(graph)
    values = [graph.add_input("x", F6), constant(graph, module, torch.rand(2, 3) * 4 + 0.5)]
    with Builder(graph).active():
        for name, a, b in program:
            values.append(build(name, values[a % len(values)], values[b % len(values)]))
    graph.outputs = values
    facts = Facts(graph)
    for numbers in (
        torch.randn(2, 3),
        torch.zeros(2, 3),
        torch.tensor([1e4, -1e4, 0.5, -0.5, 1.0, 80.0]).reshape(2, 3),
    ):
        outputs = evaluate(module, {"x": numbers}, precision=DOUBLE)
        for value, result in zip(values, outputs.values(), strict=True):
            found = facts.range(value)
            finite = result[torch.isfinite(result)]
            slack = 1e-9 * max(1.0, float(finite.abs().max())) if finite.numel() else 0.0
            assert bool((finite >= found.lower - slack).all()), (value, found)
            assert bool((finite <= found.upper + slack).all()), (value, found)
            assert not found.finite or finite.numel() == result.numel(), (value, found)


def build(name: str, x: Value, y: Value) -> Value:
    """One op on two values of shape (2, 3); so is its result."""
    if name == "concat":
        return mil.slice_by_index(mil.concat([x, y], axis=0), [1, 0], [3, 3])
    if name == "matmul":
        return mil.matmul(mil.matmul(x, y, transpose_y=True), y)
    if name in BINARY:
        return getattr(mil, name)(x, y)
    if name in ("reduce_mean", "reduce_max"):
        return mil.add(getattr(mil, name)(x, axes=[0], keep_dims=True), mil.mul(x, 0.0))
    arguments = {
        "softmax": {"axis": 1},
        "transpose": {"perm": [1, 0]},
        "reshape": {"shape": [3, 2]},
        "rsqrt": {"epsilon": 1e-5},
    }
    made = getattr(mil, name)(x, **arguments.get(name, {}))
    return mil.reshape(made, [2, 3]) if name in ("transpose", "reshape") else made


def test_what_is_known() -> None:
    graph = Graph()
    module = module_with(graph)
    x = graph.add_input("x", F6)
    w = constant(graph, module, torch.tensor([-2.0, 3.0]))
    with Builder(graph).active():
        known = {
            "weight": (w, Range(-2.0, 3.0, True)),
            "abs": (mil.abs(w), Range(0.0, 3.0, True)),
            "sum": (mil.add(w, 1.5), Range(-0.5, 4.5, True)),
            "relu": (mil.relu(x), Range(0.0, math.inf, False)),
            "input": (x, ANYTHING),
            "sum with alpha": (aten.add.Tensor(w, w, alpha=-5), ANYTHING),
            "unknown op": (mil.floor(w), ANYTHING),
            "chosen": (mil.select(mil.greater(x, 0.0), mil.fill(F6.static_shape, value=7.0), mil.relu6(x)), Range(0.0, 7.0, False)),
            "gate": (mil.sigmoid(x), Range(0.0, 1.0, False)),
        }
    facts = Facts(graph)
    assert {name: facts.range(value) for name, (value, _) in known.items()} == {n: r for n, (_, r) in known.items()}
    assert facts.range(known["relu"][0]).nonnegative


def test_a_product_of_constants_is_bounded_by_how_many_terms_are_summed() -> None:
    graph = Graph()
    module = module_with(graph)
    left = constant(graph, module, torch.tensor([[1.0, -2.0, 0.5], [2.0, 2.0, 2.0]]))
    right = constant(graph, module, torch.tensor([[3.0, 1.0], [-1.0, 0.0], [2.0, 2.0]]), "right")
    with Builder(graph).active():
        product, turned = mil.matmul(left, right), mil.matmul(left, left, transpose_x=True)
    facts = Facts(graph)
    assert facts.range(product) == Range(-18.0, 18.0, True)
    assert facts.range(turned) == Range(-8.0, 8.0, True)


def test_infinity_in_a_divisor_gives_zero() -> None:
    graph = Graph()
    x = graph.add_input("x", F6)
    with Builder(graph).active():
        divisor = mil.add(mil.relu(x), 1.0)
        quotient = mil.real_div(2.0, divisor)
    module = module_with(graph)
    graph.outputs = [quotient]
    result = evaluate(module, {"x": torch.tensor([[math.inf, 0, 1], [2, 3, 4]])})["output0"]
    found = Facts(graph).range(quotient)
    assert found.lower <= float(result.min()) == 0.0


def test_overflow_of_the_dtype_is_not_finite() -> None:
    graph = Graph()
    module = module_with(graph)
    h = constant(graph, module, torch.tensor([300.0, 200.0], dtype=torch.float16))
    whole = constant(graph, module, torch.tensor([2**31 - 1, -5], dtype=torch.int32), "whole")
    with Builder(graph).active():
        product, wrapped = mil.mul(h, h), mil.add(whole, 1)
    facts = Facts(graph)
    assert not facts.range(product).finite
    graph.outputs = [product, wrapped]
    results = list(evaluate(module, {}).values())
    assert math.isinf(float(results[0].max()))
    assert float(results[1].min()) < facts.range(whole).lower
    assert facts.range(wrapped) == ANYTHING


def test_changes_are_forgotten() -> None:
    graph = Graph()
    x = graph.add_input("x", F6)
    with Builder(graph).active():
        y = mil.relu(x)
        z = mil.relu(mil.add(y, 1.0))
    facts = Facts(graph)
    assert facts.range(z).lower == 1.0
    assert z.op is not None
    add = z.op.value("x").op
    assert add is not None
    add.set_operand(1, Literal(5.0))
    assert facts.range(z).lower == 5.0
    facts.close()
    assert graph.listeners == []


def test_shared_operands_cost_no_more_than_once() -> None:
    graph = Graph()
    x = graph.add_input("x", F6)
    with Builder(graph).active():
        value = mil.sigmoid(x)
        for _ in range(200):
            value = mil.add(value, value)
    assert Facts(graph).range(value).upper == 2.0**200


def test_constants() -> None:
    graph = Graph()
    module = module_with(graph)
    x, w = graph.add_input("x", F6), constant(graph, module, torch.ones(1))
    with Builder(graph).active():
        folded = mil.add(w, 2.0)
        mixed = mil.add(folded, x)
        drawn = aten.rand.default([2])
    assert [is_constant(v) for v in (x, w, folded, mixed, drawn)] == [False, True, True, False, False]
    assert constants(graph) == {w, folded}
    assert scalar_of(w) == 1.0
    assert scalar_of(Literal(((2,),))) == 2
    assert scalar_of(Literal((1, 2))) is None
    assert scalar_of(folded) is None
    assert scalar_of(None) is None
