"""Attention.

    %q: f32[1,2,4,64], %k: f32[1,2,6,64], %v: f32[1,2,6,64], %mask: f32[4,6] weight
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %y = mil.scaled_dot_product_attention(%q, %k, %v, %mask)

from iOS18 on; on older targets, and where that op does not fit (a softcap, rank 2, broadcast keys):

    module target=iOS17
    %q: f32[1,2,4,64], %k: f32[1,2,6,64], %v: f32[1,2,6,64], %mask: f32[4,6] weight
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = mil.mul(%q, 0.125)
    %2 = mil.matmul(%1, %k) {transpose_y=true}
    %3 = mil.add(%2, %mask)
    %4 = mil.softmax(%3) {axis=-1}
    %y = mil.matmul(%4, %v)

A row whose keys are all masked gives zeros in torch and NaN in a softmax. Whether there is one is
known for constant masks; for computed ones such rows are replaced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import mil, nn
from anec.errors import UnsupportedError
from anec.ir.attrs import Literal
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.ir.types import DType, TensorType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.permutation import MAX_RANK, volume
from anec.passes.lower_to_mil.shared import broadcast_to, constant_tensor, reshaped
from anec.passes.lower_to_mil.symbolic import counted
from anec.passes.lower_to_mil.typing import number, result_type, value
from anec.passes.mask_bounds import lowest
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

if TYPE_CHECKING:
    import torch

FIRST_WITH_ATTENTION = 18


@dataclass(frozen=True, slots=True)
class Mask:
    """What is added to the scores, or kept of them.

    Args:
        value: bool (true keeps) or float (added); broadcasts to the scores.
        empty_rows: some row may keep nothing: None when that is only known when the program runs.
    """

    value: Value
    empty_rows: bool | None


@rewrite(nn.attention)
def lower_attention(op: Op, ctx: Context) -> Value:
    """By Core ML's own op where it fits; then rows without a key become zeros."""
    type_ = result_type(op)
    query, key, values = (value(op.operand(name), type_.dtype) for name in ("query", "key", "value"))
    if type_.rank > MAX_RANK:
        raise UnsupportedError(f"attention of {type_}", hint="Core ML's tensors have rank 5 at most")
    key, values = _repeated(query, key), _repeated(query, values)
    softcap = number(op.attr("softcap"), DType.F32)
    assert isinstance(softcap, float)
    scale, natural = _scales(op, query)
    mask = _mask(op, ctx, query, key, type_)
    if ctx.module.opset >= FIRST_WITH_ATTENTION and softcap == 0 and _fits(query, key, values, mask):
        # The op itself divides by sqrt(E), and knows no other scale.
        scaled = query if math.isclose(scale, natural, rel_tol=1e-15) else mil.mul(query, scale / natural)
        result = mil.scaled_dot_product_attention(scaled, key, values, attn_mask=mask and mask.value)
    else:
        result = _composed(query, key, values, mask, softcap, scale)
    return result if mask is None or mask.empty_rows is False else _without_empty_rows(result, mask)


def _scales(op: Op, query: Value) -> tuple[float, float]:
    """The scale asked for, and 1 / sqrt(E)."""
    given, size = op.attr("scale"), query.tensor.shape[-1]
    if not isinstance(size, int):
        reject(f"the embedding of {query.tensor} is symbolic")
    natural = 1 / math.sqrt(size)
    return float(given) if isinstance(given, (int, float)) else natural, natural


def _repeated(query: Value, tensor: Value) -> Value:
    """Keys or values with each head repeated for its group of query heads."""
    if query.rank < 3 or tensor.rank < 3 or tensor.tensor.shape[-3] in (1, query.tensor.shape[-3]):
        return tensor
    heads, groups = query.tensor.shape[-3], tensor.tensor.shape[-3]
    *lead, _, length, size = tensor.tensor.shape
    if not isinstance(heads, int) or not isinstance(groups, int):
        reject(f"the heads of {query.tensor} or {tensor.tensor} are symbolic")
    block = volume((length, size))
    rows = volume((*lead, groups))
    # As [batch and head, 1, length * size] the repetition is along an axis of its own at any rank.
    flat = reshaped(tensor, (rows, 1, block))
    tiled = mil.tile(flat, reps=(1, heads // groups, 1))
    return reshaped(tiled, (*lead, heads, length, size))


def _mask(op: Op, ctx: Context, query: Value, key: Value, type_: TensorType) -> Mask | None:
    """The given mask and the causal one as one."""
    given = op.operand("mask")
    if isinstance(given, Literal):
        reject("the mask is a number")
    mask = given
    if mask is not None and mask.tensor.dtype is not DType.BOOL:
        mask = value(mask, type_.dtype)
    causal = _causal(op, ctx, query, key) if op.attr("causal") else None
    if mask is None or causal is None:
        # Every row of the causal mask keeps the first key.
        return Mask(mask, empty_rows(mask, ctx)) if mask is not None else _causal_mask(causal)
    if mask.tensor.dtype is DType.BOOL:
        both = mil.logical_and(mask, causal)
    else:
        both = mil.select(causal, _to_rows(mask, causal), -math.inf)
    return Mask(both, empty_rows(both, ctx))


def _causal_mask(causal: Value | None) -> Mask | None:
    return None if causal is None else Mask(causal, False)


def _to_rows(mask: Value, causal: Value) -> Value:
    """A float mask of the shape [..., L, S]: select takes its shape from its branches alone."""
    shape = mask.tensor.shape
    rank = max(len(shape), 2)
    padded = (1,) * (rank - len(shape)) + shape
    return broadcast_to(mask, (*padded[:-2], *causal.tensor.shape))


def _causal(op: Op, ctx: Context, query: Value, key: Value) -> Value:
    import torch

    rows, columns = query.tensor.shape[-2], key.tensor.shape[-2]
    if not isinstance(rows, int) or not isinstance(columns, int):
        return mil.greater_equal(mil.expand_dims(counted(rows), axes=(1,)), counted(columns))
    kept = torch.ones(rows, columns, dtype=torch.bool).tril()
    return constant(ctx, op, kept, "causal", DType.BOOL)


def empty_rows(mask: Value, ctx: Context) -> bool | None:
    """Whether some query of a mask sees no key; None when only the running program knows."""
    known = constant_tensor(mask, ctx)
    if known is not None:
        return bool(_empty(known).any())
    if mask.tensor.dtype is not DType.BOOL and lowest(mask, unknown=-math.inf) > -math.inf:
        return False
    return None


def _empty(mask: torch.Tensor) -> torch.Tensor:
    """Which rows of a mask keep nothing."""
    import torch

    hidden = ~mask if mask.dtype is torch.bool else mask == -math.inf
    return hidden.all(-1)


def _fits(query: Value, key: Value, values: Value, mask: Mask | None) -> bool:
    """Core ML's op broadcasts neither the leading axes nor the keys of a mask."""
    shapes = [tensor.tensor.shape for tensor in (query, key, values)]
    if query.rank < 3 or any(shape[:-2] != shapes[0][:-2] for shape in shapes[1:]):
        return False
    return mask is None or (mask.value.rank >= 1 and mask.value.tensor.shape[-1] == shapes[1][-2])


def _composed(
    query: Value, key: Value, values: Value, mask: Mask | None, softcap: float, scale: float
) -> Value:
    scores = mil.matmul(query if scale == 1 else mil.mul(query, scale), key, transpose_y=True)
    if softcap > 0:
        scores = mil.mul(mil.tanh(mil.mul(scores, 1 / softcap)), softcap)
    if mask is not None:
        scores = _masked(scores, mask.value)
    return mil.matmul(mil.softmax(scores, axis=-1), values)


def _masked(scores: Value, mask: Value) -> Value:
    """The scores with -inf where a bool mask is false, or with a float mask added."""
    if mask.tensor.dtype is not DType.BOOL:
        return mil.add(scores, mask)
    if not is_constant(mask):
        return mil.select(mask, scores, -math.inf)
    # Computed before emission: 0 where the mask keeps, -inf elsewhere.
    zeros = mil.mul(value(mask, scores.tensor.dtype), 0.0)
    return mil.add(scores, mil.select(mask, zeros, -math.inf))


def _without_empty_rows(result: Value, mask: Mask) -> Value:
    """Zeros where a row of the mask keeps nothing."""
    if mask.value.tensor.dtype is DType.BOOL:
        kept = mil.reduce_max(value(mask.value, result.tensor.dtype), axes=(-1,), keep_dims=True)
        return mil.select(value(kept, DType.BOOL), result, 0.0)
    highest = mil.reduce_max(mask.value, axes=(-1,), keep_dims=True)
    return mil.select(mil.equal(highest, -math.inf), 0.0, result)


RULES: list[Rule] = [lower_attention]
