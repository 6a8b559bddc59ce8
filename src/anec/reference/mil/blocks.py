"""Kernels that trade space for channels or batch, block by block; and cropping and padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.common import Ints, IntsLike, ints
from anec.reference.mil.shape import is_static, need_rank


def pairs(values: Tensor | Sequence[int] | Sequence[Sequence[int]], count: int, what: str) -> list[Ints]:
    """Read ``[count, 2]`` numbers given as a tensor, nested or flat.

    Raises:
        AnecError: there are not ``2 * count`` numbers.
    """
    flat: list[int] = []
    for value in values.tolist() if isinstance(values, Tensor) else values:
        flat.extend((value,) if isinstance(value, int) else ints(value))
    if len(flat) != 2 * count:
        raise AnecError(f"{what} holds {len(flat)} numbers", hint=f"give {count} pairs (before, after)")
    return [(flat[2 * i], flat[2 * i + 1]) for i in range(count)]


def _divided(op: str, size: int, by: int) -> int:
    if by <= 0 or (is_static(size) and size % by != 0):
        raise AnecError(f"mil.{op}: a size of {size} does not divide into blocks of {by}")
    return size // by


@kernel("mil.space_to_depth")
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """Move blocks of space into channels, block-major: channel (by * b + bx) * C + c."""
    need_rank("space_to_depth", x, 4)
    n, c, h, w = x.shape
    rows, columns = (_divided("space_to_depth", size, block_size) for size in (h, w))
    blocks = x.reshape(n, c, rows, block_size, columns, block_size).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * block_size * block_size, rows, columns)


@kernel("mil.depth_to_space")
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Move channels into blocks of space, block-major; the inverse of space_to_depth."""
    need_rank("depth_to_space", x, 4)
    n, c, h, w = x.shape
    depth = _divided("depth_to_space", c, block_size * block_size)
    blocks = x.reshape(n, block_size, block_size, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, depth, h * block_size, w * block_size)


@kernel("mil.pixel_shuffle")
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Move channels into blocks of space, channel-major, as torch's PixelShuffle."""
    need_rank("pixel_shuffle", x, 4)
    _divided("pixel_shuffle", x.shape[1], upscale_factor**2)
    return torch.nn.functional.pixel_shuffle(x, upscale_factor)


@kernel("mil.pixel_unshuffle")
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Move blocks of space into channels, channel-major, as torch's PixelUnshuffle."""
    need_rank("pixel_unshuffle", x, 4)
    for size in x.shape[2:]:
        _divided("pixel_unshuffle", size, downscale_factor)
    return torch.nn.functional.pixel_unshuffle(x, downscale_factor)


@kernel("mil.space_to_batch")
def space_to_batch(
    x: Tensor, block_shape: IntsLike, paddings: Tensor | Sequence[int] | Sequence[Sequence[int]]
) -> Tensor:
    """Zero-pad space, then move its blocks into the batch: entry (by * bw + bx) * N + n."""
    need_rank("space_to_batch", x, 4)
    (top, bottom), (left, right) = pairs(paddings, 2, "mil.space_to_batch: paddings")
    block_h, block_w = _block_shape("space_to_batch", block_shape)
    n, c, h, w = x.shape
    rows = _divided("space_to_batch", h + top + bottom, block_h)
    columns = _divided("space_to_batch", w + left + right, block_w)
    padded = pad_constant(x, [(0, 0), (0, 0), (top, bottom), (left, right)], 0)
    blocks = padded.reshape(n, c, rows, block_h, columns, block_w).permute(3, 5, 0, 1, 2, 4)
    return blocks.reshape(block_h * block_w * n, c, rows, columns)


def pad_constant(x: Tensor, sides: Sequence[Ints], value: float | bool) -> Tensor:
    """Put (before, after) elements of ``value`` around each axis.

    torch's own constant padding fixes a symbolic size to its example.
    """
    shape = [size + before + after for size, (before, after) in zip(x.shape, sides, strict=True)]
    result = x.new_full(shape, value)
    place = result
    for axis, (before, _) in enumerate(sides):
        place = place.narrow(axis, before, x.shape[axis])
    place.copy_(x)
    return result


@kernel("mil.batch_to_space")
def batch_to_space(x: Tensor, block_shape: IntsLike, crops: Tensor | Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
    """Move the batch into blocks of space, then crop; the inverse of space_to_batch."""
    need_rank("batch_to_space", x, 4)
    (top, bottom), (left, right) = pairs(crops, 2, "mil.batch_to_space: crops")
    block_h, block_w = _block_shape("batch_to_space", block_shape)
    n, c, h, w = x.shape
    batch = _divided("batch_to_space", n, block_h * block_w)
    blocks = x.reshape(block_h, block_w, batch, c, h, w).permute(2, 3, 4, 0, 5, 1)
    space = blocks.reshape(batch, c, h * block_h, w * block_w)
    return crop_space("batch_to_space", space, (top, bottom), (left, right))


def crop_space(op: str, x: Tensor, height: Ints, width: Ints) -> Tensor:
    """Cut (before, after) elements off the last two axes.

    Raises:
        AnecError: an amount is negative, or nothing is left.
    """
    for axis, (before, after) in ((-2, height), (-1, width)):
        size = x.shape[axis]
        if before < 0 or after < 0 or (is_static(size) and before + after >= size):
            raise AnecError(f"mil.{op} crops {before} and {after} of a size of {size}")
        x = x.narrow(axis, before, size - before - after)
    return x


def _block_shape(op: str, block_shape: IntsLike) -> Ints:
    blocks = ints(block_shape)
    if len(blocks) != 2:
        raise AnecError(f"mil.{op} takes two block sizes, not {len(blocks)}")
    return blocks
