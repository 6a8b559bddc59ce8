"""Global response normalization (ConvNeXt V2): how strong a channel is among all of them.

    %x: f32[2,4,4,6]
    %1 = aten.linalg_vector_norm.default(%x) {dim=[1, 2], keepdim=true}
    %2 = aten.mean.dim(%1) {dim=[-1], keepdim=true}
    %3 = aten.add.Tensor(%2, 1e-06)
    %y = aten.div.Tensor(%1, %3)
        ->
    %y = nn.global_response_norm(%x) {axes=[1, 2], axis=3}

The product with x, its weight and bias stay beside it.
"""

from __future__ import annotations

import math

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.passes.algebra import in_dtype, line, same, unviewed
from anec.passes.custom_norms.statistics import FOLLOWED, is_kept, kept, mean_of, root
from anec.rewrite import Rule, reject, rewrite, var


@rewrite(aten.div.Tensor(var("length", lambda value: True), var("level", lambda value: True)))
def global_response_norm(op: Op, length: Value, level: Value) -> Value:
    """Norms over their mean along another axis plus epsilon.

    %x: f32[2,6,4,4]
    %1 = aten.linalg_vector_norm.default(%x) {dim=[2, 3], keepdim=true}
    %2 = aten.mean.dim(%1) {dim=[1], keepdim=true}
    %3 = aten.add.Tensor(%2, 1e-06)
    %y = aten.div.Tensor(%1, %3)
        ->
    %y = nn.global_response_norm(%x) {axes=[2, 3], axis=1, epsilon=1e-06}
    """
    found = root(length)
    if found is None or found.centred:
        reject("what is divided is no Euclidean norm")
    read = line(unviewed(level))
    mean = mean_of(read.base)
    if mean is None or not same(mean[0], length) or read.slope != 1 or read.offset < 0:
        reject("it is not divided by the mean of the norms and an epsilon", followed=FOLLOWED)
    shape = kept(found.x.tensor.shape, found.axes)
    if len(mean[1]) != 1 or length.tensor.shape != shape or not is_kept(level, shape, mean[1]):
        reject("the axes do not stay with size 1, or the mean goes over several", followed=FOLLOWED)
    # A root of a mean is shorter than the norm; then the epsilon is as much larger for that.
    epsilon = read.offset * math.sqrt(found.count / found.scale)
    x = in_dtype(found.x, op.result.tensor.dtype)
    return nn.global_response_norm(x, axes=found.axes, axis=mean[1][0], epsilon=epsilon)


RULES: list[Rule] = [global_response_norm]
