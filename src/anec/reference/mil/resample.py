"""Kernels that sample images at given points: resample, affine, crop_resize."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.common import choice
from anec.reference.mil.resize import at_least_one, need_positive, sampling_points
from anec.reference.mil.shape import is_static, need_rank

BOX_MODES = (
    "CORNERS_HEIGHT_FIRST",
    "CORNERS_WIDTH_FIRST",
    "CENTER_SIZE_HEIGHT_FIRST",
    "CENTER_SIZE_WIDTH_FIRST",
)
FIRST_OPSET_WITH_BOXES = 17


def _pixels(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Read ``x[b, :, row, column]`` for whole ``[B, h, w]`` rows and columns, which may be floats."""
    batch, channels, height, width = x.shape
    index = row.clamp(0, height - 1).to(torch.int64) * width + column.clamp(0, width - 1).to(torch.int64)
    flat = index.flatten(1).unsqueeze(1).expand(-1, channels, -1)
    return x.flatten(2).gather(2, flat).reshape(batch, channels, *index.shape[1:])


def _bilinear(x: Tensor, row: Tensor, column: Tensor, outside: float | None) -> Tensor:
    """Interpolate ``x`` at ``[B, h, w]`` points; pixels out of the image read as ``outside``."""
    height, width = x.shape[-2:]
    result: Tensor | None = None
    top, left = row.floor(), column.floor()
    for y, x_weight_side in ((top, 0), (top + 1, 1)):
        row_part = row - top if x_weight_side else 1 - (row - top)
        for z, column_part in ((left, 1 - (column - left)), (left + 1, column - left)):
            pixel = _pixels(x, y, z)
            if outside is not None:
                pixel = _blank(pixel, y, z, height, width, outside)
            term = pixel * (row_part * column_part).to(x.dtype).unsqueeze(1)
            result = term if result is None else result + term
    assert result is not None
    return result


def _blank(pixel: Tensor, row: Tensor, column: Tensor, height: int, width: int, value: float) -> Tensor:
    """Put ``value`` where the pixel read lies outside the image."""
    inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
    return pixel.masked_fill(~inside.unsqueeze(1), value)


def _folded(points: Tensor, size: int, padding_mode: str) -> Tensor:
    """Bring points into [0, size - 1]: clamped, or mirrored at pixel centers or at pixel edges."""
    last = size - 1
    if padding_mode == "reflection":
        period = at_least_one(2 * last)
        points = last - (points.remainder(period) - last).abs()
    elif padding_mode == "symmetric":
        points = size - ((points + 0.5).remainder(2 * size) - size).abs() - 0.5
    return points.clamp(0, last)


def _unnormalized(points: Tensor, size: int, coordinates_mode: str, align_corners: bool) -> Tensor:
    if coordinates_mode == "unnormalized":
        return points
    if coordinates_mode == "normalized_minus_one_to_one":
        points = (points + 1) / 2
    return points * (size - 1) if align_corners else points * size - 0.5


@kernel("mil.resample")
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample ``[B, C, H, W]`` images at ``[B, h, w, 2]`` coordinates, given as (x, y).

    ``reflection`` mirrors at the centers of the border pixels whatever ``align_corners`` says
    (torch's reflection with align_corners=False is ``symmetric``). Bilinear sampling blends with
    ``padding_value`` at the border. Nearest sampling mirrors first, then rounds halves to even,
    which an expected value of coremltools decides.
    """
    need_rank("resample", x, 4)
    if coordinates.dim() != 4 or coordinates.shape[-1] != 2 or _differ(coordinates.shape[0], x.shape[0]):
        raise AnecError(f"mil.resample at {tuple(coordinates.shape)} of {tuple(x.shape)}", hint="[B, h, w, 2]")
    choice("mil.resample: sampling_mode", sampling_mode, ("bilinear", "nearest"))
    choice("mil.resample: padding_mode", padding_mode, ("constant", "border", "reflection", "symmetric"))
    modes = ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one")
    choice("mil.resample: coordinates_mode", coordinates_mode, modes)
    if coordinates.dtype.is_floating_point:
        coordinates = coordinates.to(torch.promote_types(coordinates.dtype, x.dtype))
    else:
        coordinates = coordinates.to(x.dtype)
    height, width = x.shape[-2:]
    column = _unnormalized(coordinates[..., 0], width, coordinates_mode, align_corners)
    row = _unnormalized(coordinates[..., 1], height, coordinates_mode, align_corners)
    constant = padding_mode == "constant"
    if not constant:
        row, column = _folded(row, height, padding_mode), _folded(column, width, padding_mode)
    if sampling_mode == "bilinear":
        return _bilinear(x, row, column, float(padding_value) if constant else None)
    row, column = row.round(), column.round()
    pixel = _pixels(x, row, column)
    return _blank(pixel, row, column, height, width, float(padding_value)) if constant else pixel


def _differ(one: int, other: int) -> bool:
    return is_static(one, other) and one != other


@kernel("mil.affine")
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample ``[B, C, H, W]`` images where rows (a0, a1, a2, b0, b1, b2) send the output's points.

    Core ML has one setting of each mode: bilinear, constant 0, [-1, 1], corners aligned. An
    output size of 1 has its one point at 0, as torch's affine_grid has it.
    """
    need_rank("affine", x, 4)
    choice("mil.affine: sampling_mode", sampling_mode.lower(), ("bilinear",))
    choice("mil.affine: padding_mode", padding_mode.lower(), ("constant",))
    choice("mil.affine: coordinates_mode", coordinates_mode.lower(), ("normalized_minus_one_to_one",))
    if padding_value != 0 or not align_corners:
        raise AnecError("mil.affine pads with 0 and aligns corners only")
    if transform_matrix.dim() != 2 or transform_matrix.shape[1] != 6:
        raise AnecError(f"mil.affine with a matrix of shape {tuple(transform_matrix.shape)}", hint="[B, 6]")
    row = _minus_one_to_one(output_height, x).reshape(1, -1, 1)
    column = _minus_one_to_one(output_width, x).reshape(1, 1, -1)
    a0, a1, a2, b0, b1, b2 = transform_matrix.to(x.dtype).reshape(-1, 6, 1, 1).unbind(1)
    grid = torch.stack([a0 * column + a1 * row + a2, b0 * column + b1 * row + b2], dim=-1)
    grid = grid.expand(x.shape[0], -1, -1, -1)
    return resample(x, grid, "bilinear", "constant", 0.0, "normalized_minus_one_to_one", True)


def _minus_one_to_one(count: int, like: Tensor) -> Tensor:
    if count == 1:
        return torch.zeros(1, dtype=like.dtype, device=like.device)
    return torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device)


@kernel("mil.crop_resize")
def crop_resize(
    x: Tensor,
    boxes: Tensor | None = None,
    *,
    box_indices: Tensor | Sequence[int] | None = None,
    roi: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
    opset: int = 18,
) -> Tensor:
    """Cut boxes out of ``[B, C, H, W]`` images and resize each, interpolating.

    A box from a to b is an axis of size b - a + 1 that starts at a. Normalized coordinates are
    scaled by H - 1 and W - 1. A point outside the image takes ``pad_value`` whole, unblended.

    Up to iOS16: ``roi`` ``[N, 1, 4, 1, 1]`` cuts each box out of every image, result
    ``[N, B, C, h, w]``; ``[N, 1, 5, 1, 1]`` has the image's number first, result ``[N, 1, C, h, w]``.
    From iOS17: ``boxes`` ``[N, 4]``, ``box_indices`` ``[N]`` (default 0, 1, ...), result ``[N, C, h, w]``.
    """
    need_rank("crop_resize", x, 4)
    choice("mil.crop_resize: box_coordinate_mode", box_coordinate_mode, BOX_MODES)
    settings = (target_height, target_width, normalized_coordinates, spatial_scale)
    modes = (box_coordinate_mode, sampling_mode, pad_value)
    if opset >= FIRST_OPSET_WITH_BOXES:
        if boxes is None or boxes.dim() != 2 or boxes.shape[1] != 4:
            raise AnecError("mil.crop_resize takes boxes of shape [N, 4] from iOS17 on")
        return _crop_boxes(x, boxes, _image_numbers(x, boxes, box_indices), *settings, *modes)
    if roi is None or roi.dim() != 5 or roi.shape[2] not in (4, 5):
        raise AnecError("mil.crop_resize takes roi of shape [N, 1, 4 or 5, 1, 1] before iOS17")
    rows = roi.reshape(roi.shape[0], roi.shape[2])
    if rows.shape[1] == 5:
        numbers = _image_numbers(x, rows, rows[:, 0])
        return _crop_boxes(x, rows[:, 1:], numbers, *settings, *modes).unsqueeze(1)
    count, images = rows.shape[0], x.shape[0]
    numbers = torch.arange(images, device=x.device).repeat(count)
    crops = _crop_boxes(x, rows.repeat_interleave(images, dim=0), numbers, *settings, *modes)
    return crops.reshape(count, images, *crops.shape[1:])


def _image_numbers(x: Tensor, boxes: Tensor, numbers: Tensor | Sequence[int] | None) -> Tensor:
    """Return which image each box is of.

    Raises:
        AnecError: there is no such image, or not one number for each box.
    """
    if numbers is None:
        numbers = torch.arange(boxes.shape[0], device=x.device)
    index = torch.as_tensor(numbers, device=x.device).to(torch.int64)
    if index.dim() != 1 or _differ(index.shape[0], boxes.shape[0]):
        raise AnecError(f"mil.crop_resize with box_indices of shape {tuple(index.shape)}", hint="one a box")
    if not isinstance(index, FakeTensor) and bool(((index < 0) | (index >= x.shape[0])).any()):
        raise AnecError(f"mil.crop_resize: a box of an image that is not among the {x.shape[0]}")
    return index


def _crop_boxes(
    x: Tensor,
    boxes: Tensor,
    numbers: Tensor,
    target_height: int,
    target_width: int,
    normalized: bool,
    spatial_scale: float,
    box_mode: str,
    sampling_mode: str,
    pad_value: float,
) -> Tensor:
    need_positive("crop_resize", target_height, target_width)
    dtype = torch.promote_types(boxes.dtype, x.dtype) if boxes.dtype.is_floating_point else x.dtype
    sides = (boxes.to(dtype) * spatial_scale).unbind(1)
    if "WIDTH_FIRST" in box_mode:
        sides = (sides[1], sides[0], sides[3], sides[2])
    top, left, bottom, right = sides
    if "CENTER_SIZE" in box_mode:
        top, bottom = top - bottom / 2, top + bottom / 2
        left, right = left - right / 2, left + right / 2
    height, width = x.shape[-2:]
    if normalized:
        top, bottom = top * (height - 1), bottom * (height - 1)
        left, right = left * (width - 1), right * (width - 1)
    row = _box_points(top, bottom, height, target_height, sampling_mode)
    column = _box_points(left, right, width, target_width, sampling_mode)
    shape = (row.shape[0], target_height, target_width)
    row, column = row.unsqueeze(2).expand(shape), column.unsqueeze(1).expand(shape)
    sampled = _bilinear(x.index_select(0, numbers), row, column, None)
    return _blank(sampled, row, column, height, width, float(pad_value))


def _box_points(start: Tensor, end: Tensor, size: int, count: int, mode: str) -> Tensor:
    """Return the ``[N, count]`` points of boxes from ``start`` to ``end`` along one axis.

    The one expected value of UNALIGN_CORNERS has a box that is inverted and outside the image,
    and samples the whole image. So does this; a box inside follows the documented formula.
    """
    step = torch.arange(count, dtype=start.dtype, device=start.device)
    start, end = start.unsqueeze(1), end.unsqueeze(1)
    points = start + sampling_points(mode, end - start + 1, count, step)
    points = points.clamp(torch.minimum(start, end), torch.maximum(start, end))
    if mode != "UNALIGN_CORNERS":
        return points
    legal = (start >= 0) & (start <= end) & (end <= size - 1)
    whole = sampling_points(mode, size, count, step).clamp(0, size - 1)
    return torch.where(legal, points, whole)
