"""Attributes: the plain Python values an op carries, and their text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from anec.errors import AnecError
from anec.ir.dims import Expr
from anec.ir.types import DType

# Neither lone surrogates, which UTF-8 cannot hold, nor what some tools take for the end of a line.
_PLAIN = re.compile("[^\ud800-\udfff\x7f-\xa0\u2028\u2029]*")

Attr = Union[None, bool, int, float, str, DType, Expr, "tuple[Attr, ...]"]


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant printed inline as an operand: ``1.702``, ``[1, -1]``, ``0.5:f16``.

    Args:
        value: a Python number, or nested tuples of numbers.
        dtype: None takes the dtype of the op's type domain (that of the other operands).
    """

    value: Attr
    dtype: DType | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.dtype == other.dtype and same_attr(self.value, other.value)

    def __hash__(self) -> int:
        return hash((str(self.value), self.dtype))

    def __str__(self) -> str:
        return format_attr(self.value) + (f":{self.dtype}" if self.dtype else "")


def freeze(value: object) -> Attr:
    """Turn lists into tuples and check that the value can be an attribute.

    Raises:
        AnecError: the value is no plain Python value.
    """
    if value is None or isinstance(value, (bool, int, float, str, DType, Expr)):
        if type(value).__module__ == "numpy":
            return freeze(value.item())  # type: ignore[union-attr]  # numpy scalars subclass int and float
        return value
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return tuple(freeze(item) for item in value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return freeze(value.item())
    raise AnecError(f"{value!r} of {type(value).__name__} cannot be an attribute")


def same_attr(left: Attr, right: Attr) -> bool:
    """Equality that tells 1 from 1.0 and from True, and takes NaN equal to itself."""
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same_attr, left, right))
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return left == right


def attr_key(value: Attr) -> str:
    """A string equal for equal attributes only (``1``, ``1.0`` and ``true`` differ)."""
    return format_attr(value)


def format_text(text: str) -> str:
    """A string in quotes, readable beyond ASCII, on one line and encodable whatever it holds."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if _PLAIN.fullmatch(quoted) else json.dumps(text)


def format_attr(value: Attr) -> str:
    """The canonical text of an attribute; the parser reads it back.

    Never raises: what is no attribute shows as Python writes it.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, DType)):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return format_text(value)
    if isinstance(value, Expr):
        return f"({value})"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(format_attr(item) for item in value) + "]"
    return f"<{value!r}>"


def is_symbolic(value: Attr | Literal) -> bool:
    """True when a dimension symbol occurs in the value."""
    if isinstance(value, Literal):
        return is_symbolic(value.value)
    if isinstance(value, tuple):
        return any(map(is_symbolic, value))
    return isinstance(value, Expr)
