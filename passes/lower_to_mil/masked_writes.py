"""Writing by mask: a choice where every true place gets the same, else by a running count of the mask.

    %y = aten.masked_scatter.default(%x, %m, %v)     %x: f32[4], %m: bool[4], %v: f32[3]
        ->
    %1 = mil.cast(%m) {dtype="int32"}
    %2 = mil.cumsum(%1) {axis=0}
    %3 = mil.sub(%2, 1)
    %4 = mil.maximum(%3, 0)
    %5 = mil.gather(%v, %4) {axis=0}
    %y = mil.select(%m, %5, %x)

A mask that leaves or takes whole rows counts rows.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.index import as_result, source
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import broadcast_to, choose, constant_tensor, reshaped, with_rank
from anec.passes.lower_to_mil.typing import result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, rewrite


def put_where(op: Op, x: Value, new: Value, mask: Value, position: int, ctx: Context) -> Value | None:
    """x[..., mask, ...] = new: a choice where every place gets the same, whatever the mask."""
    after = x.rank - position - mask.rank
    sizes = static(new.tensor)
    if len(sizes) > after:
        if sizes[len(sizes) - after - 1] != 1:
            return None if constant_tensor(mask, ctx) is not None else _in_turn(op, x, new, mask, position)
        before, rest = sizes[: len(sizes) - after - 1], sizes[len(sizes) - after :]
        new = reshaped(new, (*before, *[1] * mask.rank, *rest)) if before else reshaped(new, rest)
    truth = with_rank(value(mask, DType.BOOL), mask.rank + after)
    if op.attr("accumulate"):
        new = mil.add(x, new)
    return choose(truth, new, x, x.tensor)


def _in_turn(op: Op, x: Value, new: Value, mask: Value, position: int) -> Value:
    """x[..., mask, ...] = new, where the n-th true place gets the n-th slice; torch has as many slices as places."""
    shape = static(x.tensor)
    before, rest = shape[:position], shape[position + mask.rank :]
    places = math.prod(shape[position : position + mask.rank])
    slices = static(new.tensor)[-len(rest) - 1]
    truth = reshaped(value(mask, DType.BOOL), (places,))
    x = reshaped(x, (*before, places, *rest))
    found = mil.gather(broadcast_to(new, (*before, slices, *rest)), _turns(truth), axis=position)
    if op.attr("accumulate"):
        found = mil.add(x, found)
    return reshaped(choose(with_rank(truth, 1 + len(rest)), found, x, x.tensor), shape)


def _turns(truth: Value) -> Value:
    """For each place of a mask of one axis how many true ones lie in front of it."""
    count = mil.cumsum(mil.cast(truth, dtype="int32"), axis=0)
    return mil.maximum(mil.sub(count, 1), 0)


@rewrite(each("masked_scatter"))
def masked_scatter(op: Op) -> Value:
    """The n-th true place takes the n-th element: its position is a running count of the mask."""
    type_ = result_type(op)
    shape = static(type_)
    x, new, mask = source(op), source(op, "source"), value(op.operand("mask"), DType.BOOL)
    mask = _unrepeated(mask)
    x = broadcast_to(x, shape)
    row = _row_size(mask, static(new.tensor), shape)
    places = mask if row > 1 else broadcast_to(mask, shape)
    count = math.prod(shape) // row
    rows = reshaped(new, (math.prod(static(new.tensor)) // row, row) if row > 1 else (math.prod(static(new.tensor)),))
    found = reshaped(mil.gather(rows, _turns(reshaped(places, (count,))), axis=0), shape)
    return as_result(choose(mask, found, x, x.tensor), op)


def _unrepeated(mask: Value) -> Value:
    """What a mask was before it was repeated to full shape."""
    while mask.op is not None and mask.op.name == "mil.tile":
        mask = mask.op.value("x")
    return mask


def _row_size(mask: Value, new: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """How many neighbouring elements the mask takes or leaves together, and ``new`` holds together."""
    sizes = static(mask.tensor)
    row, at = 1, len(shape)
    while at > 1 and len(sizes) == len(shape) and sizes[at - 1] == 1:
        row, at = row * shape[at - 1], at - 1
    whole = sizes[:at] == shape[:at]
    return row if whole and row > 1 and math.prod(new) % row == 0 else 1


RULES: list[Rule] = [masked_scatter]
