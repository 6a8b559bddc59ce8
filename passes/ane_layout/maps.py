"""A linear over a whole feature map is a convolution of its size.

    %x: f32[2,8,6,6], %w: f32[32,288] weight, %b: f32[32] weight
    %1 = mil.reshape(%x, [2, 288])
    %y = mil.linear(%1, %w, %b)
        ->
    %1 = mil.reshape(%w, [32, 8, 6, 6])
    %2 = mil.conv(%x, %1, %b) {pad_type="valid"}
    %y = mil.squeeze(%2) {axes=[2, 3]}

Classifiers of the first convolutional networks (AlexNet, VGG) begin so. The map stays as it is, where a view of it
as one row a channel leaves most of its memory empty (rule A06).
"""

from __future__ import annotations

from anec.ane.limits import limits_of
from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import only_use, varying
from anec.rewrite import Rule, constant, optional, reject, rest, rewrite, var

_LIMITS = limits_of("M1")


@rewrite(mil.linear(mil.reshape(varying("x"), rest).named("flat"), constant("weight"), optional(var("bias"))))
def linear_of_map(x: Value, flat: Value, weight: Value, bias: Operand, op: Op) -> Value:
    """A window as large as the map, at its only place, where the hardware has kernels of that size (rule B05)."""
    if not x.tensor.is_static or x.rank != 4 or flat.rank != 2 or flat.tensor.shape[0] != x.tensor.shape[0]:
        reject("what it takes is no feature map")
    _, channels, height, width = x.shape
    if height * width == 1 or height > _LIMITS.kernel_height or width > _LIMITS.kernel_width:
        reject("the map is larger than a kernel may be, or is none")
    if not only_use(flat):
        reject("the view has other users")
    window = mil.reshape(weight, (weight.shape[0], channels, height, width))
    return mil.squeeze(mil.conv(x, window, bias, pad_type="valid"), axes=(2, 3))


RULES: list[Rule] = [linear_of_map]
