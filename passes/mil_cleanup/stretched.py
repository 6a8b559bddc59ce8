"""A transpose behind a broadcast moves what is broadcast, which is smaller.

    %rows: f32[8,14,14,14,1], %columns: f32[8,14,14,1,14]
    %1 = mil.add(%rows, %columns)
    %2 = mil.reshape(%1, [8, 196, 196])
    %y = mil.transpose(%2) {perm=[0, 2, 1]}
        ->
    %1 = mil.reshape(%rows, [8, 196, 14])
    %2 = mil.transpose(%1) {perm=[0, 2, 1]}
    %3 = mil.expand_dims(%2) {axes=[2]}
    %4 = mil.reshape(%columns, [8, 196, 14])
    %5 = mil.transpose(%4) {perm=[0, 2, 1]}
    %6 = mil.expand_dims(%5) {axes=[1]}
    %7 = mil.add(%3, %6)
    %y = mil.reshape(%7, [8, 196, 196])

Relative positions are spelled so: a term for rows and one for columns, whose sum is as large as the scores of
attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import LayoutKind
from anec.passes.common import has_rows, ints, known, only_use, rebuild, varying
from anec.passes.lower_to_mil.movement import moved
from anec.passes.lower_to_mil.permutation import MAX_RANK, Movement, blocks_of, copies, planned, real
from anec.passes.mil_cleanup.moves import chains
from anec.passes.mil_cleanup.reshapes import reshape_to
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_REACH = 8
x = varying("x")


@rewrite(any_of(mil.transpose(x, rest), mil.reshape(x, rest)))
def move_before_broadcast(op: Op) -> Value:
    """Moves of a sum, or of a tile, that is larger than what it is made of.

    %a: f32[2,30,1], %b: f32[40]
    %1 = mil.add(%a, %b)
    %y = mil.transpose(%1) {perm=[0, 2, 1]}
        ->
    %1 = mil.reshape(%a, [2, 1, 30])
    %2 = mil.expand_dims(%b) {axes=[0, 2]}
    %y = mil.add(%1, %2)
    """
    shape = op.results[0].tensor.shape
    for chain in chains(op):
        root = chain.root
        movement = chain.movement() if _parts_of(root) else None
        for turn in _turns(root, movement) if movement is not None else ():
            viewed = real([turn.size(block) for block in turn.order]) != real(shape)
            copied = sum(turn.copied(leaf) for leaf in turn.leaves(root, _REACH))
            if copied < (chain.copies - viewed) * root.tensor.size:
                return reshape_to(turn.turned(root, _REACH), shape)
    return reject("nothing smaller is broadcast in front")


def _turns(root: Value, movement: Movement) -> Iterator[_Turn]:
    """The turns that ``movement`` may be of ``root``, with the axes it ends with, and with fewer.

    There are none where nothing smaller is broadcast to the root, or its axes are seen in other groups.
    """
    blocks = blocks_of(root.shape, movement)
    if blocks is None:
        return
    left = iter(blocks)
    axes = tuple(tuple(next(left)) if size != 1 else () for size in root.shape)
    parts = tuple(size for size in movement.parts if isinstance(size, int))
    behind = [[number for number in axis if parts[number] != 1] for axis in movement.axes]
    single = _Turn(parts, axes, tuple((number,) for axis in behind for number in axis))
    if not single.descends(root, _REACH):
        return
    leaves = [single.has(leaf) for leaf in single.leaves(root, _REACH)]
    for numbers in (behind, [[number for axis in behind for number in axis]]):
        order = tuple(tuple(block) for axis in numbers for block in _blocks(axis, parts, leaves))
        if len(order) <= MAX_RANK:
            yield _Turn(parts, axes, order)


def _blocks(numbers: Sequence[int], parts: Sequence[int], leaves: Sequence[frozenset[int]]) -> list[list[int]]:
    """Neighbours that were neighbours before, and are broadcast together."""
    found: list[list[int]] = []
    for number in numbers:
        last = found[-1][-1] if found else number
        follows = last < number and all(parts[between] == 1 for between in range(last + 1, number))
        if follows and all((last in leaf) == (number in leaf) for leaf in leaves):
            found[-1].append(number)
        else:
            found.append([number])
    return found


@dataclass(frozen=True, slots=True)
class _Turn:
    """How a tensor is permuted, by blocks of its parts that are broadcast together and stay together.

    Args:
        parts: the sizes of the parts, in the order they have before.
        axes: the parts of each axis before; none of size 1.
        order: the blocks of parts, in the order they have behind.
    """

    parts: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    order: tuple[tuple[int, ...], ...]

    def size(self, block: Sequence[int]) -> int:
        """How many elements lie along some parts."""
        return prod(self.parts[number] for number in block)

    def has(self, value: Value) -> frozenset[int]:
        """The parts along which a value that is broadcast to the root has more than one element."""
        own = (1,) * (len(self.axes) - value.rank) + value.shape
        return frozenset(n for parts, size in zip(self.axes, own, strict=True) if size != 1 for n in parts)

    def _cost(self, value: Value, reach: int) -> int:
        """How many elements are permuted to have ``value`` permuted."""
        has = self.has(value)
        order = [number for block in self.order for number in block if number in has]
        if known(value) or order == sorted(order):
            return 0
        within = _parts_of(value) if reach else []
        inner = sum(self._cost(operand, reach - 1) for operand in within)
        return min(value.tensor.size, inner) if within else value.tensor.size

    def leaves(self, value: Value, reach: int) -> Iterator[Value]:
        """What is permuted itself."""
        if not self.descends(value, reach):
            yield value
            return
        for operand in _parts_of(value):
            yield from self.leaves(operand, reach - 1)

    def descends(self, value: Value, reach: int) -> bool:
        """Whether what makes ``value`` is permuted in its place."""
        within = _parts_of(value) if reach else []
        return bool(within) and sum(self._cost(v, reach - 1) for v in within) < value.tensor.size

    def _movement(self, value: Value) -> Movement:
        has, blocks = self.has(value), sorted(self.order)
        sizes = [self.size(block) if block[0] in has else 1 for block in blocks]
        return Movement.of(sizes).permuted([blocks.index(block) for block in self.order])

    def _shape(self, value: Value) -> list[int]:
        has = self.has(value)
        return [self.size(block) if block[0] in has else 1 for block in self.order]

    def copied(self, value: Value) -> int:
        """How many elements are written to have ``value`` permuted itself."""
        shape = self._shape(value)
        steps = planned(value.shape, self._movement(value), shape)
        return 0 if known(value) else value.tensor.size * copies(value.shape, steps, shape)

    def turned(self, value: Value, reach: int) -> Value:
        """``value`` permuted, an axis a block, in front of what it is made by where that moves less."""
        shape = self._shape(value)
        if not self.descends(value, reach):
            return moved(value, self._movement(value), shape)
        op = value.op
        assert op is not None
        if op.defn is mil.tile:
            source = self.turned(op.value("x"), reach - 1)
            return mil.tile(source, tuple(size // own for size, own in zip(shape, source.shape, strict=True)))

        given = [(name, operand) for name, operand in op.arguments().items() if isinstance(operand, Value)]
        return rebuild(op, **{name: self.turned(operand, reach - 1) for name, operand in given if operand.rank})


def _parts_of(value: Value) -> list[Value]:
    """The operands of an op of whose elements each is made of those at its place; none for another op.

    What is known is permuted as it is: it may come from weights of a dtype that Core ML lacks.
    """
    op = value.op
    if op is None or known(value) or not only_use(value) or not value.tensor.is_static:
        return []
    if op.defn is mil.tile:
        x, reps = op.value("x"), ints(op.operand("reps"))
        wide = reps is not None and x.tensor.is_static and x.rank == value.rank
        repeated = zip(x.tensor.shape, value.tensor.shape, strict=True) if wide else ()
        return [x] if wide and all(own in (1, size) for own, size in repeated) else []
    if op.defn.layout.kind is not LayoutKind.ELEMENTWISE or has_rows(op):
        return []
    found = [operand for operand in op.inputs if operand.rank]
    return found if all(operand.tensor.is_static for operand in found) else []


RULES: list[Rule] = [move_before_broadcast]
