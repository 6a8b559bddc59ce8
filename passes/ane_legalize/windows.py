"""Convolutions as the rules beside it see them, and the moves between space and channels.

    to_channels(%x: f32[1,3,56,56], (14, 14))     ->     %y: f32[1,588,4,4]
    to_space(%x: f32[1,12,4,4], (2, 2))           ->     %y: f32[1,3,8,8]

Both are a reshape, a transpose of at most five axes, and a reshape; or shuffles, where the order of the channels is
free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anec.ane import CATALOGUE
from anec.ane.limits import Limits
from anec.ane.site import Site
from anec.dialects import mil
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.passes.common import known
from anec.passes.lower_to_mil.conv import Window, convolved
from anec.passes.lower_to_mil.movement import reshaped, sliced, transposed
from anec.passes.mil_cleanup.pads import own_pads
from anec.rewrite import reject

_FACTORS = (2, 3, 4, 8)

Ints = tuple[int, ...]
Pads = Sequence[tuple[int, int]]


def breaks(op: Op, limits: Limits, *rules: str) -> str | None:
    """What the first of these rules of the catalogue says of an op of static sizes; None where all are silent."""
    site = Site(op, limits, {})
    found = (test(site) for rule in rules if (test := CATALOGUE.by_id[rule].test) is not None)
    return next((reason for reason in found if reason is not None), None)


@dataclass(frozen=True, slots=True)
class Convolution:
    """A conv or conv_transpose of static sizes with constant weights.

    Args:
        x: its operand.
        weight: [C_out, C_in / groups, *kernel], of a conv_transpose [C_in, C_out / groups, *kernel].
        bias: [C_out], if there is one.
        window: kernel, stride and dilation; its padding says nothing.
        pads: (before, after) a space axis.
        groups: of channels.
        counts: the sizes of the result's space axes.
    """

    x: Value
    weight: Value
    bias: Value | None
    window: Window
    pads: tuple[tuple[int, int], ...]
    groups: int
    counts: Ints

    @property
    def space(self) -> Ints:
        """The sizes of the operand's space axes."""
        return self.x.shape[2:]

    def again(self, x: Value, weight: Value, window: Window, pads: Pads, *, bias: bool = True) -> Value:
        """A conv with the same bias and groups."""
        return convolved(x, weight, self.bias if bias else None, window, self.groups, pads)


def window_of(kernel: Sequence[int], stride: Sequence[int] = (), dilation: Sequence[int] = ()) -> Window:
    """A window whose steps are 1 where nothing else is said."""
    ones = (1,) * len(kernel)
    return Window(tuple(kernel), tuple(stride) or ones, (0,) * len(kernel), tuple(dilation) or ones)


def convolution(op: Op) -> Convolution:
    """A conv or conv_transpose, read.

    Raises:
        Reject: sizes are symbolic, weights are computed, or the padding depends on the size.
    """
    x, weight, bias, result = op.value("x"), op.value("weight"), op.operand("bias"), op.results[0]
    if not x.tensor.is_static or not result.tensor.is_static:
        reject("sizes are symbolic")
    if not known(weight) or not (bias is None or (isinstance(bias, Value) and known(bias))):
        reject("the weights are not constant")
    pads, groups = own_pads(op, x.rank), op.attr("groups")
    assert isinstance(groups, int)
    kernel = weight.shape[2:]
    steps = [_steps(op.attr(name), len(kernel)) for name in ("strides", "dilations")]
    pairs = tuple(zip(pads[::2], pads[1::2], strict=True))
    return Convolution(x, weight, bias, window_of(kernel, *steps), pairs, groups, result.shape[2:])


def _steps(given: Attr, count: int) -> Ints:
    steps = tuple(step for step in given if isinstance(step, int)) if isinstance(given, tuple) else ()
    return steps or (1,) * count


def to_channels(x: Value, blocks: Ints, kept: Ints | None = None) -> Value:
    """Blocks of space as channels: entry (c, i, j) of a block is channel (c * block + i) * block + j.

    Args:
        x: [batch, channels, *space]; each size is a multiple of its block.
        blocks: the size of a block along each space axis.
        kept: how many entries of a block are kept, from its beginning; all by default.
    """
    batch, channels, *space = x.shape
    kept = kept or blocks
    counts = [size // block for size, block in zip(space, blocks, strict=True)]
    shape = (batch, channels * math.prod(kept), *counts)
    if kept == blocks and math.prod(counts) == 1:
        return reshaped(x, shape)
    # Blocks of one entry have no axis. Others keep theirs: joined, axes may be too long.
    sizes, outer, inner = [batch * channels], list[int](), list[int]()
    for count, block in zip(counts, blocks, strict=True):
        outer.append(len(sizes))
        sizes.append(count)
        if block > 1:
            inner.append(len(sizes))
            sizes.append(block)
    x = reshaped(x, sizes)
    for axis, few in zip(inner, (few for few, block in zip(kept, blocks, strict=True) if block > 1), strict=True):
        x = sliced(x, axis, 0, few) if few < x.shape[axis] else x
    return reshaped(transposed(x, (0, *inner, *outer)), shape)


def shuffles(blocks: Ints) -> Ints | None:
    """The factors of at most two shuffles in a row that make such blocks channels; None for other blocks.

    The hardware shuffles by these factors (rule B20).
    """
    if len(blocks) != 2 or blocks[0] != blocks[1]:
        return None
    chains = [(factor,) for factor in _FACTORS] + [(a, b) for a in _FACTORS for b in _FACTORS if a >= b]
    return next((chain for chain in chains if math.prod(chain) == blocks[0]), None)


def shuffled(x: Value, factors: Ints) -> Value:
    """Blocks of space as channels by shuffles: the channels of an entry of a block lie side by side."""
    for factor in factors:
        x = mil.space_to_depth(x, block_size=factor)
    return x


def to_space(x: Value, blocks: Ints, shape: Sequence[int] | None = None) -> Value:
    """Channels as blocks of space, the inverse of :func:`to_channels`.

    Args:
        x: [batch, channels * blocks, *space].
        blocks: the size of a block along each space axis.
        shape: how the result is seen; by default [batch, channels, *space * blocks].
    """
    batch, channels, *space = x.shape
    channels //= math.prod(blocks)
    real = [block for block in blocks if block > 1]
    perm, phases = [0], iter(range(1, len(real) + 1))
    for axis, block in enumerate(blocks, len(real) + 1):
        perm += [axis, next(phases)] if block > 1 else [axis]
    whole = (batch, channels, *(size * block for size, block in zip(space, blocks, strict=True)))
    return reshaped(transposed(reshaped(x, (batch * channels, *real, *space)), perm), shape or whole)


__all__ = [
    "Convolution",
    "Ints",
    "Pads",
    "breaks",
    "convolution",
    "shuffled",
    "shuffles",
    "to_channels",
    "to_space",
    "window_of",
]
