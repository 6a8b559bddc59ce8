"""Literals and attributes as numpy arrays of the dtype MIL wants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from anec.backend.target import mil_name
from anec.errors import AnecError
from anec.ir.attr_types import attr_dtype, leaves
from anec.ir.attrs import Attr, Literal, format_attr
from anec.ir.dims import Expr
from anec.ir.graph import Op
from anec.ir.opdef import Param
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


def to_numpy(value: Attr, dtype: DType, what: str) -> Any:
    """Nested tuples of numbers as an array of ``dtype``; one number as a numpy scalar.

    Raises:
        AnecError: a number the dtype cannot hold, a ragged nesting, or a symbolic dimension.
    """
    if dtype not in _NUMPY:
        raise AnecError(f"{what}: Core ML has no constants of {dtype}")
    for leaf in leaves(value):
        _check(leaf, dtype, what)
    try:
        array: np.ndarray[Any, Any] = np.array(value, _NUMPY[dtype])
    except ValueError as error:
        raise AnecError(f"{what}: {format_attr(value)} is ragged") from error
    return array[()] if array.ndim == 0 else array


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
