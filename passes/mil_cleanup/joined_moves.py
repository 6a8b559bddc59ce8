"""Tensors that are moved alike and joined by arithmetic are joined first, and moved once.

    %a: f32[2,3,4], %b: f32[2,3,4]
    %1 = mil.transpose(%a) {perm=[0, 2, 1]}
    %2 = mil.transpose(%b) {perm=[0, 2, 1]}
    %y = mil.add(%1, %2)
        ->
    %1 = mil.add(%a, %b)
    %y = mil.transpose(%1) {perm=[0, 2, 1]}

It is the mirror image of ``moved_arithmetic.py``; either fires only where less is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.common import only_use, rebuild
from anec.passes.lower_to_mil.movement import moved
from anec.passes.lower_to_mil.permutation import Movement, copies, planned
from anec.passes.mil_cleanup.moved_arithmetic import Moves, is_arithmetic
from anec.passes.mil_cleanup.moves import chains
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_PAIRS = (mil.add, mil.sub, mil.mul, mil.real_div, mil.maximum, mil.minimum)
# How many ops of arithmetic stand between the moves and what joins them.
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Unmoved:
    """A tensor in front of what was done to it.

    Args:
        shape: in front of the moves.
        movement: the moves.
        spared: the elements that are no longer written for them.
        make: builds it.
    """

    shape: tuple[int, ...]
    movement: Movement
    spared: int
    make: Callable[[], Value]


@rewrite(any_of(*(defn(rest) for defn in _PAIRS)))
def move_behind_arithmetic(op: Op) -> Value:
    """Two operands of the same size begin with the same moves; what is broadcast beside them moves the other way.

    %a: f32[6,4,5], %b: f32[6,4,5], %s: f32[5,1]
    %1 = mil.transpose(%a) {perm=[0, 2, 1]}
    %2 = mil.reshape(%1, [2, 3, 5, 4])
    %3 = mil.transpose(%b) {perm=[0, 2, 1]}
    %4 = mil.reshape(%3, [2, 3, 5, 4])
    %5 = mil.mul(%4, %s)
    %y = mil.add(%2, %5)
        ->
    %1 = mil.squeeze(%s) {axes=[1]}
    %2 = mil.mul(%b, %1)
    %3 = mil.add(%a, %2)
    %4 = mil.transpose(%3) {perm=[0, 2, 1]}
    %y = mil.reshape(%4, [2, 3, 5, 4])
    """
    result, x, y = op.results[0], op.operand("x"), op.operand("y")
    if not isinstance(x, Value) or not isinstance(y, Value) or not x.type == y.type == result.type:
        reject("its operands are not of the same size")
    others = list(_unmoved(y, _DEEPEST))
    best: tuple[int, Unmoved, Unmoved] | None = None
    for left in _unmoved(x, _DEEPEST) if others else ():
        for right in others:
            if (left.shape, left.movement) == (right.shape, right.movement):
                steps = planned(left.shape, left.movement, result.shape)
                saved = left.spared + right.spared - copies(left.shape, steps, result.shape) * result.tensor.size
                if saved > (best[0] if best is not None else 0):
                    best = saved, left, right
    if best is None:
        reject("its operands are not moved alike")
    _, left, right = best
    return moved(rebuild(op, x=left.make(), y=right.make()), left.movement, result.shape)


def _unmoved(value: Value, depth: int) -> Iterator[Unmoved]:
    """What ``value`` is in front of moves, or of arithmetic behind moves; each time the fewest moves first."""
    if value.op is None or not only_use(value):
        return
    for chain in chains(value.op):
        movement = chain.movement()
        if movement is not None:
            found = Unmoved(chain.root.shape, movement, chain.copies * value.tensor.size, partial(_itself, chain.root))
            yield found
            swapped = _of_swapped_product(chain.root, found)
            if swapped is not None:
                yield swapped
    if depth and is_arithmetic(value):
        op, given = value.op, value.op.arguments().items()
        full = [name for name, operand in given if isinstance(operand, Value) and operand.shape == value.shape]
        for inner in _unmoved(op.value(full[0]), depth - 1) if len(full) == 1 else ():
            made = _through(op, full[0], inner)
            if made is not None:
                yield made


def _itself(value: Value) -> Value:
    return value


def _of_swapped_product(root: Value, found: Unmoved) -> Unmoved | None:
    """The moves of a product as those of its transpose, which is the product of the swapped operands."""
    op = root.op
    if op is None or op.defn is not mil.matmul or not only_use(root):
        return None
    x, y = op.operand("x"), op.operand("y")
    if not isinstance(x, Value) or not isinstance(y, Value) or min(x.rank, y.rank) < 2:
        return None
    swap = (*range(root.rank - 2), root.rank - 1, root.rank - 2)
    shape = tuple(root.shape[axis] for axis in swap)
    movement = found.movement.behind(Movement.of(root.shape).permuted(swap))
    flags = {"transpose_x": not op.attr("transpose_y"), "transpose_y": not op.attr("transpose_x")}
    return None if movement is None else Unmoved(shape, movement, found.spared, lambda: rebuild(op, x=y, y=x, **flags))


def _through(op: Op, name: str, inner: Unmoved) -> Unmoved | None:
    """Arithmetic with one operand of full size in front of the moves of that; None where another cannot follow."""
    inverse = Movement.of(inner.shape).behind(inner.movement)
    if inverse is None:
        return None
    moves, spared, others = Moves(inverse, inner.shape), inner.spared, dict[str, Callable[[], Value]]()
    for other, given in op.arguments().items():
        if isinstance(given, Value) and other != name:
            made = moves.of_broadcast(given, op.results[0].shape)
            if made is None:
                return None
            spared -= made.elements
            others[other] = made.make

    def make() -> Value:
        return rebuild(op, **{name: inner.make()}, **{other: given() for other, given in others.items()})

    return Unmoved(inner.shape, inner.movement, spared, make)


RULES: list[Rule] = [move_behind_arithmetic]
