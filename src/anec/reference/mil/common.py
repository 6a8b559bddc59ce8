"""What kernels of several families share: shape-like operands, dtypes, axes, channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anec.errors import AnecError, nearest

Ints = tuple[int, ...]
IntsLike = Tensor | int | Sequence[int]
"""A shape-like operand: plain Python numbers when literal, an integer tensor when computed."""

DTYPES: dict[str, torch.dtype] = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp64": torch.float64,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "bool": torch.bool,
}


def ints(value: IntsLike) -> Ints:
    """Read a shape-like operand as a tuple of ints; a scalar gives one entry."""
    if isinstance(value, Tensor):
        return tuple(int(v) for v in value.reshape(-1).tolist())
    if isinstance(value, int):
        return (value,)
    # A symbolic size stays one: int() of it would fix it.
    return tuple(v if isinstance(v, torch.SymInt) else int(v) for v in value)


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of the MIL dtype ``name`` (``"fp16"``, ``"int32"``, ...).

    Raises:
        AnecError: MIL has no dtype of that name.
    """
    if name not in DTYPES:
        raise AnecError(f"no MIL dtype {name!r}", hint=nearest(name, DTYPES))
    return DTYPES[name]


def positive_axis(axis: int, rank: int) -> int:
    """Count ``axis`` from the front.

    Raises:
        AnecError: the axis is outside [-rank, rank).
    """
    if not -rank <= axis < rank:
        raise AnecError(f"axis {axis} is outside a tensor of rank {rank}", hint=f"-{rank} <= axis < {rank}")
    return axis % rank


def positive_axes(axes: Sequence[int] | None, rank: int) -> Ints:
    """Count every axis from the front, ascending; None means all axes.

    Raises:
        AnecError: an axis is out of range or is named twice.
    """
    if axes is None:
        return tuple(range(rank))
    found = sorted(positive_axis(axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise AnecError(f"axes {tuple(axes)} name an axis twice", hint="name each axis once")
    return tuple(found)


def per_channel(vector: Tensor, x: Tensor) -> Tensor:
    """View a ``[C]`` vector so that it broadcasts along axis 1 of ``x``, in the dtype of ``x``."""
    return vector.to(x.dtype).reshape(-1, *[1] * (x.dim() - 2))


def choice(what: str, value: str, allowed: Sequence[str]) -> str:
    """Return ``value`` if MIL knows it.

    Raises:
        AnecError: ``value`` is none of ``allowed``.
    """
    if value not in allowed:
        raise AnecError(f"{what} is {value!r}", hint=f"one of {', '.join(allowed)}")
    return value
