"""Transposed convolutions beyond the tables as convolutions of blocks.

    %x: f32[1,4,1,100], %w: f32[4,8,1,16] weight
    %y = mil.conv_transpose(%x, %w) {strides=[1, 8], pad_type="custom", pad=[0, 0, 4, 4]}
        ->
    %1 = mil.pad(%w, [0, 0, 0, 0, 0, 0, 4, 4])
    %2 = mil.reshape(%1, [4, 8, 3, 4, 2])
    %3 = mil.transpose(%2) {perm=[1, 4, 3, 0, 2]}
    %4 = mil.reshape(%3, [64, 4, 1, 3])
    %5 = mil.reverse(%4) {axes=[2, 3]}
    %6 = mil.conv(%x, %5) {pad_type="custom", pad=[0, 0, 1, 1]}
    %7 = mil.conv_transpose(%6, %one_hot) {strides=[1, 4], groups=16}
    %y = mil.conv_transpose(%7, %one_hot_1) {strides=[1, 2], groups=8}

Each step of the operand gives a block of results: their phases are channels of one convolution, which native
steps lay side by side (``blocks.py``). Zeros in front of the kernel put the first result at the beginning of a
block, so that nothing is cut off there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.blocks import stepped_to_space, steps, to_space
from anec.passes.ane_legalize.rows import Rows, unfolded
from anec.passes.ane_legalize.windows import Convolution, Ints, breaks, convolution, window_of
from anec.passes.common import varying
from anec.passes.lower_to_mil.conv import convolved
from anec.passes.lower_to_mil.movement import rearranged, reshaped, sliced
from anec.passes.lower_to_mil.padding import padded
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize


@rewrite(mil.conv_transpose(varying("x"), rest))
def transposed_as_conv(op: Op, ctx: Context, opts: AneLegalize) -> Value:
    """Blocks of results are channels; where they are too many for one row, they stand in rows."""
    found, limits = convolution(op), opts.limits
    kernel, strides, counts = found.window.kernel, found.window.stride, found.counts
    if len(kernel) > 2 or any(step != 1 for step in found.window.dilation):
        reject("it is dilated, or over a volume")
    long = counts[-1] > limits.width and math.prod(counts[:-1]) == 1
    wide = kernel[-1] > limits.strided_kernel_width
    if not long and not wide and breaks(op, limits, "B05", "A26") is None:
        reject("the kernel and the step are in the tables")
    shifts = tuple(-before % step for (before, _), step in zip(found.pads, strides, strict=True))
    taps = tuple(math.ceil((k + shift) / step) for k, shift, step in zip(kernel, shifts, strides, strict=True))
    blocks = [math.ceil(count / step) for count, step in zip(counts, strides, strict=True)]
    if any(size > limits.width for size in (*found.space, *blocks)):
        reject("there are more blocks than an axis holds")
    rows = Rows.of(counts[-1], strides[-1], limits) if long else None
    if rows is not None:
        blocks[-1] = rows.count * rows.length // strides[-1]
    x, pads = found.x, []
    for (before, _), shift, step, tap, block, size in zip(
        found.pads, shifts, strides, taps, blocks, found.space, strict=True
    ):
        first = (before + shift) // step
        pads.append((tap - 1 - first, first + block - size))
    x = padded(x, [(0, 0), (0, 0), *((min(before, 0), min(after, 0)) for before, after in pads)], 0.0)
    kept = [(max(before, 0), max(after, 0)) for before, after in pads]
    chain = steps(strides) if rows is None else None
    weight = _phases(found, shifts, taps, chain or (strides,))
    made = convolved(x, weight, _repeated(found), window_of(taps), found.groups, kept)
    channels = made.shape[1] // math.prod(strides)
    if rows is not None:
        return unfolded(to_space(made, strides, (x.shape[0], channels, rows.count, rows.length)), counts[-1], x.rank)
    made = stepped_to_space(made, chain, op, ctx) if chain is not None else to_space(made, strides)
    for index, count in enumerate(counts, 2):
        made = sliced(made, index, 0, count) if count < made.shape[index] else made
    return made


def _phases(found: Convolution, shifts: Ints, taps: Ints, chain: Sequence[Ints]) -> Value:
    """The weight as that of a conv: the phases of each output channel beside each other, of the first step inmost."""
    strides, kernel = found.window.stride, found.window.kernel
    room = [(s, tap * step - k - s) for s, tap, step, k in zip(shifts, taps, strides, kernel, strict=True)]
    weight = padded(found.weight, [(0, 0), (0, 0), *room], 0.0)
    groups, count = found.groups, len(kernel)
    columns, rows = weight.shape[0] // groups, weight.shape[1]
    # Each axis is its taps, then the steps of a block, the first of which is the outermost.
    parts = [part for axis, tap in enumerate(taps) for part in (tap, *(step[axis] for step in chain))]
    places = [range(3 + axis * (1 + len(chain)), 3 + (axis + 1) * (1 + len(chain))) for axis in range(count)]
    phases = [place[1 + step] for step in reversed(range(len(chain))) for place in places]
    perm = (0, 2, *phases, 1, *(place[0] for place in places))
    shape = (groups * rows * math.prod(strides), columns, *taps)
    weight = rearranged(weight, (groups, columns, rows, *parts), perm, shape)
    return mil.reverse(weight, axes=tuple(range(2, 2 + count))) if any(tap > 1 for tap in taps) else weight


def _repeated(found: Convolution) -> Value | None:
    """The bias, once for each phase."""
    if found.bias is None:
        return None
    channels, phases = found.bias.shape[0], math.prod(found.window.stride)
    if phases == 1:
        return found.bias
    return reshaped(mil.tile(reshaped(found.bias, (channels, 1)), (1, phases)), (channels * phases,))


RULES: list[Rule] = [transposed_as_conv]
