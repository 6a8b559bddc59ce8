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

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.algebra import choice, in_dtype
from anec.passes.attention.frames import expanded
from anec.passes.attention.matrices import PERMUTES
from anec.passes.attention.scores import VIEWS
from anec.passes.attention_masks.shared import (
    SCORES,
    added,
    is_seen_by,
    key,
    mask,
    query,
    seen_by,
    values,
    without_true,
)
from anec.passes.common import rebuild, uniform
from anec.passes.mask_bounds import HIDDEN, LEAST, lowest
from anec.rewrite import Rule, reject, rest, rewrite

_bounded = nn.attention(query, key, values, aten.clamp_min.default(mask, rest), rest)


@rewrite(_bounded, domain=SCORES)
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
    finite = _without_choices(bounded, mask)
    if query.op is None or not is_seen_by(query.op, bounded):
        return rebuild(op, mask=finite)
    seen = seen_by(finite, query.tensor.dtype)
    if not _hides(finite):
        # What is added to the low number does not count beside it either.
        finite = aten.mul.Tensor(finite, seen)
    return rebuild(op, mask=finite, query=aten.mul.Tensor(query.op.value("self"), seen))


def _hides(value: Value) -> bool:
    """Whether ``value`` is 0 or lower: a choice as a product, a sum of such, or constants."""
    op = value.op
    if value.weight is not None:
        return value.weight.data is not None and value.weight.extent()[1] <= 0
    if op is None:
        return False
    if op.name in _MOVES or op.defn is aten.clamp_min.default:
        return _hides(op.value("self"))
    if op.defn is aten.add.Tensor:
        return all(map(_hides, op.inputs))
    inner = op.value("self").op if op.defn is aten.mul.Tensor and uniform(op.operand("other")) is not None else None
    if inner is not None and inner.defn is aten.sub.Tensor:
        inner = inner.value("self").op
    return inner is not None and inner.defn is aten._to_copy.default and inner.value("self").tensor.dtype is DType.BOOL


@rewrite(aten.mul.Tensor(_bounded.named("attended"), rest), domain=SCORES)
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
    finite = _without_choices(bounded, mask)
    return aten.mul.Tensor(rebuild(attended.op, mask=finite), seen_by(finite, attended.tensor.dtype))


def _without_choices(bounded: Value, mask: Value) -> Value:
    """``bounded``, which is ``mask`` with our bound, with choices between 0 and a low number as products."""
    assert bounded.op is not None
    if bounded.op.attr("min") != HIDDEN:
        reject("the bound is the model's own")
    found = _finite(mask, _REACH, {})
    if found is mask:
        reject("no choice between numbers is part of the mask")
    if found.rank == 0 or found.tensor.shape[-1] != mask.tensor.shape[-1]:
        reject("the condition does not lie along the keys")
    return found if lowest(found) >= LEAST else aten.clamp_min.default(found, HIDDEN)


_MOVES = VIEWS | PERMUTES | {"aten.expand.default", "aten.repeat.default", "aten.slice.Tensor"}
_REACH = 24


def _finite(value: Value, reach: int, memo: dict[tuple[Value, int], Value]) -> Value:
    """The mask with choices between 0 and a low number as products, and with finite constants.

    It may be smaller than ``value``, which it then broadcasts to. What ops share is made once for each reach.
    """
    found = memo.get((value, reach))
    if found is None:
        found = memo[value, reach] = _made_finite(value, reach, memo)
    return found


def _made_finite(value: Value, reach: int, memo: dict[tuple[Value, int], Value]) -> Value:
    op = value.op
    if not reach or not value.tensor.dtype.is_float:
        return value
    if value.is_constant:
        return aten.clamp_min.default(value, HIDDEN) if lowest(value) < HIDDEN else value
    if op is None:
        return value
    if op.name in _MOVES:
        source = op.value("self")
        inner = _finite(source, reach - 1, memo)
        if inner is source:
            return value
        if op.defn.root == "expand":
            return aten.expand.default(inner, value.tensor.shape)
        return rebuild(op, self=expanded(inner, source.tensor.shape))
    if op.name == "aten.add.Tensor" and op.attr("alpha") == 1:
        sides = {name: side for name in ("self", "other") if isinstance(side := op.operand(name), Value)}
        changed = {name: _finite(side, reach - 1, memo) for name, side in sides.items()}
        # Beside what may be as large as it is low elsewhere, -inf is more than -40000.
        if changed == sides or any(lowest(side) < LEAST for side in changed.values()):
            return value
        return rebuild(op, **changed)
    return _choice(op) or value


def _choice(op: Op) -> Value | None:
    """A choice between 0 and a low number as a product; None for anything else."""
    found = choice(op)
    if found is None:
        return None
    first, last = uniform(found.first), uniform(found.last)
    if first is None or last is None or min(first, last) >= 0 or max(first, last) != 0:
        return None
    number, dtype = max(float(min(first, last)), HIDDEN), op.result.tensor.dtype
    if first == 0:
        return added(in_dtype(without_true(found.condition), dtype), number)
    return aten.mul.Tensor(in_dtype(found.condition, dtype), number)


RULES: list[Rule] = [finite_mask, finite_mask_of_seen]
