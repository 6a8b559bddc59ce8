"""Literals and attributes as numpy arrays of the dtype MIL wants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from anec.backend.target import mil_name
from anec.errors import AnecError
from anec.ir.attrs import Attr, Literal, format_attr
from anec.ir.dims import Expr
from anec.ir.graph import Op, Value
from anec.ir.opdef import Kind, Param
from anec.ir.types import DType

_NUMPY = {
    DType.F16: np.float16,
    DType.F32: np.float32,
    DType.BOOL: np.bool_,
    DType.I8: np.int8,
    DType.I16: np.int16,
    DType.I32: np.int32,
    DType.U8: np.uint8,
    DType.U16: np.uint16,
    DType.U32: np.uint32,
}


def literal_value(op: Op, param: str, literal: Literal) -> Any:
    """The constant that the operand ``literal`` becomes: a numpy scalar or array.

    Raises:
        AnecError: a number its dtype cannot hold, or a symbolic dimension.
    """
    from anec.reference.call import literal_dtype

    dtype = literal_dtype(op, param, literal)
    return to_numpy(literal.value, dtype, f"{op.name}: {param}")


def attr_value(op: Op, param: Param, value: Attr, dtypes: Mapping[str, DType]) -> Any:
    """The constant that an attribute becomes: a string, a numpy scalar or an array.

    Args:
        op: the op.
        param: the parameter in the target's version of the op.
        value: the attribute.
        dtypes: the dtype of each type domain that has operands.

    Raises:
        AnecError: a number its dtype cannot hold, or a symbolic dimension.
    """
    if isinstance(value, DType):
        return mil_name(value)
    if isinstance(value, str):
        return value
    return to_numpy(value, attr_dtype(op, param, value, dtypes), f"{op.name}: {param.name}")


def attr_dtype(op: Op, param: Param, value: Attr, dtypes: Mapping[str, DType]) -> DType:
    """The dtype of a numeric attribute: its domain's, the only one allowed, or what the value suggests.

    A float goes with the op's first float operand (an epsilon with x where there is no gamma), but
    stays f32 where that operand's dtype would make it 0 or infinite.
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


def _survives(value: Attr) -> bool:
    """True when no number becomes 0 or infinite in float16."""
    with np.errstate(over="ignore"):
        wide = np.array(value, np.float64)
        narrow = wide.astype(np.float16)
    return bool(np.array_equal(wide == 0, narrow == 0) and np.array_equal(np.isinf(wide), np.isinf(narrow)))


def first_number(value: Attr) -> Attr:
    """The first leaf of nested tuples."""
    while isinstance(value, tuple) and value:
        value = value[0]
    return value


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


def to_numpy(value: Attr, dtype: DType, what: str) -> Any:
    """Nested tuples of numbers as an array of ``dtype``; one number as a numpy scalar.

    Raises:
        AnecError: a number the dtype cannot hold, a ragged nesting, or a symbolic dimension.
    """
    if dtype not in _NUMPY:
        raise AnecError(f"{what}: Core ML has no constants of {dtype}")
    for leaf in _leaves(value):
        _check(leaf, dtype, what)
    try:
        array: np.ndarray[Any, Any] = np.array(value, _NUMPY[dtype])
    except ValueError as error:
        raise AnecError(f"{what}: {format_attr(value)} is ragged") from error
    return array[()] if array.ndim == 0 else array


def _leaves(value: Attr) -> list[Attr]:
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _check(leaf: Attr, dtype: DType, what: str) -> None:
    if isinstance(leaf, Expr):
        raise AnecError(
            f"{what}: the dimension {leaf} is known only when the model runs",
            hint="compute it in the program (mil.shape), or fix the dimension",
        )
    if not isinstance(leaf, (bool, int, float)):
        raise AnecError(f"{what}: {format_attr(leaf)} is no number")
    if dtype.is_integer:
        if isinstance(leaf, float) and (not math.isfinite(leaf) or leaf != int(leaf)):
            raise AnecError(f"{what}: {leaf} is no {dtype}")
        low, high = dtype.range
        if not low <= leaf <= high:
            raise AnecError(
                f"{what}: {leaf} is beyond {dtype}",
                hint="Core ML's whole numbers have 32 bits" if dtype is DType.I32 else None,
            )
