"""Blocks that no shuffle makes channels of, widened by zeros to blocks that one does.

    %x: f32[1,3,28,28], %w: f32[8,3,7,7] weight
    %y = mil.conv(%x, %w) {strides=[7, 7]}
        ->
    %1 = mil.fill([28, 28]) {value=1.0}
    %2 = mil.band_part(%1) {lower=0, upper=0}
    %3 = mil.reshape(%2, [28, 4, 7])
    %4 = mil.pad(%3, [0, 0, 0, 0, 0, 1])
    %5 = mil.reshape(%4, [28, 32])
    %6 = mil.matmul(%x, %5)
    %7 = mil.transpose(%5) {perm=[1, 0]}
    %8 = mil.expand_dims(%7) {axes=[0, 1]}
    %9 = mil.matmul(%8, %6)
    %10 = mil.space_to_depth(%9) {block_size=8}
    %11 = mil.pad(%w, [0, 0, 0, 0, 0, 1, 0, 1])
    %12 = mil.space_to_depth(%11) {block_size=8}
    %y = mil.conv(%10, %12)

Products with ones and zeros are exact, and the hardware's fastest ops; the moves they stand for write the image three
times, entry by entry. Patches of 14 are pairs of blocks of 7: a shuffle by 2 comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ane.limits import Limits
from anec.dialects import mil
from anec.ir.graph import Value
from anec.ir.types import DType
from anec.passes.ane_legalize.blocks import Ints, shuffled, shuffles
from anec.passes.lower_to_mil.movement import reshaped
from anec.passes.lower_to_mil.padding import padded

_NATIVE = (8, 4, 3, 2)
_WIDEST = 16


@dataclass(frozen=True, slots=True)
class Widening:
    """How blocks become channels.

    Args:
        first: the factors of the shuffles that come first.
        block: what is left of a block, along each of two axes.
        wide: the size it is widened to.
        then: the factors of the shuffles behind.
    """

    first: Ints
    block: int
    wide: int
    then: Ints

    @staticmethod
    def of(x: Value, blocks: Ints, limits: Limits) -> Widening | None:
        """The widening of an image's blocks; None where they are not square, or its matrices do not fit the chip."""
        if len(blocks) != 2 or blocks[0] != blocks[1] or x.rank != 4:
            return None
        block, first = blocks[0], list[int]()
        for factor in _NATIVE:
            while block % factor == 0 and block > factor:
                block //= factor
                first.append(factor)
        wide = next((size for size in range(block + 1, _WIDEST + 1) if shuffles((size, size))), None)
        then = shuffles((wide, wide)) if wide is not None else None
        if wide is None or then is None:
            return None
        longest = max(x.shape[2:]) * block // blocks[0]
        if 2 * longest * longest * wide // block > limits.working_set:
            return None
        return Widening(tuple(first), block, wide, then)

    def of_operand(self, x: Value) -> Value:
        """An image with its blocks as channels."""
        x = shuffled(x, self.first)
        height, width = x.shape[2:]
        x = mil.matmul(x, self._matrix(width, x.tensor.dtype))
        rows = mil.transpose(self._matrix(height, x.tensor.dtype), perm=(1, 0))
        return shuffled(mil.matmul(mil.expand_dims(rows, axes=(0, 1)), x), self.then)

    def of_weight(self, weight: Value) -> Value:
        """A kernel of whole blocks in the same way."""
        weight = shuffled(weight, self.first)
        for axis in (2, 3):
            shape = weight.shape
            count = shape[axis] // self.block
            blocks = reshaped(weight, (*shape[:axis], count, self.block, *shape[axis + 1 :]))
            around = [(0, 0)] * blocks.rank
            around[axis + 1] = (0, self.wide - self.block)
            weight = reshaped(padded(blocks, around, 0.0), (*shape[:axis], count * self.wide, *shape[axis + 1 :]))
        return shuffled(weight, self.then)

    def _matrix(self, size: int, dtype: DType) -> Value:
        """[size, size * wide / block]: each entry of a block to its place in a wider one."""
        ones = mil.band_part(mil.fill(shape=(size, size), value=1.0), lower=0, upper=0)
        blocks = reshaped(ones, (size, size // self.block, self.block))
        wider = padded(blocks, [(0, 0), (0, 0), (0, self.wide - self.block)], 0.0)
        matrix = reshaped(wider, (size, size // self.block * self.wide))
        return matrix if dtype is DType.F32 else mil.cast(matrix, dtype="fp16")
