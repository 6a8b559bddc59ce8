"""nn ops that change nothing: resizes to the same size, pools of single elements, shuffles of one.

    %x: f32[1,3,8,8]
    %y = nn.interpolate(%x) {size=[8, 8], mode="bilinear"}     ->     %x

Models written for any size do this at the size they were exported with.
"""

from __future__ import annotations

from anec.dialects import nn
from anec.ir.graph import Op, Value
from anec.passes.common import tensor
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x, factor = tensor("x"), var("factor")


@rewrite(nn.interpolate(x, rest))
def drop_resize(op: Op, x: Value) -> Value:
    """A resize to the size there is; every mode then samples the elements themselves.

    %x: f32[1,3,8,8]
    %y = nn.interpolate(%x) {size=[8, 8], mode="bicubic"}     ->     %x
    """
    scales = op.attr("scales")
    if x.type != op.result.type:
        reject("the size changes")
    if scales is not None and any(s not in (None, 1.0) for s in (scales if isinstance(scales, tuple) else (scales,))):
        reject("a scale that is not the ratio of the sizes is in force")
    return x


@rewrite(any_of(nn.adaptive_avg_pool(x, rest), nn.adaptive_max_pool(x, rest)))
def drop_pool(op: Op, x: Value) -> Value:
    """An adaptive pool to the size there is has windows of one element.

    %x: f32[1,512,7,7]
    %y = nn.adaptive_avg_pool(%x) {size=[7, 7]}     ->     %x
    """
    return x if x.type == op.result.type else reject("the size changes")


@rewrite(any_of(nn.pixel_shuffle(x, rest), nn.pixel_unshuffle(x, rest), nn.channel_shuffle(x, rest)))
def drop_shuffle(op: Op, x: Value) -> Value:
    """A shuffle by a factor of 1, or of one channel a group.

    %y = nn.channel_shuffle(%x) {groups=1}     ->     %x
    """
    if op.defn.root != "channel_shuffle":
        return x if op.attr("factor") == 1 else reject("the factor is not 1")
    return x if op.attr("groups") in (1, x.tensor.shape[1]) else reject("channels change places")


@rewrite(
    any_of(
        nn.pixel_unshuffle(nn.pixel_shuffle(x, factor=factor), factor=factor),
        nn.pixel_shuffle(nn.pixel_unshuffle(x, factor=factor), factor=factor),
    )
)
def cancel_shuffles(x: Value) -> Value:
    """A shuffle and its inverse.

    %x: f32[1,8,5,5]
    %1 = nn.pixel_shuffle(%x) {factor=2}
    %y = nn.pixel_unshuffle(%1) {factor=2}     ->     %x
    """
    return x


RULES: list[Rule] = [drop_resize, drop_pool, drop_shuffle, cancel_shuffles]
