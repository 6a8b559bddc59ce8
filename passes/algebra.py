"""Reading arithmetic in whatever way it is spelled: products, numbers beside a value, powers, casts.

Rules that recognise a formula ask what a value *is* (``2 * x``, ``1 / sqrt(v)``), not which ops made it.
All of it holds over the real numbers, so a cast from float to float is looked through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from anec.dialects import aten
from anec.ir.attrs import Literal, same_attr
from anec.ir.dims import Dim
from anec.ir.facts import scalar_of
from anec.ir.graph import Op, Value
from anec.ir.opdef import Effect, Kind, Operand
from anec.ir.types import DType

# How many ops are followed on one path; what models spell out is shorter.
REACH = 12
# The same where a search branches: both operands of every op may have to be looked at.
BRANCHING_REACH = 6
# Two spellings of one number: a float32 buffer of 1e-5 is off by 6e-8.
RTOL = 1e-6
# Powers of ten that a float is sure to hold.
_DIGITS = 300

CASTS = frozenset(
    "aten._to_copy.default aten.to.dtype aten.to.dtype_layout aten.to.other aten.type_as.default aten.float.default "
    "aten.half.default aten.alias.default aten.clone.default aten.contiguous.default".split()
)
_VIEWS = frozenset(
    "aten.view.default aten._unsafe_view.default aten.reshape.default aten.unsqueeze.default aten.squeeze.default "
    "aten.squeeze.dim aten.squeeze.dims".split()
)
_EXPANSIONS = frozenset("aten.expand.default aten.expand_as.default aten.broadcast_to.default".split())


def maker(operand: Operand) -> Op | None:
    """The op that computes an operand."""
    return operand.op if isinstance(operand, Value) else None


def uncast(value: Value) -> Value:
    """``value`` before casts from float to float and copies."""
    while (op := value.op) is not None and op.name in CASTS:
        source = op.value("self")
        if not (source.tensor.dtype.is_float and value.tensor.dtype.is_float):
            break
        value = source
    return value


def unviewed(value: Value) -> Value:
    """``value`` before casts, and before views, which leave the order of elements."""
    value = uncast(value)
    while value.op is not None and value.op.name in _VIEWS:
        value = uncast(value.op.value("self"))
    return value


def unexpanded(value: Value) -> Value:
    """``value`` before it was repeated."""
    value = uncast(value)
    while value.op is not None and value.op.name in _EXPANSIONS:
        value = uncast(value.op.value("self"))
    return value


def same(left: Operand, right: Operand, reach: int = BRANCHING_REACH) -> bool:
    """True when both are one value, or the same ops on the same values."""
    if not isinstance(left, Value) or not isinstance(right, Value):
        return left == right
    left, right = uncast(left), uncast(right)
    a, b = left.op, right.op
    if left is right:
        return True
    if a is None or b is None or not reach or a.name != b.name or left.index != right.index:
        return False
    if a.defn.effects is not Effect.NONE or len(a.operands) != len(b.operands):
        return False
    attrs = {param.name for param in a.defn.params if param.kind is Kind.ATTR}
    return all(same_attr(a.attr(name), b.attr(name)) for name in attrs) and all(
        same(x, y, reach - 1) for x, y in zip(a.operands, b.operands, strict=True)
    )


def number(operand: Operand) -> float | None:
    """The number of a literal or of a constant of one element; None for bools and for anything else."""
    found = scalar_of(uncast(operand) if isinstance(operand, Value) else operand)
    return None if found is None or isinstance(found, bool) else float(found)


def close(found: float | None, wanted: float) -> bool:
    """True when a number is another spelling of ``wanted``."""
    return found is not None and math.isclose(found, wanted, rel_tol=RTOL, abs_tol=1e-12)


def second(op: Op, name: str = "other") -> Operand:
    """The second operand of a binary op, whether torch's schema has a tensor or a number there."""
    if op.defn.by_name[name].kind is not Kind.ATTR:
        return op.operand(name)
    found = op.attr(name)
    return Literal(found) if isinstance(found, (int, float)) else None


def summands(op: Op) -> tuple[tuple[Operand, float], tuple[Operand, float]] | None:
    """Both sides of a sum or difference, each with the number in front of it; None when it is neither."""
    if op.defn.dialect != "aten" or op.defn.root not in ("add", "sub", "rsub"):
        return None
    alpha = op.attr("alpha") if "alpha" in op.defn.by_name else 1
    if not isinstance(alpha, (int, float)):
        return None
    left, right = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[op.defn.root]
    return (op.operand("self"), float(left)), (second(op), float(right))


@dataclass(frozen=True, slots=True)
class Choice:
    """``first`` where ``condition`` is true, ``last`` elsewhere."""

    condition: Value
    first: Operand
    last: Operand


def choice(op: Op) -> Choice | None:
    """A ``where`` or ``masked_fill``; None for anything else."""
    if op.defn.dialect != "aten" or op.defn.root not in ("where", "masked_fill") or "self" not in op.defn.by_name:
        return None
    if op.defn.root == "where":
        return Choice(op.value("condition"), second(op, "self"), second(op))
    return Choice(op.value("mask"), second(op, "value"), op.operand("self"))


@dataclass(frozen=True, slots=True)
class Line:
    """``slope * base + offset``."""

    slope: float
    base: Value
    offset: float


def lines(value: Value) -> Iterator[Line]:
    """``value`` as a line through itself, through what it is computed from, and so on."""
    slope, offset = 1.0, 0.0
    value = uncast(value)
    yield Line(slope, value, offset)
    for _ in range(REACH):
        step = _step(value)
        if step is None:
            return
        slope, offset = slope * step.slope, offset + slope * step.offset
        value = uncast(step.base)
        yield Line(slope, value, offset)


def line(value: Value) -> Line:
    """``value`` as a line through what no further number stands beside."""
    return [*lines(value)][-1]


def _step(value: Value) -> Line | None:
    """The last op of ``value`` as a line through its operand."""
    op = value.op
    if op is None or op.defn.dialect != "aten" or not value.tensor.dtype.is_float:
        return None
    if op.defn.root == "neg":
        return Line(-1.0, op.value("self"), 0.0)
    if op.defn.root not in ("add", "sub", "rsub", "mul", "div") or "rounding_mode" in op.defn.by_name:
        return None
    left, right = op.operand("self"), second(op)
    first, other = number(left), number(right)
    if first is None and other is None:
        return None
    base, known = (right, first) if first is not None else (left, other)
    if known is None or not isinstance(base, Value) or base.tensor.shape != value.tensor.shape:
        return None
    match op.defn.root:
        case "mul":
            return Line(known, base, 0.0)
        case "div":
            return Line(1 / known, base, 0.0) if base is left and known else None
    sides = summands(op)
    if sides is None:
        return None
    (_, of_left), (_, of_right) = sides
    return Line(of_left, base, of_right * known) if base is left else Line(of_right, base, of_left * known)


@dataclass(frozen=True, slots=True)
class Factor:
    """``value ** exponent``."""

    value: Value
    exponent: float


@dataclass(frozen=True, slots=True)
class Product:
    """``coefficient * factor * factor ...``."""

    coefficient: float
    factors: tuple[Factor, ...]

    def without(self, factor: Factor) -> tuple[Factor, ...]:
        """The other factors."""
        return tuple(other for other in self.factors if other is not factor)


def product(value: Value, whole: Callable[[Value], bool] = lambda value: False) -> Product:
    """``value`` taken apart into numbers and powers of values, as far as it is a product.

    Args:
        value: what to read.
        whole: values that are factors as they are, even if they are products.
    """
    coefficient = 1.0
    factors: list[Factor] = []
    stack = [(value, 1.0, REACH)]
    while stack:
        at, exponent, reach = stack.pop()
        at = unexpanded(at)
        parts = _parts(at) if reach and not whole(at) else None
        if parts is None or not _distributes(parts, exponent):
            factors.append(Factor(at, exponent))
            continue
        for operand, power in reversed(parts):
            known = number(operand)
            if known is not None:
                coefficient *= known ** (power * exponent)
            elif isinstance(operand, Value):
                stack.append((operand, power * exponent, reach - 1))
    return Product(coefficient, tuple(factors))


def _parts(value: Value) -> list[tuple[Operand, float]] | None:
    """The factors of the last op of ``value``, with their exponents; None when it is no product."""
    op = value.op
    if op is None or op.defn.dialect != "aten" or not value.tensor.dtype.is_float:
        return None
    match op.defn.root:
        case "mul":
            return [(op.operand("self"), 1.0), (second(op), 1.0)]
        case "div" if "rounding_mode" not in op.defn.by_name:
            return [(op.operand("self"), 1.0), (second(op), -1.0)]
        case "neg":
            return [(op.operand("self"), 1.0), (Literal(-1.0), 1.0)]
        case "square":
            return [(op.operand("self"), 2.0)]
        case "sqrt":
            return [(op.operand("self"), 0.5)]
        case "rsqrt":
            return [(op.operand("self"), -0.5)]
        case "reciprocal":
            return [(op.operand("self"), -1.0)]
        case "pow" if op.name == "aten.pow.Tensor_Scalar" or op.name == "aten.pow.Tensor_Tensor":
            exponent = number(second(op, "exponent"))
            return None if exponent is None else [(op.operand("self"), exponent)]
    return None


def _distributes(parts: list[tuple[Operand, float]], exponent: float) -> bool:
    """True when the power of the product is the product of the powers: not so for the root of a square."""
    powers = [(found, power * exponent) for operand, power in parts if (found := number(operand)) is not None]
    if any(not isinstance(operand, (Value, Literal)) for operand, _ in parts):
        return False
    if not all(_has_power(found, power) for found, power in powers):
        return False
    numbers = [found for found, _ in powers]
    if exponent.is_integer():
        return True
    if len(parts) == 1:
        return not numbers and parts[0][1] in (-1.0, 0.5, -0.5)
    return len(numbers) == 1 and numbers[0] > 0


def _has_power(base: float, power: float) -> bool:
    """True when a float, and no complex number, holds the power of a number other than 0."""
    if base == 0 or (base < 0 and not power.is_integer()):
        return False
    return abs(power * math.log10(abs(base))) <= _DIGITS


def squared(value: Value) -> Value | None:
    """What ``value`` is the square of; None when it is no square."""
    op = uncast(value).op
    if op is None or op.defn.dialect != "aten":
        return None
    twice = op.name == "aten.mul.Tensor" and same(op.operand("self"), op.operand("other"))
    power = op.defn.root == "pow" and "exponent" in op.defn.by_name and close(number(second(op, "exponent")), 2)
    if not (twice or power or op.defn.root == "square"):
        return None
    base = op.operand("self")
    inner = maker(base)
    if inner is not None and inner.name == "aten.abs.default":
        base = inner.operand("self")
    return uncast(base) if isinstance(base, Value) else None


def polynomial(value: Value, x: Value, reach: int = BRANCHING_REACH) -> dict[int, float] | None:
    """The coefficients of ``value`` by the power of ``x``; None when it is no polynomial in it."""
    if same(value, x):
        return {1: 1.0}
    if not reach:
        return None
    value = uncast(value)
    parts = _parts(value)
    return _sum(value, x, reach) if parts is None else _power_of(parts, x, reach)


def _sum(value: Value, x: Value, reach: int) -> dict[int, float] | None:
    """The polynomial of a sum or difference, of which one side may be a number."""
    step = _step(value)
    terms = _terms(value) if step is None else [(step.base, step.slope)]
    total = {0: step.offset if step is not None else 0.0}
    for base, scale in terms:
        inner = polynomial(base, x, reach - 1)
        if inner is None:
            return None
        for power, found in inner.items():
            total[power] = total.get(power, 0.0) + scale * found
    return {power: found for power, found in total.items() if found} if terms else None


def _terms(value: Value) -> list[tuple[Value, float]]:
    """The two values that ``value`` is a sum or difference of, with their signs."""
    sides = summands(value.op) if value.op is not None else None
    values = [(side, scale) for side, scale in sides or () if isinstance(side, Value)]
    return values if len(values) == 2 else []


def _power_of(parts: list[tuple[Operand, float]], x: Value, reach: int) -> dict[int, float] | None:
    """The polynomial of a product of whole powers."""
    total = {0: 1.0}
    for operand, exponent in parts:
        known = number(operand)
        if known and exponent in (1.0, -1.0):
            total = {power: found * known**exponent for power, found in total.items()}
            continue
        inner = polynomial(operand, x, reach - 1) if isinstance(operand, Value) else None
        if inner is None or exponent not in (1.0, 2.0, 3.0):
            return None
        for _ in range(int(exponent)):
            total = _multiplied(total, inner)
    return total


def _multiplied(a: dict[int, float], b: dict[int, float]) -> dict[int, float]:
    result: dict[int, float] = {}
    for i, x in a.items():
        for j, y in b.items():
            result[i + j] = result.get(i + j, 0.0) + x * y
    return result


def aligned(value: Value, rank: int) -> tuple[Dim, ...]:
    """The shape of ``value`` as it meets a tensor of ``rank`` axes: with ones in front."""
    return (1,) * (rank - value.rank) + value.tensor.shape


def in_dtype(value: Value, dtype: DType) -> Value:
    """``value`` in ``dtype``."""
    return value if value.tensor.dtype is dtype else aten._to_copy.default(value, dtype=dtype)
