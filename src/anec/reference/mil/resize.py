"""Kernels that resize and crop images.

Nothing here antialiases. Where N points are taken from an axis of size X, the sampling mode
says where they lie, before they are clamped to [0, X - 1] (coremltools, ``resize_bilinear``, and
the message SamplingMode of Core ML's NeuralNetwork.proto):

    STRICT_ALIGN_CORNERS  i (X - 1) / (N - 1)             torch: align_corners=True
    ALIGN_CORNERS         the same; for N = 1 the middle, (X - 1) / 2
    DEFAULT               i X / N                          TensorFlow 1
    OFFSET_CORNERS        (i + 1/2) max(1, X - 1) / N      RoIAlign
    UNALIGN_CORNERS       (i + 1/2) X / N - 1/2            torch: align_corners=False
"""

from __future__ import annotations

import struct
from typing import cast

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.blocks import crop_space
from anec.reference.mil.common import IntsLike, choice, ints
from anec.reference.mil.shape import is_static

SAMPLING_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def at_least_one(size: int) -> int:
    """Return max(size, 1), of a symbolic size too."""
    return cast("int", torch.sym_max(size, 1))


def sampling_points(mode: str, size: int | Tensor, count: int, step: Tensor) -> Tensor:
    """Return where ``count`` points lie on an axis of ``size``, not clamped yet.

    ``step`` is 0, 1, ..., count - 1 in the dtype to compute in; a tensor of sizes broadcasts.
    """
    choice("the sampling mode", mode, SAMPLING_MODES)
    last = size - 1
    if mode == "UNALIGN_CORNERS":
        return (step + 0.5) * size / count - 0.5
    if mode == "DEFAULT":
        return step * size / count
    if mode == "OFFSET_CORNERS":
        return (step + 0.5) * (last.clamp(min=1) if isinstance(last, Tensor) else at_least_one(last)) / count
    if mode == "ALIGN_CORNERS" and count == 1:
        return (step + 0.5) * last
    return step * last / at_least_one(count - 1)


def _steps(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=torch.float64, device=like.device)


def _linear(x: Tensor, axis: int, count: int, mode: str) -> Tensor:
    """Interpolate ``x`` along one axis at ``count`` points."""
    size = x.shape[axis]
    # Points and weights are exact to float64 whatever the dtype of x, which may be float16.
    points = sampling_points(mode, size, count, _steps(count, x)).clamp(0, size - 1)
    low = points.floor()
    along = [1] * x.dim()
    along[axis] = count
    weight = (points - low).to(x.dtype).reshape(along)
    index = low.to(torch.int64)
    before = x.index_select(axis, index)
    after = x.index_select(axis, (index + 1).clamp(max=size - 1))
    return before * (1 - weight) + after * weight


def _floor_nearest(x: Tensor, axis: int, count: int) -> Tensor:
    """Take element floor(i X / N): torch's "nearest", in exact integers."""
    step = torch.arange(count, device=x.device)
    return x.index_select(axis, step * x.shape[axis] // count)


def _center_nearest(x: Tensor, axis: int, count: int) -> Tensor:
    """Take the element under the middle of each new one: torch's "nearest-exact"."""
    step = torch.arange(count, device=x.device)
    return x.index_select(axis, (2 * step + 1) * x.shape[axis] // (2 * count))


def _need_space(op: str, x: Tensor) -> None:
    if x.dim() < 3:
        raise AnecError(f"mil.{op} takes a tensor of rank 3 or more, not {tuple(x.shape)}")


def need_positive(op: str, *sizes: int) -> None:
    """Refuse a size to resize to.

    Raises:
        AnecError: a size is not positive.
    """
    if any(is_static(size) and size < 1 for size in sizes):
        raise AnecError(f"mil.{op} to a size of {sizes}")


def _float32(value: float) -> float:
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return float(rounded)


def _scaled(op: str, size: int, factor: float) -> int:
    """Return floor(size * factor) with the product rounded to fp32, as MIL's types have it."""
    if factor == int(factor):
        return size * int(factor)
    if not is_static(size):
        return torch.sym_int(size * _float32(factor))
    scaled = int(_float32(size * _float32(factor)))
    need_positive(op, scaled)
    return scaled


@kernel("mil.upsample_nearest_neighbor")
def upsample_nearest_neighbor(x: Tensor, *, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    """Resize the last two axes to floor(size * factor); element i is floor(i X / N)."""
    _need_space("upsample_nearest_neighbor", x)
    height = _scaled("upsample_nearest_neighbor", x.shape[-2], scale_factor_height)
    width = _scaled("upsample_nearest_neighbor", x.shape[-1], scale_factor_width)
    return _floor_nearest(_floor_nearest(x, x.dim() - 2, height), x.dim() - 1, width)


@kernel("mil.resize_nearest_neighbor")
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """Resize the last two axes; element i is floor((i + 1/2) X / N), as nearest-exact has it.

    coremltools lowers TensorFlow's half-pixel ResizeNearestNeighbor to this op, and its tests
    compare 10 -> 25 and 5 -> 2 with TensorFlow, which tells it from floor(i X / N).
    """
    _need_space("resize_nearest_neighbor", x)
    need_positive("resize_nearest_neighbor", target_size_height, target_size_width)
    x = _center_nearest(x, x.dim() - 2, target_size_height)
    return _center_nearest(x, x.dim() - 1, target_size_width)


@kernel("mil.upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    *,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Resize the last two axes to floor(size * factor), interpolating.

    The grid comes from the floored sizes, not from the factors. Without half pixel centers it is
    STRICT_ALIGN_CORNERS or, not aligned either, DEFAULT.
    """
    _need_space("upsample_bilinear", x)
    if half_pixel_centers is None:
        half_pixel_centers = not align_corners
    if align_corners and half_pixel_centers:
        raise AnecError("mil.upsample_bilinear aligns corners or has half pixel centers, not both")
    mode = "UNALIGN_CORNERS" if half_pixel_centers else "STRICT_ALIGN_CORNERS" if align_corners else "DEFAULT"
    height = _scaled("upsample_bilinear", x.shape[-2], scale_factor_height)
    width = _scaled("upsample_bilinear", x.shape[-1], scale_factor_width)
    return _linear(_linear(x, x.dim() - 2, height, mode), x.dim() - 1, width, mode)


@kernel("mil.resize_bilinear")
def resize_bilinear(
    x: Tensor, *, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """Resize the last two axes, interpolating at the points of ``sampling_mode``."""
    _need_space("resize_bilinear", x)
    need_positive("resize_bilinear", target_size_height, target_size_width)
    x = _linear(x, x.dim() - 2, target_size_height, sampling_mode)
    return _linear(x, x.dim() - 1, target_size_width, sampling_mode)


@kernel("mil.resize")
def resize(
    x: Tensor,
    shape: IntsLike,
    resized_dims: int,
    *,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Resize the last ``resized_dims`` axes to the last entries of ``shape``; 0 keeps a size.

    NEAREST_NEIGHBOR in DEFAULT mode takes the element under the middle of each new one: its two
    expected values ([a, b] to 3 is a, b, b) and coremltools' comparison with TensorFlow's half
    pixel centers (20 -> 60) agree on that. In the other modes, of which no expected value is
    known, it takes the element nearest to the point, halves up. Integers interpolate in float64
    and truncate.
    """
    sizes = ints(shape)
    if len(sizes) > x.dim() or not 0 <= resized_dims <= len(sizes):
        raise AnecError(f"mil.resize of the last {resized_dims} axes of rank {x.dim()} to {sizes}")
    choice("mil.resize: interpolation_mode", interpolation_mode, ("LINEAR", "NEAREST_NEIGHBOR"))
    choice("mil.resize: sampling_mode", sampling_mode, SAMPLING_MODES)
    dtype = x.dtype
    linear = interpolation_mode == "LINEAR"
    if linear and not dtype.is_floating_point:
        x = x.to(torch.float64)
    for offset in range(1, resized_dims + 1):
        count = sizes[-offset]
        axis = x.dim() - offset
        if count == 0:
            count = x.shape[axis]
        need_positive("resize", count)
        if linear:
            x = _linear(x, axis, count, sampling_mode)
        elif sampling_mode == "DEFAULT":
            x = _center_nearest(x, axis, count)
        else:
            last = x.shape[axis] - 1
            points = sampling_points(sampling_mode, x.shape[axis], count, _steps(count, x)).clamp(0, last)
            x = x.index_select(axis, (points + 0.5).floor().to(torch.int64).clamp(max=last))
    return x.to(dtype)


@kernel("mil.crop")
def crop(x: Tensor, crop_height: IntsLike, crop_width: IntsLike) -> Tensor:
    """Cut (before, after) elements off the last two axes."""
    _need_space("crop", x)
    height, width = ints(crop_height), ints(crop_width)
    if len(height) != 2 or len(width) != 2:
        raise AnecError(f"mil.crop by {height} and {width}", hint="two amounts each: before, after")
    return crop_space("crop", x, height, width)
