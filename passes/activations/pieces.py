"""Activations made of straight pieces, and the exponential unit.

    %1 = aten.mul.Tensor(%x, 0.1)
    %y = aten.maximum.default(%x, %1)          ->     %y = aten.leaky_relu.default(%x) {negative_slope=0.1}

    %1 = aten.gt.Scalar(%x) {other=0}
    %2 = aten.expm1.default(%x)
    %y = aten.where.self(%1, %x, %2)           ->     %y = aten.elu.default(%x) {alpha=1.0}

    %1 = aten.add.Tensor(%x, 3)
    %2 = aten.relu6.default(%1)
    %y = aten.div.Tensor(%2, 6)                ->     %y = nn.hard_sigmoid(%x) {...}

What a choice or a bound takes from another value than the one it looks at is no activation, and stays.
"""

from __future__ import annotations

import math

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.algebra import close, line, lines, maker, number, product, same, second, uncast
from anec.passes.common import uniform
from anec.rewrite import Rule, any_of, constant, reject, rest, rewrite, var

x = var("x")
_CLAMPS = ("clamp", "clip", "hardtanh", "relu6")


def bounded(value: Value) -> tuple[Value, float, float] | None:
    """What ``value`` keeps between two numbers, and the numbers."""
    op = uncast(value).op
    if op is None or op.defn.dialect != "aten" or op.defn.root not in _CLAMPS:
        return None
    if op.defn.root == "relu6":
        return op.value("self"), 0.0, 6.0
    names = ("min_val", "max_val") if op.defn.root == "hardtanh" else ("min", "max")
    low, high = (number(second(op, name)) for name in names)
    return None if low is None or high is None or not low < high else (op.value("self"), low, high)


@rewrite(
    any_of(
        aten.minimum.default(aten.maximum.default(x, constant("low")), constant("high")),
        aten.maximum.default(aten.minimum.default(x, constant("high")), constant("low")),
    )
)
def clamp(op: Op, x: Operand, low: Operand, high: Operand) -> Value:
    """A maximum and a minimum with numbers.

    %low = aten.full.default() {size=[], fill_value=0.0}
    %high = aten.full.default() {size=[], fill_value=6.0}
    %1 = aten.maximum.default(%x, %low)
    %y = aten.minimum.default(%1, %high)                      ->     %y = aten.clamp.default(%x) {min=0.0, max=6.0}
    """
    least, most = (uniform(uncast(bound) if isinstance(bound, Value) else bound) for bound in (low, high))
    if not isinstance(x, Value) or x.type != op.result.type or not x.tensor.dtype.is_float:
        reject("the type changes")
    if least is None or most is None or not least < most:
        reject("the bounds are no numbers, one below the other")
    return aten.clamp.default(x, min=float(least), max=float(most))


_ENDS = (*(aten.resolve(f"{name}.default")(rest) for name in _CLAMPS), aten.mul.Tensor(rest), aten.div.Tensor(rest))


@rewrite(any_of(*_ENDS))
def hard_sigmoid(op: Op) -> Value:
    """A line between 0 and 1; the bounds may be 0 and 6, and a sixth be taken behind.

    %1 = aten.mul.Tensor(%x, 0.2)
    %2 = aten.add.Tensor(%1, 0.5)
    %y = aten.clamp.default(%2) {min=0, max=1}     ->     %y = nn.hard_sigmoid(%x) {alpha=0.2, beta=0.5}
    """
    found = hard_line(op.result)
    if found is None:
        reject("it is no line between 0 and 1")
    x, alpha, beta = found
    if x.type != op.result.type or not x.tensor.dtype.is_float:
        reject("the type changes", followed=1)
    return nn.hard_sigmoid(x, alpha=alpha, beta=beta)


def hard_line(value: Value) -> tuple[Value, float, float] | None:
    """The x, alpha and beta of which ``value`` is alpha x + beta, kept between 0 and 1."""
    parts = product(value)
    if len(parts.factors) != 1 or parts.factors[0].exponent != 1:
        return None
    kept = bounded(parts.factors[0].value)
    if kept is None or kept[1] != 0 or not close(parts.coefficient * kept[2], 1.0):
        return None
    # One summand and one factor: what stands in front of those is not the activation's.
    summed = [at for at in lines(kept[0]) if at.offset != 0][:2]
    if not summed:
        return None
    return summed[-1].base, parts.coefficient * summed[-1].slope, parts.coefficient * summed[-1].offset


_COMPARISONS = {"gt": True, "ge": True, "lt": False, "le": False}
_CHOICE = aten.where.self(var("condition"), var("left"), var("right"))


def _sides(condition: Operand, left: Operand, right: Operand) -> tuple[Value, Value]:
    """What a choice by the sign of one of them takes above 0, which it is, and below."""
    op = maker(condition)
    positive = None if op is None or op.defn.dialect != "aten" else _COMPARISONS.get(op.defn.root)
    if op is None or positive is None or number(second(op)) != 0:
        reject("it does not choose by a sign")
    above, below = (left, right) if positive else (right, left)
    if not isinstance(above, Value) or not isinstance(below, Value) or not same(above, op.operand("self")):
        reject("it does not choose by the sign of what it gives above 0", followed=1)
    return above, below


def _slope(x: Value, below: Value) -> float | None:
    """The number a where ``below`` is a * x."""
    return next((at.slope for at in lines(below) if at.offset == 0 and same(at.base, x)), None)


@rewrite(any_of(_CHOICE, aten.maximum.default(var("left"), var("right"))))
def leaky_relu(op: Op, condition: Operand, left: Operand, right: Operand) -> Value:
    """X above 0 and a multiple of it below: by a choice, or as the larger of both.

    %1 = aten.gt.Scalar(%x) {other=0}
    %2 = aten.mul.Tensor(%x, 0.1)
    %y = aten.where.self(%1, %x, %2)      ->     %y = aten.leaky_relu.default(%x) {negative_slope=0.1}
    """
    if op.defn.root == "where":
        found, below = _sides(condition, left, right)
        slope = _slope(found, below)
    else:
        if not isinstance(left, Value) or not isinstance(right, Value):
            reject("it is a bound")
        found, slope = left, _slope(left, right)
        if slope is None:
            found, slope = right, _slope(right, left)
        if slope is not None and not 0 <= slope <= 1:
            reject(f"with the slope {slope:g} the larger one is that below 0", followed=1)
    if slope is None or found.type != op.result.type or not found.tensor.dtype.is_float:
        reject("below 0 it is no multiple of x, or the type changes", followed=1)
    return aten.leaky_relu.default(found, negative_slope=slope)


@rewrite(_CHOICE)
def elu(op: Op, condition: Operand, left: Operand, right: Operand) -> Value:
    """X above 0, and alpha (exp(x) - 1) below.

    %1 = aten.le.Scalar(%x) {other=0}
    %2 = aten.exp.default(%x)
    %3 = aten.sub.Tensor(%2, 1)
    %4 = aten.mul.Tensor(%3, 1.5)
    %y = aten.where.self(%1, %4, %x)      ->     %y = aten.elu.default(%x) {alpha=1.5}
    """
    found, below = _sides(condition, left, right)
    read = line(below)
    curve = read.base.op
    if curve is None or curve.name not in ("aten.exp.default", "aten.expm1.default"):
        reject("below 0 it is no exponential", followed=1)
    offset = -read.slope if curve.defn.root == "exp" else 0.0
    if not math.isclose(read.offset, offset, rel_tol=1e-9, abs_tol=1e-12) or not same(curve.operand("self"), found):
        reject("below 0 it is not alpha (exp(x) - 1)", followed=2)
    if found.type != op.result.type:
        reject("the type changes")
    return aten.elu.default(found, alpha=read.slope)


RULES: list[Rule] = [clamp, hard_sigmoid, leaky_relu, elu]
