"""Slices and splits that take everything, slices of slices, slices of joined tensors.

    %1 = mil.slice_by_index(%x, [0, 2], [4, 10])     %x: f32[4,12]
    %y = mil.slice_by_index(%1, [0, 1], [4, 3])
        ->
    %y = mil.slice_by_index(%x, [0, 3], [4, 5])

Bounds are brought to plain ranges first: negative ones, masks and strides all fall away there.
"""

from __future__ import annotations

from itertools import accumulate

from anec.dialects import mil
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import ints, tensor
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x = tensor("x")
values = var("values")


def ranges(op: Op) -> tuple[range, ...]:
    """The indices a slice_by_index takes of each axis of its static operand.

    Raises:
        Reject: they are not written down, or the operand is symbolic.
    """
    source = op.value("x").tensor
    begin, end = ints(op.operand("begin")), ints(op.operand("end"))
    if begin is None or end is None or not source.is_static:
        reject("the bounds are not known")
    steps = _per_axis(op.attr("stride"), 1, len(begin))
    masks = [_per_axis(op.attr(name), False, len(begin)) for name in ("begin_mask", "end_mask", "squeeze_mask")]
    found = []
    for axis, size in enumerate(source.static_shape):
        if masks[2][axis]:
            start = 0 if masks[0][axis] else begin[axis] % size
            found.append(range(start, start + 1))
        else:
            step = steps[axis]
            assert isinstance(step, int)
            bounds = slice(None if masks[0][axis] else begin[axis], None if masks[1][axis] else end[axis], step)
            found.append(range(*bounds.indices(size)))
    return tuple(found)


def _per_axis(given: Attr, default: Attr, rank: int) -> tuple[Attr, ...]:
    return given if isinstance(given, tuple) else (default,) * rank


def take(x: Value, taken: tuple[range, ...], squeeze: Attr = None) -> Value:
    """The slice of ``x`` at ``taken``, which walks forward; ``x`` itself when that is everything."""
    squeezes = isinstance(squeeze, tuple) and any(squeeze)
    if not squeezes and all(r == range(size) for r, size in zip(taken, x.shape, strict=True)):
        return x
    attrs: dict[str, object] = {"squeeze_mask": squeeze} if squeezes else {}
    if any(len(r) > 1 and r.step != 1 for r in taken):
        attrs["stride"] = tuple(r.step if len(r) > 1 else 1 for r in taken)
    begin, end = tuple(r.start for r in taken), tuple(r[-1] + 1 for r in taken)
    return mil.slice_by_index(x, begin, end, **attrs)


@rewrite(any_of(mil.slice_by_index(x, rest), mil.slice_by_size(x, rest)))
def drop_slice(op: Op, x: Value) -> Value:
    """A slice of everything.

    %x: f32[2,3]
    %y = mil.slice_by_index(%x, [0, 0], [2, 3])     ->     %x
    """
    if x.type != op.result.type:
        reject("the shape changes")
    if op.name == "mil.slice_by_index" and any(step != 1 for step in _per_axis(op.attr("stride"), 1, x.rank)):
        reject("the slice has a stride")
    return x


@rewrite(mil.slice_by_index(mil.slice_by_index(x, rest), rest))
def merge_slices(op: Op, x: Value) -> Value:
    """A slice of a slice is one slice.

    %x: f32[16]
    %1 = mil.slice_by_index(%x, [2], [10])
    %y = mil.slice_by_index(%1, [1], [3])     ->     %y = mil.slice_by_index(%x, [3], [5])
    """
    inner = op.value("x").op
    assert inner is not None
    squeezed = inner.attr("squeeze_mask")
    if isinstance(squeezed, tuple) and any(squeezed):
        reject("the inner slice drops axes")
    first, second = ranges(inner), ranges(op)
    if not all(map(len, second)) or any(r.step < 0 for r in (*first, *second)):
        reject("a slice is empty or walks backwards")
    taken = tuple(a[b.start : b.stop : b.step] for a, b in zip(first, second, strict=True))
    return take(x, taken, op.attr("squeeze_mask"))


def boundaries(pieces: list[Operand], axis: int) -> list[int] | None:
    """Where each piece ends along ``axis``; None for symbolic pieces."""
    if not all(isinstance(p, Value) and p.tensor.is_static for p in pieces):
        return None
    return list(accumulate(p.shape[axis] for p in pieces if isinstance(p, Value)))


@rewrite(mil.slice_by_index(mil.concat(values, rest), rest))
def slice_piece(op: Op, values: tuple[Operand, ...]) -> Value:
    """A slice that touches one piece of a concat is a slice of that piece.

    %a: f32[4], %b: f32[4]
    %1 = mil.concat([%a, %b]) {axis=0}
    %y = mil.slice_by_index(%1, [5], [7])     ->     %y = mil.slice_by_index(%b, [1], [3])
    """
    joined = op.value("x").op
    assert joined is not None
    axis, taken = concat_axis(joined), ranges(op)
    ends = boundaries(list(values), axis)
    if ends is None or not all(map(len, taken)) or any(r.step < 0 for r in taken):
        reject("the slice is empty or walks backwards, or a piece is symbolic")
    low, high = taken[axis][0], taken[axis][-1]
    for piece, start, end in zip(values, [0, *ends], ends, strict=False):
        if start <= low and high < end and isinstance(piece, Value):
            along = taken[axis]
            moved = range(along.start - start, along.stop - start, along.step)
            return take(piece, (*taken[:axis], moved, *taken[axis + 1 :]), op.attr("squeeze_mask"))
    return reject("the slice touches several pieces")


def concat_axis(op: Op) -> int:
    """The axis of a concat or split, counted from the front.

    Raises:
        Reject: the concat interleaves, or joins scalars.
    """
    if op.name == "mil.concat" and op.attr("interleave"):
        reject("the concat interleaves")
    axis, rank = op.attr("axis"), op.inputs[0].rank if op.inputs else 0
    if not isinstance(axis, int) or rank == 0:
        reject("the concat joins scalars")
    return axis % rank


@rewrite(mil.split(x, rest))
def drop_split(op: Op, x: Value) -> list[Value]:
    """A split into one part.

    %y = mil.split(%x) {num_splits=1, axis=0}     ->     %x
    """
    return [x] if len(op.results) == 1 else reject("there are several parts")


@rewrite(mil.split(mil.concat(values, rest), rest))
def split_pieces(op: Op, values: tuple[Operand, ...]) -> list[Value]:
    """A split of a concat at the same boundaries gives the pieces back.

    %1 = mil.concat([%a, %b]) {axis=0}
    %c, %d = mil.split(%1) {num_splits=2, axis=0}
    return %c, %d
        ->
    return %a, %b
    """
    joined = op.value("x").op
    assert joined is not None
    pieces = [value for value in values if isinstance(value, Value)]
    if concat_axis(joined) != concat_axis(op) or len(pieces) != len(op.results):
        reject("the boundaries differ")
    if any(piece.type != result.type for piece, result in zip(pieces, op.results, strict=True)):
        reject("the boundaries differ")
    return pieces


RULES: list[Rule] = [drop_slice, merge_slices, slice_piece, drop_split, split_pieces]
