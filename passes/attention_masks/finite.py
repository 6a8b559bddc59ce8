"""Choices inside a bounded mask as products: it is finite by itself, and the bound goes.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %keep: bool[1,1,1,7]
    %1 = aten.where.Scalar(%keep) {self=0.0, other=-3.4028234663852886e38}
    %y = nn.attention(%q, %k, %v, %1)
        ->
    %1 = aten._to_copy.default(%keep) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)

What tells which queries see no key is made of the same products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.ir.weights import Weight
from anec.passes.algebra import choice, in_dtype
from anec.passes.attention.frames import expanded
from anec.passes.attention.matrices import PERMUTES
from anec.passes.attention.scores import VIEWS
from anec.passes.attention_masks.shared import (
    SCORES,
    VISIBLE,
    added,
    is_seen_by,
    key,
    mask,
    query,
    seen_by,
    unlowered,
    values,
    without_true,
)
from anec.passes.common import rebuild, uniform
from anec.passes.mask_bounds import HIDDEN, LEAST, lowest
from anec.rewrite import Rule, reject, rest, rewrite

_bounded = nn.attention(query, key, values, aten.clamp_min.default(mask, rest), rest)
# A bias beside what hides keys is no number that competes with 40000.
_DOMAIN = {**SCORES, "mask": (-1e3, 1e3)}


@rewrite(_bounded, domain=_DOMAIN)
def finite_mask(op: Op, query: Value, mask: Value) -> Value:
    """Choices inside a bounded mask are finite themselves; a bound not needed goes.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %keep: bool[1,1,1,7]
    %1 = aten.where.Scalar(%keep) {self=0.0, other=-3.4028234663852886e38}
    %y = nn.attention(%q, %k, %v, %1)
        ->
    %1 = aten._to_copy.default(%keep) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)
    """
    bounded = op.value("mask")
    if any(is_seen_by(user, bounded) for user in op.result.users):
        reject("the queries that see no key are told by the same mask")
    given = unlowered(mask)
    hides = _hides(given or mask)
    if given and not hides:
        reject("a bias counts beside -40000, and not beside what may be -inf")
    finite = _without_choices(bounded, given or mask, LEAST if given else HIDDEN)
    if query.op is None or not is_seen_by(query.op, given or bounded):
        return rebuild(op, mask=finite)
    seen = seen_by(finite, query.tensor.dtype)
    if not hides:
        # What is added to the low number does not count beside it either.
        finite = aten.mul.Tensor(finite, seen)
    return rebuild(op, mask=finite, query=aten.mul.Tensor(query.op.value("self"), seen))


def _hides(value: Value) -> bool:
    """Whether ``value`` holds nothing but 0 and what hides: choices between them, sums of such, and such constants."""
    op = value.op
    if value.weight is not None:
        return value.weight.data is not None and _holds_levels(value.weight)
    if op is None:
        return False
    if op.name in _MOVES or op.defn is aten.clamp_min.default:
        return _hides(op.value("self"))
    if op.defn is aten.add.Tensor:
        return all(map(_hides, op.inputs))
    found = choice(op)
    if found is not None:
        numbers = uniform(found.first), uniform(found.last)
        return all(number is not None and (number == 0 or number <= VISIBLE) for number in numbers)
    factor = uniform(op.operand("other")) if op.defn is aten.mul.Tensor else None
    if factor is None:
        return False
    seen, sign = op.value("self").op, -1
    if seen is not None and seen.defn is aten.sub.Tensor and uniform(seen.operand("other")) == 1:
        seen, sign = seen.value("self").op, 1
    is_bool = seen is not None and seen.defn is aten._to_copy.default and seen.value("self").tensor.dtype is DType.BOOL
    return is_bool and (factor == 0 or factor * sign >= -VISIBLE)


def _holds_levels(weight: Weight) -> bool:
    if weight.extent()[1] > 0:
        return False
    numbers = weight.tensor()
    return bool(((numbers == 0) | (numbers <= VISIBLE)).all())


@rewrite(aten.mul.Tensor(_bounded.named("attended"), rest), domain=_DOMAIN)
def finite_mask_of_seen(op: Op, attended: Value, mask: Value) -> Value:
    """As finite_mask, where the mask also tells which queries see no key.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %keep: bool[1,1,4,7]
    %1 = aten.where.Scalar(%keep) {self=0.0, other=-inf}
    %y = nn.attention(%q, %k, %v, %1)
        ->
    %1 = aten._to_copy.default(%keep) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %4 = nn.attention(%q, %k, %v, %3)
    %5 = aten.amax.default(%3) {dim=[-1], keepdim=true}
    %6 = aten.gt.Scalar(%5) {other=-20000.0}
    %7 = aten._to_copy.default(%6) {dtype=f32}
    %y = aten.mul.Tensor(%4, %7)
    """
    assert attended.op is not None
    bounded = attended.op.value("mask")
    if not is_seen_by(op, bounded):
        reject("it is multiplied by something else")
    finite = _without_choices(bounded, mask, HIDDEN)
    return aten.mul.Tensor(rebuild(attended.op, mask=finite), seen_by(finite, attended.tensor.dtype))


def _without_choices(bounded: Value, mask: Value, infinite: float) -> Value:
    """``bounded``, which is ``mask`` with our bound, with choices between 0 and a low number as products.

    Args:
        bounded: the mask of an attention.
        mask: what it is made of.
        infinite: what -inf becomes, and a sum of low numbers.
    """
    assert bounded.op is not None
    if bounded.op.attr("min") != HIDDEN:
        reject("the bound is the model's own")
    found = _Finite(infinite).of(mask, _REACH)
    if found is mask:
        reject("no choice between numbers is part of the mask")
    if found.rank == 0 or found.tensor.shape[-1] != mask.tensor.shape[-1]:
        reject("the condition does not lie along the keys")
    return found if lowest(found) >= LEAST else aten.clamp_min.default(found, infinite)


_MOVES = VIEWS | PERMUTES | {"aten.expand.default", "aten.repeat.default", "aten.slice.Tensor"}
_REACH = 24


@dataclass(slots=True)
class _Finite:
    """One mask with choices between 0 and a low number as products, and with finite constants.

    What is found may be smaller than the mask, which it then broadcasts to. What ops share is made once for each
    number of ops left to follow.

    Args:
        infinite: what -inf becomes.
    """

    infinite: float
    memo: dict[tuple[Value, int], Value] = field(default_factory=dict)

    def of(self, value: Value, reach: int) -> Value:
        found = self.memo.get((value, reach))
        if found is None:
            found = self.memo[value, reach] = self.made(value, reach)
        return found

    def made(self, value: Value, reach: int) -> Value:
        op = value.op
        if not reach or not value.tensor.dtype.is_float:
            return value
        if value.is_constant:
            return self.constant(value)
        if op is None:
            return value
        if op.name in _MOVES:
            source = op.value("self")
            inner = self.of(source, reach - 1)
            if inner is source:
                return value
            if op.defn.root == "expand":
                return aten.expand.default(inner, value.tensor.shape)
            return rebuild(op, self=expanded(inner, source.tensor.shape))
        if op.name == "aten.add.Tensor" and op.attr("alpha") == 1:
            sides = {name: side for name in ("self", "other") if isinstance(side := op.operand(name), Value)}
            changed = {name: self.of(side, reach - 1) for name, side in sides.items()}
            # Beside what may be as large as it is low elsewhere, -inf is more than -40000.
            if changed == sides or any(lowest(side) < LEAST for side in changed.values()):
                return value
            return rebuild(op, **changed)
        return self.choice(op) or value

    def constant(self, value: Value) -> Value:
        least = lowest(value)
        if least >= HIDDEN:
            return value
        if value.op is not None and (chosen := self.choice(value.op)) is not None:
            return chosen
        if self.infinite < HIDDEN and least == -math.inf and lowest(value, infinite=False) <= HIDDEN:
            # One bound does not serve -inf and other low numbers.
            return value
        return aten.clamp_min.default(value, self.infinite if least == -math.inf else HIDDEN)

    def choice(self, op: Op) -> Value | None:
        """A choice between 0 and a low number as a product; None for anything else."""
        found = choice(op)
        if found is None:
            return None
        first, last = uniform(found.first), uniform(found.last)
        if first is None or last is None or min(first, last) >= 0 or max(first, last) != 0:
            return None
        low, dtype = float(min(first, last)), op.result.tensor.dtype
        number = self.infinite if low == -math.inf else max(low, HIDDEN)
        if first == 0:
            return added(in_dtype(without_true(found.condition), dtype), number)
        return aten.mul.Tensor(in_dtype(found.condition, dtype), number)


RULES: list[Rule] = [finite_mask, finite_mask_of_seen]
