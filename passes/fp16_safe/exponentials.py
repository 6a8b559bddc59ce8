"""Quotients and differences of exponentials: exp(x) is infinite from x = 11.1 on.

    %1 = mil.exp(%x)
    %2 = mil.reduce_sum(%1) {axes=[-1], keep_dims=true}
    %y = mil.real_div(%1, %2)                              ->     %y = mil.softmax(%x) {axis=1}

    %1 = mil.mul(%x, 2.0)
    %2 = mil.exp(%1)
    %3 = mil.sub(%2, 1.0)
    %4 = mil.add(%2, 1.0)
    %y = mil.real_div(%3, %4)
        ->
    %1 = mil.mul(%x, 2.0)
    %2 = mil.mul(%1, 0.5)
    %y = mil.tanh(%2)

Every quotient of lines in one exponential is a sigmoid or a tanh, which no number makes infinite.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.algebra import Line, close, maker, number, same
from anec.passes.common import varying
from anec.passes.fp16_safe.sums import Axes, positive, times
from anec.rewrite import Rule, any_of, constant, reject, rewrite, var

x, axes = varying("x"), var("axes")
# The ops between an exponential and the quotient it stands in.
_REACH = 4
# Softmax takes the maximum away itself; a factor in front of it matters when it makes large scores infinite.
_STEEP = 16.0

_powers = mil.exp(x)
_total = mil.reduce_sum(_powers, axes=axes, keep_dims=True)


@rewrite(any_of(mil.real_div(_powers, _total), mil.mul(_powers, mil.real_div(1.0, _total))))
def softmax(x: Value, axes: Axes) -> Value:
    """Exponentials over their sum; what was subtracted from all of them cancels.

    %1 = mil.reduce_max(%x) {axes=[1], keep_dims=true}
    %2 = mil.sub(%x, %1)
    %3 = mil.exp(%2)
    %4 = mil.reduce_sum(%3) {axes=[1], keep_dims=true}
    %y = mil.real_div(%3, %4)                              ->     %y = mil.softmax(%x) {axis=1}
    """
    over = positive(axes, x.rank)
    if len(over) != 1:
        reject("softmax is along one axis")
    (axis,) = over
    step = maker(x)
    if step is not None and step.name == "mil.sub":
        shifted, shift = step.operand("x"), step.operand("y")
        alike = isinstance(shift, Value) and shift.rank == x.rank and shift.tensor.shape[axis] == 1
        if alike and isinstance(shifted, Value) and shifted.type == x.type:
            x = shifted
    return mil.softmax(x, axis=axis)


def exponential(operand: Operand) -> Line | None:
    """``slope * exp(base) + offset``, or None when the operand is nothing of the kind."""
    slope, offset = 1.0, 0.0
    for _ in range(_REACH):
        op = maker(operand)
        if op is None:
            return None
        if op.name == "mil.exp":
            return Line(slope, op.value("x"), offset)
        if op.name not in ("mil.add", "mil.sub", "mil.mul", "mil.real_div"):
            return None
        left, right = op.operand("x"), op.operand("y")
        first, second = number(left), number(right)
        known = second if first is None else first
        operand = left if first is None else right
        if known is None or not isinstance(operand, Value) or operand.type != op.result.type:
            return None
        match op.defn.root:
            case "add":
                offset += slope * known
            case "sub" if first is None:
                offset -= slope * known
            case "sub":
                slope, offset = -slope, offset + slope * known
            case "mul":
                slope *= known
            case "real_div" if first is None and known:
                slope /= known
            case _:
                return None
    return None


@rewrite(mil.real_div(var("above"), varying("below")))
def sigmoid(op: Op, above: Operand, below: Value) -> Value:
    """A quotient by c exp(x) + d is a sigmoid or tanh of x + log(c / d).

    %1 = mil.exp(%x)
    %2 = mil.mul(%1, %z)
    %3 = mil.add(%1, 1.0)
    %y = mil.real_div(%2, %3)                              ->     %1 = mil.sigmoid(%x)
                                                                  %y = mil.mul(%z, %1)
    """
    found = exponential(below)
    if found is None or found.slope <= 0 or found.offset <= 0:
        reject("there is no c exp(x) + d below")
    u, c, d = found.base, found.slope, found.offset
    shift = math.log(c / d)
    top = exponential(above)
    if top is not None and same(top.base, u):
        return _of_lines(_plus(u, shift), top.slope / c, top.offset / d)
    known = number(above)
    if known is not None:
        if below.type != op.result.type:
            reject("the number is broadcast")
        return times(mil.sigmoid(mil.mul(_plus(u, shift), -1.0)), known / d)
    factor = _beside(above, u)
    if factor is None:
        reject("what stands above holds no exp(x)")
    return mil.mul(factor, times(mil.sigmoid(_plus(u, shift)), 1 / c))


def _of_lines(v: Value, slope: float, offset: float) -> Value:
    """``slope * sigmoid(v) + offset * sigmoid(-v)``."""
    if close(offset, -slope):
        return times(mil.tanh(mil.mul(v, 0.5)), slope)
    if not slope:
        return times(mil.sigmoid(mil.mul(v, -1.0)), offset)
    found = times(mil.sigmoid(v), slope - offset)
    return mil.add(found, offset) if offset else found


def _plus(value: Value, number: float) -> Value:
    return mil.add(value, number) if number else value


def _beside(operand: Operand, u: Value) -> Value | None:
    """The other factor of a product with exp(u)."""
    op = maker(operand)
    if op is None or op.name != "mil.mul":
        return None
    for power, other in ((op.operand("x"), op.operand("y")), (op.operand("y"), op.operand("x"))):
        made = maker(power)
        if made is not None and made.name == "mil.exp" and same(made.operand("x"), u) and isinstance(other, Value):
            return other
    return None


@rewrite(any_of(mil.sub(_powers, 1.0), mil.add(_powers, -1.0), mil.sub(1.0, _powers)))
def difference_from_one(op: Op, x: Value) -> Value:
    """exp(x) - 1 loses its digits where x is small; tanh(x / 2) (exp(x) + 1) does not.

    %1 = mil.exp(%x)
    %y = mil.sub(%1, 1.0)                                  ->     %1 = mil.mul(%x, 0.5)
                                                                  %2 = mil.tanh(%1)
                                                                  %3 = mil.exp(%x)
                                                                  %4 = mil.add(%3, 1.0)
                                                                  %y = mil.mul(%2, %4)
    """
    for user in op.result.users:
        below = exponential(user.operand("y")) if user.name == "mil.real_div" else None
        if below is not None and same(below.base, x):
            reject("it stands in a quotient of exponentials")
    turned = op.defn.root == "sub" and number(op.operand("x")) is not None
    return mil.mul(mil.tanh(mil.mul(x, -0.5 if turned else 0.5)), mil.add(mil.exp(x), 1.0))


@rewrite(mil.sub(1.0, mil.cos(x)))
def versine(x: Value) -> Value:
    """1 - cos(x) loses its digits where x is small; 2 sin(x / 2)^2 does not.

    %1 = mil.cos(%x)
    %y = mil.sub(1.0, %1)                                  ->     %1 = mil.mul(%x, 0.5)
                                                                  %2 = mil.sin(%1)
                                                                  %3 = mil.square(%2)
                                                                  %y = mil.mul(%3, 2.0)
    """
    return mil.mul(mil.square(mil.sin(mil.mul(x, 0.5))), 2.0)


@rewrite(
    any_of(
        mil.softmax(mil.mul(x, constant("factor")), axis=var("axis")),
        mil.softmax(mil.real_div(x, constant("factor")), axis=var("axis")),
    )
)
def steep_softmax(op: Op, x: Value, factor: Value, axis: int) -> Value:
    """Scores lose their maximum before a large factor makes them infinite.

    %1 = mil.mul(%x, 1000.0)
    %y = mil.softmax(%1) {axis=-1}                         ->     %1 = mil.reduce_max(%x) {axes=[-1], keep_dims=true}
                                                                  %2 = mil.sub(%x, %1)
                                                                  %3 = mil.mul(%2, 1000.0)
                                                                  %y = mil.softmax(%3) {axis=-1}
    """
    step, known = op.value("x").op, number(factor)
    assert step is not None
    if not known or x.type != op.result.type:
        reject("the factor is no number")
    slope = known if step.defn.root == "mul" else 1 / known
    if slope < _STEEP:
        reject(f"the factor {slope:g} is harmless")
    front = maker(x)
    below = maker(front.operand("y")) if front is not None and front.name == "mil.sub" else None
    if below is not None and below.name == "mil.reduce_max":
        reject("the maximum is taken away already")
    return mil.softmax(mil.mul(mil.sub(x, mil.reduce_max(x, axes=(axis,), keep_dims=True)), slope), axis=axis)


RULES: list[Rule] = [softmax, sigmoid, difference_from_one, versine, steep_softmax]
