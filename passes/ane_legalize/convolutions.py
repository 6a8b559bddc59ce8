"""Strides, kernels and dilations beyond the tables.

    %x: f32[1,3,64,64], %w: f32[32,3,16,16] weight, %b: f32[32] weight
    %y = mil.conv(%x, %w, %b) {strides=[16, 16]}
        ->
    %1 = mil.space_to_depth(%x) {block_size=4}
    %2 = mil.space_to_depth(%1) {block_size=4}
    %3 = mil.space_to_depth(%w) {block_size=4}
    %4 = mil.space_to_depth(%3) {block_size=4}
    %y = mil.conv(%2, %4, %b) {pad_type="valid"}

A patch embedding is a product of blocks; so is any window that steps: with stride s a kernel of k is
one of k / s, rounded up, over blocks of s. Blocks of 16 by 16 become channels by two shuffles of 4,
which the hardware has; those that no shuffles fit are widened first (``widened.py``). Kernels that are
too wide are cut into pieces whose results are added, large dilations into single taps. Weights are
rearranged as constants.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from anec.ane.limits import Limits
from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.blocks import shuffled, shuffles, stepped_to_channels, steps, to_channels
from anec.passes.ane_legalize.rows import folded
from anec.passes.ane_legalize.widened import Widening
from anec.passes.ane_legalize.windows import Convolution, breaks, convolution, window_of
from anec.passes.common import varying
from anec.passes.lower_to_mil.movement import reshaped, sliced
from anec.passes.lower_to_mil.padding import padded
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite, var

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

# A kernel cut into more pieces costs more in sums than it saves; so does a dilated one of more taps than 3 x 3.
_MOST_PIECES = 16
_MOST_TAPS = 9
# Phases of a dilated row lie side by side: fewer would leave rows of 64 bytes part empty (rule A06).
_ROW = 32

conv = mil.conv(varying("x"), rest)
# Most convolutions are of one tap.
spanning = mil.conv(varying("x"), var("w", lambda value: any(size != 1 for size in value.tensor.shape[2:])), rest)


def _short(found: Convolution, limits: Limits) -> Convolution:
    """A conv whose axes fit.

    Raises:
        Reject: they do not; it works in rows first (``rows.py``).
    """
    fits = max(*found.space, *found.counts) <= limits.width
    return found if fits else reject("the axis is too long")


def _largest(limits: Limits, axes: int) -> tuple[int, ...]:
    """The largest kernel along each space axis."""
    return (limits.kernel_height, limits.kernel_width)[-axes:]


@rewrite(conv)
def stride_to_channels(op: Op, ctx: Context, opts: AneLegalize) -> Value:
    """A step that the table lacks, or that a wide kernel takes, is one step over blocks.

    %x: f32[1,4,1,640], %w: f32[8,4,1,10] weight
    %y = mil.conv(%x, %w) {strides=[1, 5]}
        ->
    %1 = mil.reshape(%x, [4, 1, 128, 5])
    %2 = mil.transpose(%1) {perm=[0, 3, 1, 2]}
    %3 = mil.reshape(%2, [1, 20, 1, 128])
    %4 = mil.reshape(%w, [32, 1, 2, 5])
    %5 = mil.transpose(%4) {perm=[0, 3, 1, 2]}
    %6 = mil.reshape(%5, [8, 20, 1, 2])
    %y = mil.conv(%3, %6)
    """
    given = op.attr("strides")
    if not isinstance(given, tuple) or all(step == 1 for step in given) or len(given) > 2:
        reject("it takes single steps, or is over a volume")
    found, limits = convolution(op), opts.limits
    kernel, strides = found.window.kernel, found.window.stride
    largest = _largest(limits, len(kernel))
    wide = any(k > most and s > 1 for k, most, s in zip(kernel, largest, strides, strict=True))
    wide |= strides[-1] > 1 and kernel[-1] > limits.strided_kernel_width
    if not wide and breaks(op, limits, "A26") is None:
        reject("the step is in the table, and the kernel is small")
    if found.space[-1] > limits.width and folded(found.x) is not None:
        reject("its operand is in rows")
    if any(d > 1 and s > 1 and k > 1 for d, s, k in zip(found.window.dilation, strides, kernel, strict=True)):
        reject("it steps and is dilated")
    # A step larger than the kernel leaves entries of a block out.
    kept = tuple(1 if s == 1 else min(k, s) for k, s in zip(kernel, strides, strict=True))
    taps = tuple(math.ceil(k / few) for k, few in zip(kernel, kept, strict=True))
    lengths = tuple(
        size if s == 1 else (count + tap - 1) * s
        for size, s, count, tap in zip(found.space, strides, found.counts, taps, strict=True)
    )
    if any(length // s > limits.width for length, s in zip(lengths, strides, strict=True)):
        reject("there are more blocks than an axis holds")
    outer = [
        (0, 0) if s == 1 else (before, length - size - before)
        for s, (before, _), length, size in zip(strides, found.pads, lengths, found.space, strict=True)
    ]
    x = padded(found.x, [(0, 0), (0, 0), *outer], 0.0)
    missing = [(0, tap * few - k) for tap, few, k in zip(taps, kept, kernel, strict=True)]
    weight = padded(found.weight, [(0, 0), (0, 0), *missing], 0.0)
    whole = kept == strides and found.groups == 1
    factors, widening = shuffles(strides), Widening.of(x, strides, limits)
    if whole and factors is not None:
        # The weight's channels take the same way as the operand's.
        x, weight = shuffled(x, factors), shuffled(weight, factors)
    elif whole and widening is not None:
        x, weight = widening.of_operand(x), widening.of_weight(weight)
    elif kept == strides and (chain := steps(strides)) is not None:
        x = stepped_to_channels(x, chain, op, ctx)
        for step in chain:
            weight = to_channels(weight, step)
    else:
        x, weight = to_channels(x, strides, kept), to_channels(weight, kept)
    inner = [pair if s == 1 else (0, 0) for s, pair in zip(strides, found.pads, strict=True)]
    return found.again(x, weight, window_of(taps, dilation=found.window.dilation), inner)


@rewrite(spanning)
def dilation_to_rows(op: Op, opts: AneLegalize) -> Value:
    """Along one axis, what a large dilation brings together stands in one column.

    %x: f32[1,4,1,640], %w: f32[8,4,1,3] weight
    %y = mil.conv(%x, %w) {dilations=[1, 64]}
        ->
    %1 = mil.reshape(%w, [8, 4, 3, 1])
    %2 = mil.reshape(%x, [1, 4, 10, 64])
    %3 = mil.conv(%2, %1)
    %y = mil.reshape(%3, [1, 8, 1, 512])
    """
    found = _short(convolution(op), opts.limits)
    kernel, (*_, step) = found.window.kernel, found.window.dilation
    if breaks(op, opts.limits, "A28") is None or step < _ROW or any(s != 1 for s in found.window.stride):
        reject("the dilation is small, or it takes larger steps")
    if len(kernel) > 2 or kernel[:-1] not in ((), (1,)) or found.space[:-1] not in ((), (1,)):
        reject("there are several axes")
    (before, after), batch, size = found.pads[-1], found.x.shape[0], found.space[-1]
    if any(pad for pair in found.pads[:-1] for pad in pair):
        reject("there are several axes")
    rows = math.ceil((before + size + after) / step)
    outer = [(0, 0)] * (found.x.rank - 1)
    x = padded(found.x, [*outer, (before, rows * step - size - before)], 0.0)
    weight = reshaped(found.weight, (*found.weight.shape[:2], kernel[-1], 1))
    x = reshaped(x, (batch, x.shape[1], rows, step))
    made = found.again(x, weight, window_of((kernel[-1], 1)), [(0, 0), (0, 0)])
    length = made.shape[2] * step
    flat = reshaped(made, (*made.shape[:2], *(1,) * (len(kernel) - 1), length))
    return sliced(flat, flat.rank - 1, 0, found.counts[-1]) if found.counts[-1] < length else flat


@rewrite(spanning)
def split_kernel(op: Op, opts: AneLegalize) -> Value:
    """A kernel that is too wide or high is cut into pieces, at most sixteen; one of a large dilation into taps.

    %x: f32[1,4,64,64], %w: f32[8,4,1,15] weight, %b: f32[8] weight
    %y = mil.conv(%x, %w, %b) {pad_type="custom", pad=[0, 0, 7, 7]}
        ->
    %1 = mil.slice_by_index(%w, [0, 0, 0, 0], [0, 0, 0, 8]) {begin_mask=[true, true, true, false],
                                                             end_mask=[true, true, true, false]}
    %2 = mil.conv(%x, %1, %b) {pad_type="custom", pad=[0, 0, 7, 0]}
    %3 = mil.slice_by_index(%w, [0, 0, 0, 8], [0, 0, 0, 15]) {begin_mask=[true, true, true, false],
                                                              end_mask=[true, true, true, false]}
    %4 = mil.slice_by_index(%x, [0, 0, 0, 1], [0, 0, 0, 0]) {begin_mask=[true, true, true, false],
                                                             end_mask=[true, true, true, true]}
    %5 = mil.conv(%4, %3) {pad_type="custom", pad=[0, 0, 0, 7]}
    %y = mil.add(%2, %5)
    """
    limits = opts.limits
    found = _short(convolution(op), limits)
    kernel, dilation = found.window.kernel, found.window.dilation
    if len(kernel) > 2:
        reject("it is over a volume")
    dilated = breaks(op, limits, "A28") is not None
    if not dilated and breaks(op, limits, "B05") is None:
        reject("the kernel is small")
    # Dilations up to 4 and of 8 are native (rules A28, B11).
    cuts = [
        _pieces(size, 1 if dilated and step > 4 and step != 8 else most)
        for size, step, most in zip(kernel, dilation, _largest(limits, len(kernel)), strict=True)
    ]
    count = math.prod(map(len, cuts))
    if not 1 < count <= (_MOST_TAPS if dilated else _MOST_PIECES):
        reject(f"the kernel {list(kernel)} would be {count} pieces")
    total: Value | None = None
    for taps in itertools.product(*cuts):
        made = _piece(found, taps, first=total is None)
        if made is not None:
            total = made if total is None else mil.add(total, made)
    return total if total is not None else reject("the windows lie in the padding")


def _pieces(size: int, most: int) -> list[range]:
    """``size`` taps in as few pieces of at most ``most`` as there may be, of even sizes."""
    count = math.ceil(size / most)
    step = math.ceil(size / count)
    return [range(start, min(start + step, size)) for start in range(0, size, step)]


def _piece(found: Convolution, taps: tuple[range, ...], *, first: bool) -> Value | None:
    """What some taps of a kernel give; None where they meet the padding only."""
    x, weight = found.x, found.weight
    pads: list[tuple[int, int]] = []
    window = found.window
    for index, along in enumerate(taps):
        start = along.start * window.dilation[index] - found.pads[index][0]
        reach = (found.counts[index] - 1) * window.stride[index] + (len(along) - 1) * window.dilation[index] + 1
        size = found.space[index]
        if start >= size or start + reach <= 0:
            return None
        pads.append((-start, start + reach - size))
        weight = sliced(weight, 2 + index, along.start, along.stop) if len(along) < window.kernel[index] else weight
    crops = [(min(before, 0), min(after, 0)) for before, after in pads]
    x = padded(x, [(0, 0), (0, 0), *crops], 0.0)
    kept = window_of([len(along) for along in taps], window.stride, window.dilation)
    return found.again(x, weight, kept, [(max(before, 0), max(after, 0)) for before, after in pads], bias=first)


RULES: list[Rule] = [stride_to_channels, dilation_to_rows, split_kernel]
