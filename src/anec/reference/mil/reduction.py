"""Reduction kernels.

``axes=None`` reduces all axes, an empty list none. The result has the dtype of x: of integers, a
fractional result is truncated.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anec.reference import kernel

from .common import Ints, choice, positive_axes, positive_axis, torch_dtype

_ARG_DTYPES = ("int32", "uint16")


def _log_sum(x: Tensor, axes: Ints) -> Tensor:
    return torch.log(torch.sum(x, axes, keepdim=True))


def _l2_norm(x: Tensor, axes: Ints) -> Tensor:
    return torch.sqrt(torch.sum(x * x, axes, keepdim=True))


def _product(x: Tensor, axes: Ints) -> Tensor:
    for axis in axes:
        x = torch.prod(x, axis, keepdim=True, dtype=x.dtype)
    return x


# Each keeps the reduced axes and is given at least one. An fp16 sum overflows as fp16 does.
EXACT_IN_INTEGERS: dict[str, Callable[[Tensor, Ints], Tensor]] = {
    "reduce_max": lambda x, axes: torch.amax(x, axes, keepdim=True),
    "reduce_min": lambda x, axes: torch.amin(x, axes, keepdim=True),
    "reduce_sum": lambda x, axes: torch.sum(x, axes, keepdim=True, dtype=x.dtype),
    "reduce_prod": _product,
    "reduce_l1_norm": lambda x, axes: torch.sum(torch.abs(x), axes, keepdim=True, dtype=x.dtype),
    "reduce_sum_square": lambda x, axes: torch.sum(x * x, axes, keepdim=True, dtype=x.dtype),
}
FRACTIONAL: dict[str, Callable[[Tensor, Ints], Tensor]] = {
    "reduce_mean": lambda x, axes: torch.mean(x, axes, keepdim=True),
    "reduce_l2_norm": _l2_norm,
    "reduce_log_sum": _log_sum,
    "reduce_log_sum_exp": lambda x, axes: torch.logsumexp(x, axes, keepdim=True),
}


def _register(name: str, function: Callable[[Tensor, Ints], Tensor], fractional: bool) -> None:
    def reduce(x: Tensor, *, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        wide = x.to(torch.float64) if fractional and not x.is_floating_point() else x
        found = positive_axes(axes, x.dim())
        # torch takes an empty list for all axes: reduce an axis of one element instead.
        result = function(wide, found) if found else function(wide.unsqueeze(0), (0,)).squeeze(0)
        if found and not keep_dims:
            result = result.reshape([size for axis, size in enumerate(x.shape) if axis not in found])
        return result.to(x.dtype)

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = f"Apply ``{name}`` over ``axes``; ``keep_dims`` leaves them with size 1."
    kernel(f"mil.{name}")(reduce)


for _name, _function in EXACT_IN_INTEGERS.items():
    _register(_name, _function, fractional=False)
for _name, _function in FRACTIONAL.items():
    _register(_name, _function, fractional=True)


def _register_arg(name: str, function: Callable[..., Tensor]) -> None:
    def reduce_arg(x: Tensor, *, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
        dtype = torch_dtype(choice(f"{name}'s output_dtype", output_dtype.lower(), _ARG_DTYPES))
        return function(x, positive_axis(axis, x.dim()), keepdim=keep_dims).to(dtype)

    reduce_arg.__name__ = reduce_arg.__qualname__ = name
    reduce_arg.__doc__ = f"Apply ``{name}`` along ``axis``: int32 or uint16 positions; ties are not promised an order."
    kernel(f"mil.{name}")(reduce_arg)


_register_arg("reduce_argmax", torch.argmax)
_register_arg("reduce_argmin", torch.argmin)
