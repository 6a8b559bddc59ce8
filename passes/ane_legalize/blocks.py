"""Moves between space and channels.

    to_channels(%x: f32[1,3,56,56], (14, 14))     ->     %y: f32[1,588,4,4]
    to_space(%x: f32[1,12,4,4], (2, 2))           ->     %y: f32[1,3,8,8]

Both are a reshape, a transpose of at most five axes, and a reshape. Where a block is made of steps that the
hardware takes, no entry is moved by itself: square blocks are shuffles, others convolutions with ones and zeros.

    %x: f32[1,4,1,640]                                          # blocks of 8
    %1 = mil.conv(%x, %one_hot) {strides=[1, 4], groups=4}      # f32[1,16,1,160]
    %y = mil.conv(%1, %one_hot) {strides=[1, 2], groups=16}     # f32[1,32,1,80]

Several steps leave the channels of a block in another order than one: the weight behind them takes the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.conv import one_hot
from anec.passes.lower_to_mil.movement import reshaped, sliced, transposed
from anec.pipeline.base import Context

_FACTORS = (2, 3, 4, 8)
# Kernels of a step stay within the width of the slowest table (rule B08).
_STEPS = (4, 3, 2)

Ints = tuple[int, ...]


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


def steps(blocks: Ints) -> tuple[Ints, ...] | None:
    """Blocks along one axis, or square ones, as native steps one inside the other; None for other blocks."""
    (size,) = sizes if len(sizes := {block for block in blocks if block > 1}) == 1 else (1,)
    found = list[Ints]()
    for factor in _STEPS:
        while size % factor == 0:
            size //= factor
            found.append(tuple(factor if block > 1 else 1 for block in blocks))
    return tuple(found) if size == 1 and found else None


def stepped_to_channels(x: Value, chain: Sequence[Ints], op: Op, ctx: Context) -> Value:
    """Blocks of space as channels by convolutions, one a step; those of an input channel stay side by side."""
    for step in chain:
        channels = x.shape[1]
        pattern = one_hot(op, ctx, channels, step, x.tensor.dtype)
        x = mil.conv(x, pattern, strides=step, pad_type="valid", groups=channels)
    return x


def stepped_to_space(x: Value, chain: Sequence[Ints], op: Op, ctx: Context) -> Value:
    """Channels as blocks of space by shuffles or transposed convolutions.

    The innermost of a block's channels are the phases of the first step.
    """
    for step in chain:
        if len(step) == 2 and step[0] == step[1]:
            x = mil.pixel_shuffle(x, upscale_factor=step[0])
        else:
            channels = x.shape[1] // math.prod(step)
            pattern = one_hot(op, ctx, channels, step, x.tensor.dtype)
            x = mil.conv_transpose(x, pattern, strides=step, pad_type="valid", groups=channels)
    return x


__all__ = ["shuffled", "shuffles", "stepped_to_channels", "stepped_to_space", "steps", "to_channels", "to_space"]
