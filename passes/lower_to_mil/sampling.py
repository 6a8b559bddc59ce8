"""Reading images at computed points: what grid_sample, deformable convolution and RoIAlign share.

Points are pixels: 0 is the middle of the first, size - 1 of the last. Along each axis a point has a
few taps, the pixels around it with a weight each:

    nearest    round(p)                                        1 tap
    bilinear   floor(p) + 0 and 1                              2 taps
    bicubic    floor(p) - 1 to + 2, weights of A = -0.75       4 taps

All taps of all axes, 4 of an image, 8 of a volume, 16 bicubic, are one index into the merged space
axes, hence one gather, one product with the weights, and one sum: the number of ops is fixed. What
is gathered is as often as large as there are taps.

``border`` and ``reflection`` move the points into the image, and for bicubic the taps, as torch
does; ``zeros`` takes the weight from taps outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import reshaped
from anec.passes.lower_to_mil.tap_weights import CUBIC, LINEAR
from anec.passes.lower_to_mil.typing import static, value
from anec.pipeline.base import Context

if TYPE_CHECKING:
    import torch

_POLYNOMIALS = {"bilinear": LINEAR, "bicubic": CUBIC}
_FIRST_TAP = {"bilinear": 0, "bicubic": -1}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How points are read: torch's words.

    Args:
        mode: ``nearest``, ``bilinear`` (trilinear too) or ``bicubic``.
        padding: ``zeros``, ``border`` or ``reflection``.
        align_corners: reflection is about the middles of the border pixels, else about their edges.
    """

    mode: str
    padding: str
    align_corners: bool = False


@dataclass(frozen=True, slots=True)
class Taps:
    """Where points are read: int32 ``[N, T, K]`` into the merged space axes, and float32 weights or None for 1."""

    index: Value
    weight: Value | None


@dataclass(frozen=True, slots=True)
class _Space:
    """The space axes of images, as the last axis of points has them: x first.

    Args:
        op: what constants are named after.
        ctx: the pass's context.
        sizes: of the axes, x first.
    """

    op: Op
    ctx: Context
    sizes: tuple[int, ...]

    def numbers(self, *numbers: float) -> Value | float:
        """One number an axis, or the one that they all are."""
        import torch

        if len(set(numbers)) == 1:
            return numbers[0]
        return constant(self.ctx, self.op, torch.tensor(numbers, dtype=torch.float64), "sizes", DType.F32)

    def clipped(self, points: Value) -> Value:
        """The points, those outside moved to the border."""
        last = self.numbers(*(float(size - 1) for size in self.sizes))
        if isinstance(last, float) and last > 0:
            return mil.clip(points, alpha=0.0, beta=last)  # wants bounds that differ
        return mil.maximum(mil.minimum(points, last), 0.0)

    def inside(self, points: Value, how: Sampling) -> Value:
        """The points moved into the image."""
        if how.padding == "reflection":
            low = 0.0 if how.align_corners else -0.5
            # An axis of one pixel turns nowhere; clipping takes care of it.
            spans = [max(size - 1, 1) if how.align_corners else size for size in self.sizes]
            shifted = mil.sub(points, low) if low else points
            turned = mil.mod(shifted, self.numbers(*(2.0 * span for span in spans)))
            distance = mil.abs(mil.sub(turned, self.numbers(*(float(span) for span in spans))))
            points = mil.sub(self.numbers(*(span + low for span in spans)), distance)
        return self.clipped(points)

    def around(self, points: Value, how: Sampling) -> tuple[Value, Value]:
        """The places of the taps around ``points`` and their weights, both ``[N, T, K, axes]``."""
        import torch

        low = mil.floor(points)
        part = mil.expand_dims(mil.sub(points, low), axes=(1,))
        powers = torch.tensor(_POLYNOMIALS[how.mode], dtype=torch.float64).T
        offsets = torch.arange(powers.shape[1], dtype=torch.float64) + _FIRST_TAP[how.mode]
        places = mil.add(mil.expand_dims(low, axes=(1,)), self.column(offsets))
        weight = self.column(powers[0])
        for power in powers[1:]:
            weight = mil.add(mil.mul(weight, part), self.column(power))
        return places, weight

    def column(self, numbers: torch.Tensor) -> Value:
        """One number a tap."""
        return constant(self.ctx, self.op, numbers.reshape(1, -1, 1, 1), "taps", DType.F32)


def taps(op: Op, ctx: Context, points: Value, sizes: Sequence[int], how: Sampling) -> Taps:
    """Where ``points`` are read.

    Args:
        op: what constants are named after.
        ctx: the pass's context.
        points: float32 ``[N, K, axes]`` in pixels, x first.
        sizes: of the space axes of the images, x last as in their shape.
        how: the mode and the padding.
    """
    space = _Space(op, ctx, tuple(reversed(sizes)))
    zeros = how.padding == "zeros"
    if how.mode != "bicubic" and not zeros:
        points = space.inside(points, how)
    weight: Value | None = None
    if how.mode == "nearest":
        found = mil.expand_dims(mil.round(points), axes=(1,))
        clipped = space.clipped(found) if zeros else found
    else:
        found, weight = space.around(points, how)
        # The tap behind the last pixel has no weight, but is read.
        clipped = space.inside(found, how) if how.mode == "bicubic" else space.clipped(found)
    if zeros:
        seen = value(mil.equal(found, clipped), DType.F32)
        weight = seen if weight is None else mil.mul(weight, seen)
    return _joined(value(clipped, DType.I32), weight, sizes)


def _joined(index: Value, weight: Value | None, sizes: Sequence[int]) -> Taps:
    """The taps of all axes together: tap (i, j) of sizes (n, m) is i * m + j."""
    batch, number, points, count = static(index.tensor)

    def by_axis(x: Value) -> list[Value]:
        """``[N, T, K, axes]`` cut into ``[N, 1, T, 1, K]``, T where the axis stands among the others."""
        parts = mil.split.many(x, num_splits=count, axis=3)
        shapes = [tuple(number if other == at else 1 for other in range(count)) for at in range(count)]
        return [reshaped(part, (batch, *shape, points)) for part, shape in zip(reversed(parts), shapes, strict=True)]

    merged = (batch, number**count, points)
    first, *others = by_axis(index)
    for size, own in zip(sizes[1:], others, strict=True):
        first = mil.add(mil.mul(first, size), own)
    if weight is None:
        return Taps(reshaped(first, merged), None)
    product, *factors = by_axis(weight)
    for factor in factors:
        product = mil.mul(product, factor)
    return Taps(reshaped(first, merged), reshaped(product, merged))


def swapped(x: Value) -> Value:
    """``[a, b, c]`` as ``[b, a, c]``."""
    a, b, c = static(x.tensor)
    return reshaped(x, (b, a, c)) if 1 in (a, b) else mil.transpose(x, perm=(1, 0, 2))


def gathered(op: Op, ctx: Context, x: Value, found: Taps, images: Value | None = None) -> Value:
    """Read ``[N, C, *space]`` at taps and sum them up: ``[C, N, K]``.

    Args:
        op: what constants are named after.
        ctx: the pass's context.
        x: the images; static.
        found: the taps, ``[N, T, K]``, or ``[M, T, K]`` with ``images``.
        images: int32 ``[M]``, which image each row of taps reads; by default its own.
    """
    import torch

    count, channels, *space = x.shape
    total = math.prod(space)
    rows, number, points = found.index.shape
    index = found.index
    if images is not None:
        index = mil.add(index, mil.mul(reshaped(images, (rows, 1, 1)), total))
    elif count > 1:
        starts = torch.arange(count, dtype=torch.int32).reshape(count, 1, 1) * total
        index = mil.add(index, constant(ctx, op, starts, "starts", DType.I32))
    flat = reshaped(swapped(reshaped(x, (count, channels, total))), (channels, count * total))
    picked = mil.gather(flat, reshaped(index, (rows * number * points,)), axis=1)
    if found.weight is None:
        return reshaped(picked, (channels, rows, points))
    picked = reshaped(picked, (channels, rows, number, points))
    weight = reshaped(value(found.weight, x.tensor.dtype), (1, rows, number, points))
    weighted = mil.mul(picked, weight)
    if number == 1:
        return reshaped(weighted, (channels, rows, points))
    return mil.reduce_sum(weighted, axes=(2,), keep_dims=False)
