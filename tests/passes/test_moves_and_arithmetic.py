"""mil-cleanup on random programs of moves and arithmetic: the same numbers, and no more is written than before."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import anec
from anec.dialects import mil
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Value
from anec.ir.signature import Port
from anec.ir.types import DType, TensorType
from anec.passes.mil_cleanup import MilCleanup
from anec.reference.evaluate import evaluate
from anec.testing import run_pass
from rewriting import module_of

BINARY = (mil.add, mil.sub, mil.mul, mil.maximum)
UNARY = (mil.relu, mil.tanh, mil.abs)


@st.composite
def views(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    """A shape of one to four axes with so many elements."""
    shape = [1] * draw(st.integers(1, 4))
    for prime in (2, 3):
        while size % prime == 0:
            size //= prime
            shape[draw(st.integers(0, len(shape) - 1))] *= prime
    return tuple(shape)


@st.composite
def programs(draw: st.DrawFn) -> Module:
    """Moves, elementwise ops of what has one size or is broadcast to it, and products of square matrices."""
    module = Module()
    graph = module.functions["main"] = Graph("main")
    base = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    base = (*base[:-1], base[-2]) if draw(st.booleans()) else base
    size = math.prod(base)
    shapes = [base, draw(views(size)), *(tuple(n if draw(st.booleans()) else 1 for n in base) for _ in range(2))]
    inputs = [graph.add_input(f"x{i}", TensorType(DType.F32, shape)) for i, shape in enumerate(shapes)]
    graph.signature.inputs = [Port(value.name, value.type) for value in inputs]
    values, narrow = inputs[:2], inputs[2:]
    with Builder(graph, name="y").active():
        for _ in range(draw(st.integers(4, 14))):
            x = draw(st.sampled_from(values[-4:]))
            kind = draw(st.sampled_from(["transpose", "transpose", "reshape", "unary", "binary", "binary", "matmul"]))
            square = [value for value in values if value.rank > 1 and value.shape == x.shape[:-1] + x.shape[-2:-1]]
            if kind == "transpose":
                values.append(mil.transpose(x, perm=tuple(draw(st.permutations(range(x.rank))))))
            elif kind == "reshape":
                values.append(mil.reshape(x, draw(views(size))))
            elif kind == "unary":
                values.append(draw(st.sampled_from(UNARY))(x))
            elif kind == "matmul" and square:
                flags = {f"transpose_{side}": draw(st.booleans()) for side in "xy"}
                # Scaled, so that products of products stay as small as what they are added to.
                values.append(mil.mul(mil.matmul(x, draw(st.sampled_from(square)), **flags), 0.25))
            else:
                others = [value for value in (*values, *narrow) if value is not x and fits(value, x)]
                row = [0.5 + place for place in range(x.shape[-1])]
                y: object = draw(st.sampled_from([*others, 0.5, row]))
                values.append(draw(st.sampled_from(BINARY))(*((x, y) if draw(st.booleans()) else (y, x))))
        results = [mil.identity(value) for value in dict.fromkeys((values[-1], draw(st.sampled_from(values[2:]))))]
    graph.outputs = results
    graph.signature.outputs = [Port(f"out{i}", value.type) for i, value in enumerate(results)]
    return module


def fits(small: Value, large: Value) -> bool:
    return small.rank <= large.rank and all(
        a in (1, b) for a, b in zip(reversed(small.shape), reversed(large.shape), strict=False)
    )


def written(module: Module) -> int:
    """The bytes that transposes and reshapes write."""
    return sum(op.results[0].tensor.bytes for op in module.ops() if op.defn in (mil.transpose, mil.reshape))


def swapped_products(a: Value, b: Value, c: Value, d: Value) -> Value:
    """Sums of products of which one is the transpose of what the other is: [6, 4, 7] and [6, 7, 4]."""
    right = mil.reshape(mil.transpose(mil.matmul(a, b), perm=(0, 2, 1)), (2, 3, 7, 4))
    left = mil.reshape(mil.matmul(c, d, transpose_x=True), (2, 3, 7, 4))
    return mil.add(mil.transpose(left, perm=(0, 2, 1, 3)), mil.transpose(right, perm=(0, 2, 1, 3)))


def products_apart(a: Value, b: Value, c: Value, d: Value) -> Value:
    """The same, moved differently in front of the sum."""
    right = mil.transpose(mil.reshape(mil.matmul(a, b), (2, 3, 4, 7)), perm=(0, 3, 1, 2))
    left = mil.transpose(mil.reshape(mil.matmul(c, d, transpose_x=True), (2, 3, 7, 4)), perm=(0, 2, 1, 3))
    return mil.add(left, mil.mul(right, 0.5))


@pytest.mark.parametrize("program", [swapped_products, products_apart])
def test_products_are_swapped_for_what_they_are_added_to(program: Callable[..., Value]) -> None:
    module = module_of(program, "f32[6,4,5]", "f32[6,5,7]", "f32[6,2,7]", "f32[6,2,4]")
    check_numbers(module)
    assert sum(op.defn is mil.transpose for op in module.ops()) == 1


def images(x: Value) -> Value:
    """Rows of the batch change places behind a convolution and arithmetic: [2, 3, 4, 5, 7] to [2, 4, 3, 35]."""
    made = mil.conv(mil.reshape(mil.relu(x), (24, 1, 5, 7)), mil.fill((2, 1, 3, 1), value=0.5), pad_type="valid")
    seen = mil.exp(mil.reshape(made, (2, 3, 4, 2, 21)))
    return mil.reshape(mil.transpose(seen, perm=(0, 2, 1, 3, 4)), (8, 3, 2, 21))


def test_rows_of_a_batch_change_places_in_front_of_a_convolution() -> None:
    module = module_of(lambda x: images(mil.mul(x, mil.fill((1, 1, 1, 1, 7), value=2.0))), "f32[2,3,4,5,1]")
    check_numbers(module)
    (turned,) = [op for op in module.ops() if op.defn is mil.transpose]
    assert turned.results[0].tensor.size == 2 * 3 * 4 * 5, "the small tensor is moved"


def test_rows_of_numbers_and_empty_tensors_are_left_alone() -> None:
    def of_rows(a: Value, c: Value) -> Value:
        product = mil.matmul(a, [[1.0, 2.0], [3.0, 4.0]])
        return mil.add(mil.transpose(product, perm=(0, 2, 1)), mil.transpose(c, perm=(0, 2, 1)))

    check_numbers(module_of(of_rows, "f32[4,3,2]", "f32[4,3,2]"))
    run_pass(
        module_of(lambda x: mil.transpose(mil.relu(mil.transpose(x, perm=(0, 2, 1))), perm=(1, 0, 2)), "f32[0,4,3]"),
        MilCleanup(),
    )


def test_transposes_of_free_sizes_are_left_alone() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.transpose(1, 2).reshape(x.shape[0], -1)

    x = torch.randn(5, 4, 3)
    sizes = {"x": {0: torch.export.Dim("n", min=2, max=50)}}
    compiled = anec.compile(Model(), (x,), passes="default,ane", precision="fp32", dynamic_shapes=sizes)
    for batch in (x, torch.randn(7, 4, 3)):
        (found,) = compiled.run({compiled.input_names[0]: batch}).values()
        torch.testing.assert_close(torch.as_tensor(found), Model()(batch))


@settings(max_examples=150)
@given(programs())
def test_random_programs(module: Module) -> None:
    check_numbers(module)


def check_numbers(module: Module) -> None:
    """Clean up; the numbers stay, and no more is written."""
    inputs = {value.name: torch.randn(value.shape) for value in module.main.inputs}
    wanted, before = evaluate(module, inputs), written(module)
    run_pass(module, MilCleanup())
    assert written(module) <= before
    for name, found in evaluate(module, inputs).items():
        # Swapped products add the same terms, in another order.
        torch.testing.assert_close(found, wanted[name], rtol=1e-5, atol=1e-5)
