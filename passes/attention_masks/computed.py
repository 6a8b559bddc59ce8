"""Masks that depend on inputs, as finite floats that are added.

    %q: f32[2,2,4,8], %k: f32[2,2,9,8], %v: f32[2,2,9,8], %mask: bool[2,1,1,9]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)

    %q: f32[2,2,4,8], %k: f32[2,2,9,8], %v: f32[2,2,9,8], %mask: f32[2,1,1,9]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten.clamp_min.default(%mask) {min=-40000.0}
    %y = nn.attention(%q, %k, %v, %1)

Queries that see no key give zeros, or the mean of the values where a finite number hides them all.
"""

from __future__ import annotations

import math

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.algebra import in_dtype
from anec.passes.attention_masks.shared import (
    SCORES,
    VISIBLE,
    above,
    added,
    finite,
    key,
    largest,
    lowered,
    mask,
    masked,
    query,
    seen_by,
    values,
)
from anec.passes.common import rebuild
from anec.passes.lower_to_mil.constants import constant
from anec.passes.mask_bounds import HIDDEN, LEAST, lowest
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite


@rewrite(nn.attention(query, key, values, mask, rest), domain=SCORES)
def causal_and_computed(op: Op, mask: Value, ctx: Context) -> Value:
    """What causal attention hides becomes part of a mask that depends on inputs.

    %q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8], %mask: bool[1,1,1,4]
    %y = nn.attention(%q, %k, %v, %mask) {causal=true}
        ->
    %1 = weight "y.seen" : bool[4,4]
    %2 = aten.bitwise_and.Tensor(%mask, %1)
    %3 = aten._to_copy.default(%2) {dtype=f32}
    %4 = aten.sub.Tensor(%3, 1.0)
    %5 = aten.mul.Tensor(%4, 40000.0)
    %6 = nn.attention(%q, %k, %v, %5)
    %7 = aten.amax.default(%3) {dim=[-1], keepdim=true}
    %y = aten.mul.Tensor(%6, %7)
    """
    import torch

    if not op.attr("causal") or mask.is_constant:
        reject("it is not causal beside a mask that depends on inputs")
    rows, columns = op.value("query").tensor.shape[-2], op.value("key").tensor.shape[-2]
    if not isinstance(rows, int) or not isinstance(columns, int):
        reject("a length is symbolic")
    seen = torch.ones(rows, columns, dtype=torch.bool).tril()
    if mask.tensor.dtype is DType.BOOL:
        return masked(op, aten.bitwise_and.Tensor(mask, constant(ctx, op, seen, "seen", DType.BOOL)))
    hidden = torch.zeros(rows, columns).masked_fill(~seen, HIDDEN)
    return masked(op, aten.add.Tensor(mask, constant(ctx, op, hidden, "mask", DType.F32)))


@rewrite(nn.attention(query, key, values, mask, rest), domain=SCORES)
def computed_mask(op: Op, mask: Value) -> Value:
    """A bool mask by query is added; queries that see no key give zeros.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: bool[1,1,4,7]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %4 = nn.attention(%q, %k, %v, %3)
    %5 = aten.amax.default(%1) {dim=[-1], keepdim=true}
    %y = aten.mul.Tensor(%4, %5)
    """
    _reject_other_than_bool(op, mask)
    if not _rows_differ(mask):
        reject("the mask is of keys alone")
    dtype = op.result.tensor.dtype
    seen = in_dtype(mask, dtype)
    return aten.mul.Tensor(rebuild(op, mask=added(seen)), aten.amax.default(seen, (-1,), keepdim=True))


# A bool is drawn true as often as the middle of its range says: some key is left nearly always.
@rewrite(nn.attention(query, key, values, mask, rest), domain={**SCORES, "mask": (0.96, 1.0)})
def padding_mask(op: Op, mask: Value, ctx: Context) -> Value:
    """A bool mask of keys, alike for all queries, is added.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: bool[7]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)
    """
    _reject_other_than_bool(op, mask)
    if _rows_differ(mask):
        reject("the mask differs between queries")
    ctx.note(
        f"static-attention-mask: where %{mask.name} hides all keys, which is an input of padding alone, queries "
        "attend by their scores instead of giving zeros"
    )
    return rebuild(op, mask=added(in_dtype(mask, op.result.tensor.dtype)))


def _reject_other_than_bool(op: Op, mask: Value) -> None:
    if mask.tensor.dtype is not DType.BOOL or mask.is_constant or op.attr("causal"):
        reject("the mask is not a bool that depends on inputs")
    if mask.rank == 0 or mask.tensor.shape[-1] != op.value("key").tensor.shape[-2]:
        reject("the mask does not lie along the keys")


def _rows_differ(mask: Value) -> bool:
    return mask.rank >= 2 and mask.tensor.shape[-2] != 1


@rewrite(nn.attention(query, key, values, mask, rest), domain={**SCORES, "mask": (-1e3, 1e3)})
def bounded_mask(op: Op, query: Value, mask: Value) -> Value:
    """A computed mask that may hold -inf, or what float16 does not, ends at -40000.

    Queries that see no key give zeros where -inf hides them all, and the mean of the values where other
    numbers do: there scores do not count.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: f32[1,1,4,7]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten.amax.default(%mask) {dim=[-1], keepdim=true}
    %2 = aten.clamp_min.default(%1) {min=-3.4028234663852886e+38}
    %3 = aten.sub.Tensor(%mask, %2)
    %4 = aten.clamp_min.default(%3) {min=-40000.0}
    %5 = aten.gt.Scalar(%1) {other=-20000.0}
    %6 = aten._to_copy.default(%5) {dtype=f32}
    %7 = aten.mul.Tensor(%q, %6)
    %8 = nn.attention(%7, %k, %v, %4)
    %9 = aten.gt.Scalar(%1) {other=-inf}
    %10 = aten._to_copy.default(%9) {dtype=f32}
    %y = aten.mul.Tensor(%8, %10)
    """
    if not mask.tensor.dtype.is_float or mask.is_constant or op.attr("causal"):
        reject("the mask is not a float that depends on inputs")
    least = lowest(mask)
    if least >= LEAST:
        reject("the mask holds no such number")
    dtype = query.tensor.dtype
    only_infinite = lowest(mask, infinite=False) > VISIBLE
    if _rows_differ(mask) and least < finite(mask) and not only_infinite:
        # Some keys may be hidden by more than others, which count where a query sees no key.
        highest = largest(mask)
        result = rebuild(op, mask=lowered(mask, highest), query=aten.mul.Tensor(query, above(highest, dtype)))
        return result if least > -math.inf else aten.mul.Tensor(result, above(highest, dtype, -math.inf))
    bounded = aten.clamp_min.default(mask, HIDDEN)
    if not _rows_differ(mask):
        return rebuild(op, mask=bounded)
    seen = seen_by(bounded, dtype)
    if only_infinite:
        return aten.mul.Tensor(rebuild(op, mask=bounded), seen)
    return rebuild(op, mask=bounded, query=aten.mul.Tensor(query, seen))


RULES: list[Rule] = [causal_and_computed, computed_mask, padding_mask, bounded_mask]
