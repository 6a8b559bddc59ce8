"""Roots of sums of squares: a square is infinite from 256 on, and 0 below 2e-4.

    %x: f32[2,8]
    %1 = mil.square(%x)
    %2 = mil.reduce_mean(%1) {axes=[1], keep_dims=true}
    %y = mil.sqrt(%2)
        ->
    %1 = mil.abs(%x)
    %2 = mil.reduce_max(%1) {axes=[1], keep_dims=true}
    %3 = mil.maximum(%2, 5.960464477539063e-08)
    %4 = mil.real_div(%x, %3)
    %5 = mil.square(%4)
    %6 = mil.reduce_mean(%5) {axes=[1], keep_dims=true}
    %7 = mil.sqrt(%6)
    %y = mil.mul(%7, %3)

    %1 = mil.square(%a)
    %2 = mil.square(%b)
    %3 = mil.add(%1, %2)
    %y = mil.sqrt(%3)
        ->
    %1 = mil.abs(%a)
    %2 = mil.abs(%b)
    %3 = mil.maximum(%1, %2)
    %4 = mil.maximum(%3, 5.960464477539063e-08)
    %5 = mil.real_div(%a, %4)
    %6 = mil.square(%5)
    %7 = mil.real_div(%b, %4)
    %8 = mil.square(%7)
    %9 = mil.add(%6, %8)
    %10 = mil.sqrt(%9)
    %y = mil.mul(%10, %4)

All terms are divided by the largest, which the result is multiplied by: for standard deviations, norms,
distances and magnitudes. An epsilon is compared on the same scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.attr_types import SMALLEST_HALF
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.algebra import close, maker, number
from anec.passes.common import varying
from anec.passes.fp16_safe.sums import Axes, count, positive, times
from anec.rewrite import Rule, any_of, constant, reject, rest, rewrite, var

x, axes, keep = varying("x"), var("axes"), var("keep")
_REACH = 4
# The terms of a magnitude: three coordinates and one more.
_MOST_TERMS = 4

_ROOTS = (
    mil.sqrt(varying("radicand")),
    mil.rsqrt(varying("radicand"), rest),
    mil.pow(varying("radicand"), 0.5),
    mil.pow(varying("radicand"), -0.5),
)


@dataclass(frozen=True, slots=True)
class _Squares:
    """``factor * mean(x^2) + epsilon``; a sum is a mean times the number of its terms."""

    x: Value
    axes: tuple[int, ...]
    keep: bool
    factor: float
    epsilon: float


def _inverse(op: Op) -> bool:
    return op.defn.root == "rsqrt" or (op.defn.root == "pow" and close(number(op.operand("y")), -0.5))


def _epsilon(op: Op) -> float:
    """What a reciprocal root adds itself; Core ML's own 1e-12 too."""
    found = op.attr("epsilon") if op.defn.root == "rsqrt" else 0.0
    return found if isinstance(found, float) else 0.0


@rewrite(any_of(*_ROOTS))
def root_of_squares(op: Op, radicand: Value) -> Value:
    """The root of a mean or sum of squares, which are divided by the largest.

    A factor and an epsilon may stand beside it.

    %1 = mil.square(%x)
    %2 = mil.reduce_mean(%1) {axes=[1], keep_dims=true}
    %y = mil.rsqrt(%2) {epsilon=1e-06}
        ->
    %1 = mil.abs(%x)
    %2 = mil.reduce_max(%1) {axes=[1], keep_dims=true}
    %3 = mil.maximum(%2, 0.0009765625)
    %4 = mil.real_div(%x, %3)
    %5 = mil.square(%4)
    %6 = mil.reduce_mean(%5) {axes=[1], keep_dims=true}
    %7 = mil.real_div(0.0009765625, %3)
    %8 = mil.square(%7)
    %9 = mil.mul(%8, 1.048576)
    %10 = mil.add(%6, %9)
    %11 = mil.rsqrt(%10) {epsilon=0.0}
    %y = mil.real_div(%11, %3)
    """
    found = _squares(radicand, _epsilon(op))
    if found is None:
        reject("there is no mean or sum of squares below the root")
    if is_scaled(found.x):
        reject("the terms are divided by the largest already")
    least = _least(found.epsilon / found.factor)
    size = _largest([found.x], found.axes, least)
    mean = mil.reduce_mean(mil.square(mil.real_div(found.x, size)), axes=found.axes, keep_dims=True)
    result = _root(mean, size, least, found.epsilon / found.factor, math.sqrt(found.factor), _inverse(op))
    return result if found.keep else mil.squeeze(result, axes=found.axes)


def _root(total: Value, size: Value, least: float, epsilon: float, factor: float, inverse: bool) -> Value:
    """``factor * size * sqrt(total + epsilon / size^2)``, or one over it."""
    if epsilon:
        share = mil.real_div(least, size)
        total = mil.add(total, mil.mul(mil.square(share), epsilon / least**2))
    if inverse:
        return mil.real_div(times(mil.rsqrt(total, epsilon=0.0), 1 / factor), size)
    return mil.mul(times(mil.sqrt(total), factor), size)


def _least(epsilon: float) -> float:
    """What a length is at least divided by: a power of two near the root of epsilon."""
    return max(2.0 ** math.floor(math.log2(epsilon) / 2), SMALLEST_HALF) if epsilon else SMALLEST_HALF


def _largest(values: list[Value], over: tuple[int, ...], least: float) -> Value:
    sizes = [mil.reduce_max(mil.abs(v), axes=over, keep_dims=True) if over else mil.abs(v) for v in values]
    size = sizes[0]
    for other in sizes[1:]:
        size = mil.maximum(size, other)
    return mil.maximum(size, least)


def is_scaled(x: Value) -> bool:
    """True for what was divided by its largest element."""
    op = x.op
    if op is None or op.name != "mil.real_div":
        return False
    below = maker(op.operand("y"))
    if below is not None and below.name == "mil.maximum":
        below = maker(below.operand("x"))
    return below is not None and below.name in ("mil.reduce_max", "mil.maximum", "mil.abs")


def _squares(value: Value, epsilon: float) -> _Squares | None:
    """The radicand as a mean of squares."""
    factor = 1.0
    for _ in range(_REACH):
        op = value.op
        if op is None:
            return None
        if op.defn.root in ("reduce_mean", "reduce_sum", "reduce_sum_square"):
            return _reduced(op, factor, epsilon)
        if op.name not in ("mil.add", "mil.mul", "mil.real_div"):
            return None
        left, right = op.operand("x"), op.operand("y")
        if op.defn.root != "real_div" and number(left) is not None:
            left, right = right, left
        known = number(right)
        if known is None or known <= 0 or not isinstance(left, Value) or left.type != value.type:
            return None
        if op.defn.root == "add":
            epsilon += factor * known
        else:
            factor *= known if op.defn.root == "mul" else 1 / known
        value = left
    return None


def _reduced(op: Op, factor: float, epsilon: float) -> _Squares | None:
    inner = op.value("x")
    x = inner if op.defn.root == "reduce_sum_square" else squared(inner)
    given = op.attr("axes")
    axes = tuple(axis for axis in given if isinstance(axis, int)) if isinstance(given, tuple) else None
    over = positive(axes, inner.rank)
    if x is None or not over or not x.tensor.dtype.is_float:
        return None
    if op.defn.root != "reduce_mean":
        terms = count(x, over)
        if not terms:
            return None
        factor *= terms
    return _Squares(x, over, bool(op.attr("keep_dims")), factor, epsilon)


def squared(operand: Operand) -> Value | None:
    """What the operand is the square of."""
    op = maker(operand)
    if op is None:
        return None
    twice = op.name == "mil.mul" and op.operand("x") is op.operand("y")
    power = op.name == "mil.pow" and close(number(op.operand("y")), 2.0)
    base = op.operand("x") if twice or power or op.name == "mil.square" else None
    return base if isinstance(base, Value) else None


@rewrite(any_of(*_ROOTS))
def magnitude(op: Op, radicand: Value) -> Value:
    """The root of a few squares, or of a square and a number, in the same way.

    %1 = mil.mul(%x, %x)
    %2 = mil.add(%1, 1.0)
    %y = mil.rsqrt(%2) {epsilon=0.0}
        ->
    %1 = mil.abs(%x)
    %2 = mil.maximum(%1, 1.0)
    %3 = mil.real_div(%x, %2)
    %4 = mil.square(%3)
    %5 = mil.real_div(1.0, %2)
    %6 = mil.square(%5)
    %7 = mil.mul(%6, 1.0)
    %8 = mil.add(%4, %7)
    %9 = mil.rsqrt(%8) {epsilon=0.0}
    %y = mil.real_div(%9, %2)
    """
    bases: list[Value] = []
    epsilon = _epsilon(op)
    stack: list[Operand] = [radicand]
    while stack:
        at = stack.pop()
        made, known, base = maker(at), number(at), squared(at)
        if base is not None and base.tensor.dtype.is_float:
            bases.append(base)
        elif known is not None and known >= 0:
            epsilon += known
        elif made is not None and made.name == "mil.add":
            stack += [made.operand("y"), made.operand("x")]
        else:
            reject("there are not only squares below the root")
        if len(bases) > _MOST_TERMS:
            reject(f"there are more than {_MOST_TERMS} squares")
    if not bases or (len(bases) == 1 and not epsilon) or all(is_scaled(base) for base in bases):
        reject("there is nothing to compare with")
    least = _least(epsilon)
    size = _largest(bases, (), least)
    if size.type != op.result.type:
        reject("the number is broadcast")
    total = mil.square(mil.real_div(bases[0], size))
    for base in bases[1:]:
        total = mil.add(total, mil.square(mil.real_div(base, size)))
    return _root(total, size, least, epsilon, 1.0, _inverse(op))


@rewrite(mil.reduce_l2_norm(x, axes=axes, keep_dims=keep))
def length(x: Value, axes: Axes, keep: bool) -> Value:
    """A norm of what is divided by its largest element.

    What squares inside a reduction is kept in float16 on some devices.

    %y = mil.reduce_l2_norm(%x) {axes=[1], keep_dims=true}
        ->
    %1 = mil.abs(%x)
    %2 = mil.reduce_max(%1) {axes=[1], keep_dims=true}
    %3 = mil.maximum(%2, 5.960464477539063e-08)
    %4 = mil.real_div(%x, %3)
    %5 = mil.reduce_l2_norm(%4) {axes=[1], keep_dims=true}
    %y = mil.mul(%5, %3)
    """
    over = positive(axes, x.rank)
    if is_scaled(x) or not over or not x.tensor.dtype.is_float:
        reject("the terms are divided by the largest already")
    size = _largest([x], over, SMALLEST_HALF)
    result = mil.mul(mil.reduce_l2_norm(mil.real_div(x, size), axes=over, keep_dims=True), size)
    return result if keep else mil.squeeze(result, axes=over)


@rewrite(
    mil.pow(
        mil.reduce_sum(mil.pow(mil.abs(x), constant("order")), axes=axes, keep_dims=keep),
        constant("inverse"),
    )
)
def length_of_order(x: Value, axes: Axes, keep: bool, order: Value, inverse: Value) -> Value:
    """A norm of another order, of what is divided by its largest element.

    %1 = mil.abs(%x)
    %2 = mil.pow(%1, 4.0)
    %3 = mil.reduce_sum(%2) {axes=[1], keep_dims=true}
    %y = mil.pow(%3, 0.25)
        ->
    %1 = mil.abs(%x)
    %2 = mil.reduce_max(%1) {axes=[1], keep_dims=true}
    %3 = mil.maximum(%2, 5.960464477539063e-08)
    %4 = mil.real_div(%x, %3)
    %5 = mil.abs(%4)
    %6 = mil.pow(%5, 4.0)
    %7 = mil.reduce_sum(%6) {axes=[1], keep_dims=true}
    %8 = mil.pow(%7, 0.25)
    %y = mil.mul(%8, %3)
    """
    p, root = number(order), number(inverse)
    if p is None or root is None or p <= 0 or not close(root, 1 / p) or is_scaled(x):
        reject("it is no norm, or scaled already")
    over = positive(axes, x.rank)
    size = _largest([x], over, SMALLEST_HALF)
    total = mil.reduce_sum(mil.pow(mil.abs(mil.real_div(x, size)), p), axes=over, keep_dims=True)
    result = mil.mul(mil.pow(total, root), size)
    return result if keep else mil.squeeze(result, axes=over)


@rewrite(mil.real_div(x, mil.mul(varying("a"), varying("b"))))
def quotient_of_lengths(x: Value, a: Value, b: Value) -> Value:
    """A quotient by a product of two lengths, as a cosine, is one by each in turn.

    %1 = mil.reduce_max(%a) {axes=[1], keep_dims=true}
    %2 = mil.reduce_max(%b) {axes=[1], keep_dims=true}
    %3 = mil.real_div(%a, %1)
    %4 = mil.real_div(%b, %2)
    %5 = mil.reduce_l2_norm(%3) {axes=[1], keep_dims=true}
    %6 = mil.reduce_l2_norm(%4) {axes=[1], keep_dims=true}
    %7 = mil.mul(%5, %6)
    %y = mil.real_div(%x, %7)
        ->
    %1 = mil.reduce_max(%a) {axes=[1], keep_dims=true}
    %2 = mil.reduce_max(%b) {axes=[1], keep_dims=true}
    %3 = mil.real_div(%a, %1)
    %4 = mil.real_div(%b, %2)
    %5 = mil.reduce_l2_norm(%3) {axes=[1], keep_dims=true}
    %6 = mil.reduce_l2_norm(%4) {axes=[1], keep_dims=true}
    %7 = mil.real_div(%x, %5)
    %y = mil.real_div(%7, %6)
    """
    if not (_is_length(a) and _is_length(b)):
        reject("the factors are no lengths")
    return mil.real_div(mil.real_div(x, a), b)


def _is_length(value: Value) -> bool:
    """True for a norm, and for one that was scaled."""
    operand: Operand = value
    for _ in range(_REACH):
        op = maker(operand)
        if op is None or op.defn.root not in ("mul", "squeeze", "reshape", "maximum", "reduce_l2_norm", "sqrt"):
            return False
        if op.defn.root in ("reduce_l2_norm", "sqrt"):
            return True
        operand = op.operand("x")
    return False


RULES: list[Rule] = [root_of_squares, magnitude, length, length_of_order, quotient_of_lengths]
