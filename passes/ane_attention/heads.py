"""One attention, built head by head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.ane_attention.masks import Mask, mask_of, part
from anec.passes.ane_attention.pairs import in_halves
from anec.passes.lower_to_mil.movement import joined, moved, reshaped
from anec.passes.lower_to_mil.permutation import Movement
from anec.passes.lower_to_mil.typing import value
from anec.pipeline.base import Context
from anec.rewrite import reject

_EQUATION = "nchw,nwhu->nchu"
# Rule B55: time to compile grows faster than the number of ops.
_MOST_EINSUMS = 256
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of an attention: batch, query and key heads, queries, keys, channels of a head and of its values."""

    batch: int
    heads: int
    groups: int
    length: int
    keys: int
    size: int
    width: int

    @staticmethod
    def of(query: Value, key: Value, values: Value) -> Sizes:
        """The sizes of operands of rank 4.

        Raises:
            Reject: keys or values are broadcast over batch or heads.
        """
        (batch, heads, length, size), (_, groups, keys, _) = query.shape, key.shape
        found = Sizes(batch, heads, groups, length, keys, size, values.shape[3])
        if key.shape != (batch, groups, keys, size) or values.shape != (batch, groups, keys, found.width):
            reject("keys and values are broadcast over the batch")
        if heads % groups:
            reject(f"{heads} heads of queries do not share {groups} of keys")
        return found


def split_attention(op: Op, ctx: Context, together: int, rows: int, working_set: int) -> Value:
    """The result of an ``nn.attention``.

    Args:
        op: the attention.
        ctx: the pass's context.
        together: how many heads share a softmax; 0 takes as many as fit the working set.
        rows: how many queries are taken at a time; 0 takes as many as fit the working set.
        working_set: the bytes of one operand that stays on the chip (rule B63).

    Raises:
        Reject: an operand has a symbolic size, another rank than 3 or 4, or is broadcast.
    """
    query, key, values = operands(op)
    query, key = in_halves(op, query, key)
    sizes = Sizes.of(query, key, values)
    mask = mask_of(op, ctx, sizes.length, sizes.keys, query.tensor.dtype)
    query, mask = _ungated(query, mask) if not op.attr("softcap") else (query, mask)
    queries = _channels(_scaled(op, query, sizes))
    if mask.scoring is not None and mask.scoring.shape[2] == 1:
        queries = mil.mul(queries, mask.scoring)
    # Keys are turned once, in front of the split.
    key_heads, value_heads = _split(_rows(key), sizes.groups, 3), _split(_channels(values), sizes.groups, 1)
    chunks, together = _plan(sizes, together, rows, working_set)
    softcap = op.attr("softcap")
    assert isinstance(softcap, (int, float))
    parts: list[Value] = []
    for chunk, span in _chunks(queries, sizes.length, chunks):
        query_heads = _split(chunk, sizes.heads, 1)
        outputs: list[Value] = []
        for first in range(0, sizes.heads, together):
            members = range(first, min(first + together, sizes.heads))
            scores = [_product(key_heads[_group(head, sizes)], query_heads[head]) for head in members]
            weights = _weights(scores, mask, float(softcap), (members.start, members.stop), span)
            outputs += [
                _seen(_product(value_heads[_group(head, sizes)], weight), mask, head, span)
                for head, weight in zip(members, weights, strict=True)
            ]
        parts.append(joined(outputs, 1))
    whole = joined(parts, 3)
    if mask.seeing is not None and mask.seeing.shape[2] == 1:
        whole = mil.select(mask.seeing, whole, 0.0)
    back = Movement.of((sizes.batch, sizes.heads, sizes.width, sizes.length)).permuted((0, 1, 3, 2))
    heads = moved(whole, back, (sizes.batch, sizes.heads, sizes.length, sizes.width))
    return reshaped(heads, op.results[0].shape)


def operands(op: Op) -> list[Value]:
    """Query, key and value as [B, H, L, E], in the dtype of the result.

    Raises:
        Reject: a size is symbolic, or the rank is not 3 or 4.
    """
    tensors, dtype = [op.value("query"), op.value("key"), op.value("value")], op.results[0].tensor.dtype
    if any(not tensor.tensor.is_static for tensor in tensors):
        reject("a size is symbolic")
    if tensors[0].rank not in (3, 4) or any(tensor.rank != tensors[0].rank for tensor in tensors):
        reject(f"attention of rank {tensors[0].rank}")
    if dtype not in (DType.F32, DType.F16):
        reject(f"attention in {dtype}")
    return [
        reshaped(value(tensor, dtype), (tensor.shape[0], *(1,) * (4 - tensor.rank), *tensor.shape[1:]))
        for tensor in tensors
    ]


def _ungated(query: Value, mask: Mask) -> tuple[Value, Mask]:
    """Queries without a factor for each head and query: scores, which lie head by head, take it as well."""
    if query.op is None or query.op.name != "aten.mul.Tensor":
        return query, mask
    inner, gate = query.op.operand("self"), query.op.operand("other")
    if not (isinstance(inner, Value) and isinstance(gate, Value) and inner.type == query.type):
        return query, mask
    if gate.rank != query.rank or gate.shape[1] == 1 or gate.shape[-1] != 1:
        return query, mask
    return inner, mask.scored(value(gate, query.tensor.dtype))


def _scaled(op: Op, queries: Value, sizes: Sizes) -> Value:
    given = op.attr("scale")
    scale = float(given) if isinstance(given, (int, float)) else 1 / math.sqrt(sizes.size)
    return queries if scale == 1 else mil.mul(queries, scale)


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


def _group(head: int, sizes: Sizes) -> int:
    return head * sizes.groups // sizes.heads


def _product(left: Value, right: Value) -> Value:
    return mil.einsum([left, right], equation=_EQUATION)


def _weights(
    scores: Sequence[Value], mask: Mask, softcap: float, heads: tuple[int, int], rows: tuple[int, int]
) -> tuple[Value, ...]:
    """The weights of some heads, [B, S, 1, L] each, by one softmax."""
    joint = joined(scores, 2)
    if softcap:
        joint = mil.mul(mil.tanh(mil.mul(joint, 1 / softcap)), softcap)
    if mask.scoring is not None and mask.scoring.shape[2] != 1:
        joint = mil.mul(joint, part(mask.scoring, heads, rows))
    if mask.bias is not None:
        joint = mil.add(joint, part(mask.bias, heads, rows))
    return _split(mil.softmax(joint, axis=1), len(scores), 2)


def _seen(output: Value, mask: Mask, head: int, rows: tuple[int, int]) -> Value:
    """Zeros for queries that see nothing, where heads differ in that."""
    if mask.seeing is None or mask.seeing.shape[2] == 1:
        return output
    return mil.select(part(mask.seeing, (head, head + 1), rows), output, 0.0)


def _plan(sizes: Sizes, together: int, rows: int, working_set: int) -> tuple[int, int]:
    """Into how many chunks queries are cut, and how many heads share a softmax."""
    if rows:
        chunks = -(-sizes.length // rows)
    else:
        fitting = max(working_set // (2 * sizes.keys * sizes.batch) // _CHUNK * _CHUNK, _CHUNK)
        chunks = min(-(-sizes.length // fitting), max(_MOST_EINSUMS // sizes.heads, 1))
    if together:
        return chunks, min(together, sizes.heads)
    scores = 2 * sizes.batch * sizes.keys * -(-sizes.length // chunks)
    return chunks, max(1, min(sizes.heads, working_set // scores))


def _chunks(query: Value, length: int, count: int) -> list[tuple[Value, tuple[int, int]]]:
    if count == 1:
        return [(query, (0, length))]
    rows = -(-length // count)
    spans = [(start, min(start + rows, length)) for start in range(0, length, rows)]
    sizes = tuple(stop - start for start, stop in spans)
    pieces = mil.split.many(query, num_splits=len(sizes), split_sizes=sizes, axis=3)
    return list(zip(pieces, spans, strict=True))
