"""Powers.

    %y = aten.pow.Tensor_Scalar(%x) {exponent=3}     ->     %1 = mil.square(%x)
                                                            %y = mil.mul(%1, %x)

Core ML's pow takes logarithms on some hardware: it loses digits at x^2, gives NaN for a negative
base and 0 for 2^0. So constant exponents become products and roots, constant bases exponentials,
and mil.pow is left with what has no other form.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.facts import scalar_of
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.elementwise import pair, wrapped
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, choose, filled_like
from anec.passes.lower_to_mil.typing import argument, result_type
from anec.pipeline.base import Context
from anec.rewrite import Rule, rewrite

# Products up to this exponent; at most ten ops.
_LONGEST_CHAIN = 64


@rewrite(
    each(
        "pow.Tensor_Scalar",
        "pow.Tensor_Tensor",
        "float_power.Tensor_Scalar",
        "float_power.Tensor_Tensor",
    )
)
def power(op: Op, ctx: Context) -> Value:
    """A product or root where the exponent is known, else mil.pow."""
    type_ = result_type(op)
    base, exponent = pair(op, type_.dtype, right="exponent")
    known = scalar_of(argument(op, "exponent"))
    x = as_value(base)
    if known is not None and x.tensor.shape == type_.shape:
        found = _by_number(x, known)
        if found is not None:
            return wrapped(found, op)
    if not type_.dtype.is_float and isinstance(exponent, Value) and not ctx.facts.range(exponent).nonnegative:
        # Core ML would divide by zero; torch has 0 ** -1 = 0, as it has 2 ** -1 = 0.
        endless = mil.logical_and(mil.equal(x, 0), mil.less(exponent, 0))
        x = choose(endless, Literal(2), x, type_)
    return wrapped(mil.pow(x, exponent), op)


def _by_number(x: Value, exponent: float) -> Value | None:
    """Raise x to a number known here; None when only mil.pow can say it."""
    if not x.tensor.dtype.is_float:
        return product(x, int(exponent)) if exponent >= 0 else None
    if exponent == 0.5:
        return mil.sqrt(x)
    if exponent == -0.5:
        return mil.rsqrt(x, epsilon=0.0)
    if exponent < 0 and abs(exponent) <= _LONGEST_CHAIN and float(2 * exponent).is_integer():
        positive = _by_number(x, -exponent)
        return mil.real_div(1.0, positive) if positive is not None else None
    if abs(exponent) <= _LONGEST_CHAIN and float(exponent).is_integer():
        return product(x, int(exponent))
    if 0 < exponent <= _LONGEST_CHAIN and float(exponent - 0.5).is_integer():
        return mil.mul(product(x, int(exponent)), mil.sqrt(x))
    if float(exponent).is_integer():
        size = mil.pow(mil.abs(x), float(exponent))
        return size if exponent % 2 == 0 else mil.mul(size, mil.sign(x))
    return None


def product(x: Value, exponent: int) -> Value:
    """Multiply by repeated squaring; no factor is larger than the result or than x."""
    if exponent == 0:
        return filled_like(x, 1, x.tensor.dtype)
    square, found = x, None
    while True:
        if exponent & 1:
            found = square if found is None else mil.mul(square, found)
        exponent >>= 1
        if not exponent:
            assert found is not None
            return found
        square = mil.square(square)


@rewrite(each("pow.Scalar", "float_power.Scalar"))
def power_of_number(op: Op) -> Value:
    """b^x = exp(x log b) for b > 0."""
    type_ = result_type(op)
    base, exponent = pair(op, type_.dtype, right="exponent")
    assert isinstance(base, Literal)
    assert isinstance(base.value, (int, float))
    x = as_value(exponent)
    if base.value == 1:
        return filled_like(x, 1, type_.dtype)
    if not type_.dtype.is_float or base.value <= 0 or not math.isfinite(base.value):
        return wrapped(mil.pow(base, x), op)
    if base.value == 2:
        return mil.exp2(x)
    logarithm = math.log(base.value)
    return mil.exp(x if logarithm == 1 else mil.mul(x, logarithm))


RULES: list[Rule] = [power, power_of_number]
