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

A number below -10000 says that a position is hidden. float32's lowest says so whatever the scores
are; where all positions are hidden both give equal weights.
"""

from __future__ import annotations

from anec.dialects import aten
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.algebra import choice
from anec.passes.attention.scores import ABSORBS, LOWEST
from anec.passes.common import only_use, rebuild, tensor, uniform
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
    """Exponentials divided by their sum."""
    total = op.value("other").op
    assert total is not None
    if total.attr("keepdim") is not True or op.result.type != x.type:
        reject("the sum has lost its axis, or the type changes")
    return aten.softmax.int(x, _axis(total.attr("dim"), x.rank) - x.rank)


@rewrite(aten.softmax.int(aten.sub.Tensor(x, aten.amax.default(x, rest)), rest))
def drop_shift(op: Op, x: Value) -> Value:
    """A softmax does not see what is subtracted from all of its numbers."""
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
    """What hides a score is as low as can be."""
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


RULES: list[Rule] = [softmax_by_hand, drop_shift, lowest_fill]
