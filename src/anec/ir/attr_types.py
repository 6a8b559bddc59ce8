"""The dtype a numeric attribute has: MIL declares one for every constant, and rounds to it."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping

from anec.ir.attrs import Attr, Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Kind, Param
from anec.ir.types import DType

# float16's largest number, and its least above 0.
HALF_MAX, SMALLEST_HALF = 65504.0, 2.0**-24


def attr_dtype(op: Op, param: Param, value: Attr, dtypes: Mapping[str, DType]) -> DType:
    """The dtype of a numeric attribute: its domain's, the only one allowed, or what the value suggests.

    A float goes with the op's first float operand (an epsilon with x where there is no gamma), but
    stays f32 where float16 would hold it with fewer digits than it has, or as 0 or infinity.

    Args:
        op: the op that has the attribute.
        param: its parameter in the target's version of the op.
        value: the attribute.
        dtypes: the dtype of each type domain that has operands; see :func:`domain_dtypes`.
    """
    if param.domain is not None and param.domain in dtypes:
        return dtypes[param.domain]
    allowed = param.dtypes
    if len(allowed) == 1:
        return allowed[0]
    number = first_number(value)
    if isinstance(number, bool) and (not allowed or DType.BOOL in allowed):
        return DType.BOOL
    if isinstance(number, int) and (not allowed or DType.I32 in allowed):
        return DType.I32
    wide = DType.F32 if not allowed or DType.F32 in allowed else allowed[0]
    for operand in op.inputs:
        dtype = operand.tensor.dtype
        if dtype.is_float and (not allowed or dtype in allowed):
            return wide if dtype is DType.F16 and not _survives(value) else dtype
    return wide


def domain_dtypes(op: Op, params: tuple[Param, ...]) -> dict[str, DType]:
    """The dtype of each type domain, from the values (else the typed literals) that take part in it."""
    values: dict[str, DType] = {}
    literals: dict[str, DType] = {}
    for param in params:
        if param.domain is None or param.kind is Kind.ATTR:
            continue
        for index in op.slot(param.name):
            operand = op.operands[index]
            if isinstance(operand, Value):
                values.setdefault(param.domain, operand.tensor.dtype)
            elif isinstance(operand, Literal) and operand.dtype is not None:
                literals.setdefault(param.domain, operand.dtype)
    return {**literals, **values}


def first_number(value: Attr) -> Attr:
    """The first leaf of nested tuples."""
    while isinstance(value, tuple) and value:
        value = value[0]
    return value


def leaves(value: Attr) -> Iterator[Attr]:
    """All leaves of nested tuples."""
    if isinstance(value, tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def to_half(number: float) -> float:
    """The float16 nearest to ``number``; infinite beyond its range."""
    if not math.isfinite(number):
        return number
    try:
        rounded: float = struct.unpack("e", struct.pack("e", number))[0]
    except OverflowError:
        return math.copysign(math.inf, number)
    return rounded


def round_half(value: Attr) -> Attr:
    """The floats of an attribute as float16 holds them."""
    if isinstance(value, tuple):
        return tuple(round_half(item) for item in value)
    return to_half(value) if isinstance(value, float) else value


def _survives(value: Attr) -> bool:
    """True when float16 holds every number as well as it holds 1: none becomes subnormal, 0 or infinite."""
    floats = [float(leaf) for leaf in leaves(value) if isinstance(leaf, (int, float))]
    return all(to_half(x) == x or math.isnan(x) or abs(to_half(x) - x) <= 2**-11 * abs(x) for x in floats)
