"""Arithmetic on two tensors, or on a tensor and a number.

    %y = aten.add.Tensor(%a, %b) {alpha=2}     ->     %1 = mil.mul(%b, 2.0)
                                                      %y = mil.add(%a, %1)

torch has typed the result; operands are cast to its dtype before the op, as torch does. Sums and
products of bools are "or" and "and". The integers of 8 and 16 bits, which Core ML holds in int32,
wrap around as they do in torch.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attrs import Attr, Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef, Operand
from anec.ir.types import DType
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, choose
from anec.passes.lower_to_mil.typing import NARROW_INTEGERS, argument, cast, number, result_type, value, wrap
from anec.rewrite import Rule, rewrite


def pair(op: Op, dtype: DType, left: str = "self", right: str = "other") -> tuple[Operand, Operand]:
    """Both operands of a binary op, in ``dtype``."""
    return cast(argument(op, left), dtype), cast(argument(op, right), dtype)


def scaled(operand: Operand, factor: Attr) -> Operand:
    """``operand * factor``, for a number; computed here where the operand is one too."""
    assert isinstance(factor, (int, float))
    if factor == 1:
        return operand
    if isinstance(operand, Literal):
        assert isinstance(operand.value, (int, float))
        return Literal(operand.value * factor)
    return mil.mul(operand, factor)


def wrapped(result: Value, op: Op) -> Value:
    """An int32 result brought into the range of torch's own, narrower integer type."""
    dtype = op.results[0].tensor.dtype
    return wrap(result, dtype) if dtype in NARROW_INTEGERS else result


@rewrite(each("add.Tensor", "add.Scalar"))
def add(op: Op) -> Value:
    """The other, times alpha, on top; "or" of bools."""
    dtype = result_type(op).dtype
    left, right = pair(op, dtype)
    if dtype is DType.BOOL:
        return mil.logical_or(left, right) if op.attr("alpha") else as_value(left)
    return wrapped(mil.add(left, scaled(right, number(op.attr("alpha"), dtype))), op)


@rewrite(each("sub.Tensor", "sub.Scalar", "subtract.Tensor", "subtract.Scalar"))
def sub(op: Op) -> Value:
    """The other, times alpha, taken away."""
    dtype = result_type(op).dtype
    left, right = pair(op, dtype)
    return wrapped(mil.sub(left, scaled(right, number(op.attr("alpha"), dtype))), op)


@rewrite(each("rsub.Tensor", "rsub.Scalar"))
def rsub(op: Op) -> Value:
    """The sub with its operands swapped."""
    dtype = result_type(op).dtype
    left, right = pair(op, dtype)
    return wrapped(mil.sub(right, scaled(left, number(op.attr("alpha"), dtype))), op)


@rewrite(each("mul.Tensor", "mul.Scalar", "multiply.Tensor", "multiply.Scalar"))
def mul(op: Op) -> Value:
    """A product; "and" of bools."""
    dtype = result_type(op).dtype
    left, right = pair(op, dtype)
    if dtype is DType.BOOL:
        return mil.logical_and(left, right)
    return wrapped(mil.mul(left, right), op)


@rewrite(each("div.Tensor", "div.Scalar", "divide.Tensor", "divide.Scalar", "true_divide.Tensor", "true_divide.Scalar"))
def div(op: Op) -> Value:
    """True division: the result, and so the operands, are floats."""
    left, right = pair(op, result_type(op).dtype)
    return mil.real_div(left, right)


@rewrite(each("div.Tensor_mode", "div.Scalar_mode", "divide.Tensor_mode", "divide.Scalar_mode"))
def div_mode(op: Op) -> Value:
    """real_div of integers truncates by itself."""
    dtype = result_type(op).dtype
    left, right = pair(op, dtype)
    mode = op.attr("rounding_mode")
    if mode == "floor":
        return mil.floor_div(left, right)
    quotient = mil.real_div(left, right)
    return truncated(quotient) if mode == "trunc" and dtype.is_float else quotient


@rewrite(each("floor_divide", "floor_divide.Scalar"))
def floor_divide(op: Op) -> Value:
    """The quotient, rounded down."""
    left, right = pair(op, result_type(op).dtype)
    return mil.floor_div(left, right)


def truncated(x: Value) -> Value:
    """A float without its fraction: MIL has floor and ceil only."""
    return mil.select(mil.less(x, 0.0), mil.ceil(x), mil.floor(x))


@rewrite(each("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor"))
def remainder(op: Op) -> Value:
    """The sign of the divisor, as MIL's mod has it."""
    left, right = pair(op, result_type(op).dtype)
    return mil.mod(left, right)


@rewrite(each("fmod.Tensor", "fmod.Scalar"))
def fmod(op: Op) -> Value:
    """The sign of the dividend: sign(a) * (|a| mod |b|), which rounds nowhere."""
    left, right = pair(op, result_type(op).dtype)
    divisor = Literal(abs(right.value)) if isinstance(right, Literal) else mil.abs(right)  # type: ignore[arg-type]  # a number
    return mil.mul(mil.sign(left), mil.mod(mil.abs(left), divisor))


def _extremum(name: str, target: OpDef, on_bools: OpDef, *overloads: str) -> Rule:
    @rewrite(each(*overloads), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        dtype = result_type(op).dtype
        return (on_bools if dtype is DType.BOOL else target)(*pair(op, dtype))

    return lower


def _ignoring_nan(name: str, wins: OpDef) -> Rule:
    @rewrite(each(name), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        """Left where it wins or right is NaN; a NaN on the left never wins."""
        type_ = result_type(op)
        left, right = pair(op, type_.dtype)
        if type_.dtype is DType.BOOL:
            return (mil.logical_or if name == "fmax" else mil.logical_and)(left, right)
        if not type_.dtype.is_float:
            return (mil.maximum if name == "fmax" else mil.minimum)(left, right)
        return choose(mil.logical_or(wins(left, right), mil.not_equal(right, right)), left, right, type_)

    return lower


@rewrite(each("atan2"))
def atan2(op: Op) -> Value:
    """atan(y / x), moved by pi where x < 0; where x = 0 the sign of y decides."""
    type_ = result_type(op)
    y, x = (as_value(operand) for operand in pair(op, type_.dtype))
    angle = mil.atan(mil.real_div(y, x))
    turned = choose(mil.less(y, 0.0), mil.sub(angle, math.pi), mil.add(angle, math.pi), type_)
    angle = choose(mil.less(x, 0.0), turned, angle, type_)
    return choose(mil.equal(x, 0.0), mil.mul(mil.sign(y), math.pi / 2), angle, type_)


@rewrite(each("hypot"))
def hypot(op: Op) -> Value:
    """The larger side times sqrt(1 + ratio^2), which overflows only with the result; an infinite side beats NaN."""
    type_ = result_type(op)
    x, y = map(mil.abs, pair(op, type_.dtype))
    larger = mil.maximum(x, y)
    ratio = mil.real_div(mil.minimum(x, y), choose(mil.equal(larger, 0.0), Literal(1.0), larger, type_))
    length = mil.mul(larger, mil.sqrt(mil.add(mil.square(ratio), 1.0)))
    return choose(mil.logical_or(mil.equal(x, math.inf), mil.equal(y, math.inf)), Literal(math.inf), length, type_)


@rewrite(each("ldexp.Tensor"))
def ldexp(op: Op) -> Value:
    """The product of ``self`` and 2^other."""
    left, right = pair(op, result_type(op).dtype)
    return mil.mul(left, mil.exp2(right))


@rewrite(each("lerp.Scalar", "lerp.Tensor"))
def lerp(op: Op) -> Value:
    """The way from start to end, weight of it."""
    dtype = result_type(op).dtype
    start, end = pair(op, dtype, right="end")
    return mil.add(start, mil.mul(mil.sub(end, start), cast(argument(op, "weight"), dtype)))


@rewrite(each("addcmul", "addcdiv"))
def addc(op: Op) -> Value:
    """The product, or quotient, of two, times value, on top of the first."""
    dtype = result_type(op).dtype
    first, second = pair(op, dtype, "tensor1", "tensor2")
    combined = (mil.mul if op.defn.root == "addcmul" else mil.real_div)(first, second)
    return wrapped(mil.add(cast(op.operand("self"), dtype), scaled(combined, number(op.attr("value"), dtype))), op)


@rewrite(each("logaddexp", "logaddexp2"))
def logaddexp(op: Op) -> Value:
    """Max + log(1 + exp(-|a - b|)): nothing overflows."""
    left, right = pair(op, result_type(op).dtype)
    distance = mil.mul(mil.abs(mil.sub(left, right)), -1.0)
    if op.defn.root == "logaddexp":
        rest = mil.log(mil.exp(distance), epsilon=1.0)
    else:
        rest = mil.mul(mil.log(mil.exp2(distance), epsilon=1.0), 1 / math.log(2))
    return mil.add(mil.maximum(left, right), rest)


@rewrite(
    each(
        "xlogy.Tensor",
        "xlogy.Scalar_Self",
        "xlogy.Scalar_Other",
        "special_xlogy",
        "special_xlogy.self_scalar",
        "special_xlogy.other_scalar",
        "special_xlog1py",
        "special_xlog1py.self_scalar",
        "special_xlog1py.other_scalar",
    )
)
def xlogy(op: Op) -> Value:
    """The product of x and log(y), or log(1 + y); 0 where x = 0 unless y is NaN."""
    type_ = result_type(op)
    x, y = pair(op, type_.dtype)
    shift = 1.0 if op.defn.root.endswith("1py") else 0.0
    if isinstance(y, Literal):
        assert isinstance(y.value, float)
        factor = y.value + shift
        logarithm = math.log(factor) if factor > 0 else -math.inf if factor == 0 else math.nan
        return choose(mil.equal(x, 0.0), Literal(0.0), mil.mul(x, logarithm), type_)
    product = mil.mul(x, mil.log(y, epsilon=shift))
    known = mil.equal(y, y)
    if isinstance(x, Literal):
        return choose(known, Literal(0.0), y, type_) if x.value == 0 else product
    return choose(mil.logical_and(mil.equal(x, 0.0), known), Literal(0.0), product, type_)


@rewrite(each("copysign.Tensor", "copysign.Scalar"))
def copysign(op: Op) -> Value:
    """The sign of -0.0 is not seen: no MIL op tells it from 0.0."""
    type_ = result_type(op)
    left, right = pair(op, type_.dtype)
    size = mil.abs(left)
    if isinstance(right, Literal):
        assert isinstance(right.value, (int, float))
        return mil.mul(size, -1.0) if math.copysign(1.0, right.value) < 0 else size
    return choose(mil.less(right, 0.0), mil.mul(size, -1.0), size, type_)


@rewrite(each("heaviside"))
def heaviside(op: Op) -> Value:
    """0 below 0, 1 above, ``values`` at 0."""
    type_ = result_type(op)
    x, at_zero = pair(op, type_.dtype, right="values")
    if type_.dtype is DType.BOOL:
        return mil.logical_or(x, at_zero)
    zero = 0.0 if type_.dtype.is_float else 0
    step = cast(mil.greater(x, zero), type_.dtype)
    return choose(mil.equal(x, zero), at_zero, step, type_)


def same(op: Op) -> Value:
    """The operand itself, in the dtype of the result."""
    return value(op.operand("self"), result_type(op).dtype)


RULES: list[Rule] = [
    add,
    sub,
    rsub,
    mul,
    div,
    div_mode,
    floor_divide,
    remainder,
    fmod,
    _extremum("maximum", mil.maximum, mil.logical_or, "maximum", "max.other"),
    _extremum("minimum", mil.minimum, mil.logical_and, "minimum", "min.other"),
    _ignoring_nan("fmax", mil.greater_equal),
    _ignoring_nan("fmin", mil.less_equal),
    atan2,
    hypot,
    ldexp,
    lerp,
    addc,
    logaddexp,
    xlogy,
    copysign,
    heaviside,
]
