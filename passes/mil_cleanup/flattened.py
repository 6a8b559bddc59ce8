"""A product over the last axis does not mind how the axes in front of it are seen.

    %x: f32[2,15,48], %w: f32[64,48] weight, %b: f32[64] weight
    %1 = mil.reshape(%x, [30, 48])
    %y = mil.linear(%1, %w, %b)
        ->
    %1 = mil.linear(%x, %w, %b)
    %y = mil.reshape(%1, [30, 64])

Models that flatten batch and sequence in front of a linear (GPT-2's Conv1D) unflatten behind it:
the two views then meet, and the batch keeps its axis.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Value
from anec.ir.opdef import Operand
from anec.passes.common import varying
from anec.rewrite import Rule, constant, optional, reject, rest, rewrite, var

flat = mil.reshape(varying("x"), rest).named("flat")
# Core ML's linear takes no tensor of higher rank.
_MOST_AXES = 3


@rewrite(mil.linear(flat, constant("weight"), optional(var("bias"))))
def linear_before_flattening(x: Value, flat: Value, weight: Value, bias: Operand) -> Value:
    """The linear works on the tensor as it was; its result is flattened.

    %x: f32[2,4,4], %w: f32[3,4] weight
    %1 = mil.reshape(%x, [8, 4])
    %y = mil.linear(%1, %w)        ->    %1 = mil.linear(%x, %w)
                                         %y = mil.reshape(%1, [8, 3])
    """
    if not x.tensor.is_static or flat.rank != 2 or x.rank != _MOST_AXES or x.shape[-1] != flat.shape[-1]:
        reject("what is flattened is no batch of sequences")
    return mil.reshape(mil.linear(x, weight, bias), (flat.shape[0], weight.shape[0]))


RULES: list[Rule] = [linear_before_flattening]
