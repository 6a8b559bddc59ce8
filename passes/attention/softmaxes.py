"""Softmaxes in the form that attention is read in.

    %1 = aten.exp.default(%x)
    %2 = aten.sum.dim_IntList(%1) {dim=[-1], keepdim=true}
    %y = aten.div.Tensor(%1, %2)                                 ->     %y = aten.softmax.int(%x) {dim=-1}

    %1 = aten.amax.default(%x) {dim=[-1], keepdim=true}
    %2 = aten.sub.Tensor(%x, %1)
    %y = aten.softmax.int(%2) {dim=-1}                           ->     %y = aten.softmax.int(%x) {dim=-1}

    %mask: bool[2,8]
    %1 = aten.masked_fill.Scalar(%x, %mask) {value=-1e9}
    %y = aten.softmax.int(%1) {dim=-1}
        ->
    %1 = aten.masked_fill.Scalar(%x, %mask) {value=-3.4028234663852886e38}
    %y = aten.softmax.int(%1) {dim=-1}

    %keep: bool[8]
    %0 = aten._to_copy.default(%keep) {dtype=f32}
    %1 = aten.mul.Tensor(%x, %0)
    %2 = aten.rsub.Scalar(%0) {other=1}
    %3 = aten.mul.Tensor(%2, -10000.0)
    %4 = aten.add.Tensor(%1, %3)
    %y = aten.softmax.int(%4) {dim=-1}
        ->
    %1 = aten.where.ScalarOther(%keep, %x) {other=-3.4028234663852886e38}
    %y = aten.softmax.int(%1) {dim=-1}

A number of -10000 or less says that a position is hidden. float32's lowest says so whatever the scores
are; where all positions are hidden both give equal weights.
"""

from __future__ import annotations

from anec.dialects import aten
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.algebra import CASTS, choice, close, lines, same
from anec.passes.attention.scores import ABSORBS, LOWEST
from anec.passes.common import MOVES, only_use, rebuild, tensor, uniform
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x, score = tensor("x"), tensor("score")
_HIDDEN = -1e4
# What scores lie within, for a number of -10000 to hide any.
_SCORES = (-1e3, 1e3)
_exponential = aten.exp.default(x)


def _axis(given: Attr, rank: int) -> int:
    """The one axis that is given."""
    item = given[0] if isinstance(given, tuple) and len(given) == 1 else given
    if isinstance(item, bool) or not isinstance(item, int):
        reject("it is over several axes")
    return item % rank


@rewrite(aten.div.Tensor(_exponential, aten.sum.dim_IntList(_exponential, rest)))
def softmax_by_hand(op: Op, x: Value) -> Value:
    """Exponentials divided by their sum.

    %1 = aten.exp.default(%x)
    %2 = aten.sum.dim_IntList(%1) {dim=[0], keepdim=true}
    %y = aten.div.Tensor(%1, %2)                              ->     %y = aten.softmax.int(%x) {dim=-2}
    """
    total = op.value("other").op
    assert total is not None
    if total.attr("keepdim") is not True or op.result.type != x.type:
        reject("the sum has lost its axis, or the type changes")
    return aten.softmax.int(x, _axis(total.attr("dim"), x.rank) - x.rank)


@rewrite(aten.softmax.int(aten.sub.Tensor(x, aten.amax.default(x, rest)), rest))
def drop_shift(op: Op, x: Value) -> Value:
    """A softmax does not see what is subtracted from all of its numbers.

    %1 = aten.amax.default(%x) {dim=[0], keepdim=true}
    %2 = aten.sub.Tensor(%x, %1)
    %y = aten.softmax.int(%2) {dim=0}                      ->     %y = aten.softmax.int(%x) {dim=0}
    """
    shifted = op.value("self").op
    assert shifted is not None
    largest = shifted.value("other").op
    assert largest is not None
    if largest.attr("keepdim") is not True or _axis(largest.attr("dim"), x.rank) != _axis(op.attr("dim"), x.rank):
        reject("the largest number is not that of the softmax's axis")
    return rebuild(op, self=x)


_FILLED = any_of(
    aten.masked_fill.Scalar(score, rest),
    aten.masked_fill.Tensor(score, rest),
    aten.where.ScalarOther(var("condition"), score, rest),
    aten.where.self(var("condition"), score, rest),
)


@rewrite(aten.softmax.int(_FILLED, rest), domain={"score": _SCORES})
def lowest_fill(op: Op, score: Value) -> Value:
    """A number of -10000 or less that hides scores becomes float32's lowest.

    %keep: bool[2,8]
    %1 = aten.where.ScalarOther(%keep, %x) {other=-10000.0}
    %y = aten.softmax.int(%1) {dim=-1}
        ->
    %1 = aten.where.ScalarOther(%keep, %x) {other=-3.4028234663852886e38}
    %y = aten.softmax.int(%1) {dim=-1}
    """
    filled = op.value("self").op
    found = None if filled is None else choice(filled)
    assert filled is not None
    assert found is not None
    fills = filled.defn.root == "masked_fill"
    number = uniform(found.first if fills else found.last)
    if number is None or not ABSORBS < number <= _HIDDEN:
        reject("the number chosen is not one between float32's lowest and -10000")
    if op.result.tensor.dtype is not DType.F32 or not only_use(op.value("self")):
        reject("it is not in float32, or the choice has other users")
    condition = found.condition
    hidden = (
        aten.masked_fill.Scalar(score, condition, LOWEST) if fills else aten.where.ScalarOther(condition, score, LOWEST)
    )
    return rebuild(op, self=hidden)


def _is_zero_or_one(value: Value) -> bool:
    """Whether a value is a bool, also in another dtype, or a weight of zeros and ones."""
    at = _unmoved(value)
    if at.tensor.dtype is DType.BOOL:
        return True
    if at.weight is None or at.weight.data is None or at.weight.extent() != (0, 1):
        return False
    numbers = at.weight.tensor()
    return bool(((numbers == 0) | (numbers == 1)).all())


def _unmoved(value: Value) -> Value:
    """The bool, or what else there is, before casts and moves."""
    while value.tensor.dtype is not DType.BOOL and value.op is not None and value.op.name in (*MOVES, *CASTS):
        value = value.op.value("self")
    return value


kept, low, other = var("kept", _is_zero_or_one), tensor("low"), tensor("other")
_product = aten.mul.Tensor(score, kept)
_blend = any_of(aten.add.Tensor(_product, low).named("blend"), aten.sub.Tensor(_product, low).named("blend"))


@rewrite(
    any_of(aten.softmax.int(_blend, rest), aten.softmax.int(aten.add.Tensor(_blend, other), rest)),
    domain={"score": _SCORES, "other": _SCORES},
)
def lowest_blend(op: Op, blend: Value, score: Value, kept: Value, low: Value) -> Value:
    """Scores times m, plus a low number times 1 - m, with m 0 or 1, are a choice.

    %keep: bool[8]
    %1 = aten._to_copy.default(%keep) {dtype=f32}
    %2 = aten.mul.Tensor(%x, %1)
    %3 = aten.rsub.Scalar(%1) {other=1}
    %4 = aten.mul.Tensor(%3, 10000.0)
    %5 = aten.sub.Tensor(%2, %4)
    %y = aten.softmax.int(%5) {dim=-1}
        ->
    %1 = aten.where.ScalarOther(%keep, %x) {other=-3.4028234663852886e38}
    %y = aten.softmax.int(%1) {dim=-1}
    """
    assert blend.op is not None
    if blend.op.attr("alpha") != 1 or score.type != blend.type:
        reject("the scores are scaled or repeated")
    found = _times_rest(low, kept)
    number = None if found is None else found if blend.op.defn.root == "add" else -found
    if number is None or not number <= _HIDDEN:
        reject("what is added is no number of -10000 or less times 1 minus the factor")
    if op.result.tensor.dtype is not DType.F32 or not only_use(op.value("self")) or not only_use(blend):
        reject("it is not in float32, or the sum has other users")
    made = _unmoved(kept)
    condition = made if made.tensor.dtype is DType.BOOL and made.shape == kept.shape else aten.ne.Scalar(kept, 0)
    chosen = aten.where.ScalarOther(condition, score, LOWEST)
    return rebuild(op, self=chosen if op.value("self") is blend else _instead(op.value("self"), blend, chosen))


def _instead(total: Value, old: Value, new: Value) -> Value:
    """A sum again with ``new`` in the place of ``old``."""
    assert total.op is not None
    name = "self" if total.op.operand("self") is old else "other"
    return rebuild(total.op, **{name: new})


def _times_rest(low: Value, kept: Value) -> float | None:
    """The number that ``low`` is times ``1 - kept``; None when it is something else."""
    for line in lines(low):
        if same(line.base, kept):
            return line.offset if close(line.slope, -line.offset) else None
    if low.weight is None or kept.weight is None or low.weight.data is None or kept.weight.data is None:
        return None
    number = max(low.weight.extent(), key=abs)
    return number if bool((low.weight.tensor() == number * (1 - kept.weight.tensor())).all()) else None


RULES: list[Rule] = [softmax_by_hand, drop_shift, lowest_fill, lowest_blend]
