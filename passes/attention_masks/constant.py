"""Constant masks, and what causal attention hides, as one weight that is added.

    %q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8]
    %ones = aten.ones.default() {size=[4, 4], dtype=bool}
    %mask = aten.tril.default(%ones)
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = weight "y.mask" : f32[1,1,4,4]
    %y = nn.attention(%q, %k, %v, %1)

Layers whose masks are equal share one weight; a mask that hides nothing goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.types import DType, TensorType
from anec.passes.attention_masks.shared import (
    SCORES,
    key,
    mask,
    masked,
    query,
    values,
    without_true,
)
from anec.passes.common import rebuild
from anec.passes.lower_to_mil.constants import constant
from anec.passes.mask_bounds import HIDDEN
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite

if TYPE_CHECKING:
    import torch

    from anec.passes.attention_masks import StaticAttentionMask

# Scores as large as this are lost beside a number whose last digit is worth as much.
_LOST = 8.0


@rewrite(nn.attention(query, key, values, mask, rest))
def drop_true(op: Op, mask: Value) -> Value:
    """A condition that always holds does not hide a key.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: bool[1,1,1,7]
    %true = aten.ones.default() {size=[4, 7], dtype=bool}
    %1 = aten.bitwise_and.Tensor(%mask, %true)
    %y = nn.attention(%q, %k, %v, %1)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)
    """
    narrow = without_true(mask)
    if narrow is mask:
        reject("no side of the mask is always true")
    if narrow.rank == 0 or narrow.tensor.shape[-1] != mask.tensor.shape[-1]:
        reject("what is left of the mask does not lie along the keys")
    return rebuild(op, mask=narrow)


@rewrite(nn.attention(query, key, values, rest), domain=SCORES)
def constant_mask(op: Op, ctx: Context, opts: StaticAttentionMask) -> Value:
    """A constant mask, causal or given, is one weight that is added; or none.

    %q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8]
    %y = nn.attention(%q, %k, %v) {causal=true}
        ->
    %1 = weight "y.mask" : f32[1,1,4,4]
    %y = nn.attention(%q, %k, %v, %1)
    """
    given = op.operand("mask")
    if given is not None and not (isinstance(given, Value) and given.is_constant):
        reject("the mask depends on inputs")
    if given is not None and not (given.tensor.is_static and _readable(given)):
        reject("the numbers of the mask are not at hand")
    causal = bool(op.attr("causal"))
    if given is None and not causal:
        reject("there is no mask")
    rows, columns = op.value("query").tensor.shape[-2], op.value("key").tensor.shape[-2]
    if causal and not (isinstance(rows, int) and isinstance(columns, int)):
        reject("a length is symbolic")
    dtype = op.result.tensor.dtype
    shape = (rows, columns) if causal or given is None else given.tensor.shape
    size = TensorType(dtype, shape).bytes
    if not size:
        reject("there are no keys")
    if size > opts.budget:
        reject(f"a mask of {size} bytes is beyond the budget of {opts.budget}")
    parts = _parts(op, given, ctx, causal)
    if given is not None and not causal and _settled(given, parts, dtype):
        reject("it is one weight that is added")
    made = parts.added
    whole = made.reshape((1,) * (op.result.rank - made.dim()) + tuple(made.shape))
    mask = constant(ctx, op, whole, "mask", dtype) if bool(made.any()) else None
    scoring = None if parts.scoring is None else constant(ctx, op, parts.scoring, "scoring", dtype)
    result = masked(op, mask, scoring)
    return result if parts.kept is None else aten.mul.Tensor(result, constant(ctx, op, parts.kept, "kept", dtype))


def _readable(value: Value) -> bool:
    """Whether the weights behind a constant have numbers."""
    stack, seen = [value], {value}
    while stack:
        at = stack.pop()
        if at.weight is not None and at.weight.data is None:
            return False
        following = [operand for operand in (at.op.inputs if at.op is not None else ()) if operand not in seen]
        seen.update(following)
        stack.extend(following)
    return True


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a constant mask does.

    Args:
        added: what is added to the scores.
        kept: 0 for queries that see no key; None if all do.
        scoring: 0 for queries whose keys are all hidden by a number beside which scores do not count;
            their rows of ``added`` tell which keys that is. None if there is no such query.
    """

    added: torch.Tensor
    kept: torch.Tensor | None
    scoring: torch.Tensor | None


# What constant masks do, as found in one run: layers share masks, and `settle` asks again.
_KNOWN: ContextVar[dict[tuple[object, ...], _Parts] | None] = ContextVar("masks", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """While the block runs, what a mask does is read once."""
    token = _KNOWN.set({})
    try:
        yield
    finally:
        _KNOWN.reset(token)


def _parts(op: Op, given: Value | None, ctx: Context, causal: bool) -> _Parts:
    """What a mask does to the scores; read once for all layers."""
    dtype, known = op.result.tensor.dtype, _KNOWN.get()
    lengths = (op.value("query").shape[-2], op.value("key").shape[-2]) if causal else None
    found = None if known is None else known.get((given, dtype, lengths))
    if found is None:
        found = _read(given, ctx, dtype, lengths)
        if known is not None:
            known[given, dtype, lengths] = found
    return found


def _read(given: Value | None, ctx: Context, dtype: DType, lengths: tuple[int, int] | None) -> _Parts:
    import torch

    from anec.ir.weights import torch_dtype
    from anec.reference.evaluate import evaluate_constant

    kind = torch_dtype(dtype)
    numbers = torch.zeros(1, 1, dtype=kind) if given is None else evaluate_constant(given, ctx.module)
    if numbers.dtype is torch.bool:
        numbers = torch.zeros((), dtype=kind).masked_fill(~numbers, -math.inf)
    if lengths is not None:
        numbers = numbers.masked_fill(~torch.ones(lengths, dtype=torch.bool).tril(), -math.inf)
    for axis in range(numbers.dim() - 2):
        first = numbers.narrow(axis, 0, 1)
        if bool((numbers == first).all()):
            numbers = first
    largest = numbers.amax(-1, keepdim=True)
    empty = largest == -math.inf
    # So low a number takes the place of a score: its last digit is worth more than one.
    lost = ~empty & (largest < min(HIDDEN, -_LOST / torch.finfo(kind).eps))
    numbers = torch.where(lost, numbers - largest, numbers)
    return _Parts(
        numbers.to(kind).clamp(min=HIDDEN).contiguous(),
        kept=(~empty).to(kind) if bool(empty.any()) else None,
        scoring=(~lost).to(kind) if bool(lost.any()) else None,
    )


def _settled(given: Value, parts: _Parts, dtype: DType) -> bool:
    """Whether the mask is the weight that would be made of it."""
    if given.weight is None or given.tensor.dtype is not dtype or given.shape != tuple(parts.added.shape):
        return False
    if parts.kept is not None or parts.scoring is not None:
        return False
    return given.weight.extent()[0] >= HIDDEN and bool(parts.added.any())


RULES: list[Rule] = [drop_true, constant_mask]
