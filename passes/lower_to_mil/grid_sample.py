"""Sampling images and volumes at points in [-1, 1].

    %y = nn.grid_sample(%x, %grid) {padding_mode="border"}     %x: f32[1,3,8,8], %grid: f32[1,4,4,2]
        ->
    %y = mil.resample(%x, %grid) {sampling_mode="bilinear", padding_mode="border", padding_value=0.0,
                                  coordinates_mode="normalized_minus_one_to_one", align_corners=false}

Forms, in the order in which ``auto`` prefers them:

* product: a constant grid is a constant linear map. Where its rows depend on y alone and its columns
  on x alone (crops, flips, zooms) it is a product along each axis; else, if small, one product.
* resample: Core ML's own op, for images, bilinear or nearest. Its ``symmetric`` padding is torch's
  reflection without aligned corners.
* gather: see ``sampling``. It takes anything; of a constant grid, indices and weights are constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anec.dialects import mil, nn
from anec.errors import UnsupportedError
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.axis_map import mapped
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import reshaped
from anec.passes.lower_to_mil.sampling import Sampling, gathered, swapped, taps
from anec.passes.lower_to_mil.shared import constant_tensor
from anec.passes.lower_to_mil.typing import result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, rewrite

if TYPE_CHECKING:
    import torch

FORMS = ("auto", "resample", "gather")
# The largest image, and the largest matrix, where a grid of any kind is one product: 32 x 32 at 256 points.
_LARGEST_IMAGE = 1 << 10
_LARGEST_MAP = 1 << 18
_RESAMPLED = ("bilinear", "nearest")
# torch's padding and corners to Core ML's word: what torch mirrors at pixel edges is `symmetric`.
_PADDINGS = {
    ("zeros", True): "constant",
    ("zeros", False): "constant",
    ("border", True): "border",
    ("border", False): "border",
    ("reflection", True): "reflection",
    ("reflection", False): "symmetric",
}


@rewrite(nn.grid_sample)
def lower_grid_sample(op: Op, ctx: Context) -> Value:
    """By the form that suits."""
    return sampled(op, ctx)


def sampled(op: Op, ctx: Context, form: str = "auto") -> Value:
    """Lower an nn.grid_sample.

    Args:
        op: the op.
        ctx: the pass's context.
        form: ``auto``, or what is wanted where Core ML has it: ``resample`` or ``gather``.

    Raises:
        Reject: sizes are symbolic, and ``resample`` does not take them.
        UnsupportedError: bicubic sampling of volumes, which torch does not have either.
    """
    type_ = result_type(op)
    how = Sampling(str(op.attr("mode")), str(op.attr("padding_mode")), bool(op.attr("align_corners")))
    x = value(op.operand("x"), type_.dtype)
    if how.mode == "bicubic" and type_.rank != 4:
        raise UnsupportedError(f"bicubic grid_sample of {x.tensor}", where=op.origin.place or None)
    if form == "auto" and x.tensor.is_static:
        grid = constant_tensor(op.value("grid"), ctx)
        if grid is not None and how.mode == "nearest" and not _clear(x, grid, how):
            form = "gather"
        elif grid is not None:
            by_product = _product(op, ctx, x, grid, how)
            if by_product is not None:
                return by_product
    if form != "gather" and how.mode in _RESAMPLED and type_.rank == 4:
        return _resample(x, value(op.operand("grid"), DType.F32), how)
    return _by_gather(op, ctx, x, how)


def _resample(x: Value, grid: Value, how: Sampling) -> Value:
    return mil.resample(
        x,
        grid,
        sampling_mode=how.mode,
        padding_mode=_PADDINGS[how.padding, how.align_corners],
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=how.align_corners,
    )


# -- gathers -----------------------------------------------------------------------------------------


def _by_gather(op: Op, ctx: Context, x: Value, how: Sampling) -> Value:
    count, channels, *space = static(x.tensor)
    grid = value(op.operand("grid"), DType.F32)
    _, *out, axes = static(grid.tensor)
    points = mil.add(reshaped(grid, (count, math.prod(out), axes)), 1.0)
    # As torch has it, ((g + 1) size - 1) / 2: halving does not round. The grid has x first.
    halves = [(size - 1 if how.align_corners else size) / 2 for size in reversed(space)]
    points = mil.mul(points, constant(ctx, op, _row(halves), "halves", DType.F32))
    if not how.align_corners:
        points = mil.sub(points, 0.5)
    read = gathered(op, ctx, x, taps(op, ctx, points, space, how))
    return reshaped(swapped(read), (count, channels, *out))


def _row(numbers: Sequence[float]) -> torch.Tensor:
    import torch

    return torch.tensor(numbers, dtype=torch.float64)


# -- constant grids ----------------------------------------------------------------------------------


def _product(op: Op, ctx: Context, x: Value, grid: torch.Tensor, how: Sampling) -> Value | None:
    """The constant map of a constant grid, along each axis or as a whole; None where neither is small."""
    import torch

    if not bool(torch.isfinite(grid).all()):
        return None
    lines = _lines(grid)
    if lines is not None:
        matrices = [_line_map(line, size, how) for line, size in zip(lines, x.shape[2:], strict=True)]
        order = sorted(range(len(matrices)), key=lambda at: (len(matrices[at]) / x.shape[2 + at], -at))
        for at in order:
            x = mapped(op, ctx, x, 2 + at, matrices[at])
        return x
    count, channels, *space = x.shape
    _, *out, _ = grid.shape
    before, after = math.prod(space), math.prod(out)
    if before > _LARGEST_IMAGE or before * after > _LARGEST_MAP:
        return None
    rows = grid[:1] if bool((grid == grid[:1]).all()) else grid
    matrix = _whole_map(rows.to(torch.float64), space, how)
    flat = reshaped(x, (count, channels, before))
    weight = constant(ctx, op, matrix.transpose(1, 2), "map", x.tensor.dtype)
    return reshaped(mil.matmul(flat, weight), (count, channels, *out))


def _clear(x: Value, grid: torch.Tensor, how: Sampling) -> bool:
    """Whether the nearest pixel of each point is the same in float64; where points lie halfway it may not be."""
    import torch

    space = x.shape[2:]
    numbers = torch.arange(1.0, math.prod(space) + 1, dtype=torch.float64).reshape(1, 1, *space)
    images = numbers.expand(len(grid), 1, *space)
    # float32 tells the pixels of an image apart up to 2 ** 24 of them.
    narrow = _torch(images.to(torch.float32), grid.to(torch.float32), how)
    return bool((narrow == _torch(images, grid.to(torch.float64), how)).all())


def _lines(grid: torch.Tensor) -> list[torch.Tensor] | None:
    """The coordinates along each space axis, when each depends on its own axis alone, in all images alike."""
    axes = grid.shape[-1]
    lines = []
    for at in range(axes):
        plane = grid[..., axes - 1 - at]
        line = plane[(0, *(slice(None) if axis == at else 0 for axis in range(axes)))]
        shape = [1] * (axes + 1)
        shape[at + 1] = -1
        if not bool((plane == line.reshape(shape)).all()):
            return None
        lines.append(line)
    return lines


def _line_map(line: torch.Tensor, size: int, how: Sampling) -> torch.Tensor:
    """The float64 matrix ``[points, size]`` of sampling one axis, from torch's own kernel."""
    import torch

    units = torch.eye(size, dtype=torch.float64).reshape(1, size, size, 1)
    grid = torch.zeros(1, len(line), 1, 2, dtype=torch.float64)
    grid[0, :, 0, 1] = line.to(torch.float64)
    return _torch(units, grid, how)[0, :, :, 0].T


def _whole_map(grid: torch.Tensor, space: Sequence[int], how: Sampling) -> torch.Tensor:
    """The float64 matrices ``[N, points, pixels]`` of sampling at a whole grid, from torch's own kernel."""
    import torch

    pixels = math.prod(space)
    units = torch.eye(pixels, dtype=torch.float64).reshape(1, pixels, *space).expand(len(grid), pixels, *space)
    return _torch(units, grid, how).reshape(len(grid), pixels, -1).transpose(1, 2)


def _torch(x: torch.Tensor, grid: torch.Tensor, how: Sampling) -> torch.Tensor:
    import torch.nn.functional as F

    return F.grid_sample(x, grid, mode=how.mode, padding_mode=how.padding, align_corners=how.align_corners)


RULES: list[Rule] = [lower_grid_sample]
