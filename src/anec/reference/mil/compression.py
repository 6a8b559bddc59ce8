"""Kernels of compressed weights (``constexpr_*``) and of quantize and dequantize.

The iOS16 forms take packed bytes and a ``shape``; the iOS18 forms take sub-byte integers, one
in each int8 or uint8 element, and read the shape off them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.common import IntsLike, choice, ints, positive_axis, torch_dtype
from anec.reference.mil.shape import is_static

PALETTE_SIZES_IOS16 = (2, 4, 16, 64, 256)


@kernel("mil.constexpr_cast")
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """Widen a constant to ``output_dtype``: fp32, the one Core ML has, or fp64 in a wide run."""
    choice("mil.constexpr_cast: output_dtype", output_dtype, ("fp32", "fp64"))
    return source_val.to(torch_dtype(output_dtype))


def _along(op: str, parameter: Tensor, data: Tensor, axis: int | None, dtype: torch.dtype) -> Tensor:
    """View a scalar or a vector along ``axis`` so that it broadcasts over ``data``."""
    parameter = parameter.to(dtype)
    if parameter.dim() == 0:
        return parameter
    if parameter.dim() > 1 or axis is None:
        raise AnecError(f"mil.{op}: scale and zero point are scalars, or vectors along an axis")
    at = positive_axis(axis, data.dim())
    if is_static(data.shape[at]) and parameter.shape[0] != data.shape[at]:
        raise AnecError(f"mil.{op}: {parameter.shape[0]} scales for a size of {data.shape[at]}")
    shape = [1] * data.dim()
    shape[at] = parameter.shape[0]
    return parameter.reshape(shape)


def _check_scalars(op: str, scale: Tensor, zero_point: Tensor | None, axis: int | None) -> None:
    if (scale.dim() == 0) != (axis is None):
        raise AnecError(f"mil.{op}: an axis belongs to a vector scale, and to no other")
    if zero_point is not None and zero_point.dim() != scale.dim():
        raise AnecError(f"mil.{op}: the zero point has the shape of the scale")


@kernel("mil.constexpr_affine_dequantize")
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """Return ``scale * (quantized_data - zero_point)``; vectors lie along ``axis``."""
    op = "constexpr_affine_dequantize"
    positive_axis(axis, quantized_data.dim())
    factor = _along(op, scale, quantized_data, axis, scale.dtype)
    shift = _along(op, zero_point, quantized_data, axis, scale.dtype)
    return (quantized_data.to(scale.dtype) - shift) * factor


@kernel("mil.dequantize")
def dequantize(
    input: Tensor,
    scale: Tensor,
    *,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """Return ``scale * (input - zero_point)`` in the dtype of ``scale``."""
    _check_scalars("dequantize", scale, zero_point, axis)
    data = input.to(scale.dtype)
    if zero_point is not None:
        data = data - _along("dequantize", zero_point, input, axis, scale.dtype)
    return data * _along("dequantize", scale, input, axis, scale.dtype)


@kernel("mil.quantize")
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    *,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """Return ``clip(round(input / scale) + zero_point)``, rounding halves to even."""
    dtype = torch_dtype(choice("mil.quantize: output_dtype", output_dtype, ("int8", "uint8")))
    _check_scalars("quantize", scale, zero_point, axis)
    data = (input / _along("quantize", scale, input, axis, input.dtype)).round()
    if zero_point is not None:
        data = data + _along("quantize", zero_point, input, axis, input.dtype)
    limits = torch.iinfo(dtype)
    return data.clamp(limits.min, limits.max).to(dtype)


def _unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Read ``count`` numbers of ``bits`` bits each, packed from the lowest bit of each byte up."""
    if packed.numel() != math.ceil(bits * count / 8):
        raise AnecError(f"{packed.numel()} bytes do not hold {count} numbers of {bits} bits")
    places = torch.arange(8, device=packed.device)
    flags = (packed.reshape(-1, 1).to(torch.int64) >> places) & 1
    numbers = flags.reshape(-1)[: bits * count].reshape(count, bits)
    return (numbers << torch.arange(bits, device=packed.device)).sum(dim=1)


@kernel("mil.constexpr_lut_to_dense")
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, *, vector_axis: int | None = None, shape: IntsLike | None = None
) -> Tensor:
    """Look each index up in its table.

    iOS16 (``shape`` given): ``indices`` is packed, ``lut`` one vector. iOS18: ``lut`` has shape
    ``[*tables, entries, vector]``; each size of ``tables`` divides that of ``indices``, and the
    vectors found lie along ``vector_axis`` (coremltools, ``constexpr_lut_to_dense``).
    """
    if shape is None:
        return _look_up(indices, lut, vector_axis)
    sizes = ints(shape)
    if lut.dim() != 1 or lut.shape[0] not in PALETTE_SIZES_IOS16:
        raise AnecError(f"a table of shape {tuple(lut.shape)}", hint=f"entries: one of {PALETTE_SIZES_IOS16}")
    return lut[_unpack(indices, int(lut.shape[0]).bit_length() - 1, math.prod(sizes))].reshape(sizes)


def _look_up(indices: Tensor, lut: Tensor, vector_axis: int | None) -> Tensor:
    rank = indices.dim()
    if rank == 0 or lut.dim() != rank + 2:
        raise AnecError(f"a table of rank {lut.dim()} for indices of rank {rank}", hint="rank + 2")
    tables, (entries, vector) = lut.shape[:rank], lut.shape[rank:]
    if vector_axis is None and vector != 1:
        raise AnecError(f"a table of vectors of {vector} needs a vector_axis")
    table = torch.zeros((), dtype=torch.int64, device=lut.device)
    for axis, count in enumerate(tables):
        along = [1] * rank
        along[axis] = indices.shape[axis]
        block = _block("the table", indices.shape[axis], count)
        number = torch.arange(indices.shape[axis], device=lut.device) // block
        table = table * count + number.reshape(along)
    row = table * entries + indices.to(torch.int64)
    found = lut.reshape(-1, vector)[row]
    if vector_axis is None:
        return found.squeeze(-1)
    at = positive_axis(vector_axis, rank)
    return found.movedim(-1, at + 1).flatten(at, at + 1)


def _block(what: str, size: int, count: int) -> int:
    if count < 1 or size % count != 0:
        raise AnecError(f"{what} has {count} blocks along a size of {size}", hint="a divisor")
    return size // count


@kernel("mil.constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, *, offset: Tensor | None = None) -> Tensor:
    """Return ``scale * (data - offset)``; each scale serves a block of ``data``.

    The block size along an axis is the size of ``data`` over that of ``scale``.
    """
    if data.dim() == 0 or data.dim() != scale.dim():
        raise AnecError(f"scales of shape {tuple(scale.shape)} for data of shape {tuple(data.shape)}")
    if offset is not None and offset.shape != scale.shape:
        raise AnecError(f"an offset of shape {tuple(offset.shape)} with scales of {tuple(scale.shape)}")
    blocked: list[int] = []
    spread: list[int] = []
    for size, count in zip(data.shape, scale.shape, strict=True):
        blocked += [count, _block("the scale", size, count)]
        spread += [count, 1]
    values = data.to(scale.dtype).reshape(blocked)
    if offset is not None:
        values = values - offset.to(scale.dtype).reshape(spread)
    return (scale.reshape(spread) * values).reshape(data.shape)


def _spread_out(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    """Put the elements of a vector, in row-major order, where ``mask`` is set; 0 elsewhere."""
    if nonzero_data.dim() != 1:
        raise AnecError(f"nonzero data of shape {tuple(nonzero_data.shape)}", hint="a vector")
    zeros = torch.zeros(mask.shape, dtype=nonzero_data.dtype, device=nonzero_data.device)
    return zeros.masked_scatter(mask != 0, nonzero_data)


def _collect(dense: Tensor, mask: Tensor, count: int) -> Tensor:
    """Read the elements where ``mask`` is set; their number is known beforehand."""
    places = torch.nonzero_static(mask.reshape(-1), size=count).reshape(-1)
    return dense.reshape(-1)[places]


@kernel("mil.constexpr_sparse_to_dense")
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, *, shape: IntsLike | None = None) -> Tensor:
    """Put ``nonzero_data`` where ``mask`` is set.

    iOS16 (``shape`` given): ``mask`` holds one bit an element, lowest first. iOS18: ``mask`` is a
    tensor of 0 and 1.
    """
    if shape is not None:
        sizes = ints(shape)
        mask = _unpack(mask, 1, math.prod(sizes)).reshape(sizes)
    return _spread_out(nonzero_data, mask)


@kernel("mil.constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, *, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """Look up the set elements only; returns the mask and its values.

    Vectors widen the mask along ``vector_axis``, and the values follow the row-major order of
    the widened mask.
    """
    dense = _look_up(_spread_out(indices_nonzero_data, indices_mask), lut, vector_axis)
    vector = int(lut.shape[-1])
    mask = indices_mask
    if vector_axis is not None:
        mask = mask.repeat_interleave(vector, dim=positive_axis(vector_axis, mask.dim()))
    return mask, _collect(dense, mask, indices_nonzero_data.shape[0] * vector)


@kernel("mil.constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, *, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Shift and scale the set elements only; returns the mask and its values."""
    dense = constexpr_blockwise_shift_scale(_spread_out(nonzero_data, data_mask), scale, offset=offset)
    return data_mask, _collect(dense, data_mask, nonzero_data.shape[0])
