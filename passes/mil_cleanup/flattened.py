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
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import only_use, rebuild, varying
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.mil_cleanup.transposes import permutation
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
    %y = mil.linear(%1, %w)
        ->
    %1 = mil.linear(%x, %w)
    %y = mil.reshape(%1, [8, 3])

    %x: f32[2,4,4], %w: f32[3,4] weight
    %1 = mil.transpose(%x) {perm=[1, 0, 2]}
    %y = mil.linear(%1, %w)
        ->
    %1 = mil.linear(%x, %w)
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


@rewrite(
    mil.transpose(mil.reshape(mil.linear(mil.reshape(x, rest), constant("weight"), optional(var("bias"))), rest), rest)
)
def move_before_linear(op: Op, x: Value, weight: Value, bias: Operand) -> Value:
    """Rows that are exchanged behind a linear are exchanged in front of it, where its heads are joined.

    %x: f32[7,2,4,8], %w: f32[3,32] weight
    %1 = mil.reshape(%x, [14, 32])
    %2 = mil.linear(%1, %w)
    %3 = mil.reshape(%2, [7, 2, 3])
    %y = mil.transpose(%3) {perm=[1, 0, 2]}    ->    %1 = mil.transpose(%x) {perm=[1, 0, 2, 3]}
                                                     %2 = mil.reshape(%1, [2, 7, 32])
                                                     %y = mil.linear(%2, %w)
    """
    seen = op.value("x")
    assert seen.op is not None
    made = seen.op.value("x")
    rows, perm = seen.tensor.shape[:-1], permutation(op)
    heads = x.tensor.shape[len(rows) :]
    if not x.tensor.is_static or x.tensor.shape[: len(rows)] != rows or len(rows) + 1 != _MOST_AXES:
        reject("rows are not seen as they were")
    if perm[-1] != len(rows) or volume(heads) != weight.shape[1] or not (only_use(seen) and only_use(made)):
        reject("the last axis is moved, or the linear has other users")
    moved = mil.transpose(x, perm=(*perm[:-1], *range(len(rows), x.rank)))
    shape = tuple(rows[axis] for axis in perm[:-1])
    return mil.linear(mil.reshape(moved, (*shape, weight.shape[1])), weight, bias)


RULES: list[Rule] = [linear_before_moves, move_before_linear]
