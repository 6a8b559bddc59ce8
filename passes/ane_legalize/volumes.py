"""Convolutions over volumes as convolutions over their slices.

    %x: f32[1,4,4,8,8], %w: f32[8,4,3,3,3] weight
    %y = mil.conv(%x, %w) {pad_type="custom", pad=[0, 0, 1, 1, 1, 1]}
        ->
    %a, %b, %c, %d = mil.split(%x) {num_splits=4, axis=2}
    %1 = mil.concat([%a, %b, %c, %d]) {axis=0}
    %2 = mil.squeeze(%1) {axes=[2]}
    %3 = mil.slice_by_index(%2, [0, 0, 0, 0], [2, 0, 0, 0]) {begin_mask=[false, true, true, true],
                                                             end_mask=[false, true, true, true]}
    %4 = mil.slice_by_index(%2, [1, 0, 0, 0], [3, 0, 0, 0]) {begin_mask=[false, true, true, true],
                                                             end_mask=[false, true, true, true]}
    %5 = mil.slice_by_index(%2, [2, 0, 0, 0], [4, 0, 0, 0]) {begin_mask=[false, true, true, true],
                                                             end_mask=[false, true, true, true]}
    %6 = mil.concat([%3, %4, %5]) {axis=1}
    %7 = mil.transpose(%w) {perm=[0, 2, 1, 3, 4]}
    %8 = mil.reshape(%7, [8, 12, 3, 3])
    %9 = mil.conv(%6, %8) {pad_type="custom", pad=[1, 1, 1, 1]}
    %10 = mil.expand_dims(%9) {axes=[2]}
    %11, %12 = mil.split(%10) {num_splits=2, axis=0}
    %y = mil.concat([%11, %12]) {axis=2}

The slices that a kernel spans are the channels of one convolution, which adds them in a wide format;
the depth is its batch, also for what stands between two of them (``frames.py``). A kernel of one entry along another
axis has that as its batch. Rule B25v: convolutions over volumes are never lowered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.frames import DEEPEST, frames_of, taps
from anec.passes.ane_legalize.windows import Ints, breaks, convolution, window_of
from anec.passes.common import varying
from anec.passes.lower_to_mil.movement import joined, reshaped, sliced, transposed
from anec.rewrite import Rule, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize


@rewrite(mil.conv(varying("x"), rest))
def volume_to_slices(op: Op, opts: AneLegalize) -> Value:
    """A kernel of depth 1 works on each slice; a deeper one on as many slices as it spans, at most sixteen.

    %x: f32[1,4,3,8,8], %w: f32[8,4,1,3,3] weight
    %y = mil.conv(%x, %w)
        ->
    %a, %b, %c = mil.split(%x) {num_splits=3, axis=2}
    %1 = mil.concat([%a, %b, %c]) {axis=0}
    %2 = mil.squeeze(%1) {axes=[2]}
    %3 = mil.squeeze(%w) {axes=[2]}
    %4 = mil.conv(%2, %3)
    %5 = mil.expand_dims(%4) {axes=[2]}
    %6, %7, %8 = mil.split(%5) {num_splits=3, axis=0}
    %y = mil.concat([%6, %7, %8]) {axis=2}
    """
    if breaks(op, opts.limits, "B25v") is None:
        reject("it is over no volume")
    found = convolution(op)
    kernel = found.window.kernel
    place = _framed(kernel)
    within = [at for at in range(len(kernel)) if at != place]
    depth, step, apart = kernel[place], found.window.stride[place], found.window.dilation[place]
    if depth > DEEPEST:
        reject(f"the kernel is {depth} deep")
    count, (before, _), size = found.counts[place], found.pads[place], found.space[place]
    # Taps that meet the padding only do nothing.
    kept = [tap for tap in range(depth) if -(count - 1) * step <= tap * apart - before < size]
    if not kept:
        reject("the windows lie in the padding")
    weight = found.weight
    if len(kept) < depth:
        weight = sliced(weight, 2 + place, kept[0], kept[-1] + 1)
        if len(kept) != weight.shape[2 + place]:
            reject("taps that meet the padding lie between others")
    frames = frames_of(found.x, 2 + place)
    parts = taps(frames, [tap * apart - before for tap in kept], count, step)
    joint = _beside(parts, interleaved=found.groups > 1)
    # Groups take their channels side by side, so there the taps lie inside.
    order = (1, 2 + place) if found.groups > 1 or len(parts) == 1 else (2 + place, 1)
    weight = transposed(weight, (0, *order, *(2 + at for at in within)))
    rows, columns = weight.shape[0], found.weight.shape[1]
    weight = reshaped(weight, (rows, len(parts) * columns, *(kernel[at] for at in within)))
    stride, dilation = ([sizes[at] for at in within] for sizes in (found.window.stride, found.window.dilation))
    window = window_of([kernel[at] for at in within], stride, dilation)
    return frames.of(found.again(joint, weight, window, [found.pads[at] for at in within])).volume


def _beside(parts: Sequence[Value], *, interleaved: bool) -> Value:
    if interleaved and len(parts) > 1:
        return mil.concat(list(parts), axis=1, interleave=True)
    return joined(parts, 1)


def _framed(kernel: Ints) -> int:
    """The space axis along which frames lie: the depth, or the only one of a single entry."""
    single = [at for at, size in enumerate(kernel) if size == 1]
    return single[0] if len(single) == 1 else 0


RULES: list[Rule] = [volume_to_slices]
