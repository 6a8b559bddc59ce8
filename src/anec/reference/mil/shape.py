"""Kernels that reshape, reorder and slice.

Checks on sizes apply to plain integers only. A symbolic size is left alone, so that shape
inference with symbols adds no guard beyond the ones the operation itself implies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.common import Ints, IntsLike, ints, positive_axes, positive_axis

Bools = Sequence[bool]


def is_static(*sizes: int) -> bool:
    """Tell whether every size is a plain integer, so that comparing it adds no guard."""
    return all(isinstance(size, int) for size in sizes)


def need_rank(op: str, x: Tensor, rank: int) -> None:
    """Refuse a tensor of another rank.

    Raises:
        AnecError: ``x`` is not of that rank.
    """
    if x.dim() != rank:
        raise AnecError(f"mil.{op} takes a tensor of rank {rank}, not {tuple(x.shape)}")


@kernel("mil.reshape")
def reshape(x: Tensor, shape: IntsLike, *, opset: int = 18) -> Tensor:
    """Give ``x`` another shape of the same volume.

    One entry may be -1. A 0 keeps the size at the same index and needs equal ranks up to iOS16;
    from iOS17 it is aligned to the right, and stands for 1 where ``x`` has no such axis
    (coremltools, iOS15 and iOS17 ``reshape``).
    """
    wanted = list(ints(shape))
    if wanted.count(-1) > 1 or any(size < -1 for size in wanted):
        raise AnecError(f"mil.reshape to {tuple(wanted)}", hint="sizes are positive, 0, or -1 once")
    if 0 in wanted and opset < 17 and len(wanted) != x.dim():
        raise AnecError(f"mil.reshape from {tuple(x.shape)} to {tuple(wanted)}: a 0 needs equal ranks before iOS17")
    offset = x.dim() - len(wanted)
    for index, size in enumerate(wanted):
        if size == 0:
            wanted[index] = x.shape[index + offset] if index + offset >= 0 else 1
    if is_static(*x.shape, *wanted):
        known = math.prod(size for size in wanted if size != -1)
        volume = math.prod(x.shape)
        fits = known == volume if -1 not in wanted else known != 0 and volume % known == 0
        if not fits:
            raise AnecError(f"mil.reshape from {tuple(x.shape)} to {tuple(wanted)}: volumes differ")
    return x.reshape(wanted)


@kernel("mil.reshape_like")
def reshape_like(
    x: Tensor,
    ref_tensors: Sequence[Tensor],
    begins: IntsLike | Sequence[Tensor],
    ends: IntsLike | Sequence[Tensor],
    end_masks: Bools | Sequence[Tensor],
) -> Tensor:
    """Reshape ``x`` to pieces ``ref.shape[begin:end]`` joined; a true mask ignores ``end``."""
    starts, stops = _scalars(begins), _scalars(ends)
    masks = [bool(mask) for mask in end_masks]
    if not len(ref_tensors) == len(starts) == len(stops) == len(masks):
        raise AnecError("mil.reshape_like needs one begin, end and end mask for each reference")
    shape: list[int] = []
    for reference, start, stop, mask in zip(ref_tensors, starts, stops, masks, strict=True):
        shape.extend(reference.shape[start:] if mask else reference.shape[start:stop])
    if is_static(*x.shape, *shape) and math.prod(x.shape) != math.prod(shape):
        raise AnecError(f"mil.reshape_like from {tuple(x.shape)} to {tuple(shape)}: volumes differ")
    return x.reshape(shape)


def _scalars(values: IntsLike | Sequence[Tensor]) -> Ints:
    if isinstance(values, Tensor | int):
        return ints(values)
    return tuple(int(value) for value in values)


@kernel("mil.flatten2d")
def flatten2d(x: Tensor, *, axis: int = 1) -> Tensor:
    """Join the axes before ``axis`` and those from it on into a matrix."""
    if not -x.dim() <= axis <= x.dim():
        raise AnecError(f"mil.flatten2d at axis {axis} of a tensor of rank {x.dim()}")
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@kernel("mil.shape")
def shape(x: Tensor) -> Tensor:
    """Return the sizes of ``x`` as an int32 vector."""
    if not x.dim():
        return torch.zeros(0, dtype=torch.int32, device=x.device)
    # One scalar each: torch.tensor would fix a symbolic size to its example.
    sizes = [torch.scalar_tensor(size, dtype=torch.int32, device=x.device) for size in x.shape]
    return torch.stack(sizes)


@kernel("mil.transpose")
def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Permute the axes: axis i of the result is axis ``perm[i]`` of ``x``."""
    if len(perm) != x.dim():
        raise AnecError(f"mil.transpose of rank {x.dim()} by {tuple(perm)}: one entry for each axis")
    positive_axes(perm, x.dim())
    return x.permute(tuple(perm))


@kernel("mil.expand_dims")
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """Insert axes of size 1; a negative axis counts from the rank of the result."""
    for axis in positive_axes(axes, x.dim() + len(axes)):
        x = x.unsqueeze(axis)
    return x


@kernel("mil.squeeze")
def squeeze(x: Tensor, *, axes: Ints | None = None) -> Tensor:
    """Drop axes of size 1; a listed axis of another size stays, as torch has it.

    Without ``axes`` every axis of size 1 goes; a symbolic size counts as not 1 (coremltools).
    """
    chosen = positive_axes(axes, x.dim())
    gone = {axis for axis in chosen if is_static(x.shape[axis]) and x.shape[axis] == 1}
    return x.reshape([size for axis, size in enumerate(x.shape) if axis not in gone])


@kernel("mil.reverse")
def reverse(x: Tensor, *, axes: Ints | None = None) -> Tensor:
    """Reverse the order along ``axes`` (all of them when not given)."""
    return x.flip(positive_axes(axes, x.dim()))


@kernel("mil.reverse_sequence")
def reverse_sequence(x: Tensor, lengths: Tensor, *, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """Reverse the first ``lengths[i]`` steps along ``seq_axis`` of each batch entry i."""
    sequence, batch = positive_axis(seq_axis, x.dim()), positive_axis(batch_axis, x.dim())
    if lengths.dim() != 1 or (is_static(lengths.shape[0], x.shape[batch]) and lengths.shape[0] != x.shape[batch]):
        raise AnecError(f"mil.reverse_sequence takes one length for each of {x.shape[batch]} batch entries")
    if sequence == batch:
        raise AnecError("mil.reverse_sequence with one axis for both sequence and batch")
    along_sequence = [1] * x.dim()
    along_sequence[sequence] = x.shape[sequence]
    along_batch = [1] * x.dim()
    along_batch[batch] = x.shape[batch]
    step = torch.arange(x.shape[sequence], device=x.device).reshape(along_sequence)
    length = lengths.to(torch.int64).reshape(along_batch)
    index = torch.where(step < length, length - 1 - step, step)
    return x.gather(sequence, index.expand(x.shape))


@kernel("mil.sliding_windows")
def sliding_windows(x: Tensor, axis: int, size: int, *, stride: int = 1) -> Tensor:
    """Return all windows of ``size`` along ``axis``; the window is the axis after it."""
    at = positive_axis(axis, x.dim())
    if size < 1 or stride < 1 or (is_static(x.shape[at]) and size > x.shape[at]):
        raise AnecError(f"mil.sliding_windows of {size} by {stride} along a size of {x.shape[at]}")
    return x.unfold(at, size, stride).movedim(-1, at + 1)


def _slices(
    x: Tensor,
    op: str,
    begin: IntsLike,
    end: IntsLike,
    stride: IntsLike | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[list[int | slice], list[int]]:
    """Turn MIL's slice into a torch index and the axes to flip before it.

    MIL's slices are Python's, with a true mask for an absent bound. torch has no negative
    strides; x[b:e:-s] is flip(x)[-1-b:-1-e:s], whatever the size and the signs of b and e.
    """
    rank = x.dim()
    begins, ends = ints(begin), ints(end)
    strides = (1,) * rank if stride is None else ints(stride)
    masks = [(False,) * rank if mask is None else tuple(mask) for mask in (begin_mask, end_mask, squeeze_mask)]
    if any(len(given) != rank for given in (begins, ends, strides, *masks)):
        raise AnecError(f"mil.{op} needs one begin, end, stride and mask for each of {rank} axes")
    index: list[int | slice] = []
    flipped: list[int] = []
    for axis in range(rank):
        start = None if masks[0][axis] else begins[axis]
        stop = None if masks[1][axis] else ends[axis]
        step = strides[axis]
        if masks[2][axis]:
            at = start or 0
            if is_static(x.shape[axis]) and not -x.shape[axis] <= at < x.shape[axis]:
                raise AnecError(f"mil.{op} takes index {at} of axis {axis}, whose size is {x.shape[axis]}")
            index.append(at)
        elif step == 0:
            raise AnecError(f"mil.{op} with a stride of 0 at axis {axis}")
        elif step > 0:
            index.append(slice(start, stop, step))
        else:
            flipped.append(axis)
            back = [None if bound is None else -1 - bound for bound in (start, stop)]
            index.append(slice(back[0], back[1], -step))
    return index, flipped


def _take(x: Tensor, index: list[int | slice], flipped: list[int]) -> Tensor:
    if flipped:
        x = x.flip(flipped)
    return x[tuple(index)] if index else x


@kernel("mil.slice_by_index")
def slice_by_index(
    x: Tensor,
    begin: IntsLike,
    end: IntsLike,
    *,
    stride: IntsLike | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """Take ``x[begin:end:stride]`` along every axis, by the rules of Python's slices.

    A true ``begin_mask`` or ``end_mask`` entry means Python's None, so with a negative stride the
    walk starts at the last element or runs through the first. ``squeeze_mask`` takes
    ``x[begin]`` and ignores ``end`` and ``stride`` (coremltools, ``slice_by_index``).
    """
    return _take(x, *_slices(x, "slice_by_index", begin, end, stride, begin_mask, end_mask, squeeze_mask))


@kernel("mil.slice_update")
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: IntsLike,
    end: IntsLike,
    *,
    stride: IntsLike | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """Return ``x`` with the slice that :func:`slice_by_index` takes replaced by ``update``.

    Raises:
        AnecError: ``update`` is rank 0 or has another shape than the slice.
    """
    if update.dim() == 0:
        raise AnecError("mil.slice_update takes no update of rank 0", hint="slice without a squeeze mask")
    index, flipped = _slices(x, "slice_update", begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = x.flip(flipped) if flipped else x.clone()
    place = result[tuple(index)]
    if is_static(*place.shape, *update.shape) and place.shape != update.shape:
        raise AnecError(f"mil.slice_update puts {tuple(update.shape)} into a slice of {tuple(place.shape)}")
    place.copy_(update)
    return result.flip(flipped) if flipped else result


@kernel("mil.slice_by_size")
def slice_by_size(x: Tensor, begin: IntsLike, size: IntsLike) -> Tensor:
    """Take ``size`` elements from ``begin`` on along every axis; -1 takes all that remain.

    A negative ``begin`` counts from the end. coremltools declares a wrong size for a negative
    begin with size -1; the values are those of its own value inference.
    """
    begins, sizes = ints(begin), ints(size)
    if len(begins) != x.dim() or len(sizes) != x.dim():
        raise AnecError(f"mil.slice_by_size needs one begin and size for each of {x.dim()} axes")
    for axis, (start, length) in enumerate(zip(begins, sizes, strict=True)):
        dim = x.shape[axis]
        start = start + dim if start < 0 else start
        length = dim - start if length == -1 else length
        if length < 0 or (is_static(dim) and not 0 <= start <= dim - length):
            raise AnecError(f"mil.slice_by_size takes {length} from {start} of axis {axis}, size {dim}")
        x = x.narrow(axis, start, length)
    return x
