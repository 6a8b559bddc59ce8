"""A factor below 1 goes in front of the product it scales, so that the product stays in float16's range.

    %q: f32[2,4,16,8], %k: f32[2,4,16,8]
    %1 = mil.matmul(%q, %k) {transpose_y=true}
    %y = mil.mul(%1, 0.125)
        ->
    %1 = mil.mul(%q, 0.125)
    %y = mil.matmul(%1, %k) {transpose_y=true}

Attention is often written so: scores are sums over a head's channels, and at q and k of a few
hundred they pass 65504 before the scale brings them back.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import known, only_use, rebuild, scalar, uniform, varying
from anec.passes.mil_cleanup.inputs import LARGEST, SMALLEST
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x, y, c, w = varying("x"), varying("y"), var("c"), var("w", known)
product = mil.matmul(x, y, rest)

# 1 / sqrt(d) for as many channels as an ANE dimension may have: what is scaled stays a normal float16.
_SMALLEST = 2.0**-7


@rewrite(any_of(mil.mul(product, c), mil.real_div(product, c)))
def scale_before_product(op: Op, x: Value, y: Value, c: Operand) -> Value:
    """A number that scales a product down scales the smaller operand instead.

    %x: f32[4,8], %y: f32[8,8]
    %1 = mil.matmul(%x, %y)
    %z = mil.real_div(%1, 4.0)
        ->
    %1 = mil.mul(%x, 0.25)
    %z = mil.matmul(%1, %y)
    """
    product = op.value("y") if op.operand("x") is c else op.value("x")
    number = scalar(c)
    if number is None or not number or not x.tensor.dtype.is_float or op.result.type != product.type:
        reject("the factor is no number")
    factor = 1 / number if op.name == "mil.real_div" else float(number)
    if not _SMALLEST <= abs(factor) < 1:
        reject(f"{factor:g} does not scale down, or too far")
    if not only_use(product):
        reject("the product has other users")
    assert product.op is not None
    static = x.tensor.is_static and y.tensor.is_static
    if static and y.tensor.size < x.tensor.size:
        return rebuild(product.op, y=mil.mul(y, factor))
    return rebuild(product.op, x=mil.mul(x, factor))


@rewrite(
    any_of(
        *(mil.matmul(step, w, rest) for step in (mil.mul(x, c), mil.real_div(x, c))),
        *(mil.matmul(w, step, rest) for step in (mil.mul(x, c), mil.real_div(x, c))),
    )
)
def number_into_constant(op: Op, x: Value, c: Operand, w: Value) -> Value:
    """A number that scales what is multiplied by a constant of any rank scales the constant.

    %x: f32[2,4,8,16], %w: f32[1,4,16,9] weight
    %1 = mil.real_div(%x, 4.0)
    %y = mil.matmul(%1, %w)
        ->
    %1 = mil.mul(%w, 0.25)
    %y = mil.matmul(%x, %1)
    """
    name, other = ("y", "x") if op.operand("y") is w else ("x", "y")
    scaled, number = op.value(other), uniform(c)
    if not isinstance(w, Value) or not only_use(w) or not only_use(scaled):
        reject("the constant or what is scaled has other users")
    if number is None or scaled.type != x.type or not w.tensor.dtype.is_float or scaled.op is None:
        reject("the factor is no number")
    if not SMALLEST <= abs(number) <= LARGEST:
        reject(f"constants times or divided by {number:g} leave float16's range")
    factor = 1 / number if scaled.op.name == "mil.real_div" else float(number)
    return rebuild(op, **{other: x, name: mil.mul(w, factor)})


RULES: list[Rule] = [scale_before_product, number_into_constant]
