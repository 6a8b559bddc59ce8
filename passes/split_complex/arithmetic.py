"""Entry by entry: sums, products, quotients, powers, exponentials, and what makes a real number of a complex one."""

from __future__ import annotations

import math

from anec.dialects import aten
from anec.ir.attrs import Attr, Literal
from anec.ir.build import Builder
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType, TensorType
from anec.passes.split_complex.parts import (
    REAL,
    Parts,
    Splitter,
    as_tensor,
    conjugate,
    divided,
    fit,
    handles,
    magnitude,
    minus,
    multiplied,
    negated,
    normalized,
    over,
    part_type,
    plus,
    squared_magnitude,
    times,
)
from anec.rewrite import reject

# A whole power is written as products up to this exponent.
_LARGEST_POWER = 16


def _argument(op: Op, splitter: Splitter, name: str) -> Parts:
    """An operand, or the number that stands in its place."""
    if name in op.arguments():
        return splitter.operand(op, name)
    given = op.attr(name)
    if not isinstance(given, (int, float)):
        reject(f"{name} is {given}")
    return splitter.parts(Literal(given), part_type(op.results[0]).dtype)


def scaled(z: Parts, factor: Attr) -> Parts:
    """The product of z and a Python number."""
    if factor == 1:
        return z
    if not isinstance(factor, (int, float)):
        reject(f"the factor {factor} is no number known here")
    return Parts(_scaled(z.real, factor), _scaled(z.imag, factor), z.type) if factor else Parts(None, None, z.type)


def _scaled(part: Operand, factor: float) -> Operand:
    if isinstance(part, Literal) and isinstance(part.value, (int, float)):
        return Literal(part.value * factor)
    return times(part, Literal(factor))


def added(a: Parts, b: Parts, type_: TensorType) -> Parts:
    """The sum a + b."""
    return Parts(fit(plus(a.real, b.real), type_), fit(plus(a.imag, b.imag), type_), type_)


@handles("add", "sub", "subtract", "rsub")
def add(op: Op, splitter: Splitter) -> Parts:
    """Sums and differences, part by part; ``alpha`` scales what comes second."""
    a, b = splitter.operand(op), _argument(op, splitter, "other")
    if op.defn.root == "rsub":
        a, b = b, a
    b, type_ = scaled(b, op.attr("alpha")), part_type(op.results[0])
    if op.defn.root == "add":
        return added(a, b, type_)
    return Parts(fit(minus(a.real, b.real), type_), fit(minus(a.imag, b.imag), type_), type_)


@handles("mul", "multiply")
def mul(op: Op, splitter: Splitter) -> Parts:
    """Four products, or two."""
    return multiplied(splitter.operand(op), _argument(op, splitter, "other"), part_type(op.results[0]))


@handles("div", "divide", "true_divide")
def div(op: Op, splitter: Splitter) -> Parts:
    """By a complex number: times its conjugate, over its squared magnitude, all of it scaled."""
    return divided(splitter.operand(op), _argument(op, splitter, "other"), part_type(op.results[0]))


@handles("addcmul", "addcdiv")
def addc(op: Op, splitter: Splitter) -> Parts:
    """The sum of self and value * tensor1 * tensor2, or / tensor2."""
    first, second = (splitter.operand(op, name) for name in ("tensor1", "tensor2"))
    type_ = part_type(op.results[0])
    found = (multiplied if op.defn.root == "addcmul" else divided)(first, second, type_)
    return added(splitter.operand(op), scaled(found, op.attr("value")), type_)


@handles("neg", "negative", "_neg_view", "_neg_view_copy")
def neg(op: Op, splitter: Splitter) -> Parts:
    """-z."""
    z = splitter.operand(op)
    return Parts(negated(z.real), negated(z.imag), z.type)


@handles("_conj", "_conj_copy", "_conj_physical", "conj", "conj_physical")
def conj(op: Op, splitter: Splitter) -> Parts:
    """The imaginary part changes its sign."""
    return conjugate(splitter.operand(op))


@handles("adjoint", "matrix_H", "mH")
def adjoint(op: Op, splitter: Splitter) -> Parts:
    """The last two axes are swapped, too."""
    return conjugate(splitter.operand(op).mapped(lambda part: aten.transpose.int(part, -2, -1)))


@handles("reciprocal")
def reciprocal(op: Op, splitter: Splitter) -> Parts:
    """1 / z."""
    return _inverse(splitter.operand(op))


def _inverse(z: Parts) -> Parts:
    return divided(Parts(Literal(1.0), None, z.type), z, z.type)


@handles("square")
def square(op: Op, splitter: Splitter) -> Parts:
    """The product z * z."""
    z = splitter.operand(op)
    return multiplied(z, z, z.type)


@handles("pow")
def power(op: Op, splitter: Splitter) -> Parts:
    """Small whole exponents by repeated squaring, others by way of size and angle."""
    exponent = _exponent(op)
    if not isinstance(exponent, (int, float)) or "self" not in op.arguments():
        reject("only powers with a number known here as exponent are taken of complex numbers")
    z = splitter.operand(op)
    if exponent == 0:
        return Parts(aten.ones_like.default(z.both[0]), None, z.type)
    if exponent != int(exponent) or abs(exponent) > _LARGEST_POWER:
        size = aten.pow.Tensor_Scalar(as_tensor(squared_magnitude(z)), exponent / 2)
        turned = aten.mul.Tensor(_angle(z), exponent)
        return Parts(times(size, aten.cos.default(turned)), times(size, aten.sin.default(turned)), z.type)
    found = _whole_power(z, abs(int(exponent)))
    return found if exponent > 0 else _inverse(found)


def _whole_power(z: Parts, exponent: int) -> Parts:
    if exponent == 1:
        return z
    half = _whole_power(z, exponent // 2)
    squared = multiplied(half, half, z.type)
    return multiplied(squared, z, z.type) if exponent % 2 else squared


@handles("exp")
def exp(op: Op, splitter: Splitter) -> Parts:
    """The exponential of the real part is the size, the imaginary part the angle."""
    z = splitter.operand(op)
    size = aten.exp.default(z.real) if isinstance(z.real, Value) else None
    if not isinstance(z.imag, Value):
        return Parts(as_tensor(size), None, z.type)
    real, imag = aten.cos.default(z.imag), aten.sin.default(z.imag)
    return Parts(real, imag, z.type) if size is None else Parts(times(size, real), times(size, imag), z.type)


@handles("log", "log2", "log10")
def log(op: Op, splitter: Splitter) -> Parts:
    """log|z| + i angle; |z| as the square root of a square that stays in range."""
    z = splitter.operand(op)
    if z.real is None or z.imag is None:
        size = aten.log.default(magnitude(z))
    else:
        factor, rest = normalized(z)
        half = aten.mul.Tensor(aten.log.default(as_tensor(squared_magnitude(rest))), 0.5)
        size = aten.add.Tensor(aten.log.default(factor), half)
    base = {"log": 1.0, "log2": math.log(2), "log10": math.log(10)}[op.defn.root]
    found = Parts(size, _angle(z), z.type)
    return found if base == 1 else scaled(found, 1 / base)


@handles("sqrt")
def sqrt(op: Op, splitter: Splitter) -> Parts:
    """The root with a real part that is not negative."""
    return _root(splitter.operand(op))


@handles("rsqrt")
def rsqrt(op: Op, splitter: Splitter) -> Parts:
    """1 / sqrt(z)."""
    return _inverse(_root(splitter.operand(op)))


def _root(z: Parts) -> Parts:
    """sqrt((|z| + a) / 2) + i sign(b) sqrt((|z| - a) / 2); rounding must not make a root of a negative number."""
    real, imag = z.both
    size = magnitude(z)
    first, second = (
        aten.sqrt.default(aten.clamp_min.default(aten.mul.Tensor(found, 0.5), 0.0))
        for found in (aten.add.Tensor(size, real), aten.sub.Tensor(size, real))
    )
    return Parts(first, aten.where.self(aten.lt.Scalar(imag, 0.0), aten.neg.default(second), second), z.type)


@handles("sin", "cos", "sinh", "cosh")
def waves(op: Op, splitter: Splitter) -> Parts:
    """sin(a + ib) = sin a cosh b + i cos a sinh b, and the like."""
    z = splitter.operand(op)
    a, b = z.both
    if op.defn.root in ("sinh", "cosh"):
        a, b = b, a
    sin, cos, sinh, cosh = aten.sin.default(a), aten.cos.default(a), aten.sinh.default(b), aten.cosh.default(b)
    if op.defn.root == "sin":
        return Parts(times(sin, cosh), times(cos, sinh), z.type)
    if op.defn.root == "cos":
        return Parts(times(cos, cosh), negated(times(sin, sinh)), z.type)
    if op.defn.root == "sinh":
        return Parts(times(sinh, cos), times(cosh, sin), z.type)
    return Parts(times(cosh, cos), times(sinh, sin), z.type)


@handles("tanh")
def tanh(op: Op, splitter: Splitter) -> Parts:
    """The hyperbolic tangent."""
    return _tanh(splitter.operand(op))


@handles("sigmoid", "special_expit")
def sigmoid(op: Op, splitter: Splitter) -> Parts:
    """(1 + tanh(z / 2)) / 2."""
    z = splitter.operand(op)
    turned = scaled(_tanh(scaled(z, 0.5)), 0.5)
    return added(turned, Parts(Literal(0.5), None, z.type), z.type)


def _tanh(z: Parts) -> Parts:
    """(t + i sin b cos b (1 - t^2)) / (cos^2 b + t^2 sin^2 b) with t = tanh a: nothing in it overflows."""
    a, b = z.both
    t, sin, cos = aten.tanh.default(a), aten.sin.default(b), aten.cos.default(b)
    square = aten.mul.Tensor(t, t)
    below = aten.add.Tensor(aten.mul.Tensor(cos, cos), aten.mul.Tensor(square, aten.mul.Tensor(sin, sin)))
    turned = aten.mul.Tensor(aten.mul.Tensor(sin, cos), aten.rsub.Scalar(square, 1.0))
    return Parts(over(t, below), over(turned, below), z.type)


@handles("sgn")
def sgn(op: Op, splitter: Splitter) -> Parts:
    """The direction z / |z|, and 0 where z is 0."""
    z = splitter.operand(op)
    size = magnitude(z)
    safe = aten.masked_fill.Scalar(size, aten.eq.Scalar(size, 0.0), 1.0)
    return Parts(over(z.real, safe), over(z.imag, safe), z.type)


# -- real results ----------------------------------------------------------------------------------


@handles("abs", "absolute")
def absolute(op: Op, splitter: Splitter) -> Value:
    """|z|, remembered: its square needs no root."""
    z = splitter.operand(op)
    found = magnitude(z)
    splitter.magnitudes[found] = z
    return found


def square_of_magnitude(op: Op, splitter: Splitter) -> Value | None:
    """|z|^2 without the root, where ``op`` is that; else None."""
    root, operands = op.defn.root, op.inputs
    z = splitter.magnitudes.get(operands[0]) if operands else None
    squares = root == "square" or (root == "pow" and op.defn.by_name.get("exponent") and _exponent(op) == 2)
    squares = squares or (root == "mul" and len(operands) == 2 and operands[0] is operands[1])
    if z is None or not squares or op.results[0].type != operands[0].type:
        return None
    found = squared_magnitude(z)
    return found if isinstance(found, Value) else None


def _exponent(op: Op) -> Attr:
    if "exponent" not in op.arguments():
        return op.attr("exponent")
    given = op.operand("exponent")
    return given.value if isinstance(given, Literal) else None


@handles("angle")
def angle(op: Op, splitter: Splitter) -> Value:
    """atan2(imag, real)."""
    return _angle(splitter.operand(op))


def _angle(z: Parts) -> Value:
    real, imag = z.both
    return aten.atan2.default(imag, real)


@handles("linalg_vector_norm", "norm", "frobenius_norm")
def norm(op: Op, splitter: Splitter) -> Value:
    """The norm of the magnitudes."""
    size = magnitude(splitter.operand(op))
    attrs = {name: REAL.get(attr, attr) if isinstance(attr, DType) else attr for name, attr in op.attrs.items()}
    return Builder.current(op.name).create(op.defn, {"self": size, **attrs}, types=(op.results[0].type,)).result


@handles("eq", "ne", "not_equal")
def equal(op: Op, splitter: Splitter) -> Value:
    """Equal where both parts are."""
    dtypes = {value.tensor.dtype for value in op.inputs}
    complex_one = next(value for value in op.inputs if value.tensor.dtype.is_complex)
    if len({dtype for dtype in dtypes if dtype.is_complex}) > 1:
        reject("the operands are complex numbers of two precisions")
    dtype = part_type(complex_one).dtype
    other = op.operand("other") if "other" in op.arguments() else Literal(op.attr("other"))
    a, b = splitter.parts(op.operand("self"), dtype), splitter.parts(other, dtype)
    compare = aten.eq.Tensor if op.defn.root == "eq" else aten.ne.Tensor
    pairs = zip(a.both, b.both, strict=True)
    real, imag = (compare(left, right) for left, right in pairs)
    return (aten.logical_and if op.defn.root == "eq" else aten.logical_or).default(real, imag)


@handles("isfinite", "isnan", "isinf", "logical_not")
def asked(op: Op, splitter: Splitter) -> Value:
    """Finite and zero where both parts are, NaN and infinite where one is."""
    z = splitter.operand(op)
    found = [op.defn.build((), {"self": part}).result for part in (z.real, z.imag) if isinstance(part, Value)]
    if len(found) == 1:
        return found[0]
    return (aten.logical_and if op.defn.root in ("isfinite", "logical_not") else aten.logical_or).default(*found)


__all__ = ["added", "conjugate", "scaled", "square_of_magnitude"]
