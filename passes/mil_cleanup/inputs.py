"""Scales and offsets a channel in front of an op with constant weights go into those weights.

    %x: f32[1,3,8,8], %mean: f32[3,1,1] weight, %w: f32[4,3,3,3] weight
    %1 = mil.sub(%x, %mean)
    %y = mil.conv(%1, %w)
        ->
    %1 = mil.expand_dims(%mean) {axes=[0]}
    %2 = mil.mul(%w, %1)
    %3 = mil.reduce_sum(%2) {axes=[1, 2, 3], keep_dims=false}
    %4 = mil.mul(%3, -1.0)
    %y = mil.conv(%x, %w, %4)

A scale may always move: padding by zeros stays padding by zeros. An offset may not where the op pads,
since the padding has none.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand, Pattern
from anec.passes.common import only_use, uniform, varying
from anec.passes.mil_cleanup.affine import normalization, reciprocal
from anec.passes.mil_cleanup.pads import own_pads
from anec.passes.mil_cleanup.weighted import Weighted, as_vector, check_per_channel, weights_of
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x, c = varying("x"), var("c")

# A number beyond these would leave weights that float16 holds badly.
SMALLEST, LARGEST = 2.0**-9, 2.0**9


def _behind(inner: Pattern) -> list[Pattern]:
    """Each op with weights on ``inner``."""
    return [op(inner, rest) for op in (mil.conv, mil.conv_transpose, mil.linear, mil.matmul)]


def _target(op: Op, scaled: Op) -> Weighted:
    """The op with weights, if it alone uses the result of ``scaled`` and alone uses its weight."""
    target = weights_of(op)
    if op.name == "mil.matmul" and op.attr("transpose_x"):
        reject("the channels of the operand are not its last axis")
    if not only_use(scaled.result):
        reject("the operand has other users")
    target.own_weight()
    return target


def _inner(op: Op) -> Op:
    inner = op.value("x").op
    assert inner is not None
    return inner


@rewrite(any_of(*(form for step in (mil.mul(x, c), mil.real_div(x, c)) for form in _behind(step))))
def fold_input_scale(op: Op, x: Value, c: Operand) -> Value:
    """A constant factor a channel of the operand goes into the weights.

    %w: f32[4,8] weight, %b: f32[4] weight
    %1 = mil.mul(%x, 0.5)
    %y = mil.linear(%1, %w, %b)
        ->
    %1 = mil.mul(%w, 0.5)
    %y = mil.linear(%x, %1, %b)
    """
    step = _inner(op)
    target = _target(op, step)
    number = uniform(c)
    if number is not None and not SMALLEST <= abs(number) <= LARGEST:
        reject(f"weights times or divided by {number:g} leave float16's range")
    scale = _vector(step, x, c, target)
    if step.name == "mil.real_div":
        scale = reciprocal(scale)
    return target.rebuilt(x=x, weight=target.scaled_inputs(scale))


def _vector(step: Op, x: Value, c: Operand, target: Weighted) -> Operand:
    """The constant of ``step``, as a literal or a vector of the operand's channels."""
    if x.type != step.result.type:
        reject("the constant changes the shape")
    check_per_channel(c, target.taken)
    return as_vector(c, target.taken)


def unevenness(target: Weighted) -> str:
    """Why an offset of the operand is none of the result; nothing where it goes into the bias.

    A transposed conv gives a place sums of its own unless its window is one element without gaps.

    Raises:
        Reject: the padding depends on the size.
    """
    if target.op.name == "mil.matmul":
        return "a matmul has no bias"
    if target.op.name == "mil.linear":
        return ""
    x = target.op.value("x")
    if any(own_pads(target.op, x.rank)):
        return "the padding would have the offset too"
    even = target.op.name == "mil.conv" or (target.is_pointwise and target.op.result.shape[2:] == x.shape[2:])
    return "" if even else "places of the result see different elements of the window"


def check_even(target: Weighted) -> None:
    """Refuse what has no bias, and what computes other sums at the borders.

    Raises:
        Reject: with the reason.
    """
    if reason := unevenness(target):
        reject(reason)


def response(target: Weighted, offset: Operand) -> Value:
    """What the op makes of an offset a channel: one number a channel of the result."""
    return target.summed(target.scaled_inputs(offset))


@rewrite(any_of(*(form for step in (mil.add(x, c), mil.sub(x, c)) for form in _behind(step))))
def fold_input_offset(op: Op, x: Value, c: Operand) -> Value:
    """A constant offset a channel of the operand goes into the bias, where nothing is padded.

    %w: f32[4,8] weight
    %1 = mil.add(%x, 0.5)
    %y = mil.linear(%1, %w)
        ->
    %1 = mil.mul(%w, 0.5)
    %2 = mil.reduce_sum(%1) {axes=[1]}
    %y = mil.linear(%x, %w, %2)
    """
    step = _inner(op)
    target = weights_of(op)
    check_even(target)
    if not only_use(step.result):
        reject("the operand has other users")
    added = response(target, _vector(step, x, c, target))
    if step.name == "mil.sub":
        bias = mil.mul(added, -1.0) if target.bias is None else mil.sub(target.bias, added)
    else:
        bias = added if target.bias is None else mil.add(target.bias, added)
    return target.rebuilt(x=x, bias=bias)


@rewrite(any_of(*(op(mil.batch_norm(x, rest), rest) for op in (mil.conv, mil.conv_transpose))))
def fold_input_batch_norm(op: Op, x: Value) -> Value:
    """A batch norm goes into the conv behind it, where nothing is padded.

    %x: f32[1,3,6,6], %w: f32[4,3,3,3] weight, %mean: f32[3] weight, %variance: f32[3] weight
    %1 = mil.batch_norm(%x, %mean, %variance)
    %y = mil.conv(%1, %w)
        ->
    %1 = mil.rsqrt(%variance) {epsilon=1e-05}
    %2 = mil.mul(%mean, -1.0)
    %3 = mil.mul(%2, %1)
    %4 = mil.reshape(%3, [1, 3, 1, 1])
    %5 = mil.mul(%w, %4)
    %6 = mil.reduce_sum(%5) {axes=[1, 2, 3]}
    %7 = mil.reshape(%1, [1, 3, 1, 1])
    %8 = mil.mul(%w, %7)
    %y = mil.conv(%x, %8, %6)
    """
    step = _inner(op)
    target = _target(op, step)
    check_even(target)
    scale, shift = normalization(step, target.weight.tensor.dtype)
    added = response(target, shift)
    bias = added if target.bias is None else mil.add(target.bias, added)
    return target.rebuilt(x=x, weight=target.scaled_inputs(scale), bias=bias)


RULES: list[Rule] = [fold_input_scale, fold_input_offset, fold_input_batch_norm]
