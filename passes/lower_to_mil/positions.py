"""What torch's index lists mean in MIL: axes, positions from the front, one index for several axes.

From iOS17 on a negative index is out of bounds for gather and scatter, so one that may be negative
becomes ``select(i >= 0, i, i + n)`` there.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.lower_to_mil.shared import (
    as_value,
    constant_tensor,
    inverse_permutation,
    reshaped,
    transposed,
)
from anec.passes.lower_to_mil.typing import value
from anec.pipeline.base import Context
from anec.rewrite import reject

_FIRST_WITHOUT_NEGATIVE = 17
_NEVER_NEGATIVE = frozenset("mil.reduce_argmax mil.reduce_argmin mil.argsort mil.topk mil.shape mil.non_zero".split())


def size_of(x: Value, at: int) -> int | Value:
    """The size of an axis: a number, or computed where it is symbolic."""
    size = x.tensor.shape[at]
    if isinstance(size, int):
        return size
    return mil.slice_by_index(mil.shape(x), begin=(at,), end=(at + 1,), squeeze_mask=(True,))


def positions(index: Operand, size: Dim | Value, ctx: Context, *, merged: bool = False) -> Value:
    """Indices that MIL takes as they are: from the front where a negative one does not wrap around.

    Args:
        index: as torch has them.
        size: the size of the axis they are for.
        ctx: tells the target, and what is known of the index.
        merged: they become part of an index into several axes at once.
    """
    found = value(index, DType.I32)
    wraps = ctx.module.opset < _FIRST_WITHOUT_NEGATIVE and not merged
    if wraps or _never_negative(found, ctx):
        return found
    assert isinstance(size, (int, Value))
    return mil.select(mil.greater_equal(found, 0), found, mil.add(found, size))


def _never_negative(index: Value, ctx: Context) -> bool:
    numbers = constant_tensor(index, ctx)
    if numbers is not None:
        return numbers.numel() == 0 or int(numbers.min()) >= 0
    if index.op is not None and index.op.name in _NEVER_NEGATIVE:
        return True
    return ctx.facts.range(index).nonnegative


def is_mask(index: Value) -> bool:
    """True for a bool index; torch takes uint8 for one too."""
    return index.tensor.dtype in (DType.BOOL, DType.U8)


def by_axis(op: Op, rank: int, ctx: Context) -> list[Value | None]:
    """For each axis of ``self`` its index, or None for all of it; constant masks become positions.

    Raises:
        Reject: a mask is computed: how many elements it selects is not known.
    """
    found: list[Value | None] = []
    for number, operand in enumerate(op.variadic("indices")):
        if operand is None:
            found.append(None)
        elif is_mask(as_value(operand)):
            found.extend(_places(as_value(operand), f"{op.results[0].name}.index{number}", ctx))
        else:
            found.append(as_value(operand))
    return [*found, *[None] * (rank - len(found))]


def _places(mask: Value, name: str, ctx: Context) -> list[Value]:
    """Where a constant mask is true, as an index for each of its axes."""
    numbers = constant_tensor(mask, ctx)
    if numbers is None:
        reject("a computed mask selects a number of elements that is not known before it runs")
    places = numbers.bool().nonzero()
    found = []
    for axis in range(mask.rank):
        column = places[:, axis].int().contiguous()
        type_ = TensorType(DType.I32, (column.shape[0],))
        weight = ctx.module.add_weight(Weight(f"{ctx.graph.name}.{name}_{axis}", type_, TensorData(column)))
        found.append(ctx.graph.add_weight(weight))
    return found


@dataclass(frozen=True, slots=True)
class Merged:
    """A tensor whose indexed axes are one, and the one index into it.

    Args:
        x: the tensor, its indexed axes merged.
        index: int32 positions along ``axis``.
        axis: the merged axis. Axes that were apart come to the front, as torch puts them.
        perm: how the tensor was transposed.
        shape: its shape after that, before the merge.
    """

    x: Value
    index: Value
    axis: int
    perm: tuple[int, ...]
    shape: tuple[Dim, ...]

    def restored(self, x: Value) -> Value:
        """A tensor like ``x`` in the shape before it was merged."""
        if x.tensor.shape != self.shape:
            x = reshaped(x, self.shape)
        return transposed(x, inverse_permutation(self.perm))

    @property
    def picked(self) -> tuple[Dim, ...]:
        """The shape of what the index picks."""
        sizes = self.x.tensor.shape
        return (*sizes[: self.axis], *self.index.tensor.shape, *sizes[self.axis + 1 :])


def merge(x: Value, indices: list[Value | None], ctx: Context) -> Merged:
    """Bring several indexed axes into one: position i, j of sizes n, m is i * m + j."""
    indexed = [axis for axis, index in enumerate(indices) if index is not None]
    if not indexed:
        reject("it has no index")
    together = indexed == list(range(indexed[0], indexed[-1] + 1))
    others = [axis for axis in range(x.rank) if axis not in indexed]
    perm = tuple(range(x.rank)) if together else (*indexed, *others)
    at = indexed[0] if together else 0
    found: Value | None = None
    for axis in indexed:
        position = positions(indices[axis], size_of(x, axis), ctx, merged=len(indexed) > 1)
        found = position if found is None else mil.add(mil.mul(found, size_of(x, axis)), position)
    assert found is not None
    moved = transposed(x, perm)
    shape = moved.tensor.shape
    if len(indexed) > 1:
        sizes = moved.tensor.shape
        merged = volume(sizes[at : at + len(indexed)])
        moved = reshaped(moved, (*sizes[:at], merged, *sizes[at + len(indexed) :]))
    return Merged(moved, found, at, perm, shape)
