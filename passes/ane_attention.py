"""Attention in the form the Neural Engine runs: heads side by side, keys on the channel axis.

    %q: f32[1,2,4,64], %k: f32[1,2,6,64], %v: f32[1,2,6,64]
    %y = nn.attention(%q, %k, %v)
        ->
    %1 = mil.transpose(%q) {perm=[0, 1, 3, 2]}
    %2 = mil.reshape(%1, [1, 128, 1, 4])
    %3 = mil.mul(%2, 0.125)
    %4 = mil.transpose(%k) {perm=[0, 2, 1, 3]}
    %5 = mil.reshape(%4, [1, 6, 1, 128])
    %k0, %k1 = mil.split(%5) {num_splits=2, axis=3}
    %6 = mil.transpose(%v) {perm=[0, 1, 3, 2]}
    %7 = mil.reshape(%6, [1, 128, 1, 6])
    %v0, %v1 = mil.split(%7) {num_splits=2, axis=1}
    %q0, %q1 = mil.split(%3) {num_splits=2, axis=1}
    %s0 = mil.einsum([%k0, %q0]) {equation="nchw,nwhu->nchu"}
    %s1 = mil.einsum([%k1, %q1]) {equation="nchw,nwhu->nchu"}
    %8 = mil.concat([%s0, %s1]) {axis=2}
    %9 = mil.softmax(%8) {axis=1}
    %p0, %p1 = mil.split(%9) {num_splits=2, axis=2}
    %o0 = mil.einsum([%v0, %p0]) {equation="nchw,nwhu->nchu"}
    %o1 = mil.einsum([%v1, %p1]) {equation="nchw,nwhu->nchu"}
    %10 = mil.concat([%o0, %o1]) {axis=1}
    %11 = mil.reshape(%10, [2, 64, 4])
    %12 = mil.transpose(%11) {perm=[0, 2, 1]}
    %y = mil.expand_dims(%12) {axes=[0]}

Here %2 and %10 are (B, H E, 1, L), %5 is (B, S, 1, H E), %7 (B, H E, 1, S) and %9 (B, S, H, L).
The moves at both ends are views of what the layers around hold: ``ane-layout`` makes them meet.
The equation is the only one of rank 4 that Core ML runs, and it maps to hardware without a transpose
(rule A22). Heads are split, the keys transposed before that (A21, A47); softmax runs over axis 1
(A23), the mask is (B, S, 1, L) (A25) and finite (A24). Grouped queries use their key head without a
copy of it. Sources: ml-ane-transformers, ml-vision-transformers-ane, coreai-models.

A masked score is 40000 lower than it was instead of minus infinity: exp gives 0 for it as long as
scores differ by less than that. A row whose keys are all masked gives 0 for a bool mask and for
minus infinity, as torch does; for finite masks beyond -40000 it attends by its scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anec.dialects import mil, nn
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.attention import empty_rows
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import moved, reshaped
from anec.passes.lower_to_mil.permutation import Movement
from anec.passes.lower_to_mil.typing import value
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register
from anec.rewrite import reject, rewrite

_EQUATION = "nchw,nwhu->nchu"
# Rule A24: -inf is not handled in softmax.
MASKED = -4e4
# Rule B63: one live operand of more than this leaves the working set (M1).
_WORKING_SET = 2 << 20
# Rule B55: time to compile grows faster than the number of ops.
_MOST_EINSUMS = 256
_CHUNK = 64


@rewrite(nn.attention)
def split_heads(op: Op, ctx: Context, opts: AneAttention) -> Value:
    """One product a head over (B, C, 1, S), keys on axis 1."""
    query, key, values = op.value("query"), op.value("key"), op.value("value")
    tensors = (query, key, values)
    if any(not tensor.tensor.is_static for tensor in tensors):
        reject("a size is symbolic")
    if query.rank not in (3, 4) or any(tensor.rank != query.rank for tensor in tensors):
        reject(f"attention of rank {query.rank}")
    dtype = op.results[0].tensor.dtype
    if dtype not in (DType.F32, DType.F16):
        reject(f"attention in {dtype}")
    shaped = [_with_heads(value(tensor, dtype)) for tensor in tensors]
    (batch, heads, length, size), (_, groups, keys, _) = shaped[0].shape, shaped[1].shape
    if any(tensor.shape[0] != batch for tensor in shaped) or heads % groups or shaped[2].shape[1] != groups:
        reject("keys and values are broadcast over the batch")
    width = shaped[2].shape[3]
    bias, kept = _bias(op, ctx, (batch, heads, length, keys), dtype)
    given = op.attr("scale")
    scale = float(given) if isinstance(given, (int, float)) else 1 / math.sqrt(size)
    queries = _channels(shaped[0])
    if scale != 1:
        queries = mil.mul(queries, scale)
    # Keys are turned once, in front of the split.
    key_heads, value_heads = _split(_rows(shaped[1]), groups, 3), _split(_channels(shaped[2]), groups, 1)
    softcap = op.attr("softcap")
    assert isinstance(softcap, (int, float))
    chunks, together = _plan(opts, batch, heads, length, keys)
    parts = []
    for chunk, start, stop in _chunks(queries, length, chunks):
        query_heads = _split(chunk, heads, 1)
        outputs: list[Value] = []
        for first in range(0, heads, together):
            members = range(first, min(first + together, heads))
            scores = [
                mil.einsum([key_heads[head * groups // heads], query_heads[head]], equation=_EQUATION)
                for head in members
            ]
            joint = scores[0] if len(scores) == 1 else mil.concat(scores, axis=2)
            if softcap:
                joint = mil.mul(mil.tanh(mil.mul(joint, 1 / softcap)), float(softcap))
            if bias is not None:
                joint = mil.add(joint, _part(bias, (members.start, members.stop), (start, stop)))
            weights = _split(mil.softmax(joint, axis=1), len(scores), 2)
            outputs += [
                mil.einsum([value_heads[head * groups // heads], weight], equation=_EQUATION)
                for head, weight in zip(members, weights, strict=True)
            ]
        if kept is not None and kept.shape[2] != 1:
            sees = [_part(kept, (head, head + 1), (start, stop)) for head in range(heads)]
            outputs = [mil.select(see, output, 0.0) for see, output in zip(sees, outputs, strict=True)]
        parts.append(outputs[0] if heads == 1 else mil.concat(outputs, axis=1))
    joined = parts[0] if len(parts) == 1 else mil.concat(parts, axis=3)
    if kept is not None and kept.shape[2] == 1:
        joined = mil.select(kept, joined, 0.0)
    back = Movement.of((batch, heads, width, length)).permuted((0, 1, 3, 2))
    return reshaped(moved(joined, back, (batch, heads, length, width)), op.results[0].shape)


def _with_heads(tensor: Value) -> Value:
    return tensor if tensor.rank == 4 else reshaped(tensor, (tensor.shape[0], 1, *tensor.shape[1:]))


def _channels(tensor: Value) -> Value:
    """[B, H, S, E] as [B, H E, 1, S]."""
    batch, heads, length, size = tensor.shape
    return moved(tensor, Movement.of(tensor.shape).permuted((0, 1, 3, 2)), (batch, heads * size, 1, length))


def _rows(tensor: Value) -> Value:
    """[B, H, S, E] as [B, S, 1, H E]."""
    batch, heads, length, size = tensor.shape
    return moved(tensor, Movement.of(tensor.shape).permuted((0, 2, 1, 3)), (batch, length, 1, heads * size))


def _split(tensor: Value, count: int, axis: int) -> tuple[Value, ...]:
    return (tensor,) if count == 1 else mil.split.many(tensor, num_splits=count, axis=axis)


def _plan(opts: AneAttention, batch: int, heads: int, length: int, keys: int) -> tuple[int, int]:
    """Into how many chunks queries are cut, and how many heads share a softmax."""
    if opts.chunk:
        chunks = -(-length // opts.chunk)
    else:
        rows = max(_WORKING_SET // (2 * keys * batch) // _CHUNK * _CHUNK, _CHUNK)
        chunks = min(-(-length // rows), max(_MOST_EINSUMS // heads, 1))
    if opts.heads:
        return chunks, min(opts.heads, heads)
    scores = 2 * batch * keys * -(-length // chunks)
    return chunks, max(1, min(heads, _WORKING_SET // scores))


def _chunks(query: Value, length: int, count: int) -> list[tuple[Value, int, int]]:
    if count == 1:
        return [(query, 0, length)]
    rows = -(-length // count)
    sizes = [min(rows, length - start) for start in range(0, length, rows)]
    pieces = mil.split.many(query, num_splits=len(sizes), split_sizes=tuple(sizes), axis=3)
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [(piece, start, start + size) for piece, start, size in zip(pieces, starts, sizes, strict=True)]


def _part(bias: Value, heads: tuple[int, int], rows: tuple[int, int]) -> Value:
    """The bias [B, S, H, L] of some heads and queries; axes of size 1 serve all."""
    begin, end = [0] * 4, list(bias.shape)
    for axis, (start, stop) in ((2, heads), (3, rows)):
        if bias.shape[axis] != 1:
            begin[axis], end[axis] = start, stop
    return bias if end == list(bias.shape) and not any(begin) else mil.slice_by_index(bias, begin, end)


def _bias(op: Op, ctx: Context, shape: tuple[int, ...], dtype: DType) -> tuple[Value | None, Value | None]:
    """What is added to scores [B, S, H, L], and which queries keep a key, where that is in question."""
    import torch

    _, _, length, keys = shape
    mask = op.operand("mask")
    if isinstance(mask, Literal):
        reject("the mask is a number")
    causal = None
    if op.attr("causal"):
        hidden = torch.full((keys, length), MASKED, dtype=torch.float64).tril(-1)
        causal = constant(ctx, op, hidden.reshape(1, keys, 1, length), "causal", dtype)
    if mask is None:
        return causal, None
    full = reshaped(mask, (*(1,) * (4 - mask.rank), *mask.shape))
    if full.shape[-1] == 1 < keys:
        reject("the mask is broadcast over the keys")
    kept = None
    if full.tensor.dtype is DType.BOOL:
        bias = mil.mul(mil.sub(value(full, dtype), 1.0), -MASKED)
        if _may_be_empty(full, ctx):
            seen = mil.reduce_max(value(full, dtype), axes=(-1,), keep_dims=True)
            kept = value(seen, DType.BOOL)
    else:
        bias = mil.maximum(value(full, dtype), MASKED)
        if _may_be_empty(full, ctx):
            seen = mil.reduce_max(value(full, dtype), axes=(-1,), keep_dims=True)
            kept = mil.greater(seen, -math.inf)
    turned = _turned(bias)
    if causal is not None:
        turned = mil.maximum(mil.add(turned, causal), MASKED)
    return turned, None if kept is None else _turned(kept)


def _may_be_empty(mask: Value, ctx: Context) -> bool:
    """Whether some query may see no key at all."""
    if mask.tensor.dtype is not DType.BOOL and ctx.facts.range(mask).finite:
        return False
    return empty_rows(mask, ctx) is not False


def _turned(mask: Value) -> Value:
    """[B, H, L, S] as [B, S, H, L]."""
    return moved(mask, Movement.of(mask.shape).permuted((0, 3, 1, 2)), tuple(mask.shape[axis] for axis in (0, 3, 1, 2)))


@register
@dataclass
class AneAttention(Pass):
    """Split attention into heads over (B, C, 1, S), softmax on the channel axis.

    Args:
        heads: how many heads share a softmax; 0 takes as many as fit the working set of 2 MB.
        chunk: how many queries are taken at a time; 0 takes as many as fit the working set.
    """

    name = "ane-attention"
    rules = (split_heads,)
    # Masked scores are lower by a finite number; see above.
    fidelity = Close(rtol=1e-6, atol=1e-9)
    dialects = frozenset({"nn"})

    heads: int = 0
    chunk: int = 0
