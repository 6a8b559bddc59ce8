"""Kernels that read and write elements by index: the gather and scatter families.

Up to iOS16 a negative index counts from the end. From iOS17 it is out of bounds, and what an
index out of bounds does is undefined unless ``validate_indices`` asks for an error. Here an
undefined read gives NaN (for integers their smallest value, for bools True) and an undefined
write is dropped, so that a program which relies on either never compares equal by luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.common import choice, positive_axis
from anec.reference.mil.shape import is_static

FIRST_OPSET_WITHOUT_NEGATIVE_INDICES = 17

MODES = ("update", "add", "sub", "mul", "div", "max", "min")
_REDUCTIONS = {"add": "sum", "sub": "sum", "mul": "prod", "div": "prod", "max": "amax", "min": "amin"}


def _resolve(op: str, indices: Tensor, size: int | Tensor, validate: bool, opset: int) -> tuple[Tensor, Tensor]:
    """Return int64 indices within bounds, and which of them were valid.

    Raises:
        AnecError: ``validate`` is set and an index is out of bounds.
    """
    index = indices.to(torch.int64)
    if opset < FIRST_OPSET_WITHOUT_NEGATIVE_INDICES:
        index = torch.where(index < 0, index + size, index)
    valid = (index >= 0) & (index < size)
    if validate and not isinstance(valid, FakeTensor) and not bool(valid.all()):
        raise AnecError(
            f"mil.{op}: an index is out of bounds",
            hint="from iOS17 negative indices are out of bounds: emit select(i >= 0, i, i + n)",
        )
    return torch.where(valid, index, 0), valid


def _undefined(dtype: torch.dtype) -> float | int | bool:
    if dtype.is_floating_point:
        return math.nan
    return True if dtype == torch.bool else torch.iinfo(dtype).min


def _same(op: str, what: str, got: Sequence[int], expected: Sequence[int]) -> None:
    if len(got) != len(expected) or (is_static(*got, *expected) and tuple(got) != tuple(expected)):
        raise AnecError(f"mil.{op}: {what} has shape {tuple(got)}, not {tuple(expected)}")


def _mark(result: Tensor, valid: Tensor) -> Tensor:
    undefined = torch.full((), _undefined(result.dtype), dtype=result.dtype, device=result.device)
    return torch.where(valid, result, undefined)


@kernel("mil.gather")
def gather(
    x: Tensor,
    indices: Tensor,
    *,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
    opset: int = 18,
) -> Tensor:
    """Take entries of ``axis`` by index, with ``batch_dims`` leading axes in common.

    The result has shape ``x.shape[:axis] + indices.shape[batch_dims:] + x.shape[axis + 1:]``.
    """
    at = positive_axis(axis, x.dim())
    if not 0 <= batch_dims <= min(at, indices.dim()):
        raise AnecError(f"mil.gather with {batch_dims} batch axes along axis {axis}")
    _same("gather", "the batch part of indices", indices.shape[:batch_dims], x.shape[:batch_dims])
    index, valid = _resolve("gather", indices, x.shape[at], validate_indices, opset)
    before, after, picked = x.shape[batch_dims:at], x.shape[at + 1 :], indices.shape[batch_dims:]
    shape = [*x.shape[:at], *picked, *after]
    spread = [*x.shape[:batch_dims], *[1] * len(before), *picked, *[1] * len(after)]
    if batch_dims == 0:
        result = x.index_select(at, index.reshape(-1)).reshape(shape)
    else:
        batch, outer, inner = (math.prod(part) for part in (x.shape[:batch_dims], before, after))
        flat = index.reshape(batch, 1, math.prod(picked), 1).expand(batch, outer, math.prod(picked), inner)
        result = x.reshape(batch, outer, x.shape[at], inner).gather(2, flat).reshape(shape)
    return _mark(result, valid.reshape(spread))


@kernel("mil.gather_along_axis")
def gather_along_axis(
    x: Tensor, indices: Tensor, *, axis: int = 0, validate_indices: bool = False, opset: int = 18
) -> Tensor:
    """Take one entry of ``axis`` for each element of ``indices``, as numpy's take_along_axis."""
    at = positive_axis(axis, x.dim())
    expected = [*x.shape[:at], *indices.shape[at : at + 1], *x.shape[at + 1 :]]
    _same("gather_along_axis", "indices", indices.shape, expected)
    index, valid = _resolve("gather_along_axis", indices, x.shape[at], validate_indices, opset)
    return _mark(x.gather(at, index), valid)


def _linear(op: str, indices: Tensor, sizes: Sequence[int], validate: bool, opset: int) -> tuple[Tensor, Tensor]:
    """Turn index vectors (the last axis) over ``sizes`` into row-major positions."""
    limits = torch.stack([torch.scalar_tensor(s, dtype=torch.int64, device=indices.device) for s in sizes])
    index, valid = _resolve(op, indices, limits, validate, opset)
    position = torch.zeros_like(index[..., 0])
    for depth, size in enumerate(sizes):
        position = position * size + index[..., depth]
    return position, valid.all(-1)


@kernel("mil.gather_nd")
def gather_nd(
    x: Tensor, indices: Tensor, *, batch_dims: int = 0, validate_indices: bool = False, opset: int = 18
) -> Tensor:
    """Take slices of ``x`` at the index vectors along the last axis of ``indices``.

    The result has shape ``indices.shape[:-1] + x.shape[batch_dims + indices.shape[-1]:]``.
    """
    depth = _depth("gather_nd", indices, x.dim() - batch_dims)
    if not 0 <= batch_dims < indices.dim():
        raise AnecError(f"mil.gather_nd with {batch_dims} batch axes of indices of rank {indices.dim()}")
    _same("gather_nd", "the batch part of indices", indices.shape[:batch_dims], x.shape[:batch_dims])
    sizes, rest = x.shape[batch_dims : batch_dims + depth], x.shape[batch_dims + depth :]
    position, valid = _linear("gather_nd", indices, sizes, validate_indices, opset)
    picked = indices.shape[batch_dims:-1]
    batch, count, inner = (math.prod(part) for part in (x.shape[:batch_dims], picked, rest))
    rows = x.reshape(batch, math.prod(sizes), inner)
    result = rows.gather(1, position.reshape(batch, count, 1).expand(batch, count, inner))
    result = result.reshape([*indices.shape[:-1], *rest])
    return _mark(result, valid.reshape([*indices.shape[:-1], *[1] * len(rest)]))


def _depth(op: str, indices: Tensor, most: int) -> int:
    if indices.dim() == 0:
        raise AnecError(f"mil.{op} takes index vectors, not a scalar")
    depth = int(indices.shape[-1])
    if not 1 <= depth <= most:
        raise AnecError(f"mil.{op}: index vectors of length {depth} into {most} axes")
    return depth


def _write(data: Tensor, axis: int, index: Tensor, valid: Tensor, updates: Tensor, mode: str) -> Tensor:
    """Combine each update with the element of ``axis`` it names; repeated indices accumulate.

    With mode update the last of several writes stays. Integer division truncates.
    """
    if updates.dtype != data.dtype:
        raise AnecError(f"scatter of {updates.dtype} into {data.dtype}", hint="cast one of them")
    # Writes out of bounds land in one extra entry, which is cut off again.
    size = data.shape[axis]
    spare = data.narrow(axis, 0, 1) if not is_static(size) or size > 0 else data
    extended = torch.cat([data, torch.ones_like(spare)], dim=axis)
    index = torch.where(valid, index, size)
    if mode == "update":
        written = extended.scatter(axis, index, updates)
    elif mode == "div":
        divisor = torch.ones_like(extended).scatter_reduce(axis, index, updates, "prod")
        if data.dtype.is_floating_point:
            written = extended / divisor
        else:
            written = torch.div(extended, divisor, rounding_mode="trunc")
    else:
        source = -updates if mode == "sub" else updates
        written = extended.scatter_reduce(axis, index, source, _REDUCTIONS[mode])
    return written.narrow(axis, 0, size)


@kernel("mil.scatter")
def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    *,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    opset: int = 18,
) -> Tensor:
    """Combine slices of ``updates`` into the entries of ``axis`` that ``indices`` name.

    ``updates`` has shape ``data.shape[:axis] + indices.shape + data.shape[axis + 1:]``. The
    default mode is add: so the registry of coremltools, though its docstring says update.
    """
    at = positive_axis(axis, data.dim())
    choice("mil.scatter: mode", mode, MODES)
    before, after = data.shape[:at], data.shape[at + 1 :]
    _same("scatter", "updates", updates.shape, [*before, *indices.shape, *after])
    index, valid = _resolve("scatter", indices, data.shape[at], validate_indices, opset)
    shape = [*before, math.prod(indices.shape), *after]
    column = [*[1] * len(before), -1, *[1] * len(after)]
    return _write(
        data,
        at,
        index.reshape(column).expand(shape),
        valid.reshape(column).expand(shape),
        updates.reshape(shape),
        mode,
    )


@kernel("mil.scatter_along_axis")
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    *,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    opset: int = 18,
) -> Tensor:
    """Combine each element of ``updates`` into the entry of ``axis`` its index names."""
    at = positive_axis(axis, data.dim())
    choice("mil.scatter_along_axis: mode", mode, MODES)
    _same("scatter_along_axis", "updates", updates.shape, indices.shape)
    expected = [*data.shape[:at], *indices.shape[at : at + 1], *data.shape[at + 1 :]]
    _same("scatter_along_axis", "indices", indices.shape, expected)
    index, valid = _resolve("scatter_along_axis", indices, data.shape[at], validate_indices, opset)
    return _write(data, at, index, valid, updates, mode)


@kernel("mil.scatter_nd")
def scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    *,
    mode: str = "add",
    validate_indices: bool = False,
    opset: int = 18,
) -> Tensor:
    """Combine slices of ``updates`` into ``data`` at the index vectors of ``indices``.

    ``updates`` has shape ``indices.shape[:-1] + data.shape[indices.shape[-1]:]``.
    """
    depth = _depth("scatter_nd", indices, data.dim())
    choice("mil.scatter_nd: mode", mode, MODES)
    sizes, rest = data.shape[:depth], data.shape[depth:]
    _same("scatter_nd", "updates", updates.shape, [*indices.shape[:-1], *rest])
    position, valid = _linear("scatter_nd", indices, sizes, validate_indices, opset)
    count, inner = math.prod(indices.shape[:-1]), math.prod(rest)
    written = _write(
        data.reshape(math.prod(sizes), inner),
        0,
        position.reshape(count, 1).expand(count, inner),
        valid.reshape(count, 1).expand(count, inner),
        updates.reshape(count, inner),
        mode,
    )
    return written.reshape(data.shape)
