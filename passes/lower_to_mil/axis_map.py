"""A constant linear map along one axis, as a product or as a depthwise convolution.

Resizing along one axis is a product with a constant matrix. Where the ratio of sizes is whole, the
rows of that matrix repeat one kernel, and a convolution (transposed, for a growing axis) with that
kernel is the same map: at the borders either the edge pixels are repeated, or missing pixels count
as 0 and each result is divided by the weight that is left. Both are tried on the matrix itself, so
whatever a convolution says is what the matrix says.

The cost: a product takes as many multiplications a result as the axis is long, the convolution
only those of its kernel. But a depthwise kernel feeds one channel, so that most of a matrix unit
lies idle, and its border is an op of its own. ``_IDLE`` stands for that: an estimate, which lets
axes of more than a few hundred pixels go by convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import reshaped
from anec.passes.lower_to_mil.permutation import volume
from anec.pipeline.base import Context

if TYPE_CHECKING:
    import torch

FORMS = ("auto", "product", "convolution")
# How many multiplications of a product are done in the time of one of a depthwise convolution.
_IDLE = 32
# Entries of a matrix of interpolation weights, which are about 1, that count as equal.
_EQUAL = 1e-12


@dataclass(frozen=True, slots=True)
class Stencil:
    """A matrix whose rows (or columns, where the axis grows) repeat one kernel.

    Args:
        kernel: the weights.
        step: pixels from one place of the kernel to the next, in the longer of input and output.
        start: where the first kernel begins there; never behind the first pixel.
        grows: the convolution is a transposed one.
        margin: how often the first and the last pixel of the input are repeated.
        scale: by what each result is multiplied at the end, or None.
    """

    kernel: torch.Tensor
    step: int
    start: int
    grows: bool
    margin: tuple[int, int]
    scale: torch.Tensor | None

    @staticmethod
    def of(matrix: torch.Tensor) -> Stencil | None:
        """The stencil that says the same as ``matrix`` [after, before], if there is one."""
        after, before = matrix.shape
        if after % before == 0 and after > before:
            return _stencil(matrix.T, grows=True)
        if before % after == 0 and before > after:
            return _stencil(matrix, grows=False)
        return None

    @property
    def multiplications(self) -> int:
        """How many each result takes."""
        return -(-len(self.kernel) // self.step) if self.grows else len(self.kernel)


def _stencil(matrix: torch.Tensor, *, grows: bool) -> Stencil | None:
    """``matrix`` [few, many] read as places of one kernel, each row a ratio of sizes further on."""
    import torch

    few, many = matrix.shape
    step, middle = many // few, few // 2
    places = matrix[middle].nonzero().flatten()
    if not len(places):
        return None
    first, stop = int(places[0]) - step * middle, int(places[-1]) + 1 - step * middle
    start = min(first, 0)
    # A transposed convolution has no results between its kernels: together they cover everything.
    end = max(stop, step) if grows else stop
    kernel = torch.zeros(end - start, dtype=matrix.dtype)
    kernel[first - start : stop - start] = matrix[middle, first + step * middle : stop + step * middle]
    if not grows:
        low, high = -start, max(end - step, 0)
        wide = _placed(kernel, few, step, 0, many + low + high)
        repeated = wide[:, low : low + many].clone()
        blank = repeated.clone()
        repeated[:, 0] += wide[:, :low].sum(1)
        repeated[:, -1] += wide[:, low + many :].sum(1)
    else:
        low, high = -(-end // step) - 1, -(start // step)
        wide = _placed(kernel, few + low + high, step, start - step * low, many)
        repeated = wide[low : low + few].clone()
        blank = repeated.clone()
        repeated[0] += wide[:low].sum(0)
        repeated[-1] += wide[low + few :].sum(0)
    if torch.allclose(repeated, matrix, rtol=0, atol=_EQUAL):
        return Stencil(kernel, step, start, grows, (low, high), None)
    left = blank.sum(0 if grows else 1)
    if bool((left.abs() < _EQUAL).any()):
        return None
    scale = matrix.sum(0 if grows else 1) / left
    if torch.allclose(blank * (scale if grows else scale[:, None]), matrix, rtol=0, atol=_EQUAL):
        return Stencil(kernel, step, start, grows, (0, 0), scale)
    return None


def _placed(kernel: torch.Tensor, count: int, step: int, start: int, size: int) -> torch.Tensor:
    """Rows that hold ``kernel`` at start, start + step, ...; what lies outside is cut off."""
    import torch

    rows = torch.zeros(count, size, dtype=kernel.dtype)
    for row in range(count):
        at = start + step * row
        first, stop = max(at, 0), min(at + len(kernel), size)
        if first < stop:
            rows[row, first:stop] = kernel[first - at : stop - at]
    return rows


def mapped(op: Op, ctx: Context, x: Value, axis: int, matrix: torch.Tensor, form: str = "auto") -> Value:
    """``matrix`` [after, before] applied along ``axis`` of ``x``.

    Args:
        op: the op it is done for, which constants are named after.
        ctx: the pass's context.
        x: floats; sizes of other axes may be symbolic.
        axis: an axis behind the first.
        matrix: float64.
        form: ``product``, ``convolution`` where there is one, or ``auto``, the cheaper of them.
    """
    import torch

    after, before = matrix.shape
    if after == before and torch.equal(matrix, torch.eye(after, dtype=matrix.dtype)):
        return x
    if form != "product" and x.rank == 4 and axis > 1 and isinstance(x.tensor.shape[1], int):
        stencil = Stencil.of(matrix) if form == "convolution" or before > _IDLE else None
        if stencil is not None and (form == "convolution" or before > _IDLE * stencil.multiplications):
            return _convolved(op, ctx, x, axis, stencil, after)
    return _product(op, ctx, x, axis, matrix)


def _product(op: Op, ctx: Context, x: Value, axis: int, matrix: torch.Tensor) -> Value:
    if axis == x.rank - 1:
        return mil.matmul(x, constant(ctx, op, matrix.T, "columns", x.tensor.dtype))
    return from_the_left(constant(ctx, op, matrix, "rows", x.tensor.dtype), x, axis)


def from_the_left(matrix: Value, x: Value, axis: int) -> Value:
    """``matrix`` [after, before] applied along an axis of ``x`` other than the last."""
    shape = x.tensor.shape
    if axis == x.rank - 2:
        return mil.matmul(matrix, x)
    # The axes behind it as one: [N, C, D, H * W].
    flat = reshaped(x, (*shape[: axis + 1], volume(shape[axis + 1 :])))
    return reshaped(mil.matmul(matrix, flat), (*shape[:axis], matrix.tensor.shape[0], *shape[axis + 1 :]))


def _convolved(op: Op, ctx: Context, x: Value, axis: int, stencil: Stencil, after: int) -> Value:
    dtype, channels, size = x.tensor.dtype, x.tensor.shape[1], x.tensor.shape[axis]
    assert isinstance(channels, int)
    assert isinstance(size, int)

    def along(amount: int, other: int) -> tuple[int, int]:
        return (amount, other) if axis == 2 else (other, amount)

    def ends(low: int, high: int) -> tuple[int, ...]:
        return (low, high, 0, 0) if axis == 2 else (0, 0, low, high)

    shape = (1, 1, *along(len(stencil.kernel), 1))
    weight = constant(ctx, op, stencil.kernel.reshape(shape).repeat(channels, 1, 1, 1), "kernel", dtype)
    low, high = stencil.margin
    if low or high:
        x = mil.pad(x, (0, 0, 0, 0, *ends(low, high)), mode="replicate")
        size += low + high
    if stencil.grows:
        convolution, before = mil.conv_transpose, stencil.step * low - stencil.start
        behind = (size - 1) * stencil.step + len(stencil.kernel) - after - before  # what is cropped
    else:
        convolution, before = mil.conv, -stencil.start - low
        behind = max(stencil.step * (after - 1) + len(stencil.kernel) - size - before, 0)
    x = convolution(
        x, weight, strides=along(stencil.step, 1), groups=channels, pad_type="custom", pad=ends(before, behind)
    )
    if stencil.scale is None:
        return x
    return mil.mul(x, constant(ctx, op, stencil.scale.reshape(along(after, 1)), "scale", dtype))
