"""Tiles, pads and windows, which copy numbers, as products with ones and concats.

    %x: f32[1,8,1,32]
    %y = mil.tile(%x, [1, 1, 4, 1])
        ->
    %1 = mil.fill([1, 1, 4, 1]) {value=1.0}
    %y = mil.mul(%x, %1)

A tile of a computed tensor stays on the CPU (rule B56); so do pads of other axes than height and width (B26), and on M1
those that reflect or replicate (B12p). Windows that overlap have no op on the Neural Engine (B21).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.ane_legalize.runs import MOST_PIECES, MOST_RUNS, repeated, runs_of, stretched, taken
from anec.passes.common import ints, only_use, rebuild, uniform, varying
from anec.passes.lower_to_mil.movement import joined, reshaped, sliced
from anec.passes.lower_to_mil.shared import filled
from anec.passes.mil_cleanup.pads import amounts
from anec.rewrite import Rule, reject, rest, rewrite, var

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

x = varying("x")


@rewrite(mil.tile(x, rest))
def tile(op: Op, x: Value) -> Value:
    """Axes of size 1 are multiplied by ones, which broadcasts; up to eleven copies of others are joined.

    %x: f32[1,2]
    %y = mil.tile(%x, [3, 2])     ->     %1 = mil.fill([3, 1]) {value=1.0}
                                         %2 = mil.mul(%x, %1)
                                         %y = mil.concat([%2, %2]) {axis=1}
    """
    reps = ints(op.operand("reps"))
    if reps is None or not x.tensor.is_static or not x.tensor.dtype.is_float:
        reject(f"the counts are not known, or %{x.name} is {x.tensor}")
    wide = [size == 1 for size in x.shape]
    if any(count > MOST_RUNS and not broadcasts for count, broadcasts in zip(reps, wide, strict=True)):
        reject(f"more than {MOST_RUNS} copies of an axis longer than 1")
    found = x
    if x.rank == 5 and wide[1] and reps[1] > 1:
        # The depth of a tensor of rank 5 is not broadcast (rule B32); of rank 4 these are the channels.
        batch, _, height, rows, width = x.shape
        image = reshaped(x, (batch, 1, height * rows, width))
        found = reshaped(stretched(image, 1, reps[1]), (batch, reps[1], height, rows, width))
        reps = (reps[0], 1, *reps[2:])
    ones = tuple(count if broadcasts else 1 for count, broadcasts in zip(reps, wide, strict=True))
    if any(count > 1 for count in ones):
        found = mil.mul(found, filled(ones, 1.0, x.tensor.dtype))
    for axis, (count, broadcasts) in enumerate(zip(reps, wide, strict=True)):
        if not broadcasts:
            found = joined([found] * count, axis)
    return found


@rewrite(mil.pad(x, rest))
def pad(op: Op, opts: AneLegalize, x: Value) -> Value:
    """An axis is joined with constants; with its own entries where the mode says so.

    %x: f32[1,2,8,8]
    %y = mil.pad(%x, [0, 2, 0, 0, 0, 0]) {mode="constant", constant_val=0.5}
        ->
    %1 = mil.fill([1, 2, 8, 8]) {value=0.5}
    %y = mil.concat([%x, %1]) {axis=1}

    %x: f32[1,1,8]
    %y = mil.pad(%x, [2, 0]) {mode="reflect"}
        ->
    %1 = mil.slice_by_index(%x, [0, 0, 1], [0, 0, 3]) {begin_mask=[true, true, false],
                                                       end_mask=[true, true, false]}
    %2 = mil.reverse(%1) {axes=[2]}
    %y = mil.concat([%2, %x]) {axis=2}
    """
    if not x.tensor.is_static or not x.tensor.dtype.is_float:
        reject(f"%{x.name} is {x.tensor}")
    given = amounts(op, x.rank)
    pairs = list(zip(given[::2], given[1::2], strict=True))
    found = x
    if op.attr("mode") == "constant":
        if not any(map(any, pairs[:-2])):
            reject("height and width are padded as they are")
        for axis, (before, after) in enumerate(pairs[:-2]):
            found = joined([*_block(op, found, axis, before), found, *_block(op, found, axis, after)], axis)
        left = tuple(amount for pair in pairs[-2:] for amount in pair)
        return rebuild(op, x=found, pad=left) if any(left) else found
    if opts.limits.has_texture:
        reject(f"{opts.limits.generation} pads so itself")
    for axis, (before, after) in enumerate(pairs):
        last = x.shape[axis] - 1
        places = range(-before, last + 1 + after)
        if op.attr("mode") == "reflect":
            entries = [last - abs(last - abs(place)) for place in places]
        else:
            entries = [min(max(place, 0), last) for place in places]
        found = _surrounded(found, axis, entries, before, after)
    return found


def _surrounded(x: Value, axis: int, entries: list[int], before: int, after: int) -> Value:
    """``x`` whole, with the entries in front of it and behind it."""
    front, back = entries[:before], entries[len(entries) - after :]
    return joined([*_taken(x, axis, front), x, *_taken(x, axis, back)], axis)


def _taken(x: Value, axis: int, places: list[int]) -> list[Value]:
    return [taken(x, axis, runs_of(places))] if places else []


def _block(op: Op, x: Value, axis: int, count: int) -> list[Value]:
    """As many entries of the constant, beside ``x`` along ``axis``; none for 0."""
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return [filled(shape, op.attr("constant_val"), x.tensor.dtype)] if count else []


@rewrite(mil.reshape(mil.mul(x, var("ones")).named("wide"), rest))
def repeat(op: Op, x: Value, ones: Operand, wide: Value) -> Value:
    """Entries that follow each other several times, as the keys of grouped heads do, are joined: written once.

    %x: f32[2,15,2,1,8]
    %1 = mil.fill([1, 1, 1, 3, 1]) {value=1.0}
    %2 = mil.mul(%x, %1)
    %y = mil.reshape(%2, [2, 15, 6, 8])
        ->
    %1 = mil.squeeze(%x) {axes=[3]}
    %a, %b = mil.split(%1) {num_splits=2, axis=2}
    %y = mil.concat([%a, %a, %a, %b, %b, %b]) {axis=2}
    """
    result = op.results[0]
    if not only_use(wide) or not x.rank == wide.rank == result.rank + 1 or not wide.tensor.is_static:
        reject("no axis is joined, or what is repeated has other users")
    grown = [axis for axis, (few, many) in enumerate(zip(x.shape, wide.shape, strict=True)) if few != many]
    if uniform(ones) != 1 or len(grown) != 1 or not grown[0]:
        reject("it is not repeated along one axis")
    axis = grown[0] - 1
    entries, times = wide.shape[axis : axis + 2]
    joint = (*wide.shape[:axis], entries * times, *wide.shape[axis + 2 :])
    if result.shape != joint or entries * times > MOST_PIECES:
        reject(f"the copies are not side by side, or more than {MOST_PIECES}")
    return repeated(mil.squeeze(x, axes=(axis + 1,)), axis, times)


@rewrite(mil.sliding_windows(x, rest))
def sliding_windows(op: Op, x: Value) -> Value:
    """Up to eleven windows are slices side by side; of more, blocks one step long are put behind those that follow.

    %x: f32[20,4]
    %y = mil.sliding_windows(%x) {axis=0, size=8, stride=6}
        ->
    %1 = mil.slice_by_index(%x, [0, 0], [8, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %2 = mil.slice_by_index(%x, [6, 0], [14, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %3 = mil.slice_by_index(%x, [12, 0], [20, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %4 = mil.expand_dims(%1) {axes=[0]}
    %5 = mil.expand_dims(%2) {axes=[0]}
    %6 = mil.expand_dims(%3) {axes=[0]}
    %y = mil.concat([%4, %5, %6]) {axis=0}

    %x: f32[26]
    %y = mil.sliding_windows(%x) {axis=0, size=4, stride=2}
        ->
    %1 = mil.reshape(%x, [13, 2])
    %2 = mil.slice_by_index(%1, [0, 0], [12, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %3 = mil.slice_by_index(%1, [1, 0], [13, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %y = mil.concat([%2, %3]) {axis=1}
    """
    at, size, step = (op.attr(name) for name in ("axis", "size", "stride"))
    assert isinstance(at, int)
    assert isinstance(size, int)
    assert isinstance(step, int)
    at %= x.rank
    if not op.result.tensor.is_static or not x.tensor.dtype.is_float:
        reject(f"the windows are {op.result.tensor}")
    count = op.result.shape[at]
    if count <= MOST_RUNS:
        cut = [sliced(x, at, begin * step, begin * step + size) for begin in range(count)]
        return joined([mil.expand_dims(window, axes=(at,)) for window in cut], at)
    pieces = size // step
    if size % step or pieces > MOST_RUNS:
        reject(f"{count} windows of {size}, {step} apart, share no blocks")
    blocks = count - 1 + pieces
    whole = x if x.shape[at] == blocks * step else sliced(x, at, 0, blocks * step)
    rows = reshaped(whole, (*x.shape[:at], blocks, step, *x.shape[at + 1 :]))
    return joined([sliced(rows, at, first, first + count) for first in range(pieces)], at + 1)


RULES: list[Rule] = [tile, pad, repeat, sliding_windows]
