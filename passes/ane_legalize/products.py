"""A product with a constant matrix along one axis: what lookups and running sums become.

    along(%x: f32[2,6,8], 1, %m: f32[4,6])     ->     %1 = mil.expand_dims(%x) {axes=[2]}
                                                      %2 = mil.expand_dims(%m) {axes=[2, 3]}
                                                      %3 = mil.conv(%1, %2)
                                                      %y = mil.squeeze(%3) {axes=[2]}

Products add in a wide format and round once, whatever the format of their operands (rule B50). They are exact for
finite numbers: an infinite one makes NaN of what it meets with a factor 0, so masks are left alone.
"""

from __future__ import annotations

import math

from anec.ane.limits import Limits
from anec.dialects import mil
from anec.ir.facts import Facts
from anec.ir.graph import Value
from anec.ir.types import DType
from anec.passes.ane_legalize.finite import holds_infinity
from anec.passes.lower_to_mil.movement import reshaped
from anec.rewrite import reject

# Multiply-adds beyond which moving to the CPU and back is the lesser evil: 5 ms at the 800 GFLOP/s of rule B61.
_MOST = 1 << 31


def check_product(x: Value, axis: int, rows: int, limits: Limits, facts: Facts) -> None:
    """Decline a product along ``axis`` of ``x`` that gives ``rows`` numbers there, where it costs too much.

    Raises:
        Reject: x is symbolic or holds no floats; the matrix in float16 is larger than the working set of the chip;
            there are too many multiply-adds; x as an image with that axis as channels is beyond the limits; or x
            holds the infinity of a mask.
    """
    if not x.tensor.is_static or not x.tensor.dtype.is_float:
        reject(f"%{x.name} is {x.tensor}")
    if axis < x.rank - 1:
        within = (limits.batch, limits.channels, limits.width, limits.width)
        if any(size > most for size, most in zip(_image(x, axis), within, strict=True)):
            reject(f"{x.tensor} is beyond the limits as an image of {list(_image(x, axis))}")
    elements = rows * x.shape[axis]
    if 2 * elements > limits.working_set:
        reject(f"a matrix of {rows} x {x.shape[axis]} is beyond the {limits.working_set} bytes the chip holds")
    if math.prod(x.shape) * rows > _MOST:
        reject(f"a product of {rows} x {x.shape[axis]} along axis {axis} of {x.tensor} takes too many multiply-adds")
    check_finite(x, facts)


def check_finite(x: Value, facts: Facts) -> None:
    """Decline products with zeros of what a mask has made infinite.

    Raises:
        Reject: x may hold such a number.
    """
    if holds_infinity(x, facts):
        reject(f"%{x.name} may hold an infinite number, and 0 times that is none")


def along(x: Value, axis: int, matrix: Value) -> Value:
    """``matrix``, [rows, columns], applied to each line of ``x`` along ``axis``; at most five ops.

    The last axis is a linear, any other a convolution of kernel 1 with that axis as its channels; the last axis stays
    the last one.
    """
    rows = matrix.shape[0]
    shape = (*x.shape[:axis], rows, *x.shape[axis + 1 :])
    matrix = matrix if x.tensor.dtype is DType.F32 else mil.cast(matrix, dtype="fp16")
    if axis == x.rank - 1:
        if x.rank == 4:
            # Four axes as they are: linear takes three.
            return mil.matmul(x, matrix, transpose_y=True)
        lines = x if x.rank in (2, 3) else reshaped(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        return reshaped(mil.linear(lines, matrix), shape)
    made = mil.conv(reshaped(x, _image(x, axis)), mil.expand_dims(matrix, axes=(2, 3)), pad_type="valid")
    return reshaped(made, shape)


def _image(x: Value, axis: int) -> tuple[int, int, int, int]:
    """The shape of ``x`` with ``axis``, not the last one, as channels."""
    after = x.shape[axis + 1 :]
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(after[:-1]), after[-1]
