"""Lines that each begin one entry earlier than the one before, by one reshape instead of two larger ones.

    %x: f32[2,3,5]
    %1 = mil.pad(%x, [0, 0, 0, 0, 1, 0]) {mode="constant", constant_val=0.0}
    %2 = mil.reshape(%1, [2, 6, 3])
    %3 = mil.slice_by_index(%2, [0, 1, 0], [2, 6, 3])
    %4 = mil.reshape(%3, [2, 3, 5])
    %y = mil.slice_by_index(%4, [0, 0, 0], [2, 3, 3])
        ->
    %ahead = weight "ahead" : f32[3,3]
    %behind = weight "behind" : f32[2,2]
    %1 = mil.slice_by_index(%x, [0, 0, 2], [0, 0, 5]) {begin_mask=[true, true, false], end_mask=[true, true, false]}
    %2 = mil.mul(%1, %ahead)
    %3 = mil.slice_by_index(%x, [0, 1, 0], [0, 3, 0]) {begin_mask=[true, false, true], end_mask=[true, false, true]}
    %4 = mil.slice_by_index(%3, [0, 0, 0], [0, 0, 2]) {begin_mask=[true, true, false], end_mask=[true, true, false]}
    %5 = mil.mul(%4, %behind)
    %6 = mil.pad(%2, [0, 0, 0, 1]) {mode="constant", constant_val=0.0}
    %7 = mil.pad(%5, [0, 1, 2, 0]) {mode="constant", constant_val=0.0}
    %8 = mil.add(%6, %7)
    %9 = mil.reshape(%8, [2, 4, 3])
    %y = mil.slice_by_index(%9, [0, 0, 0], [0, 3, 0]) {begin_mask=[true, false, true], end_mask=[true, false, true]}

Relative positions are placed so: entry [q, k] of the result is that of the difference k - q in line q. Read row after
row, the result has line q from the diagonal on, and then line q + 1 up to the diagonal: together one entry more than a
line, and at the same differences in every row. Such rows are the sum of two triangles; read in lines of their own
length they are the result.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.products import check_finite
from anec.passes.common import VIEWS, only_use
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import reshaped, sliced
from anec.passes.mil_cleanup.pads import amounts
from anec.passes.mil_cleanup.slices import concat_axis, ranges
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite, var

if TYPE_CHECKING:
    import torch

# Larger tensors are not looked at.
_MOST = 1 << 24


@rewrite(mil.slice_by_index(mil.reshape(var("turned"), rest), rest))
def shear_of_reshapes(op: Op, ctx: Context) -> Value:
    """Pads, views and slices that place relative positions (Transformer-XL, Conformer, HaloNet).

    %x: f32[2,4]
    %1 = mil.reshape(%x, [4, 2])
    %2 = mil.slice_by_index(%1, [1, 0], [4, 2])
    %3 = mil.reshape(%2, [2, 3])
    %y = mil.slice_by_index(%3, [0, 0], [2, 2])
        ->
    %ahead = weight "ahead" : f32[2,2]
    %behind = weight "behind" : f32[1,1]
    %1 = mil.slice_by_index(%x, [0, 2], [0, 4]) {begin_mask=[true, false], end_mask=[true, false]}
    %2 = mil.mul(%1, %ahead)
    %3 = mil.slice_by_index(%x, [1, 0], [2, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %4 = mil.slice_by_index(%3, [0, 1], [0, 2]) {begin_mask=[true, false], end_mask=[true, false]}
    %5 = mil.mul(%4, %behind)
    %6 = mil.pad(%2, [0, 0, 0, 1]) {mode="constant", constant_val=0.0}
    %7 = mil.pad(%5, [0, 1, 2, 0]) {mode="constant", constant_val=0.0}
    %8 = mil.add(%6, %7)
    %9 = mil.reshape(%8, [3, 2])
    %y = mil.slice_by_index(%9, [0, 0], [2, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    """
    steps: list[Op] = []
    x, views = op.results[0], 0
    while (made := _step(x)) is not None and (not steps or only_use(x)):
        steps.append(made)
        views += x.tensor.size if made.defn is mil.reshape else 0
        x = next(value for value in made.inputs if not value.is_constant)
    if not x.tensor.is_static or not x.tensor.dtype.is_float or not 0 < x.tensor.size <= _MOST:
        reject("the tensor is symbolic, too large, or no float")
    if x.rank < 2 or op.results[0].rank == 0:
        reject("there are no lines")
    lines, length = x.shape[-2], op.results[0].shape[-1]
    places = _places(x, steps[::-1]).reshape(-1, length)
    blocks = math.prod(x.shape[:-2])
    if len(places) != blocks * lines or not is_worth(lines, length, views // blocks):
        reject("the lines are not those there were, or their reshapes are small")
    check_finite(x, ctx.facts)
    first = int(places[0, 0])
    row, entry = _grid(lines, length)
    whole = (row * (x.shape[-1] - 1) + entry + first).repeat(blocks, 1)
    whole += _grid(blocks, 1)[0].repeat_interleave(lines, 0) * lines * x.shape[-1]
    if first < lines - 1 or first + length > x.shape[-1] or not bool((places == whole).all()):
        reject("it is no shear of the lines")
    part = x if x.rank < 5 else reshaped(x, (blocks, *x.shape[-2:]))
    return reshaped(sheared(part, first, length, op, ctx), op.results[0].shape)


def is_worth(lines: int, length: int, written: int) -> bool:
    """Whether :func:`sheared` can make a block of lines, and writes less than ``written`` elements for it."""
    return 1 < lines <= length and length * (length + 1) < written


def sheared(x: Value, first: int, length: int, op: Op, ctx: Context) -> Value:
    """Entry [q, first + k - q] of each block of lines, the last two axes of ``x``, which are finite, as [q, k].

    There are at most ``length`` lines, and as many entries in front of ``first`` as there are lines but one.
    """
    lines = x.shape[-2]
    row, entry = _grid(lines, length)
    ahead = _triangle(sliced(x, x.rank - 1, first, first + length), row + entry < length, "ahead", op, ctx)
    low = sliced(sliced(x, x.rank - 2, 1, lines), x.rank - 1, first - lines + 1, first)
    row, entry = _grid(lines - 1, lines - 1)
    behind = _triangle(low, row + entry >= lines - 2, "behind", op, ctx)
    rows = mil.add(
        _padded(ahead, (0, length - lines, 0, 1)), _padded(behind, (0, length - lines + 1, length - lines + 2, 0))
    )
    turned = reshaped(rows, (*x.shape[:-2], length + 1, length))
    return sliced(turned, x.rank - 2, 0, lines)


def _grid(rows: int, entries: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.arange(rows)[:, None], torch.arange(entries)[None]


def _triangle(x: Value, chosen: torch.Tensor, what: str, op: Op, ctx: Context) -> Value:
    return mil.mul(x, constant(ctx, op, chosen.float(), what, x.tensor.dtype))


def _padded(x: Value, pad: tuple[int, ...]) -> Value:
    return mil.pad(x, pad=pad, mode="constant", constant_val=0.0)


def _step(value: Value) -> Op | None:
    """What made ``value`` of one tensor by moving its elements, and perhaps adding constants beside them."""
    op = value.op
    if op is None or not value.tensor.is_static or sum(not operand.is_constant for operand in op.inputs) != 1:
        return None
    if op.defn is mil.pad:
        return op if op.attr("mode") == "constant" else None
    return op if op.defn in (*VIEWS, mil.slice_by_index, mil.concat) else None


def _places(x: Value, steps: list[Op]) -> torch.Tensor:
    """For each element of what ``steps`` make of ``x``, in order, its place in ``x``; -1 for a constant."""
    import torch

    places = torch.arange(x.tensor.size).reshape(x.shape)
    for step in steps:
        if step.defn is mil.slice_by_index:
            for axis, taken in enumerate(ranges(step)):
                if len(taken) != places.shape[axis] or taken.step < 0:
                    places = places.index_select(axis, torch.tensor(taken))
        elif step.defn is mil.pad:
            sides = amounts(step, places.dim())
            pairs = [side for axis in range(0, len(sides), 2)[::-1] for side in sides[axis : axis + 2]]
            places = torch.nn.functional.pad(places, pairs, value=-1)
        elif step.defn is mil.concat:
            pieces = [
                torch.full(value.shape, -1) if value.is_constant else places
                for value in step.variadic("values")
                if isinstance(value, Value)
            ]
            places = torch.cat(pieces, concat_axis(step))
        places = places.reshape(step.results[0].shape)
    return places


RULES: list[Rule] = [shear_of_reshapes]
