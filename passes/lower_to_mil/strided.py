"""Views by strides, and writes through views: positions in the row-major buffer.

    %x: f32[2,4]
    %y = aten.as_strided.default(%x) {size=[2, 2], stride=[3, 2], storage_offset=1}
        ->
    %1 = mil.reshape(%x, [-1])
    %2 = mil.gather(%1, %places) {axis=0}
    %y = mil.reshape(%2, [2, 2])

    %x: f32[2,4], %v: f32[2]
    %y = aten.diagonal_scatter.default(%x, %v)
        ->
    %1 = mil.reshape(%x, [-1])
    %2 = mil.scatter(%1, %places, %v) {axis=0, mode="update"}
    %y = mil.reshape(%2, [2, 4])

Where each step is a multiple of the next, a view is slices, windows and a transpose instead:

    %x: f32[8,6]
    %y = aten.as_strided.default(%x) {size=[3, 4, 6], stride=[12, 6, 1]}
        ->
    %y = mil.sliding_windows(%x) {axis=0, size=4, stride=2}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import broadcast, sliced, source, transposed
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, carrier, flat, reshaped
from anec.passes.lower_to_mil.typing import cast, numbers, result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, rewrite

if TYPE_CHECKING:
    import torch


@rewrite(each("as_strided", "as_strided_copy"))
def as_strided(op: Op, ctx: Context) -> Value:
    """Slices, windows, a transpose and repetition where the strides are those of nested axes; else a gather."""
    type_ = result_type(op)
    x = source(op)
    found = _nested(op, x)
    if found is not None:
        return as_value(cast(found, type_.dtype))
    row = flat(as_value(cast(x, carrier(x.tensor.dtype))))
    places = constant(ctx, op, _strided(op, x).reshape(-1), "places", DType.I32)
    return as_value(cast(reshaped(mil.gather(row, places, axis=0), static(type_)), type_.dtype))


@rewrite(each("as_strided_scatter", "diagonal_scatter"))
def view_scatter(op: Op, ctx: Context) -> Value:
    """The elements a view sees, replaced by those of ``src``."""
    type_ = result_type(op)
    dtype = carrier(type_.dtype)
    x, part = value(op.operand("self"), dtype), value(op.operand("src"), dtype)
    if op.defn.root == "diagonal_scatter":
        offset, first, second = (op.attr(name) for name in ("offset", "dim1", "dim2"))
        places = _numbered(x).diagonal(offset, first, second)  # type: ignore[arg-type]  # attrs are numbers
    else:
        places = _strided(op, x)
    index = constant(ctx, op, places.reshape(-1), "places", DType.I32)
    written = mil.scatter(flat(x), index, flat(part), axis=0, mode="update")
    return as_value(cast(reshaped(written, static(type_)), type_.dtype))


@dataclass(frozen=True, slots=True)
class _Level:
    """One axis of the memory, of which a view takes a piece, or windows.

    Args:
        unit: elements from one place of the axis to the next.
        size: places of the view, or of one window.
        count: windows; 0 where there are none.
        step: places from one window to the next.
    """

    unit: int
    size: int
    count: int = 0
    step: int = 1

    @property
    def covered(self) -> int:
        """The places from the first that is seen to the last."""
        return self.size + max(self.count - 1, 0) * self.step


def _nested(op: Op, x: Value) -> Value | None:
    """A view whose steps are those of axes in one another, each a multiple of the next; None for another."""
    size, stride = (numbers(op.attr(name)) for name in ("size", "stride"))
    (offset,) = numbers(op.attr("storage_offset") or 0)
    order = sorted((i for i in range(len(size)) if size[i] != 1 and stride[i] != 0), key=lambda i: -stride[i])
    levels = _levels([(size[i], stride[i]) for i in order])
    total = x.tensor.size if x.tensor.is_static else 0
    places = _places(levels, total, offset)
    if places is None:
        # A piece of the buffer may hold whole axes where all of it does not.
        piece = levels[0].unit * levels[0].covered
        places = _places(levels, piece, 0)
        if places is None or not total or offset + piece > total:
            return None
        x = sliced(flat(x), 0, offset, offset + piece)
    if any(level.count for level in levels):
        x = as_value(cast(x, carrier(x.tensor.dtype)))
    found = reshaped(x, tuple(length for length, _ in places))
    for axis, (level, (length, begin)) in enumerate(zip(levels, places, strict=True)):
        if level.covered != length:
            found = sliced(found, axis, begin, begin + level.covered)
    for axis, level in reversed(list(enumerate(levels))):
        if level.count:
            found = mil.sliding_windows(found, axis=axis, size=level.size, stride=level.step)
    back = [order.index(i) for i in sorted(order)]
    shape = tuple(size[i] if i in order else 1 for i in range(len(size)))
    return broadcast(reshaped(transposed(reshaped(found, tuple(size[i] for i in order)), back), shape), size)


def _places(levels: Sequence[_Level], total: int, offset: int) -> list[tuple[int, int]] | None:
    """Of each level the length of its axis in a buffer of ``total`` elements, and the first place that is seen."""
    found = []
    for wide, level in zip((total, *(level.unit for level in levels)), levels, strict=False):
        length, rest = divmod(wide, level.unit)
        begin = offset % wide // level.unit if wide else 0
        if rest or begin + level.covered > length:
            return None
        found.append((length, begin))
    return found


def _levels(axes: Sequence[tuple[int, int]]) -> list[_Level]:
    """The axes of the memory that a view of these sizes and steps sees, longest step first."""
    found: list[_Level] = []
    at = 0
    while at < len(axes):
        size, step = axes[at]
        inner, unit = axes[at + 1] if at + 1 < len(axes) else (1, 1)
        overlaps = step < inner * unit and step % unit == 0
        found.append(_Level(unit, inner, size, step // unit) if overlaps else _Level(step, size))
        at += 2 if overlaps else 1
    # The last step leaves elements out.
    return found if found and found[-1].unit == 1 else [*found, _Level(1, 1)]


def _numbered(x: Value) -> torch.Tensor:
    """The place of each element in the row-major buffer."""
    import torch

    return torch.arange(x.tensor.size, dtype=torch.int32).reshape(static(x.tensor))


def _strided(op: Op, x: Value) -> torch.Tensor:
    size, stride, offset = (op.attr(name) for name in ("size", "stride", "storage_offset"))
    return _numbered(x).as_strided(size, stride, offset or 0)  # type: ignore[arg-type]  # attrs are numbers


RULES: list[Rule] = [as_strided, view_scatter]
