"""What masks do to scores whose keys lie on axis 1: (B, S, H, L)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.attention import empty_rows
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import moved, reshaped
from anec.passes.lower_to_mil.permutation import Movement
from anec.passes.lower_to_mil.typing import value
from anec.passes.mask_bounds import HIDDEN, LEAST, lowest
from anec.pipeline.base import Context
from anec.rewrite import reject


@dataclass(frozen=True, slots=True)
class Mask:
    """What a mask does to scores [B, S, H, L]; axes of size 1 serve all.

    Args:
        bias: what is added, down to :data:`HIDDEN`; -inf is not handled in softmax (rule A24).
        seeing: bool [B, 1, H, L], false for a query that sees no key at all: its result is 0.
        scoring: [B, 1, H, L], 0 for a query whose keys are all masked by a finite number: it sees them evenly.
    """

    bias: Value | None = None
    seeing: Value | None = None
    scoring: Value | None = None

    def scored(self, factor: Value) -> Mask:
        """The mask of scores that are multiplied by a factor [B, H, L, 1] first."""
        turned = turned_keys(factor)
        return Mask(self.bias, self.seeing, turned if self.scoring is None else mil.mul(self.scoring, turned))


def mask_of(op: Op, ctx: Context, length: int, keys: int, dtype: DType) -> Mask:
    """The given mask and the causal one as one.

    Raises:
        Reject: the mask is a number, or is broadcast over the keys.
    """
    import torch

    given = op.operand("mask")
    if isinstance(given, Literal):
        reject("the mask is a number")
    causal = None
    if op.attr("causal"):
        hidden = torch.full((keys, length), HIDDEN, dtype=torch.float64).tril(-1)
        causal = constant(ctx, op, hidden.reshape(1, keys, 1, length), "causal", dtype)
    if given is None:
        return Mask(causal)
    full = reshaped(given, (*(1,) * (4 - given.rank), *given.shape))
    if full.shape[-1] == 1 < keys:
        reject("the mask is broadcast over the keys")
    found = _of_bools(full, ctx, dtype) if full.tensor.dtype is DType.BOOL else _of_floats(full, ctx, dtype)
    if causal is None or found.bias is None:
        return found
    return Mask(mil.maximum(mil.add(found.bias, causal), HIDDEN), found.seeing, found.scoring)


def _of_bools(mask: Value, ctx: Context, dtype: DType) -> Mask:
    numbers = value(turned_keys(mask), dtype)
    bias = mil.mul(mil.sub(numbers, 1.0), -HIDDEN)
    if empty_rows(mask, ctx) is False:
        return Mask(bias)
    return Mask(bias, seeing=value(mil.reduce_max(numbers, axes=(1,), keep_dims=True), DType.BOOL))


def _of_floats(mask: Value, ctx: Context, dtype: DType) -> Mask:
    numbers = value(turned_keys(mask), dtype)
    if lowest(mask) >= LEAST:
        return Mask(numbers)
    highest = mil.reduce_max(numbers, axes=(1,), keep_dims=True)
    seeing = scoring = None
    if not ctx.facts.range(mask).finite and empty_rows(mask, ctx) is not False:
        seeing = mil.greater(highest, -math.inf)
    if not _scores_count(mask, ctx):
        scoring = value(mil.greater_equal(highest, HIDDEN), dtype)
    return Mask(mil.maximum(numbers, HIDDEN), seeing, scoring)


def _scores_count(mask: Value, ctx: Context) -> bool:
    """Whether every query of a constant mask has a key that is not masked, or none at all."""
    if not is_constant(mask):
        return False
    from anec.reference.evaluate import evaluate_constant  # loads torch

    highest = evaluate_constant(mask, ctx.module).amax(-1)
    return bool(((highest >= HIDDEN) | (highest == -math.inf)).all())


def turned_keys(mask: Value) -> Value:
    """[B, H, L, S] as [B, S, H, L]."""
    return moved(mask, Movement.of(mask.shape).permuted((0, 3, 1, 2)), tuple(mask.shape[axis] for axis in (0, 3, 1, 2)))


def part(tensor: Value, heads: tuple[int, int], rows: tuple[int, int]) -> Value:
    """What a tensor [B, S, H, L] says of some heads and queries; axes of size 1 serve all."""
    begin, end = [0] * 4, list(tensor.shape)
    for axis, (start, stop) in ((2, heads), (3, rows)):
        if tensor.shape[axis] != 1:
            begin[axis], end[axis] = start, stop
    return tensor if end == list(tensor.shape) and not any(begin) else mil.slice_by_index(tensor, begin, end)
