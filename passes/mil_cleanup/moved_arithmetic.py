"""Moves behind arithmetic are made in front of it where that copies less, mostly as they meet moves there.

    %a: f32[2,3,4], %b: f32[2,4,3]
    %1 = mil.transpose(%a) {perm=[0, 2, 1]}
    %2 = mil.mul(%1, %b)
    %y = mil.transpose(%2) {perm=[0, 2, 1]}
        ->
    %1 = mil.transpose(%b) {perm=[0, 2, 1]}
    %y = mil.mul(%a, %1)

Contractions in a row, as einsum writes them, leave such moves around what is between them. What is broadcast is
moved in its own size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import LayoutKind
from anec.passes.common import has_rows, known, only_use, rebuild, varying
from anec.passes.lower_to_mil.movement import moved, reshaped
from anec.passes.lower_to_mil.permutation import Movement, copies, planned, volume
from anec.passes.mil_cleanup.moves import Chain, chains
from anec.rewrite import Rule, any_of, reject, rest, rewrite

# How many ops of arithmetic stand one in front of the other.
_DEEPEST = 6
x = varying("x")


@dataclass(frozen=True, slots=True)
class Moved:
    """A tensor behind moves.

    Args:
        elements: how many more are written to make it than were written for it before.
        root: builds what is moved.
        behind: moves it.
    """

    elements: int
    root: Callable[[], Value]
    behind: Callable[[Value], Value] = lambda value: value

    def make(self) -> Value:
        return self.behind(self.root())


@dataclass(frozen=True, slots=True)
class Moves:
    """What is done to a tensor.

    Args:
        movement: what the moves do together.
        shape: how the result is seen.
    """

    movement: Movement
    shape: tuple[int, ...]

    def after(self, chain: Chain) -> Moves | None:
        """These and those of ``chain`` in front of them; None where a view has axes that straddle those before."""
        first = chain.movement()
        back = Movement.of(chain.root.shape).behind(first) if first is not None else None
        movement = self.movement.behind(back) if back is not None else None
        return Moves(movement, self.shape) if movement is not None else None

    def of(self, root: Value) -> Moved:
        """``root`` moved."""
        # Constants are moved once and for all.
        written = 0 if root.is_constant else root.tensor.size
        times = copies(root.shape, planned(root.shape, self.movement, self.shape), self.shape)
        return Moved(times * written, lambda: root, lambda value: moved(value, self.movement, self.shape))

    def of_broadcast(self, given: Value, seen: Sequence[int]) -> Moved | None:
        """What is broadcast to a tensor of the shape ``seen``, which is moved: it is moved in its own size.

        None where a view joins an axis that it has with one that it has not.
        """
        own = (*(1,) * (len(seen) - given.rank), *given.shape)
        if max(own, default=1) == 1:
            return Moved(0, lambda: given if given.rank <= len(self.shape) else reshaped(given, ()))
        parts, axis, left = list[int](), -1, 1
        for size in self.movement.parts:
            assert isinstance(size, int)
            while left == 1 and size != 1:
                axis += 1
                left = seen[axis]
            left //= size
            parts.append(size if own[axis] != 1 else 1)
        narrow = Movement(tuple(parts), self.movement.axes)
        shape = tuple(prod(parts[number] for number in numbers) for numbers in narrow.axes)
        if any(few not in (1, size) for few, size in zip(shape, self.shape, strict=True)):
            return None
        first = next(at for at, size in enumerate(shape) if size != 1)
        times = 0 if given.is_constant else copies(own, planned(own, narrow, shape), shape)
        return Moved(times * given.tensor.size, lambda: moved(reshaped(given, own), narrow, shape[first:]))


@rewrite(any_of(mil.transpose(x, rest), mil.reshape(x, rest)))
def move_before_arithmetic(op: Op) -> Value:
    """What several moves around elementwise ops do, fewer in front of them do.

    %x: f32[4,6,8], %s: f32[8]
    %1 = mil.reshape(%x, [2, 2, 6, 8])
    %2 = mil.add(%1, %s)
    %3 = mil.transpose(%2) {perm=[0, 1, 3, 2]}
    %y = mil.reshape(%3, [4, 8, 6])
        ->
    %1 = mil.transpose(%x) {perm=[0, 2, 1]}
    %2 = mil.expand_dims(%s) {axes=[1]}
    %y = mil.add(%1, %2)
    """
    found = list(chains(op))
    if not found or not is_arithmetic(found[-1].root):
        reject("what is moved is no arithmetic, or has other users")
    chain, movement = found[-1], found[-1].movement()
    if movement is None:
        reject("a view has axes that straddle those before")
    made = _through(chain.root, Moves(movement, op.results[0].shape), _DEEPEST)
    if made is None or made.elements >= chain.copies * chain.root.tensor.size:
        reject("it takes as many copies")
    return made.make()


def is_arithmetic(value: Value) -> bool:
    """Whether an elementwise op of numbers and tensors of static sizes gives it, for one user."""
    op = value.op
    if op is None or op.defn.layout.kind is not LayoutKind.ELEMENTWISE or not only_use(value):
        return False
    return not has_rows(op) and all(operand.tensor.is_static for operand in (value, *op.inputs))


def _through(value: Value, moves: Moves, depth: int) -> Moved | None:
    """The arithmetic that gives ``value``, on operands that are moved; None where one cannot be."""
    op, found = value.op, dict[str, Moved]()
    assert op is not None
    for name, given in op.arguments().items():
        if isinstance(given, Value):
            made = _operand(given, value.shape, moves, depth - 1)
            if made is None:
                return None
            found[name] = made
    (name, only), *others = found.items()
    if not others:
        # In front of the moves it may go into weights, and what takes the tensor apart stands behind them.
        return Moved(only.elements, lambda: rebuild(op, **{name: only.root()}), only.behind)
    total = sum(operand.elements for operand in found.values())
    return Moved(total, lambda: rebuild(op, **{name: operand.make() for name, operand in found.items()}))


def _operand(given: Value, seen: Sequence[int], moves: Moves, depth: int) -> Moved | None:
    """An operand of arithmetic whose result, of the shape ``seen``, is moved."""
    if given.shape != seen:
        return moves.of_broadcast(given, seen)
    ways = _ways(given, moves, depth)
    if only_use(given) and given.op is not None:
        for chain in chains(given.op):
            inner = moves.after(chain)
            # The moves of the chain are no longer needed.
            spared = 0 if chain.root.is_constant else chain.copies * chain.root.tensor.size
            found = _ways(chain.root, inner, depth) if inner is not None else []
            ways += [replace(way, elements=way.elements - spared) for way in found]
    return min(ways, key=lambda way: way.elements)


def _ways(value: Value, moves: Moves, depth: int) -> list[Moved]:
    ways: list[Moved | None] = [moves.of(value)]
    if depth and is_arithmetic(value):
        ways.append(_through(value, moves, depth))
    if depth and value.op is not None and value.op.defn is mil.conv:
        ways.append(_through_rows(value.op, moves, depth))
    return [way for way in ways if way is not None]


def _through_rows(op: Op, moves: Moves, depth: int) -> Moved | None:
    """A convolution by constants of images that are moved: it does to each entry of its batch the same."""
    result, x, parts = op.results[0], op.value("x"), moves.movement.parts
    if not only_use(result) or not x.tensor.is_static or not known(op.value("weight")):
        return None
    rows = next((count for count in range(len(parts) + 1) if volume(parts[:count]) == result.shape[0]), None)
    if rows is None or moves.movement.order[rows:] != tuple(range(rows, len(parts))):
        return None
    batch, image = moves.movement.order[:rows], range(rows, rows + x.rank - 1)
    movement = Movement((*parts[:rows], *x.shape[1:]), (batch, *((axis,) for axis in image)))
    made = _operand(x, x.shape, Moves(movement, x.shape), depth - 1)
    if made is None:
        return None
    seen = Moves(Movement.of(result.shape), moves.shape).of(result)
    return Moved(made.elements + seen.elements, lambda: seen.behind(rebuild(op, x=made.make())))


RULES: list[Rule] = [move_before_arithmetic]
