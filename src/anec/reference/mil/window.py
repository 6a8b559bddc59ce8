"""How a sliding window is padded: what convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
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
        # Of stride 1 this must not mention the size: then it is a number even when the size is a symbol.
        reach = span - 1 if stride == 1 else (-(-size // stride) - 1) * stride + span - size
        total = not_negative(reach)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if pad_type.lower() == "same" else (more, less))
    return tuple(pads)


def not_negative(size: int) -> int:
    """Return max(0, size), of a symbol without asking what it is."""
    return cast("int", torch.sym_max(0, size))


def pad_spatial(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pad the trailing axes of x, given in axis order; a negative pad crops."""
    entries = [entry for pair in reversed(pads) for entry in pair]  # torch lists the last axis first
    if all(isinstance(size, int) for size in (*entries, *x.shape)):
        return F.pad(x, entries, value=value) if any(entries) else x
    # torch's pad takes no symbol for an amount and pins the sizes of x; concatenation does neither.
    for axis, (before, after) in zip(range(x.dim() - len(pads), x.dim()), pads, strict=True):
        x = _pad_axis(x, axis, before, after, value)
    return x


def _pad_axis(x: Tensor, axis: int, before: int, after: int, value: float) -> Tensor:
    """Pad or crop one axis; an amount that is a symbol is not negative."""
    if isinstance(before, int) and before < 0:
        x, before = x.narrow(axis, -before, x.shape[axis] + before), 0
    if isinstance(after, int) and after < 0:
        x, after = x.narrow(axis, 0, x.shape[axis] + after), 0

    def block(amount: int) -> list[Tensor]:
        if isinstance(amount, int) and amount == 0:
            return []
        return [x.new_full((*x.shape[:axis], amount, *x.shape[axis + 1 :]), value)]

    return torch.cat([*block(before), x, *block(after)], axis)
