"""Pooling kernels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel

from .common import Ints
from .window import Pads, not_negative, pad_spatial, per_axis, window_pads

_MAXIMUM: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _windows(
    op: str,
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None,
    pad_type: str,
    pad: Ints | None,
    ceil_mode: bool,
    opset: int,
    max_rank: int = 3,
) -> tuple[Ints, Ints, Pads, Pads]:
    """Return the kernel, the strides, the declared pads, and these with ceil_mode's overhang.

    ``ceil_mode`` drops a last window that starts in the padding after x, and only when there is
    padding: so says coremltools' type inference, which this follows.
    """
    rank = x.dim() - 2
    if not 1 <= rank <= max_rank:
        raise AnecError(f"{op} of a tensor of rank {x.dim()}", hint=f"rank 3 to {max_rank + 2}")
    sizes = per_axis("kernel_sizes", kernel_sizes, 1, rank)
    steps = per_axis("strides", strides, 1, rank)
    pads = window_pads(pad_type, pad, x.shape[2:], sizes, steps, opset)
    if not ceil_mode:
        return sizes, steps, pads, pads
    if rank > 2 or pad_type.lower().startswith("same") or any(before != after for before, after in pads):
        raise AnecError(
            f"{op} with ceil_mode, pad_type {pad_type!r} and pads {pads}",
            hint="ceil_mode wants one or two spatial axes and valid or symmetric custom padding",
        )
    reach = []
    for size, window, step, (before, after) in zip(x.shape[2:], sizes, steps, pads, strict=True):
        padded = size + before + after
        count = -(-(padded - window) // step) + 1
        if before + after > 0 and (count - 1) * step >= size + before:
            count -= 1
        reach.append((before, after + not_negative((count - 1) * step + window - padded)))
    return sizes, steps, pads, tuple(reach)


def _average(x: Tensor, sizes: Ints, steps: Ints) -> Tensor:
    if len(sizes) == 1:
        return F.avg_pool1d(x, sizes, steps)
    if len(sizes) == 2:
        return F.avg_pool2d(x, sizes, steps)
    # torch has no avg_pool3d in float16: a box is averaged over two axes, then over the other.
    slices = F.avg_pool2d(x.flatten(1, 2), sizes[1:], steps[1:])
    rows, columns = slices.shape[2:]
    flat = slices.reshape(*x.shape[:3], rows * columns)
    mean = F.avg_pool2d(flat, (sizes[0], 1), (steps[0], 1))
    return mean.reshape(*mean.shape[:3], rows, columns)


def _counts(x: Tensor, windows: int, window: int, step: int, first: int, end: int) -> Tensor:
    """Count, for each window along one axis, its positions in [first, end); window 0 starts at 0."""
    starts = torch.arange(windows, device=x.device) * step
    counts = torch.clamp(starts + window, max=end) - torch.clamp(starts, min=first)
    # A window with nothing to average is then 0, not 0 / 0.
    return counts.clamp(min=1).to(x.dtype)


@kernel("mil.avg_pool")
def avg_pool(
    x: Tensor,
    *,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
    opset: int = 18,
) -> Tensor:
    """Average each window of x ``[n, C, *D]``.

    Declared padding counts as zeros unless excluded; the overhang of ceil_mode never counts.

    Raises:
        AnecError: ranks, pads or a ceil_mode that Core ML refuses.
    """
    sizes, steps, pads, reach = _windows("avg_pool", x, kernel_sizes, strides, pad_type, pad, ceil_mode, opset)
    rank = len(sizes)
    mean = _average(pad_spatial(x, reach), sizes, steps)
    for axis in range(rank):
        (before, after), size = pads[axis], x.shape[2 + axis]
        if ceil_mode or (exclude_padding_from_average and (before, after) != (0, 0)):
            bounds = (before, before + size) if exclude_padding_from_average else (0, before + size + after)
            counts = _counts(x, mean.shape[2 + axis], sizes[axis], steps[axis], *bounds)
            mean = mean * (sizes[axis] / counts).reshape(-1, *[1] * (rank - 1 - axis))
    return mean


@kernel("mil.l2_pool")
def l2_pool(
    x: Tensor,
    *,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    opset: int = 18,
) -> Tensor:
    """Take the root of the sum (not the mean) of the squares in each window; rank 3 or 4.

    Raises:
        AnecError: ranks, pads or a ceil_mode that Core ML refuses.
    """
    sizes, steps, _, reach = _windows("l2_pool", x, kernel_sizes, strides, pad_type, pad, ceil_mode, opset, max_rank=2)
    mean = _average(pad_spatial(x * x, reach), sizes, steps)
    return torch.sqrt(mean * math.prod(sizes))


@kernel("mil.max_pool")
def max_pool(
    x: Tensor,
    *,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    opset: int = 18,
) -> Tensor:
    """Take the largest element of each window of x ``[n, C, *D]``; padding never wins.

    Raises:
        AnecError: ranks, pads or a ceil_mode that Core ML refuses.
    """
    sizes, steps, _, reach = _windows("max_pool", x, kernel_sizes, strides, pad_type, pad, ceil_mode, opset)
    return _MAXIMUM[len(sizes)](pad_spatial(x, reach, float("-inf")), sizes, steps)
