"""Constant linear maps along an axis: convolutions where they say the same as the matrix."""

from __future__ import annotations

import pytest
import torch

from anec.dialects import mil
from anec.ir.facts import is_constant
from anec.ir.graph import Module, Value
from anec.ir.types import DType, TensorType
from anec.passes.lower_to_mil.axis_map import Stencil, mapped
from anec.passes.lower_to_mil.resize import Resize
from anec.pipeline.base import Context
from anec.reference.evaluate import evaluate
from anec.testing import DOUBLE, assert_legal, module_of

MODES = [("linear", False), ("linear", True), ("bicubic", False), ("bicubic", True)]


def ops(module: Module) -> list[str]:
    """What is left to run."""
    return [op.defn.root for op in module.ops() if not all(is_constant(result) for result in op.results)]


def apply(x: torch.Tensor, axis: int, matrix: torch.Tensor, form: str) -> tuple[torch.Tensor, list[str]]:
    """``mapped`` of ``x``, and the ops that run."""
    module, inputs = module_of(identity, x, target="iOS15")
    graph = module.main
    (op,) = graph
    context = Context(module, graph)
    with context.builder(before=op):
        result = mapped(op, context, op.value("x"), axis, matrix, form)
    graph.replace(op.result, result)
    graph.erase(op)
    assert_legal(module)
    (y,) = evaluate(module, inputs, precision=DOUBLE).values()
    return y, ops(module)


def identity(value: Value) -> Value:
    return mil.identity(value)


@pytest.mark.parametrize(("mode", "antialias"), MODES)
@pytest.mark.parametrize(
    ("before", "after"), [(8, 16), (9, 27), (10, 40), (7, 35), (16, 8), (24, 8), (40, 10), (35, 7), (1, 4), (4, 1)]
)
@pytest.mark.parametrize("axis", [2, 3])
def test_a_convolution_says_what_the_matrix_says(mode, antialias, before, after, axis):
    matrix = Resize(mode, False, antialias).matrix(before, after, None)
    shape = [2, 3, 5, 5]
    shape[axis] = before
    x = torch.randn(*shape, dtype=torch.float32)
    wanted = torch.movedim(torch.movedim(x.double(), axis, -1) @ matrix.T, -1, axis)
    for form in ("product", "convolution"):
        found, _ = apply(x, axis, matrix, form)
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "ops"),
    [
        (Resize("bicubic", False, False).matrix(8, 16, None), ["pad", "conv_transpose"]),
        (Resize("bicubic", False, True).matrix(8, 16, None), ["conv_transpose", "mul"]),
        (Resize("bicubic", False, False).matrix(16, 8, None), ["pad", "conv"]),
        (Resize("bicubic", False, True).matrix(32, 8, None), ["conv", "mul"]),
        (Resize("linear", False, False).matrix(16, 8, None), ["conv"]),
        # Neither aligned corners nor broken ratios repeat a kernel; a random matrix has none.
        (Resize("bicubic", True, False).matrix(8, 16, None), ["matmul"]),
        (Resize("bicubic", False, False).matrix(8, 12, None), ["matmul"]),
        (torch.randn(16, 8, dtype=torch.float64), ["matmul"]),
        (torch.eye(8, dtype=torch.float64), []),
    ],
)
def test_what_runs(matrix, ops):
    found, names = apply(torch.randn(1, 2, matrix.shape[1], 3), 2, matrix, "convolution")
    torch.testing.assert_close(found.shape[2], matrix.shape[0])
    assert names == ops


def test_long_axes_go_by_convolution():
    """A product takes as many multiplications as the axis is long."""
    for size, wanted in ((64, ["matmul"]), (256, ["pad", "conv_transpose"])):
        matrix = Resize("bicubic", False, False).matrix(size, 2 * size, None)
        assert apply(torch.randn(1, 2, size, 3), 2, matrix, "auto")[1] == wanted


def test_a_matrix_with_one_row_changed_is_no_stencil():
    matrix = Resize("bicubic", False, False).matrix(8, 16, None)
    assert Stencil.of(matrix) is not None
    for row in (0, 7, 15):
        changed = matrix.clone()
        changed[row, 3] += 1e-9
        assert Stencil.of(changed) is None


def test_constants_of_half_precision_are_cast():
    module, _ = module_of(identity, torch.randn(1, 2, 8, 8).half())
    (op,) = module.main
    context = Context(module, module.main)
    with context.builder(before=op):
        result = mapped(op, context, op.value("x"), 3, torch.randn(5, 8, dtype=torch.float64))
    assert result.type == TensorType(DType.F16, (1, 2, 8, 5))
