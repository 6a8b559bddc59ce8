"""A product over the last axis does not mind how the axes in front of it are seen.

    %x: f32[2,15,48], %w: f32[64,48] weight, %b: f32[64] weight
    %1 = mil.reshape(%x, [30, 48])
    %y = mil.linear(%1, %w, %b)
        ->
    %1 = mil.linear(%x, %w, %b)
    %y = mil.reshape(%1, [30, 64])

Models that flatten batch and sequence in front of a linear (GPT-2's Conv1D), or put the sequence first
(nn.MultiheadAttention), undo it behind: the two moves then meet, and the batch keeps its axis.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Value
from anec.ir.opdef import Operand
from anec.passes.common import rebuild, varying
from anec.rewrite import Rule, any_of, constant, optional, reject, rest, rewrite, var

x = varying("x")
moved = any_of(mil.reshape(x, rest).named("moved"), mil.transpose(x, rest).named("moved"))
# Core ML's linear takes no tensor of higher rank.
_MOST_AXES = 3


@rewrite(mil.linear(moved, constant("weight"), optional(var("bias"))))
def linear_before_moves(x: Value, moved: Value, weight: Value, bias: Operand) -> Value:
    """The linear works on the tensor as it was; its result is moved.

    %x: f32[2,4,4], %w: f32[3,4] weight
    %1 = mil.reshape(%x, [8, 4])
    %y = mil.linear(%1, %w)        ->    %1 = mil.linear(%x, %w)
                                         %y = mil.reshape(%1, [8, 3])

    %x: f32[2,4,4], %w: f32[3,4] weight
    %1 = mil.transpose(%x) {perm=[1, 0, 2]}
    %y = mil.linear(%1, %w)        ->    %1 = mil.linear(%x, %w)
                                         %y = mil.transpose(%1) {perm=[1, 0, 2]}
    """
    if not x.tensor.is_static or x.rank != _MOST_AXES or x.shape[-1] != moved.shape[-1]:
        reject("what is moved is no batch of sequences")
    assert moved.op is not None
    made = mil.linear(x, weight, bias)
    if moved.op.defn is mil.reshape:
        return mil.reshape(made, (*moved.shape[:-1], weight.shape[0]))
    perm = moved.op.attr("perm")
    if not isinstance(perm, tuple) or perm[-1] not in (-1, x.rank - 1):
        reject("the last axis is moved")
    return rebuild(moved.op, x=made)


RULES: list[Rule] = [linear_before_moves]
