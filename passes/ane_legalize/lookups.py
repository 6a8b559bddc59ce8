"""Lookups at constant places as slices, or as a product with a matrix of zeros and ones.

    %x: f32[1,6,8]
    %y = mil.gather(%x, [0, 1, 5, 4, 3]) {axis=1}
        ->
    %1 = mil.slice_by_index(%x, [0, 0, 0], [0, 2, 0]) {begin_mask=[true, false, true], end_mask=[true, false, true]}
    %2 = mil.slice_by_index(%x, [0, 3, 0], [0, 6, 0]) {begin_mask=[true, false, true], end_mask=[true, false, true]}
    %3 = mil.reverse(%2) {axes=[1]}
    %y = mil.concat([%1, %3]) {axis=1}

Core ML never puts a gather on the Neural Engine (rules A17 and B23). Up to eleven runs of places are slices; more are a
product, which costs as many multiply-adds for each number as the axis is long. One run that counts up is what
``mil-cleanup`` slices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anec.ane.limits import Limits
from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.ane_legalize.finite import holds_infinity
from anec.passes.ane_legalize.products import along, check_product
from anec.passes.ane_legalize.runs import MOST_RUNS, runs_of, taken
from anec.passes.ane_legalize.shears import is_worth, sheared
from anec.passes.common import varying
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import reshaped, sliced
from anec.passes.lower_to_mil.shared import constant_tensor
from anec.pipeline.base import Context
from anec.rewrite import Rule, any_of, reject, rest, rewrite

if TYPE_CHECKING:
    import torch

    from anec.passes.ane_legalize import AneLegalize

# More indices are not looked at.
_MOST = 1 << 22

x = varying("x")


@rewrite(any_of(mil.gather(x, rest), mil.gather_nd(x, rest)))
def lookup(op: Op, ctx: Context, opts: AneLegalize, x: Value) -> Value:
    """Up to eleven runs of places are slices, others a product with one-hot rows.

    %x: f32[1,4,8,8]
    %y = mil.gather(%x, [0, 2, 3, 1, 0, 2, 3, 1, 0, 2, 3, 1, 0, 2, 3, 1, 0, 2, 3, 1, 0, 2, 3, 1]) {axis=1}
        ->
    %places = weight "places" : i32[24]
    %1 = mil.one_hot(%places, 4) {on_value=1.0, off_value=0.0}
    %2 = mil.expand_dims(%1) {axes=[2, 3]}
    %y = mil.conv(%x, %2)
    """
    _check(x)
    indices = _indices(op, ctx)
    batch = op.attr("batch_dims") if "batch_dims" in op.defn.by_name else 0
    assert isinstance(batch, int)
    entries = indices.flatten(0, batch - 1) if batch else indices[None]
    if op.defn.root == "gather":
        axis = op.attr("axis")
        assert isinstance(axis, int)
        source, axis, lines = x, axis % x.rank, entries.reshape(len(entries), -1)
    else:
        # The last axis of the indices holds a place on each of the axes behind those of the batch.
        sizes = x.shape[batch : batch + entries.shape[-1]]
        if not bool(((entries >= 0) & (entries < entries.new_tensor(sizes))).all()):
            reject("an index counts from the end, or is beyond it")
        strides = entries.new_tensor([math.prod(sizes[place + 1 :]) for place in range(len(sizes))])
        source = reshaped(x, (*x.shape[:batch], math.prod(sizes), *x.shape[batch + len(sizes) :]))
        axis, lines = batch, (entries * strides).sum(-1).reshape(len(entries), -1)
    if not bool((lines == lines[:1]).all()):
        reject("the places differ from batch to batch")
    return reshaped(_looked_up(source, axis, lines[0].tolist(), op, ctx, opts.limits), op.results[0].shape)


@rewrite(mil.gather_along_axis(x, rest))
def lookup_along_axis(op: Op, ctx: Context, opts: AneLegalize, x: Value) -> Value:
    """The same places in each line are a lookup; places that move on by one from line to line are that, sheared.

    %x: f32[3,5]
    %y = mil.gather_along_axis(%x, [[2, 3, 4], [1, 2, 3], [0, 1, 2]]) {axis=1}
        ->
    %ahead = weight "ahead" : f32[3,3]
    %behind = weight "behind" : f32[2,2]
    %1 = mil.slice_by_index(%x, [0, 2], [0, 5]) {begin_mask=[true, false], end_mask=[true, false]}
    %2 = mil.mul(%1, %ahead)
    %3 = mil.slice_by_index(%x, [1, 0], [3, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %4 = mil.slice_by_index(%3, [0, 0], [0, 2]) {begin_mask=[true, false], end_mask=[true, false]}
    %5 = mil.mul(%4, %behind)
    %6 = mil.pad(%2, [0, 0, 0, 1]) {mode="constant", constant_val=0.0}
    %7 = mil.pad(%5, [0, 1, 2, 0]) {mode="constant", constant_val=0.0}
    %8 = mil.add(%6, %7)
    %9 = mil.reshape(%8, [4, 3])
    %y = mil.slice_by_index(%9, [0, 0], [3, 0]) {begin_mask=[false, true], end_mask=[false, true]}

    Relative positions are looked up so: entry [q, k] is at the place of k - q. All differences are looked up in every
    line, and a shear takes from each what belongs to it (``shears.py``). Where lines are many more or fewer than their
    entries, it takes two reshapes: laid out one entry longer, and read from the second line on, each line begins one
    entry earlier than the one before.
    """
    _check(x)
    axis = op.attr("axis")
    assert isinstance(axis, int)
    axis %= x.rank
    places = _indices(op, ctx)
    lines = places.movedim(axis, -1).reshape(-1, places.shape[axis])
    if bool((lines == lines[:1]).all()):
        return reshaped(_looked_up(x, axis, lines[0].tolist(), op, ctx, opts.limits), op.results[0].shape)
    if axis != x.rank - 1:
        reject("the places differ from line to line, along another axis than the last")
    count = _sheared(lines)
    if count > 3 * lines.shape[1]:
        reject(f"the shear of {count} lines is much larger than what is taken from it")
    # From the first place of the last line up to the first line, and on along it.
    row = [*lines[1:count, 0].flip(0).tolist(), *lines[0].tolist()]
    size, length = x.shape[axis], lines.shape[1]
    blocks = x if x.rank < 5 and count == x.shape[-2] else reshaped(x, (lines.shape[0] // count, count, size))
    if is_worth(count, length, 2 * count * (len(row) + 1)) and not holds_infinity(x, ctx.facts):
        found = _looked_up(blocks, blocks.rank - 1, row, op, ctx, opts.limits)
        return reshaped(sheared(found, count - 1, length, op, ctx), op.results[0].shape)
    before = 2 * row[0] - row[1]
    # One more in front fills up.
    row.insert(0, before if 0 <= before < size else row[0])
    found = _looked_up(blocks, blocks.rank - 1, row, op, ctx, opts.limits)
    begun = sliced(reshaped(found, (*blocks.shape[:-2], len(row), count)), blocks.rank - 2, 1)
    cut = sliced(reshaped(begun, (*blocks.shape[:-2], count, len(row) - 1)), blocks.rank - 1, 0, length)
    return reshaped(cut, op.results[0].shape)


def _sheared(lines: torch.Tensor) -> int:
    """How many lines, each the one before shifted by one place, make the block that all lines repeat.

    Raises:
        Reject: they do not.
    """
    breaks = (lines[1:, 1:] != lines[:-1, :-1]).any(1).nonzero()
    count = int(breaks[0]) + 1 if len(breaks) else len(lines)
    if count < 2 or len(lines) % count or not bool((lines[count:] == lines[:-count]).all()):
        reject("the places differ from line to line, and not as a shear of one row")
    return count


def _check(x: Value) -> None:
    if not x.tensor.is_static or not x.tensor.dtype.is_float:
        reject(f"%{x.name} is {x.tensor}, which stays on the CPU whatever is done to it")


def _indices(op: Op, ctx: Context) -> torch.Tensor:
    import torch

    given = op.operand("indices")
    if isinstance(given, Literal):
        return torch.tensor(given.value, dtype=torch.int64)
    if not isinstance(given, Value) or not given.tensor.is_static or not 0 < given.tensor.size <= _MOST:
        reject("the indices are symbolic or too many")
    found = constant_tensor(given, ctx)
    return reject("the indices are computed") if found is None else found.to(torch.int64)


def _looked_up(x: Value, axis: int, places: list[int], op: Op, ctx: Context, limits: Limits) -> Value:
    """The entries of ``x`` at ``places`` along ``axis``.

    Raises:
        Reject: a place is not one of ``x``, or there are many runs and the product is too large.
    """
    size = x.shape[axis]
    if not all(0 <= place < size for place in places):
        reject("an index counts from the end, or is beyond it")
    runs = runs_of(places)
    if len(runs) <= MOST_RUNS:
        return taken(x, axis, runs)
    check_product(x, axis, len(places), limits, ctx.facts)
    import torch

    row = constant(ctx, op, torch.tensor(places, dtype=torch.int32), "places", DType.I32)
    return along(x, axis, mil.one_hot(row, size, on_value=1.0, off_value=0.0))


RULES: list[Rule] = [lookup, lookup_along_axis]
