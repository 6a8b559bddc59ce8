"""Kernels that build, join, cut, sort and select tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.blocks import pad_constant
from anec.reference.mil.common import IntsLike, choice, ints, positive_axis, torch_dtype
from anec.reference.mil.shape import is_static

Number = float | int | bool
FIRST_OPSET_WITH_BOXES_LAST = 17


def number_dtype(value: Tensor | Number) -> torch.dtype:
    """Return the dtype a constant stands for: a plain float is of torch's default dtype."""
    if isinstance(value, Tensor):
        return value.dtype
    if isinstance(value, bool):
        return torch.bool
    return torch.int32 if isinstance(value, (int, torch.SymInt)) else torch.get_default_dtype()


def _scalar(value: Tensor | Number, device: torch.device | None = None) -> Tensor:
    if isinstance(value, Tensor):
        return value.reshape(())
    return torch.full((), value, dtype=number_dtype(value), device=device)


def _number(value: Tensor | Number) -> Number:
    return value.item() if isinstance(value, Tensor) else value


@kernel("mil.identity")
def identity(x: Tensor) -> Tensor:
    """Return ``x``."""
    return x


@kernel("mil.fill")
def fill(shape: IntsLike, *, value: Tensor | Number = 0.0) -> Tensor:
    """Return a tensor of ``shape`` that holds ``value`` everywhere, in the dtype of ``value``."""
    sizes = ints(shape)
    if any(size < 0 for size in sizes):
        raise AnecError(f"mil.fill of shape {sizes}")
    return _scalar(value).expand(sizes).clone()


@kernel("mil.fill_like")
def fill_like(ref_tensor: Tensor, *, value: Tensor | Number = 0.0) -> Tensor:
    """Return a tensor of the shape of ``ref_tensor`` and the dtype of ``value``."""
    return _scalar(value, ref_tensor.device).expand(ref_tensor.shape).clone()


@kernel("mil.range_1d")
def range_1d(end: Tensor | Number, start: Tensor | Number, step: Tensor | Number) -> Tensor:
    """Count from ``start`` by ``step``, short of ``end``. Note the order of the parameters."""
    bounds = (end, start, step)
    # A plain number takes the dtype of the computed ones.
    dtypes = {bound.dtype for bound in bounds if isinstance(bound, Tensor)}
    dtypes = dtypes or {number_dtype(bound) for bound in bounds}
    if len(dtypes) != 1:
        raise AnecError("mil.range_1d takes end, start and step of one dtype")
    first, last, by = _number(start), _number(end), _number(step)
    if by == 0:
        raise AnecError("mil.range_1d with a step of 0")
    dtype = dtypes.pop()
    whole = not any(isinstance(bound, float) for bound in (first, last, by))
    count = -((first - last) // by) if whole else math.ceil((last - first) / by)
    if count <= 0:
        return torch.zeros(0, dtype=dtype)
    if isinstance(count, torch.SymInt):
        # Of torch.arange the number of elements would be a quotient of floats.
        return first + by * torch.arange(count, dtype=dtype)
    return torch.arange(first, last, by, dtype=dtype)


@kernel("mil.one_hot")
def one_hot(
    indices: Tensor,
    one_hot_vector_size: IntsLike,
    *,
    axis: int = -1,
    on_value: Tensor | Number = 1,
    off_value: Tensor | Number = 0,
) -> Tensor:
    """Return vectors that hold ``on_value`` at the index and ``off_value`` elsewhere.

    The vectors lie along a new ``axis`` of the result. An index out of range, negative ones
    too, gives a vector of ``off_value``.
    """
    (size,) = ints(one_hot_vector_size)
    if size < 0:
        raise AnecError(f"mil.one_hot with vectors of size {size}")
    if number_dtype(on_value) != number_dtype(off_value):
        raise AnecError("mil.one_hot takes on_value and off_value of one dtype")
    at = positive_axis(axis, indices.dim() + 1)
    places = torch.arange(size, device=indices.device).reshape([size, *[1] * (indices.dim() - at)])
    hot = indices.to(torch.int64).unsqueeze(at) == places
    return torch.where(hot, _scalar(on_value, indices.device), _scalar(off_value, indices.device))


@kernel("mil.concat")
def concat(values: Sequence[Tensor], axis: int, *, interleave: bool = False) -> Tensor:
    """Join tensors along ``axis``, one after the other or, interleaved, slice by slice.

    Scalars are joined to a vector.
    """
    _one_kind("concat", values)
    if values[0].dim() == 0:
        return torch.stack(list(values))
    at = positive_axis(axis, values[0].dim())
    if not interleave:
        return torch.cat(list(values), dim=at)
    shapes = [value.shape for value in values]
    if is_static(*(size for shape in shapes for size in shape)) and any(s != shapes[0] for s in shapes):
        raise AnecError("mil.concat interleaves tensors of one shape only")
    return torch.stack(list(values), dim=at + 1).flatten(at, at + 1)


@kernel("mil.stack")
def stack(values: Sequence[Tensor], axis: int) -> Tensor:
    """Join tensors of one shape along a new ``axis``."""
    _one_kind("stack", values)
    return torch.stack(list(values), dim=positive_axis(axis, values[0].dim() + 1))


def _one_kind(op: str, values: Sequence[Tensor]) -> None:
    if not values:
        raise AnecError(f"mil.{op} of no tensors")
    if len({value.dtype for value in values}) != 1 or len({value.dim() for value in values}) != 1:
        kinds = ", ".join(f"{value.dtype} {tuple(value.shape)}" for value in values)
        raise AnecError(f"mil.{op} takes tensors of one dtype and rank, not {kinds}")


@kernel("mil.split")
def split(
    x: Tensor, axis: int, *, num_splits: int | None = None, split_sizes: IntsLike | None = None
) -> tuple[Tensor, ...]:
    """Cut ``x`` along ``axis`` into equal parts, or into parts of ``split_sizes``."""
    at = positive_axis(axis, x.dim())
    size = x.shape[at]
    if split_sizes is None:
        if num_splits is None:
            raise AnecError("mil.split needs num_splits or split_sizes")
        if num_splits < 1 or (is_static(size) and size % num_splits != 0):
            raise AnecError(f"mil.split of a size of {size} into {num_splits} equal parts")
        sizes = [size // num_splits] * num_splits
    else:
        sizes = list(ints(split_sizes))
        if num_splits is not None and num_splits != len(sizes):
            raise AnecError(f"mil.split into {num_splits} parts of {len(sizes)} sizes")
        if is_static(size) and sum(sizes) != size:
            raise AnecError(f"mil.split of a size of {size} into {sizes}", hint="sizes, not boundaries")
    return tuple(x.split_with_sizes(sizes, dim=at))


@kernel("mil.tile")
def tile(x: Tensor, reps: IntsLike) -> Tensor:
    """Repeat ``x`` along every axis."""
    times = ints(reps)
    if len(times) != x.dim() or any(count < 1 for count in times):
        raise AnecError(f"mil.tile of rank {x.dim()} by {times}", hint="one positive count for each axis")
    return x.repeat(times)


@kernel("mil.pad")
def pad(x: Tensor, pad: IntsLike, *, mode: str = "constant", constant_val: Number = 0.0) -> Tensor:
    """Pad the trailing axes by (before, after) pairs in axis order.

    Raises:
        AnecError: an amount is negative, or more than the mode can mirror (size - 1 for
            reflect) or repeat (size for replicate).
    """
    amounts = ints(pad)
    count = len(amounts) // 2
    if len(amounts) % 2 or count > x.dim() or any(amount < 0 for amount in amounts):
        raise AnecError(f"mil.pad of rank {x.dim()} by {amounts}", hint="pairs of counts for the last axes")
    choice("mil.pad: mode", mode, ("constant", "reflect", "replicate"))
    sides = [(0, 0)] * (x.dim() - count) + [(amounts[2 * i], amounts[2 * i + 1]) for i in range(count)]
    if mode == "constant":
        return pad_constant(x, sides, constant_val)
    for axis, (before, after) in enumerate(sides):
        x = _pad_edge(x, axis, before, after, mode)
    return x


def _pad_edge(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    size = x.shape[axis]
    most = size - 1 if mode == "reflect" else size
    if before == after == 0:
        return x
    if is_static(size) and max(before, after) > most:
        raise AnecError(f"mil.pad: {mode} {max(before, after)} of a size of {size}", hint=f"up to {most}")
    index = torch.arange(-before, size + after, device=x.device)
    mirrored = (size - 1) - (index.abs() - (size - 1)).abs()
    return x.index_select(axis, mirrored if mode == "reflect" else index.clamp(0, size - 1))


@kernel("mil.band_part")
def band_part(x: Tensor, *, lower: int = -1, upper: int = -1) -> Tensor:
    """Zero what lies outside a band of the last two axes; a negative bound keeps that side."""
    if x.dim() < 2:
        raise AnecError(f"mil.band_part of rank {x.dim()}", hint="rank 2 or more")
    row = torch.arange(x.shape[-2], device=x.device).unsqueeze(1)
    column = torch.arange(x.shape[-1], device=x.device)
    outside = torch.zeros((x.shape[-2], x.shape[-1]), dtype=torch.bool, device=x.device)
    if lower >= 0:
        outside = outside | (row - column > lower)
    if upper >= 0:
        outside = outside | (column - row > upper)
    return x.masked_fill(outside, 0)


@kernel("mil.cumsum")
def cumsum(x: Tensor, *, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Sum up along ``axis``; exclusive sums start at 0 and leave out the element itself."""
    if axis < -1:
        raise AnecError(f"mil.cumsum along axis {axis}", hint="-1 is the one negative axis Core ML takes")
    at = positive_axis(axis, x.dim())
    if reverse:
        x = x.flip(at)
    sums = torch.cumsum(x, dim=at, dtype=x.dtype)
    if exclusive:
        size = sums.shape[at]
        sums = torch.cat([torch.zeros_like(sums.narrow(at, 0, 1)), sums.narrow(at, 0, size - 1)], dim=at)
    return sums.flip(at) if reverse else sums


@kernel("mil.argsort")
def argsort(x: Tensor, *, axis: int = -1, ascending: bool = False) -> Tensor:
    """Return the int32 order of the values, descending by default; of equals the first first.

    Core ML does not promise the order of equals.
    """
    at = positive_axis(axis, x.dim())
    return torch.sort(x, dim=at, descending=not ascending, stable=True).indices.to(torch.int32)


@kernel("mil.topk")
def topk(
    x: Tensor,
    *,
    k: IntsLike = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the ``k`` largest values, or the smallest when ascending, and where they are.

    They come sorted whether ``sort`` asks for it or not. A ``k`` of -1 takes all.
    """
    at = positive_axis(axis, x.dim())
    (count,) = ints(k)
    size = x.shape[at]
    if count == -1:
        count = size
    if count < 1 or (is_static(size) and count > size):
        raise AnecError(f"mil.topk of {count} along a size of {size}")
    dtype = torch_dtype(choice("mil.topk: output_indices_dtype", output_indices_dtype, ("int32", "uint16")))
    values, indices = torch.sort(x, dim=at, descending=not ascending, stable=True)
    first = torch.arange(count, device=x.device)
    values = values.index_select(at, first)
    if not return_indices:
        return values
    return values, indices.index_select(at, first).to(dtype)


@kernel("mil.non_zero", data_dependent=True)
def non_zero(x: Tensor) -> Tensor:
    """Return the int32 indices of the elements that are not 0, one a row, in row-major order."""
    return torch.nonzero(x).to(torch.int32)


def _overlap(boxes: Tensor, chosen: Tensor) -> Tensor:
    """Intersection over union of ``[n, B, 4]`` boxes with one of each batch entry, ``[n, 1, 4]``.

    Boxes are (center x, center y, width, height). A box without area overlaps nothing.
    """
    low, high = (boxes[..., :2] + side * boxes[..., 2:] for side in (-0.5, 0.5))
    chosen_low, chosen_high = (chosen[..., :2] + side * chosen[..., 2:] for side in (-0.5, 0.5))
    shared = (torch.minimum(high, chosen_high) - torch.maximum(low, chosen_low)).clamp(min=0).prod(-1)
    area, chosen_area = boxes[..., 2:].prod(-1), chosen[..., 2:].prod(-1)
    whole = area + chosen_area - shared
    real = (area > 0) & (chosen_area > 0)
    return torch.where(real, shared / torch.where(real, whole, 1), 0)


@kernel("mil.non_maximum_suppression")
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    *,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
    opset: int = 18,
) -> tuple[Tensor, ...]:
    """Keep the best boxes, dropping each that overlaps a better one too much.

    A box's score is its best class score; with ``per_class_suppression`` only boxes of the same
    best class drop each other. Fewer boxes than ``max_boxes`` are filled up with boxes and
    scores of 0 and indices of -1.

    Up to iOS16: boxes ``[n, B, 4]``, scores ``[n, B, classes]``, boxes scoring less than
    ``score_threshold`` do not take part, but if none is left the best one is returned; the
    fourth result counts the boxes. From iOS17: boxes ``[n, 4, B]``, scores ``[n, classes, B]``,
    no threshold and no count (coremltools, ``non_maximum_suppression``).
    """
    boxes_last = opset >= FIRST_OPSET_WITH_BOXES_LAST
    if boxes_last != (score_threshold is None):
        raise AnecError("mil.non_maximum_suppression takes a score_threshold before iOS17, and only then")
    if boxes_last:
        boxes, scores = boxes.transpose(1, 2), scores.transpose(1, 2)
    if boxes.dim() != 3 or scores.dim() != 3 or boxes.shape[2] != 4:
        raise AnecError(f"mil.non_maximum_suppression of boxes {tuple(boxes.shape)}", hint="[n, boxes, 4]")
    count = boxes.shape[1]
    best, best_class = scores.max(dim=-1)
    order = torch.sort(best, dim=1, descending=True, stable=True).indices
    rank = torch.argsort(order, dim=1)
    alive = torch.ones_like(best, dtype=torch.bool)
    if score_threshold is not None:
        alive = best >= score_threshold
        alive = alive | (~alive.any(dim=1, keepdim=True) & (rank == 0))
    chosen: list[Tensor] = []
    for _ in range(min(max_boxes, count)):
        left = alive.any(dim=1, keepdim=True)
        index = torch.where(alive, rank, count).argmin(dim=1, keepdim=True)
        chosen.append(torch.where(left, index, -1))
        box = boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        drops = _overlap(boxes, box) > iou_threshold
        if per_class_suppression:
            drops = drops & (best_class == best_class.gather(1, index))
        alive = alive & ~drops & (rank != rank.gather(1, index))
    missing = torch.full((boxes.shape[0], max_boxes - len(chosen)), -1, device=boxes.device)
    indices = torch.cat([*chosen, missing], dim=1)
    empty = (indices < 0).unsqueeze(-1)
    places = indices.clamp(min=0).unsqueeze(-1)
    kept_boxes = boxes.gather(1, places.expand(-1, -1, 4)).masked_fill(empty, 0)
    kept_scores = scores.gather(1, places.expand(-1, -1, scores.shape[2])).masked_fill(empty, 0)
    if boxes_last:
        return kept_boxes.transpose(1, 2), kept_scores.transpose(1, 2), indices.to(torch.int32)
    counts = (indices >= 0).sum(dim=1).to(torch.int32)
    return kept_boxes, kept_scores, indices.to(torch.int32), counts
