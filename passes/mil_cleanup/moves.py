"""Views and transposes in a row, by as few copies as there may be.

    %x: f32[6,4,5,7]
    %1 = mil.reshape(%x, [2, 3, 4, 35])
    %2 = mil.transpose(%1) {perm=[0, 2, 1, 3]}
    %3 = mil.reshape(%2, [8, 3, 35])
    %4 = mil.transpose(%3) {perm=[1, 0, 2]}
    %y = mil.reshape(%4, [3, 2, 4, 35])
        ->
    %1 = mil.reshape(%x, [2, 3, 4, 35])
    %y = mil.transpose(%1) {perm=[1, 0, 2, 3]}

Passes that each arrange what they work on leave such chains where they meet. What only adds or drops axes of size 1
copies nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import LayoutKind
from anec.passes.common import VIEWS, only_use, varying
from anec.passes.lower_to_mil.movement import moved, reshaped, transposed
from anec.passes.lower_to_mil.permutation import Movement, copies, joined_first, planned, real
from anec.passes.mil_cleanup.transposes import permutation
from anec.rewrite import Rule, any_of, reject, rest, rewrite

MOVEMENTS = (mil.transpose, *VIEWS)
# How many moves of one tensor are looked at.
_MOST = 16
# How many ops of arithmetic stand between a view and the moves behind it.
_DEEPEST = 4
x = varying("x")


@dataclass(frozen=True, slots=True)
class Chain:
    """Moves in a row, each the only user of the one in front.

    Args:
        root: what they began with; it may have other users.
        steps: the moves, the last one first.
        copies: how many of them write their operand anew.
    """

    root: Value
    steps: tuple[Op, ...]
    copies: int

    def movement(self) -> Movement | None:
        """What they do together; None where a view has axes that straddle those before."""
        return in_order(self.steps, self.root.shape)


def in_order(steps: Sequence[Op], shape: Sequence[int]) -> Movement | None:
    """What moves, given last first, do together to a tensor of ``shape``; see :meth:`Chain.movement`."""
    movement: Movement | None = Movement.of(shape)
    for step in reversed(steps):
        movement = None if movement is None else _behind(movement, step)
    return movement


def chains(op: Op) -> Iterator[Chain]:
    """The moves that end with ``op``, from each tensor on the way; none for symbolic sizes."""
    steps: tuple[Op, ...] = ()
    count = 0
    while op.defn in MOVEMENTS and all(value.tensor.is_static for value in (*op.inputs, *op.results)):
        x = op.operand("x")
        if not isinstance(x, Value):
            return
        steps = (*steps, op)
        count += op.defn is mil.transpose or real(x.shape) != real(op.results[0].shape)
        yield Chain(x, steps, count)
        if x.op is None or not only_use(x):
            return
        op = x.op


@rewrite(any_of(mil.transpose(x, rest), mil.reshape(x, rest)))
def fewer_copies(op: Op) -> Value:
    """What several moves do, fewer do.

    %x: f32[4,6,8]
    %1 = mil.reshape(%x, [2, 2, 6, 8])
    %2 = mil.transpose(%1) {perm=[0, 2, 1, 3]}
    %3 = mil.reshape(%2, [12, 16])
    %4 = mil.transpose(%3) {perm=[1, 0]}
    %y = mil.reshape(%4, [2, 8, 12])
        ->
    %1 = mil.reshape(%x, [2, 2, 6, 8])
    %2 = mil.transpose(%1) {perm=[1, 3, 0, 2]}
    %y = mil.reshape(%2, [2, 8, 12])
    """
    shape = op.results[0].tensor.shape
    best: tuple[int, Value, Movement] | None = None
    for chain in chains(op):
        movement = chain.movement() if chain.copies > 1 else None
        if movement is not None:
            saved = chain.copies - copies(chain.root.shape, planned(chain.root.shape, movement, shape), shape)
            if saved > (best[0] if best is not None else 0):
                best = saved, chain.root, movement
    return moved(best[1], best[2], shape) if best is not None else reject("it takes as many copies")


@rewrite(any_of(mil.transpose(x, rest), mil.reshape(x, rest)))
def shared_move(op: Op) -> Value:
    """What another move of the same tensor is nearer to begins there.

    %s: f32[2,2,4]
    %1 = mil.reshape(%x, [2, 2, 4])
    %y = mil.reshape(%x, [2, 2, 1, 4])
    %z = mil.mul(%1, %s)
    return %y, %z
        ->
    %1 = mil.reshape(%x, [2, 2, 4])
    %y = mil.expand_dims(%1) {axes=[2]}
    %z = mil.mul(%1, %s)
    """
    shape = op.results[0].tensor.shape
    found = list(chains(op))
    # Only what all moves began with may have other users.
    if not found or not found[-1].copies or len(found[-1].root.users) == 1:
        reject("no other move is of the same tensor")
    chain, movement = found[-1], found[-1].movement()
    if movement is None:
        reject("a view has axes that straddle those before")
    for other, reached in _moved(chain.root):
        if other.op in chain.steps or other.op is None or not other.op.is_before(op):
            continue
        between = movement.behind(reached)
        # What is the same is left to cse.
        if between is None or (other.tensor.shape == shape and not planned(shape, between, shape)):
            continue
        if copies(other.shape, planned(other.shape, between, shape), shape) < chain.copies:
            return moved(other, between, shape)
    return reject("no other move is nearer")


@rewrite(mil.reshape(mil.transpose(x, rest).named("turned"), rest))
def joined_before_transpose(op: Op, x: Value, turned: Value) -> Value:
    """Axes of what is a view itself are joined in front of a transpose, where the two views are one.

    %x: f32[2,16,8,8]
    %1 = mil.reshape(%x, [2, 2, 8, 8, 8])
    %2 = mil.mul(%1, 2.0)
    %3 = mil.transpose(%2) {perm=[0, 1, 3, 2, 4]}
    %y = mil.reshape(%3, [4, 8, 8, 8])
        ->
    %1 = mil.mul(%x, 2.0)
    %2 = mil.reshape(%1, [4, 8, 8, 8])
    %y = mil.transpose(%2) {perm=[0, 2, 1, 3]}
    """
    if not only_use(turned) or not _is_viewed(x) or turned.op is None:
        reject("it is of no view, or has other users")
    shape = op.results[0].shape
    movement = in_order((op, turned.op), x.shape)
    if movement is None:
        reject("axes straddle those in front")
    for sizes, perm in joined_first(movement, shape):
        if real(sizes) != real(x.shape):
            return reshaped(transposed(reshaped(x, sizes), perm), shape)
    return reject("the axes are no neighbours in front of the transpose")


def _is_viewed(value: Value) -> bool:
    """Whether ``value`` is a view that copies, or arithmetic with one."""
    for _ in range(_DEEPEST):
        op = value.op
        if op is None or not value.tensor.is_static:
            return False
        if op.defn is mil.reshape:
            return True
        same = [each for each in op.inputs if each.tensor.shape == value.tensor.shape]
        if op.defn.layout.kind is not LayoutKind.ELEMENTWISE or len(same) != 1 or not only_use(value):
            return False
        value = same[0]
    return False


def _moved(root: Value) -> Iterator[tuple[Value, Movement]]:
    """What moves make of ``root``, at least one of them a copy."""
    waiting: list[tuple[Value, Movement]] = [(root, Movement.of(root.shape))]
    for at, reached in itertools.islice(_spreading(waiting), _MOST):
        if real(at.shape) != real(root.shape) or reached.order != tuple(range(len(reached.parts))):
            yield at, reached


def _spreading(waiting: list[tuple[Value, Movement]]) -> Iterator[tuple[Value, Movement]]:
    while waiting:
        at, reached = waiting.pop(0)
        yield at, reached
        for user in at.users:
            if user.defn in MOVEMENTS and user.results[0].tensor.is_static:
                found = _behind(reached, user)
                waiting += [] if found is None else [(user.results[0], found)]


def _behind(movement: Movement, move: Op) -> Movement | None:
    if move.defn is mil.transpose:
        return movement.permuted(permutation(move))
    return movement.viewed(move.results[0].tensor.shape)


RULES: list[Rule] = [fewer_copies, shared_move, joined_before_transpose]
