"""Scales, offsets and batch norms go into weights also where views, transposes or averages stand between.

    %x: f32[2,4,6,6], %mean: f32[4] weight, %variance: f32[4] weight, %w: f32[5,4] weight
    %1 = mil.batch_norm(%x, %mean, %variance)
    %2 = mil.reduce_mean(%1) {axes=[2, 3], keep_dims=false}
    %y = mil.linear(%2, %w)
        ->
    %scale = mil.rsqrt(%variance) {epsilon=1e-05}
    %1 = mil.mul(%mean, -1.0)
    %shift = mil.mul(%1, %scale)
    %2 = mil.reduce_mean(%x) {axes=[2, 3], keep_dims=false}
    %3 = mil.reshape(%shift, [1, 4])
    %4 = mil.mul(%w, %3)
    %bias = mil.reduce_sum(%4) {axes=[1], keep_dims=false}
    %5 = mil.reshape(%scale, [1, 4])
    %6 = mil.mul(%w, %5)
    %y = mil.linear(%2, %6, %bias)

Where a view lays the elements of a channel in a row, as in front of a classifier, its numbers are repeated.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.mil_cleanup.channels import behind, in_front, laid_out, moved, moved_again, moves_to
from anec.passes.mil_cleanup.inputs import check_even, response
from anec.passes.mil_cleanup.steps import step_of, steps_on
from anec.passes.mil_cleanup.weighted import weights_of
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_WEIGHTED = (mil.conv, mil.conv_transpose, mil.linear, mil.matmul)
WEIGHTED = frozenset(defn.name for defn in _WEIGHTED)


@rewrite(any_of(*steps_on(moved("last"))))
def fold_past_moves(op: Op, last: Value) -> Value:
    """What scales or shifts each channel goes into the weights in front of the moves in front of it.

    %x: f32[2,7], %w: f32[16,7] weight, %s: f32[4,1,1] weight
    %1 = mil.linear(%x, %w)
    %2 = mil.reshape(%1, [2, 4, 2, 2])
    %y = mil.mul(%2, %s)
        ->
    %1 = mil.reshape(%s, [1, 4, 1])
    %2 = mil.tile(%1, [1, 1, 4])
    %3 = mil.reshape(%2, [16, 1])
    %4 = mil.mul(%w, %3)
    %5 = mil.linear(%x, %4)
    %y = mil.reshape(%5, [2, 4, 2, 2])
    """
    step = step_of(op)
    if step.x is not last:
        reject("the moves stand behind its constant")
    moves, source = moves_to(last)
    if source.op is None or source.op.name not in WEIGHTED:
        reject("no op with weights stands in front of the moves")
    target = weights_of(source.op)
    place = in_front(moves, step.place)
    if place is not None and (place.axis, place.size) != (target.given.axis, target.channels):
        reject("its channels are not those of the weights")
    without_bias = target.op.name == "mil.matmul"
    if without_bias and not step.scales:
        reject("a matmul has no bias")
    if step.scales:
        target.own_weight()
    scale, shift = (laid_out(part, place) for part in step.parts())
    bias = target.bias
    if scale is not None and bias is not None:
        bias = mil.mul(bias, scale)
    if shift is not None and not without_bias:
        added = target.vector(shift)
        bias = added if bias is None else mil.add(bias, added)
    made = target.rebuilt(weight=None if scale is None else target.scaled(scale), bias=bias)
    if shift is not None and without_bias:
        made = mil.add(made, shift)
    return moved_again(moves, made)


@rewrite(any_of(*(defn(moved("first"), rest) for defn in _WEIGHTED)))
def fold_input_past_moves(op: Op, first: Value) -> Value:
    """What scales or shifts each channel goes into the weights behind the moves behind it.

    %x: f32[2,4,3,3], %s: f32[4,1,1] weight, %w: f32[5,36] weight
    %1 = mil.mul(%x, %s)
    %2 = mil.reshape(%1, [2, 36])
    %y = mil.linear(%2, %w)
        ->
    %1 = mil.reshape(%x, [2, 36])
    %2 = mil.reshape(%s, [1, 4, 1])
    %3 = mil.tile(%2, [1, 1, 9])
    %4 = mil.reshape(%3, [1, 36])
    %5 = mil.mul(%w, %4)
    %y = mil.linear(%1, %5)
    """
    target = weights_of(op)
    without_bias = op.name == "mil.matmul"
    if first is not op.value("x") or (without_bias and op.attr("transpose_x")):
        reject("the channels of the operand are not its last axis")
    moves, source = moves_to(first)
    step = step_of(source.op)
    place = behind(moves, step.place)
    if place is not None and (place.axis, place.size) != (target.taken.axis, target.taken.size):
        reject("its channels are not those of the weights")
    if step.shifts and not (without_bias and step.scales):
        check_even(target)
    if step.scales:
        target.own_weight()
    scale, shift = step.parts()
    made = moved_again(moves, step.x)
    added = None if shift is None else response(target, laid_out(shift, place))
    bias = target.bias
    if added is not None and not without_bias:
        bias = added if bias is None else mil.add(bias, added)
    weight = None if scale is None else target.scaled_inputs(laid_out(scale, place))
    result = target.rebuilt(x=made, weight=weight, bias=bias)
    return result if added is None or not without_bias else mil.add(result, added)


RULES: list[Rule] = [fold_past_moves, fold_input_past_moves]
