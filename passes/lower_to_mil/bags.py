"""Embedding bags: rows of a table, reduced bag by bag.

    %w: f32[9,8] weight, %i: i64[6]
    %o = aten.arange.start_step() {start=0, end=6, step=3}
    %y, %a, %b, %c = aten._embedding_bag.default(%w, %i, %o) {mode=1}
    return %y
        ->
    %1 = mil.reshape(%i, [2, 3])
    %2 = mil.gather(%w, %1) {axis=0}
    %y = mil.reduce_mean(%2) {axes=[1], keep_dims=false}
    return %y

Bag b holds the indices from offsets[b] up to the next offset. Where the offsets are constant, the
indices are laid out as bags times the longest bag, and a constant mask tells what is beyond a shorter
one. Where they are computed, every bag sees all indices, and the mask is computed too.
"""

from __future__ import annotations

from collections.abc import Callable

from anec.dialects import mil
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr, Literal
from anec.ir.graph import Op, Value
from anec.ir.types import DType, TensorType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, choose, constant_tensor, filled, reshaped
from anec.passes.lower_to_mil.symbolic import counted
from anec.passes.lower_to_mil.typing import cast, result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

Arranged = Callable[[Value], Value]
# torch's modes.
_SUM, _MEAN, _MAX = 0, 1, 2
_MOST = 1 << 24


@rewrite(each("_embedding_bag", "_embedding_bag_forward_only", "embedding_bag", "embedding_bag.padding_idx"))
def embedding_bag(op: Op, ctx: Context) -> list[Value]:
    """Sum, mean or maximum of the rows of each bag; an empty bag gives zeros."""
    if any(result.uses or result.is_output for result in op.results[1:]):
        raise UnsupportedError(
            f"{op.name}: the results after the first serve the backward pass",
            where=op.origin.place,
            hint="use the first result only, as torch.nn.EmbeddingBag does",
        )
    type_ = result_type(op)
    bags, width = static(type_)
    index, factors = value(op.operand("indices"), DType.I32), op.operand("per_sample_weights")
    arranged, mask = _layout(op, bags, static(index.tensor)[0], ctx)
    index = arranged(index)
    longest = static(index.tensor)[-1]
    if bags * longest * width > _MOST:
        reject(f"{bags} bags of up to {longest} rows of {width} numbers take too much memory")
    padding = op.attr("padding_idx")
    if isinstance(padding, int) and padding >= 0:
        real = mil.not_equal(index, padding)
        mask = real if mask is None else mil.logical_and(mask, real)
    rows = mil.gather(value(op.operand("weight"), type_.dtype), index, axis=0)
    if isinstance(factors, Value):
        factor = arranged(value(factors, type_.dtype))
        rows = mil.mul(rows, mil.expand_dims(factor, axes=(factor.rank,)))
    rows = rows if rows.rank == 3 else mil.expand_dims(rows, axes=(0,))
    return [_reduced(rows, mask, op.attr("mode"), type_.with_shape((bags, longest, width)))]


def _layout(op: Op, bags: int, count: int, ctx: Context) -> tuple[Arranged, Value | None]:
    """How to lay out a row by bags, and which of its places belong to a bag; None for all."""
    offsets = value(op.operand("offsets"), DType.I32)
    known = constant_tensor(offsets, ctx)
    if known is not None:
        return _constant_layout(op, [int(start) for start in known][:bags], count, ctx)
    starts = mil.slice_by_size(offsets, begin=(0,), size=(bags,)) if op.attr("include_last_offset") else offsets
    ends = filled((1,), count, DType.I32)
    if bags > 1:
        ends = mil.concat([mil.slice_by_size(offsets, begin=(1,), size=(bags - 1,)), ends], axis=0)
    place = counted(count)
    begun = mil.greater_equal(place, mil.expand_dims(starts, axes=(1,)))
    return lambda row: row, mil.logical_and(begun, mil.less(place, mil.expand_dims(ends, axes=(1,))))


def _constant_layout(op: Op, starts: list[int], count: int, ctx: Context) -> tuple[Arranged, Value | None]:
    import torch

    ends = [*starts[1:], count]
    longest = max(1, *(end - start for start, end in zip(starts, ends, strict=True)))
    if starts == list(range(0, count, longest)) and count % longest == 0:
        return lambda row: reshaped(row, (len(starts), longest)), None
    place = torch.tensor(starts)[:, None] + torch.arange(longest)
    # Beyond a bag any index will do: the mask hides it.
    places = constant(ctx, op, place.clamp(max=count - 1).int(), "places", DType.I32)
    inside = constant(ctx, op, place < torch.tensor(ends)[:, None], "inside", DType.BOOL)
    return lambda row: mil.gather(row, places, axis=0), inside


def _reduced(rows: Value, mask: Value | None, mode: Attr, type_: TensorType) -> Value:
    """``rows`` ([bags or 1, longest, width]) reduced over the middle axis, where the mask is true."""
    if mask is None:
        target = mil.reduce_sum if mode == _SUM else mil.reduce_mean if mode == _MEAN else mil.reduce_max
        return target(rows, axes=(1,), keep_dims=False)
    dtype = type_.dtype
    neutral = -dtype.largest if mode == _MAX else 0.0
    shown = choose(mil.expand_dims(mask, axes=(2,)), rows, Literal(neutral), type_)
    count = mil.reduce_sum(cast(mask, dtype), axes=(1,), keep_dims=True)
    if mode == _MAX:
        flat = type_.with_shape((type_.shape[0], type_.shape[2]))
        return choose(mil.equal(count, 0.0), Literal(0.0), mil.reduce_max(shown, axes=(1,), keep_dims=False), flat)
    total = mil.reduce_sum(shown, axes=(1,), keep_dims=False)
    return as_value(total) if mode == _SUM else mil.real_div(total, mil.maximum(count, 1.0))


RULES: list[Rule] = [embedding_bag]
