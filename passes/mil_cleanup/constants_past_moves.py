"""Constants that differ by head and channel, in front of the view that makes heads of channels.

    %x: f32[2,5,32], %w: f32[64,32] weight, %c: f32[4,1,16] weight
    %1 = mil.linear(%x, %w)
    %2 = mil.reshape(%1, [2, 5, 4, 16])
    %3 = mil.transpose(%2) {perm=[0, 2, 1, 3]}
    %y = mil.add(%3, %c)
        ->
    %bias = mil.reshape(%c, [64])
    %1 = mil.linear(%x, %w, %bias)
    %2 = mil.reshape(%1, [2, 5, 4, 16])
    %y = mil.transpose(%2) {perm=[0, 2, 1, 3]}

There it is one number a channel, and goes into the weights.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.common import known, only_use, rebuild
from anec.passes.lower_to_mil.movement import moved
from anec.passes.lower_to_mil.permutation import Movement
from anec.passes.mil_cleanup.moved_arithmetic import Moves
from anec.passes.mil_cleanup.moves import chains
from anec.passes.mil_cleanup.weighted import check_per_channel, weights_of
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

_WEIGHTED = (mil.conv, mil.conv_transpose, mil.linear)
_seen = any_of(*(move(rest).named("seen") for move in (mil.reshape, mil.transpose)))
_constant = var("constant", known)


@rewrite(
    any_of(
        *(op(_seen, _constant) for op in (mil.add, mil.sub, mil.mul, mil.real_div)),
        *(op(_constant, _seen) for op in (mil.add, mil.mul)),
    )
)
def constant_before_moves(op: Op, seen: Value, constant: Value) -> Value:
    """Arithmetic with such a constant stands in front of the moves.

    %x: f32[2,8,3,5], %w: f32[12,8,1,1] weight, %c: f32[1,3,4,1] weight
    %1 = mil.conv(%x, %w)
    %2 = mil.reshape(%1, [2, 3, 4, 15])
    %y = mil.mul(%2, %c)
        ->
    %s = mil.reshape(%c, [12, 1, 1, 1])
    %1 = mil.mul(%w, %s)
    %2 = mil.conv(%x, %1)
    %y = mil.reshape(%2, [2, 3, 4, 15])
    """
    if not isinstance(constant, Value) or sum(size != 1 for size in constant.shape) < 2:
        reject("the constant differs along one axis at most")
    if not only_use(seen) or seen.type != op.results[0].type or seen.op is None:
        reject("what is seen has other users, or the constant changes the shape")
    *_, chain = chains(seen.op)
    root, movement = chain.root, chain.movement()
    if root.op is None or root.op.defn not in _WEIGHTED or not only_use(root) or movement is None:
        reject("no op with weights stands in front of the moves")
    target, inverse = weights_of(root.op), Movement.of(root.shape).behind(movement)
    made = Moves(inverse, root.shape).of_broadcast(constant, seen.shape) if inverse is not None else None
    if made is None:
        reject("the constant is no part of what the moves begin with")
    own = made.make()
    check_per_channel(own, target.given)
    name = "x" if op.operand("x") is seen else "y"
    return moved(rebuild(op, **{name: root, "y" if name == "x" else "x": own}), movement, seen.shape)


RULES: list[Rule] = [constant_before_moves]
