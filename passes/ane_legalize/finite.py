"""Whether a value is finite wherever the program's numbers are sound."""

from __future__ import annotations

import math

from anec.ir.attrs import Attr, Literal
from anec.ir.facts import Facts
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import MOVES, known, scalar

# Values further away are not looked at.
_REACH = 64
# Norms, and products with weights, mix what they are given: an infinite operand breaks all of their result.
_MIXING = frozenset(
    "mil.conv mil.conv_transpose mil.linear mil.layer_norm mil.instance_norm mil.batch_norm mil.l2_norm".split()
)
# Finite for infinite operands too.
_BOUNDED = frozenset("mil.sigmoid mil.tanh mil.erf mil.relu6 mil.clip mil.sign".split())
# Of minus infinity, which masks hold, they make 0; products break where an operand is infinite.
_ABSORBING = _MIXING | {"mil.softmax", "mil.exp", "mil.exp2", "mil.matmul", "mil.einsum"}
# Finite for finite operands, and hardly larger.
_CLOSED = frozenset(
    "mil.add mil.sub mil.matmul mil.einsum mil.softmax mil.relu mil.leaky_relu mil.gelu mil.silu mil.softplus mil.abs "
    "mil.concat mil.stack mil.split mil.avg_pool mil.max_pool mil.minimum mil.maximum mil.floor mil.ceil mil.round "
    "mil.sin mil.cos mil.reduce_sum mil.reduce_mean mil.reduce_max mil.reduce_min".split()
) | {name for name in MOVES if name.startswith("mil.")}


def is_finite(operand: Operand, facts: Facts) -> bool:
    """True for what no quotient, logarithm or power, no infinite constant and no input has made infinite or NaN.

    Products of two computed tensors count among the powers, since float16 overflows at the square of 256. Inputs count
    as finite once a convolution, projection or norm has mixed them, or a number has bounded them: masks, which hold
    minus infinity, meet a ``maximum`` before they go on.
    """
    seen: set[tuple[Value, bool]] = set()
    stack: list[tuple[Operand, bool]] = [(operand, False)]
    while stack:
        at, bounded = stack.pop()
        if isinstance(at, Literal):
            if not _is_finite_number(at):
                return False
        elif at is not None and (at, bounded) not in seen:
            seen.add((at, bounded))
            if facts.range(at).finite or (at.op is None and at.weight is None and bounded):
                continue
            needed = _needed(at.op) if at.op is not None and len(seen) <= _REACH else None
            if needed is None:
                return False
            stack += [(each, bounded or _bounds(at.op)) for each in needed]
    return True


def holds_infinity(value: Value, facts: Facts) -> bool:
    """Whether an infinite constant, or the logarithm of something, may be in a value: what masks are made of.

    That is less than :func:`is_finite` asks: inputs count as finite, and no sum or power as beyond float16. A product
    with zeros leaves no hole where one of them was infinite, as a choice does; it spoils what stands beside it.
    """
    seen: set[Value] = set()
    stack: list[Operand] = [value]
    while stack:
        at = stack.pop()
        if isinstance(at, Literal):
            if _is_infinite(at.value):
                return True
        elif at is not None and at not in seen and at.tensor.dtype.is_float:
            seen.add(at)
            op = at.op
            if op is None:
                if at.weight is not None and not facts.range(at).finite:
                    return True
            elif op.name == "mil.log" or any(map(_is_infinite, op.attrs.values())) or len(seen) > _REACH:
                return True
            elif op.name not in _ABSORBING and not _bounds(op):
                stack += op.operands
    return False


def _is_infinite(given: Attr) -> bool:
    if isinstance(given, tuple):
        return any(map(_is_infinite, given))
    return isinstance(given, float) and math.isinf(given)


def _is_finite_number(operand: Operand) -> bool:
    number = scalar(operand)
    return number is not None and math.isfinite(number)


def _bounds(op: Op | None) -> bool:
    """Whether the result is finite for infinite operands."""
    if op is None or op.name in _BOUNDED:
        return op is not None
    return op.name in ("mil.maximum", "mil.minimum") and any(map(_is_finite_number, op.operands))


def _needed(op: Op) -> list[Operand] | None:
    """What has to be finite for the result of ``op`` to be; None where nothing makes it so."""
    if op.name in _MIXING:
        return []
    if op.name == "mil.mul":
        return list(op.operands) if any(map(known, op.operands)) else None
    if op.name == "mil.real_div":
        return [op.operand("x")] if scalar(op.operand("y")) else None
    if op.name == "mil.select":
        return [op.operand("a"), op.operand("b")]
    if op.name in _BOUNDED:
        return [op.operand("x")]
    if op.name in _CLOSED:
        # Places and shapes are no numbers that are computed with.
        return [operand for operand in op.operands if op.name not in MOVES or not isinstance(operand, Literal)]
    return None
