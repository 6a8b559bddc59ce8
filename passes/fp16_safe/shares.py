"""Weights by inverse distances: one over almost 0 is infinite in float16.

    %1 = mil.add(%d, 1e-08)
    %2 = mil.real_div(1.0, %1)
    %3 = mil.reduce_sum(%2) {axes=[1], keep_dims=true}
    %y = mil.real_div(%2, %3)
        ->
    %1 = mil.add(%d, 1e-08)
    %2 = mil.abs(%1)
    %3 = mil.reduce_min(%2) {axes=[1], keep_dims=true}
    %4 = mil.real_div(%3, %1)
    %5 = mil.reduce_sum(%4) {axes=[1], keep_dims=true}
    %y = mil.real_div(%4, %5)

Interpolation between points of a cloud is spelled so. The nearest point gets a 1 before all are divided by their sum.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Pattern
from anec.passes.algebra import maker, number
from anec.passes.common import varying
from anec.passes.fp16_safe.sums import Axes, positive, square_of
from anec.rewrite import Rule, any_of, constant, reject, rest, rewrite, var

distance, axes, keep = varying("distance"), var("axes"), var("keep")
# One over a smaller number is beyond float16, or its sums are.
_LEAST = 2.0**-13


def _share(below: Pattern) -> Pattern:
    reciprocal = mil.real_div(constant("factor"), below)
    # torch takes 2 / x for a reciprocal times 2.
    inverse = any_of(reciprocal.named("inverse"), mil.mul(reciprocal, constant("times")).named("inverse"))
    total = mil.reduce_sum(inverse, axes=axes, keep_dims=keep)
    return mil.real_div(inverse, any_of(total, mil.expand_dims(total, rest)))


@rewrite(any_of(_share(square_of(distance)), _share(distance)), domain={"distance": (2.0**-12, 2.0**12)})
def inverse_distances(op: Op, distance: Value, axes: Axes, inverse: Value, factor: Value, times: Value | None) -> Value:
    """Inverse distances, or their squares, over their sum: the nearest is a 1 before that.

    %1 = mil.maximum(%d, 1e-10)
    %2 = mil.square(%1)
    %3 = mil.real_div(1.0, %2)
    %4 = mil.reduce_sum(%3) {axes=[1], keep_dims=false}
    %5 = mil.expand_dims(%4) {axes=[1]}
    %y = mil.real_div(%3, %5)
        ->
    %1 = mil.maximum(%d, 1e-10)
    %2 = mil.abs(%1)
    %3 = mil.reduce_min(%2) {axes=[1], keep_dims=true}
    %4 = mil.real_div(%3, %1)
    %5 = mil.square(%4)
    %6 = mil.reduce_sum(%5) {axes=[1], keep_dims=true}
    %y = mil.real_div(%5, %6)
    """
    made = maker(inverse)
    if made is not None and made.defn is mil.mul:
        made = next(found for found in map(maker, made.operands) if found is not None and found.defn is mil.real_div)
    power = 1 if made is not None and made.operand("y") is distance else 2
    guard = _guard(distance)
    if not 0 < guard**power < _LEAST:
        reject("no tiny number keeps the distance away from 0")
    if not number(factor) or (times is not None and not number(times)):
        reject("the factor is not known, or 0")
    over = positive(axes, distance.rank)
    summed = op.value("y").tensor.shape
    if summed != tuple(1 if axis in over else size for axis, size in enumerate(distance.tensor.shape)):
        reject("the sum stands along other axes")
    nearest = mil.reduce_min(mil.abs(distance), axes=over, keep_dims=True)
    share = mil.real_div(nearest, distance)
    share = share if power == 1 else mil.square(share)
    return mil.real_div(share, mil.reduce_sum(share, axes=over, keep_dims=True))


def _guard(distance: Value) -> float:
    """The number that is added to a distance, or that it is at least; 0 without one."""
    op = maker(distance)
    if op is None or op.defn.root not in ("add", "maximum", "clip"):
        return 0.0
    if op.defn.root == "clip":
        found = op.attr("alpha")
        return found if isinstance(found, float) else 0.0
    return number(op.operand("y")) or number(op.operand("x")) or 0.0


RULES: list[Rule] = [inverse_distances]
