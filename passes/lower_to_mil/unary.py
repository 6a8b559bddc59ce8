"""Functions of one tensor.

    %y = aten.rsqrt.default(%x)     ->     %y = mil.rsqrt(%x) {epsilon=0.0}

``log`` and ``rsqrt`` of MIL add an epsilon that is not 0 by default; 0 is written out here, so that
log(0) is -inf as in torch. A reciprocal is a division, which has no epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.types import DType, TensorType
from anec.passes.lower_to_mil.elementwise import same, truncated, wrapped
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import choose, filled_like
from anec.passes.lower_to_mil.typing import result_type, value
from anec.rewrite import Rule, reject, rewrite

Function = Callable[[Value], Value]


def _acosh(x: Value) -> Value:
    # Two roots, as the product leaves float16 from 256 on.
    root = mil.mul(mil.sqrt(mil.sub(x, 1.0)), mil.sqrt(mil.add(x, 1.0)))
    return mil.log(mil.add(x, root), epsilon=0.0)


def _asinh(x: Value) -> Value:
    """Odd, so that log never sees the difference of two near numbers."""
    size = mil.abs(x)
    return mil.mul(mil.sign(x), mil.log(mil.add(size, mil.sqrt(mil.add(mil.square(x), 1.0))), epsilon=0.0))


def _frac(x: Value) -> Value:
    return mil.sub(x, truncated(x))


def _log_over(base: float) -> Function:
    return lambda x: mil.mul(mil.log(x, epsilon=0.0), 1 / math.log(base))


def _ndtr(x: Value) -> Value:
    return mil.mul(mil.add(mil.erf(mil.mul(x, math.sqrt(0.5))), 1.0), 0.5)


def _entr(x: Value) -> Value:
    """-x log(x), 0 at 0 and -inf below."""
    type_ = x.tensor
    entropy = mil.mul(mil.mul(x, -1.0), mil.log(x, epsilon=0.0))
    at_zero = choose(mil.equal(x, 0.0), Literal(0.0), entropy, type_)
    return choose(mil.less(x, 0.0), Literal(-math.inf), at_zero, type_)


def _sinc(x: Value) -> Value:
    turned = mil.mul(x, math.pi)
    return choose(mil.equal(x, 0.0), Literal(1.0), mil.real_div(mil.sin(turned), turned), x.tensor)


# Each takes a float tensor and gives one of its dtype; torch turns integers into floats before.
_ON_FLOATS: dict[str, Function] = {
    "acos": mil.acos,
    "acosh": _acosh,
    "asin": mil.asin,
    "asinh": _asinh,
    "atan": mil.atan,
    "atanh": mil.atanh,
    "cos": mil.cos,
    "cosh": mil.cosh,
    "deg2rad": lambda x: mil.mul(x, math.pi / 180),
    "erf": mil.erf,
    "erfc": lambda x: mil.sub(1.0, mil.erf(x)),
    "exp": mil.exp,
    "exp2": mil.exp2,
    "expm1": lambda x: mil.sub(mil.exp(x), 1.0),
    "log": lambda x: mil.log(x, epsilon=0.0),
    "log10": _log_over(10),
    "log1p": lambda x: mil.log(x, epsilon=1.0),
    "log2": _log_over(2),
    "rad2deg": lambda x: mil.mul(x, 180 / math.pi),
    "reciprocal": lambda x: mil.real_div(1.0, x),
    "rsqrt": lambda x: mil.rsqrt(x, epsilon=0.0),
    "sigmoid": mil.sigmoid,
    "sin": mil.sin,
    "sinc": _sinc,
    "sinh": mil.sinh,
    "sqrt": mil.sqrt,
    "tan": mil.tan,
    "tanh": mil.tanh,
    "special_entr": _entr,
    "special_erf": mil.erf,
    "special_erfc": lambda x: mil.sub(1.0, mil.erf(x)),
    "special_exp2": mil.exp2,
    "special_expit": mil.sigmoid,
    "special_expm1": lambda x: mil.sub(mil.exp(x), 1.0),
    "special_log1p": lambda x: mil.log(x, epsilon=1.0),
    "special_ndtr": _ndtr,
    "special_sinc": _sinc,
}

# Of integers these are the integers themselves.
_ROUNDING: dict[str, Function] = {
    "ceil": mil.ceil,
    "floor": mil.floor,
    "round": mil.round,
    "trunc": truncated,
    "fix": truncated,
}

# MIL has these for integers too.
_ON_NUMBERS: dict[str, Function] = {
    "abs": mil.abs,
    "absolute": mil.abs,
    "sign": mil.sign,
    "sgn": mil.sign,
}


def _on_floats(name: str, function: Function) -> Rule:
    @rewrite(each(name), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        return function(value(op.operand("self"), result_type(op).dtype))

    return lower


def _rounding(name: str, function: Function) -> Rule:
    @rewrite(each(name), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        return function(same(op)) if result_type(op).dtype.is_float else same(op)

    return lower


def _on_numbers(name: str, function: Function) -> Rule:
    @rewrite(each(name), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        return same(op) if result_type(op).dtype is DType.BOOL else function(same(op))

    return lower


@rewrite(each("square"))
def square(op: Op) -> Value:
    """A product with itself; of small integers, wrapped."""
    return wrapped(mil.square(same(op)), op)


@rewrite(each("neg", "negative", "_neg_view", "_neg_view_copy"))
def neg(op: Op) -> Value:
    """Times -1: 0 - x would turn 0 into 0, not -0."""
    dtype = result_type(op).dtype
    return wrapped(mil.mul(same(op), -1.0 if dtype.is_float else -1), op)


@rewrite(each("frac"))
def frac(op: Op) -> Value:
    """What is left of the whole part; 0 for integers."""
    return _frac(same(op)) if result_type(op).dtype.is_float else filled_like(same(op), 0, DType.I32)


@rewrite(each("round.decimals", "special_round"))
def round_decimals(op: Op) -> Value:
    """Shift the point, round, shift it back."""
    decimals = op.attr("decimals")
    assert isinstance(decimals, int)
    x = same(op)
    if not result_type(op).dtype.is_float:
        return x
    if decimals == 0:
        return mil.round(x)
    factor = 10.0 ** abs(decimals)
    there, back = (mil.mul, mil.real_div) if decimals > 0 else (mil.real_div, mil.mul)
    return back(mil.round(there(x, factor)), factor)


@rewrite(each("logit", "special_logit"))
def logit(op: Op) -> Value:
    """log(x / (1 - x)), of x kept ``eps`` away from 0 and 1."""
    x = same(op)
    eps = op.attr("eps")
    if isinstance(eps, float):
        if eps >= 0.5:
            reject(f"eps is {eps}, which leaves nothing between it and 1 - eps")
        x = mil.clip(x, alpha=eps, beta=1 - eps)
    return mil.log(mil.real_div(x, mil.sub(1.0, x)), epsilon=0.0)


@rewrite(each("nan_to_num"))
def nan_to_num(op: Op) -> Value:
    """Infinities become the largest finite numbers, by default: one clip."""
    type_ = result_type(op)
    x = same(op)
    if not type_.dtype.is_float:
        return x
    largest = op.results[0].tensor.dtype.largest
    nan, upper, lower = (op.attr(name) for name in ("nan", "posinf", "neginf"))
    known = choose(mil.not_equal(x, x), Literal(nan if nan is not None else 0.0), x, type_)
    if upper is None and lower is None:
        return mil.clip(known, alpha=-largest, beta=largest)
    known = _replace(known, math.inf, upper if isinstance(upper, float) else largest, type_)
    return _replace(known, -math.inf, lower if isinstance(lower, float) else -largest, type_)


def _replace(x: Value, what: float, by: float, type_: TensorType) -> Value:
    return choose(mil.equal(x, what), Literal(by), x, type_)


@rewrite(each("angle"))
def angle(op: Op) -> Value:
    """Pi for a negative real number, else 0; NaN stays."""
    x = same(op)
    turned = choose(mil.less(x, 0.0), Literal(math.pi), Literal(0.0), x.tensor)
    return choose(mil.equal(x, x), turned, x, x.tensor)


@rewrite(each("signbit"))
def signbit(op: Op) -> Value:
    """The sign of -0.0 is not seen: no MIL op tells it from 0.0."""
    x = op.value("self")
    if x.tensor.dtype is DType.BOOL:
        return filled_like(x, False, DType.BOOL)
    return mil.less(x, 0.0 if x.tensor.dtype.is_float else 0)


def _table() -> list[Rule]:
    kinds = ((_ON_FLOATS, _on_floats), (_ROUNDING, _rounding), (_ON_NUMBERS, _on_numbers))
    return [make(name, function) for functions, make in kinds for name, function in functions.items()]


RULES: list[Rule] = [*_table(), square, neg, frac, round_decimals, logit, nan_to_num, angle, signbit]
