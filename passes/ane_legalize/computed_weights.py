"""Convolutions whose weights the model computes, as products of matrices.

    %x: f32[1,4,8,8], %w: f32[6,4,3,3]
    %y = mil.conv(%x, %w) {pad_type="same"}
        ->
    %1 = mil.conv(%x, %one_hot) {pad_type="same", groups=4}
    %2 = mil.reshape(%1, [1, 1, 36, 64])
    %3 = mil.reshape(%w, [1, 1, 6, 36])
    %4 = mil.matmul(%3, %2)
    %y = mil.reshape(%4, [1, 6, 8, 8])

    %x: f32[1,4,8,8], %w: f32[4,6,2,2]
    %y = mil.conv_transpose(%x, %w) {strides=[2, 2]}
        ->
    %1 = mil.reshape(%w, [1, 1, 4, 24])
    %2 = mil.reshape(%x, [1, 1, 4, 64])
    %3 = mil.matmul(%1, %2) {transpose_x=true}
    %4 = mil.reshape(%3, [1, 24, 8, 8])
    %y = mil.conv_transpose(%4, %one_hot) {strides=[2, 2], groups=6}

Dynamic and modulated convolutions (CondConv, SOLO's heads, StyleGAN2) are written so, often with the
batch in the groups. The constant convolution lays a window's entries beside each other, and the
transposed one adds them where they belong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.windows import breaks
from anec.passes.common import tensor
from anec.passes.lower_to_mil.conv import one_hot, spread
from anec.passes.lower_to_mil.movement import reshaped
from anec.pipeline.base import Context
from anec.rewrite import Rule, any_of, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

# The entries of a window: the constant weight has their square for each channel.
_MOST_ENTRIES = 49
_x, _weight = tensor("x"), tensor("weight")


# The largest numbers would cancel: both sides then hold the rounding of their sums, taken in another order.
@rewrite(any_of(mil.conv(_x, _weight, rest), mil.conv_transpose(_x, _weight, rest)), edges=False)
def product_of_weights(op: Op, x: Value, weight: Value, ctx: Context, opts: AneLegalize) -> Value:
    """A convolution over an image whose weight is computed; its bias is added."""
    bias, groups, result = op.operand("bias"), op.attr("groups"), op.results[0]
    if breaks(op, opts.limits, "B25") is None:
        reject("the weight is constant")
    if x.rank != 4 or not all(v.tensor.is_static for v in (x, weight, result)):
        reject("the sizes are symbolic, or it is no image")
    assert isinstance(groups, int)
    kernel = weight.shape[2:]
    count = math.prod(kernel)
    if count > _MOST_ENTRIES:
        reject(f"a window has {count} entries")
    attrs = {name: given for name, given in op.attrs.items() if name != "groups"}
    if op.defn is mil.conv_transpose:
        entries, pattern, channels = spread(op, ctx, x, weight, groups)
        made = mil.conv_transpose(entries, pattern, **attrs, groups=channels)
    else:
        batch, channels, *_ = x.shape
        # Padding may give back the size that strides take.
        strides = op.attr("strides")
        stepped = isinstance(strides, tuple) and any(step != 1 for step in strides)
        if count > 1 or stepped or x.shape[2:] != result.shape[2:]:
            x = mil.conv(x, one_hot(op, ctx, channels, kernel, x.tensor.dtype), **attrs, groups=channels)
        terms = x.shape[1] // groups
        columns = reshaped(x, (batch, groups, terms, math.prod(x.shape[2:])))
        matrix = reshaped(weight, (1, groups, weight.shape[0] // groups, terms))
        made = reshaped(mil.matmul(matrix, columns), result.shape)
    return made if bias is None else mil.add(made, mil.reshape(bias, (1, result.shape[1], 1, 1)))


RULES: list[Rule] = [product_of_weights]
