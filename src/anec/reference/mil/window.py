"""How a sliding window is padded: what convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from anec.errors import AnecError

from .common import Ints, choice

PAD_TYPES = ("valid", "same", "same_lower", "custom")
Pads = tuple[tuple[int, int], ...]


def per_axis(what: str, value: Sequence[int] | None, default: int, count: int) -> Ints:
    """Return ``count`` entries of ``value``, or ``default`` in each.

    Raises:
        AnecError: ``value`` has another length.
    """
    if value is None:
        return (default,) * count
    if len(value) != count:
        raise AnecError(f"{what} {tuple(value)} has {len(value)} entries", hint=f"{count} are wanted")
    return tuple(value)


def extent(kernel_sizes: Sequence[int], dilations: Sequence[int]) -> Ints:
    """Return what a dilated kernel spans on each axis."""
    return tuple((size - 1) * dilation + 1 for size, dilation in zip(kernel_sizes, dilations, strict=True))


def window_pads(
    pad_type: str,
    pad: Sequence[int] | None,
    sizes: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
    opset: int,
) -> Pads:
    """Return the (before, after) padding of each spatial axis.

    ``same`` pads until there are ceil(size / stride) windows, the odd element after; ``same_lower``
    puts it before. (The formula in coremltools' docstring of conv holds for stride 1 only.)

    Raises:
        AnecError: an unknown pad_type, ``same_lower`` before iOS16, or pads that do not fit.
    """
    choice("pad_type", pad_type.lower(), PAD_TYPES)
    count = len(sizes)
    if pad_type.lower() == "valid":
        return ((0, 0),) * count
    if pad_type.lower() == "custom":
        entries = per_axis("pad", pad, 0, 2 * count)
        return tuple((entries[2 * axis], entries[2 * axis + 1]) for axis in range(count))
    if pad_type.lower() == "same_lower" and opset < 16:
        raise AnecError("pad_type is 'same_lower'", hint="it exists from iOS16")
    pads = []
    for size, span, stride in zip(sizes, extents, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + span - size)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if pad_type.lower() == "same" else (more, less))
    return tuple(pads)


def pad_spatial(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pad the trailing axes of x, given in axis order; a negative pad crops."""
    if not any(before or after for before, after in pads):
        return x
    # torch lists the last axis first.
    return F.pad(x, [entry for pair in reversed(pads) for entry in pair], value=value)
