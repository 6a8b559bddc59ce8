"""Convolutions over volumes as convolutions over their slices.

    %x: f32[1,4,6,8,8], %w: f32[8,4,3,3,3] weight
    %y = mil.conv(%x, %w) {pad_type="custom", pad=[0, 0, 1, 1, 1, 1]}
        ->
    %1 = mil.transpose(%x) {perm=[0, 2, 1, 3, 4]}
    %2 = mil.slice_by_index(%1, [0, 0, 0, 0, 0], [0, 4, 0, 0, 0]) {begin_mask=[true, false, true, true, true],
                                                                   end_mask=[true, false, true, true, true]}
    %3 = mil.slice_by_index(%1, [0, 1, 0, 0, 0], [0, 5, 0, 0, 0]) {begin_mask=[true, false, true, true, true],
                                                                   end_mask=[true, false, true, true, true]}
    %4 = mil.slice_by_index(%1, [0, 2, 0, 0, 0], [0, 6, 0, 0, 0]) {begin_mask=[true, false, true, true, true],
                                                                   end_mask=[true, false, true, true, true]}
    %5 = mil.concat([%2, %3, %4]) {axis=2}
    %6 = mil.squeeze(%5) {axes=[0]}
    %7 = mil.transpose(%w) {perm=[0, 2, 1, 3, 4]}
    %8 = mil.reshape(%7, [8, 12, 3, 3])
    %9 = mil.conv(%6, %8) {pad_type="custom", pad=[1, 1, 1, 1]}
    %10 = mil.expand_dims(%9) {axes=[0]}
    %y = mil.transpose(%10) {perm=[0, 2, 1, 3, 4]}

The slices that a kernel spans are the channels of one convolution, which adds them in a wide format;
the depth is its batch. Rule B25v: convolutions over volumes are never lowered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.windows import breaks, convolution, window_of
from anec.passes.common import varying
from anec.passes.lower_to_mil.movement import joined, reshaped, sliced
from anec.passes.lower_to_mil.shared import filled
from anec.rewrite import Rule, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

# A deeper kernel would hold the volume as many times.
_DEEPEST = 16
_DEPTH_FIRST = (0, 2, 1, 3, 4)


@rewrite(mil.conv(varying("x"), rest))
def volume_to_slices(op: Op, opts: AneLegalize) -> Value:
    """A kernel of depth 1 works on each slice; a deeper one on as many slices as it spans, at most sixteen.

    %x: f32[2,4,6,8,8], %w: f32[8,4,1,3,3] weight
    %y = mil.conv(%x, %w)
        ->     %1 = mil.reshape(mil.transpose(%x) {perm=[0, 2, 1, 3, 4]}, [12, 4, 8, 8])
               %2 = mil.conv(%1, mil.squeeze(%w) {axes=[2]}) {pad_type="valid"}
               %y = mil.transpose(mil.reshape(%2, [2, 6, 8, 6, 6])) {perm=[0, 2, 1, 3, 4]}
    """
    if breaks(op, opts.limits, "B25v") is None:
        reject("it is over no volume")
    found = convolution(op)
    (depth, *kernel), (step, *stride), (apart, *dilation) = (
        found.window.kernel, found.window.stride, found.window.dilation
    )  # fmt: skip
    if depth > _DEEPEST:
        reject(f"the kernel is {depth} deep")
    groups, (batch, channels, *_), count = found.groups, found.x.shape, found.counts[0]
    # Taps that meet the padding only do nothing.
    (before, _), size = found.pads[0], found.x.shape[2]
    taps = [tap for tap in range(depth) if -(count - 1) * step <= tap * apart - before < size]
    if not taps:
        reject("the windows lie in the padding")
    weight = found.weight
    if len(taps) < depth:
        weight = sliced(weight, 2, taps[0], taps[-1] + 1)
        if len(taps) != weight.shape[2]:
            reject("taps that meet the padding lie between others")
    first, last = taps[0] * apart - before, taps[-1] * apart - before + (count - 1) * step
    x = _padded_depth(mil.transpose(found.x, perm=_DEPTH_FIRST), max(-first, 0), max(last - size + 1, 0))
    starts = [tap * apart - before + max(-first, 0) for tap in taps]
    parts = [_every(x, start, count, step) for start in starts]
    space = x.shape[3:]
    if groups > 1 and len(parts) > 1:
        parts = [reshaped(part, (batch * count, groups, channels // groups, *space)) for part in parts]
    frames = reshaped(joined(parts, 2), (batch * count, len(parts) * channels, *space))
    rows, columns = weight.shape[:2]
    if len(parts) > 1:
        weight = mil.transpose(weight, perm=_DEPTH_FIRST)
    weight = reshaped(weight, (rows, len(parts) * columns, *kernel))
    made = found.again(frames, weight, window_of(kernel, stride, dilation), found.pads[1:])
    return mil.transpose(reshaped(made, (batch, count, rows, *found.counts[1:])), perm=_DEPTH_FIRST)


def _every(x: Value, start: int, count: int, step: int) -> Value:
    """``count`` slices of a volume, depth on axis 1."""
    if start == 0 and step == 1 and count == x.shape[1]:
        return x
    return sliced(x, 1, start, start + (count - 1) * step + 1, step)


def _padded_depth(x: Value, before: int, after: int) -> Value:
    """Zeros on axis 1 by concat: pads reach height and width only (rule B26)."""

    def zeros(amount: int) -> list[Value]:
        return [filled((x.shape[0], amount, *x.shape[2:]), 0.0, x.tensor.dtype)] if amount else []

    return joined([*zeros(before), x, *zeros(after)], 1)


RULES: list[Rule] = [volume_to_slices]
