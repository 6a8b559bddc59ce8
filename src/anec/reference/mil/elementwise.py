"""Elementwise kernels: unary, binary, comparison, logic, cast and select.

Integer forms follow coremltools' type inference: the result has the dtype of the inputs, so a
fractional result is truncated (a test of Apple's own holds that for ``real_div``).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel

from .common import choice, torch_dtype

# "fp64" is no MIL dtype: the evaluator asks for it when it judges in double precision.
_CAST_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "fp16", "fp32", "bool", "fp64")
_CAST_DTYPES_IOS15 = ("int32", "fp16", "fp32", "bool", "fp64")

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "round": torch.round,  # half to even, as the docstring's "0.5 is rounded to 0" says
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    # Floored: the remainder has the sign of the divisor.
    "mod": torch.remainder,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}


def _register_unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def unary(x: Tensor) -> Tensor:
        return function(x)

    unary.__name__ = unary.__qualname__ = name
    unary.__doc__ = f"Apply ``{name}`` to every element."
    kernel(f"mil.{name}")(unary)


def _register_binary(name: str, function: Callable[[Any, Any], Any]) -> None:
    def binary(x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = function(x, y)
        return result

    binary.__name__ = binary.__qualname__ = name
    binary.__doc__ = f"Apply ``{name}`` to every pair of elements, broadcasting as numpy does."
    kernel(f"mil.{name}")(binary)


for _name, _unary in UNARY.items():
    _register_unary(_name, _unary)
for _name, _binary in BINARY.items():
    _register_binary(_name, _binary)


@kernel("mil.exp2")
def exp2(x: Tensor) -> Tensor:
    """Return 2^x; of an integer tensor, truncated to its dtype."""
    return torch.exp2(x) if x.is_floating_point() else torch.exp2(x.to(torch.float64)).to(x.dtype)


@kernel("mil.inverse")
def inverse(x: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """Return 1 / (x + epsilon)."""
    return torch.reciprocal(x + epsilon)


@kernel("mil.log")
def log(x: Tensor, *, epsilon: float = 1e-45) -> Tensor:
    """Return the natural logarithm of x + epsilon.

    The default epsilon is the least subnormal of fp32 (log(0) = -103.28 there) and 0 in fp16.
    """
    return torch.log(x + epsilon)


@kernel("mil.rsqrt")
def rsqrt(x: Tensor, *, epsilon: float = 1e-12) -> Tensor:
    """Return 1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@kernel("mil.clip")
def clip(x: Tensor, *, alpha: float, beta: float, opset: int = 18) -> Tensor:
    """Bound x to [alpha, beta].

    Raises:
        AnecError: alpha >= beta from iOS17, where Core ML refuses it.
    """
    if opset >= 17 and alpha >= beta:
        raise AnecError(f"clip has alpha {alpha} and beta {beta}", hint="iOS17 wants alpha < beta")
    # As tensors: float32's largest number in decimals is beyond it as a double, which torch refuses.
    low, high = (torch.tensor(bound, dtype=torch.float64).to(x) for bound in (alpha, beta))
    return torch.clamp(x, low, high)


@kernel("mil.threshold")
def threshold(x: Tensor, *, alpha: float) -> Tensor:
    """Raise every element below alpha to alpha."""
    return torch.clamp(x, min=alpha)


@kernel("mil.floor_div")
def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """Divide and round towards minus infinity."""
    return torch.div(x, y, rounding_mode="floor")


@kernel("mil.real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """Divide; integers give an integer, truncated towards zero."""
    if torch.promote_types(x.dtype, y.dtype).is_floating_point:
        return torch.div(x, y)
    return torch.div(x, y, rounding_mode="trunc")


@kernel("mil.pow")
def power(x: Tensor, y: Tensor) -> Tensor:
    """Return x^y; of integers, truncated (so 2^-1 is 0)."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    if dtype.is_floating_point:
        return torch.pow(x, y)
    return torch.pow(x.to(torch.float64), y.to(torch.float64)).to(dtype)


@kernel("mil.cast")
def cast(x: Tensor, *, dtype: str, opset: int = 18) -> Tensor:
    """Convert to ``dtype``: to an integer by truncation, to bool by ``x != 0``.

    The integers of 8 and 16 bits exist from iOS17.
    """
    target = torch_dtype(choice("cast's dtype", dtype, _CAST_DTYPES if opset >= 17 else _CAST_DTYPES_IOS15))
    if x.is_floating_point() and not target.is_floating_point and target != torch.bool:
        # By way of int64: torch leaves a negative float to an unsigned integer undefined.
        return x.to(torch.int64).to(target)
    return x.to(target)


@kernel("mil.select")
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Take from ``a`` where ``cond`` is true, else from ``b``; all three broadcast."""
    return torch.where(cond, a, b)
