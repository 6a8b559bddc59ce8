"""torchvision's ops: deformable convolution and RoIAlign.

    %x: f32[1,4,5,5], %o: f32[1,18,3,3], %m: f32[1,9,3,3], %w: f32[3,4,3,3] weight, %b: f32[3] weight
    %y = torchvision.deform_conv2d.default(%x, %w, %o, %m, %b) {stride_h=1, stride_w=1, pad_h=0, pad_w=0,
                                dilation_h=1, dilation_w=1, groups=1, offset_groups=1, use_mask=true}
        ->
    %1 = mil.reshape(%o, [1, 9, 2, 9])
    %2 = mil.cast(%places) {dtype="fp32"}
    %3 = mil.add(%1, %2)
    %4 = mil.transpose(%3) {perm=[0, 1, 3, 2]}
    %5 = mil.reverse(%4) {axes=[3]}
    %6 = mil.resample(%x, %5) {sampling_mode="bilinear", padding_mode="constant", padding_value=0.0,
                               coordinates_mode="unnormalized", align_corners=true}
    %7 = mil.reshape(%m, [1, 1, 9, 9])
    %8 = mil.mul(%6, %7)
    %9 = mil.reshape(%w, [3, 4, 9, 1])
    %10 = mil.conv(%8, %9, %b) {pad_type="valid"}
    %y = mil.reshape(%10, [1, 3, 3, 3])

The entries of a deformable kernel are read each at its own place; they stand side by side, a column
for each result, and are convolved as such. RoIAlign at constant regions is a constant linear map
along each axis of each region. Regions that the program computes are read at points, by Core ML's
resample or, of several images, by a gather.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anec.dialects import mil, torchvision
from anec.errors import UnsupportedError
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.conv import Window, convolved
from anec.passes.lower_to_mil.movement import broadcast, reshaped, sliced
from anec.passes.lower_to_mil.pool import pool
from anec.passes.lower_to_mil.sampling import Sampling, gathered, taps
from anec.passes.lower_to_mil.shared import constant_tensor
from anec.passes.lower_to_mil.typing import result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite, var

if TYPE_CHECKING:
    import torch


def _int(op: Op, name: str) -> int:
    found = op.attr(name)
    if not isinstance(found, int):
        reject(f"{name} is {found}, not a fixed number")
    return found


def _floats(op: Op) -> DType:
    dtype = result_type(op).dtype
    if not dtype.is_float:
        reject(f"{op.name} of {dtype}")
    return dtype


def _resampled(x: Value, points: Value, padding: str) -> Value:
    """``x`` at points in pixels, float32 [N, h, w, 2], x first."""
    return mil.resample(
        x,
        points,
        sampling_mode="bilinear",
        padding_mode=padding,
        padding_value=0.0,
        coordinates_mode="unnormalized",
        align_corners=True,
    )


# -- deformable convolution ----------------------------------------------------------------------------


@rewrite(torchvision.deform_conv2d.default)
def deform_conv2d(op: Op, ctx: Context) -> Value:
    """Read the entries of every kernel where the offsets say, and convolve them."""
    dtype = _floats(op)
    x, weight, bias = (value(op.operand(name), dtype) for name in ("input", "weight", "bias"))
    count, channels, _, _ = static(x.tensor)
    results, _, height, width = static(weight.tensor)
    rows, columns = static(op.result.tensor)[2:]
    entries, total, groups = height * width, rows * columns, _int(op, "offset_groups")
    # Channels of one offset group are an image of their own.
    images = reshaped(x, (count * groups, channels // groups, *x.shape[2:]))
    offset = reshaped(value(op.operand("offset"), DType.F32), (count * groups, entries, 2, total))
    places = constant(ctx, op, _places(op, height, width, rows, columns), "places", DType.F32)
    points = mil.transpose(mil.add(offset, places), perm=(0, 1, 3, 2))
    read = _resampled(images, mil.reverse(points, axes=(3,)), "constant")
    if op.attr("use_mask"):
        mask = value(op.operand("mask"), dtype)
        read = mil.mul(read, reshaped(mask, (count * groups, 1, entries, total)))
    read = reshaped(read, (count, channels, entries, total))
    kernel = reshaped(weight, (results, weight.shape[1], entries, 1))
    window = Window((entries, 1), (1, 1), (0, 0), (1, 1))
    column = convolved(read, kernel, bias, window, channels // weight.shape[1])
    return reshaped(column, (count, results, rows, columns))


def _places(op: Op, height: int, width: int, rows: int, columns: int) -> torch.Tensor:
    """Where each entry of each kernel reads, offsets aside, y first: [1, entries, 2, results]."""
    import torch

    def along(axis: str, size: int, count: int) -> torch.Tensor:
        entry = torch.arange(size, dtype=torch.float64) * _int(op, f"dilation_{axis}") - _int(op, f"pad_{axis}")
        return entry[:, None] + torch.arange(count, dtype=torch.float64) * _int(op, f"stride_{axis}")

    y, x = along("h", height, rows), along("w", width, columns)
    shape = (height, width, rows, columns)
    both = [y[:, None, :, None].expand(shape), x[None, :, None, :].expand(shape)]
    return torch.stack([each.reshape(height * width, rows * columns) for each in both], dim=1)[None]


# -- RoIAlign --------------------------------------------------------------------------------------------


# A region begins with the number of its image; the first one there is always.
@rewrite(torchvision.roi_align.default(var("x"), var("rois"), rest), domain={"rois": (0.0, 0.9)})
def roi_align(op: Op, ctx: Context) -> Value:
    """By matrices where the regions are constant, else at computed points."""
    dtype = _floats(op)
    x = value(op.operand("input"), dtype)
    static(x.tensor)
    static(op.value("rois").tensor)
    rois = constant_tensor(op.value("rois"), ctx)
    if rois is not None:
        return _by_matrices(op, ctx, x, rois)
    if _int(op, "sampling_ratio") <= 0:
        raise UnsupportedError(
            "roi_align with sampling_ratio=-1 of regions that the model computes",
            where=op.origin.place or None,
            hint="how many points a region has would depend on its size: give a sampling_ratio, such as 2",
        )
    return _at_points(op, ctx, x)


def _by_matrices(op: Op, ctx: Context, x: Value, rois: torch.Tensor) -> Value:
    import torch

    images = [int(row[0]) for row in rois]
    if x.shape[0] > 1:
        x = mil.gather(x, tuple(images), axis=0) if images != list(range(x.shape[0])) else x
    rows, columns = (
        torch.stack([_bins(op, row, axis, x.shape[2 + axis]) for row in rois.to(torch.float64)]).unsqueeze(1)
        for axis in (0, 1)
    )
    right = constant(ctx, op, columns.transpose(2, 3), "columns", x.tensor.dtype)
    left = constant(ctx, op, rows, "rows", x.tensor.dtype)
    return mil.matmul(mil.matmul(left, x), right)


def _bins(op: Op, roi: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """The weight of each pixel in each bin of one region along an axis: [bins, size]."""
    import torch

    count, samples = _int(op, ("pooled_height", "pooled_width")[axis]), _int(op, "sampling_ratio")
    scale, shift, aligned = _scale(op)
    start, end = (float(roi[at]) * scale - shift for at in (2 - axis, 4 - axis))
    length = end - start if aligned else max(end - start, 1.0)
    if samples <= 0:
        samples = max(-int(-(length / count) // 1), 0)
    if samples == 0:
        return torch.zeros(count, size, dtype=torch.float64)
    points = start + length / count * _steps(count, samples)
    hats = (1 - (points.clamp(0, size - 1)[:, None] - torch.arange(size)).abs()).clamp(min=0)
    hats *= ((points >= -1) & (points <= size))[:, None]
    return hats.reshape(count, samples, size).mean(1)


def _scale(op: Op) -> tuple[float, float, bool]:
    """The scale of the regions, their shift, and whether they are aligned: then they may be empty."""
    scale, aligned = op.attr("spatial_scale"), bool(op.attr("aligned"))
    assert isinstance(scale, (int, float))
    return float(scale), 0.5 if aligned else 0.0, aligned


def _steps(count: int, samples: int) -> torch.Tensor:
    """Where the points of ``count`` bins lie, in bins."""
    import torch

    return (torch.arange(count * samples, dtype=torch.float64) + 0.5) / samples


def _at_points(op: Op, ctx: Context, x: Value) -> Value:
    images, channels, *space = x.shape
    regions, bins = op.value("rois").shape[0], (_int(op, "pooled_height"), _int(op, "pooled_width"))
    samples = _int(op, "sampling_ratio")
    rois = value(op.operand("rois"), DType.F32)
    rows, columns = bins[0] * samples, bins[1] * samples
    y, x_points = (_points(op, ctx, rois, axis) for axis in (0, 1))
    seen = mil.mul(_seen(y, space[0], (regions, rows, 1)), _seen(x_points, space[1], (regions, 1, columns)))
    # Every row's y beside every column's x.
    shapes = ((regions, 1, columns), (regions, rows, 1))
    both = [broadcast(reshaped(p, s), (regions, rows, columns)) for p, s in zip((x_points, y), shapes, strict=True)]
    points = mil.stack(both, axis=3)
    if images == 1:
        read = _resampled(x, reshaped(points, (1, regions * rows, columns, 2)), "border")
    else:
        points = reshaped(points, (regions, rows * columns, 2))
        numbers = value(sliced(rois, 1, 0, squeeze=True), DType.I32)
        read = gathered(op, ctx, x, taps(op, ctx, points, space, Sampling("bilinear", "border")), numbers)
    read = reshaped(read, (1, channels, regions * rows, columns))
    read = mil.mul(read, reshaped(value(seen, x.tensor.dtype), (regions * rows, columns)))
    if samples > 1:
        read = pool(mil.avg_pool, read, (samples, samples), (samples, samples), [])
    return mil.transpose(reshaped(read, (channels, regions, *bins)), perm=(1, 0, 2, 3))


def _points(op: Op, ctx: Context, rois: Value, axis: int) -> Value:
    """The points of each region along an axis, in pixels: float32 [regions, points]."""
    count, samples = _int(op, ("pooled_height", "pooled_width")[axis]), _int(op, "sampling_ratio")
    scale, shift, aligned = _scale(op)

    def edge(at: int) -> Value:
        found = sliced(rois, 1, at, at + 1)
        found = mil.mul(found, scale) if scale != 1 else found
        return mil.sub(found, shift) if shift else found

    start = edge(2 - axis)
    length = mil.sub(edge(4 - axis), start)
    if not aligned:
        length = mil.maximum(length, 1.0)
    steps = constant(ctx, op, (_steps(count, samples) / count)[None], "steps", DType.F32)
    return mil.add(start, mil.mul(length, steps))


def _seen(points: Value, size: int, shape: tuple[int, ...]) -> Value:
    """1 where a point is at most a pixel outside, which reads the border; else 0, which reads nothing."""
    near = mil.equal(points, mil.clip(points, alpha=-1.0, beta=float(size)))
    return reshaped(value(near, DType.F32), shape)


RULES: list[Rule] = [deform_conv2d, roi_align]
