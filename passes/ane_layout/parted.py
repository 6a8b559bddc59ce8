"""A split behind moves, or a concat in front of them, goes to their other side where its pieces are copied less.

    %x: f32[2,2,12,5]
    %1 = mil.reshape(%x, [2, 24, 1, 5])
    %a, %b = mil.split(%1) {num_splits=2, axis=1}
    return %a, %b
        ->
    %2, %3 = mil.split(%x) {split_sizes=[1, 1], axis=1}
    %4 = mil.squeeze(%2) {axes=[1]}
    %a = mil.expand_dims(%4) {axes=[2]}
    %5 = mil.squeeze(%3) {axes=[1]}
    %b = mil.expand_dims(%5) {axes=[2]}
    return %a, %b

Heads of attention are pieces of an axis that holds them one after the other. Where they have an axis of their own in
front of that, each is a view of its place there, and nothing has to be brought together first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.common import only_use, varying
from anec.passes.lower_to_mil.movement import only_units, reshaped, transposed
from anec.passes.lower_to_mil.permutation import Movement, blocks_of, copies, planned, real
from anec.passes.mil_cleanup.moves import chains
from anec.passes.mil_cleanup.slices import concat_axis
from anec.rewrite import Rule, any_of, reject, rest, rewrite

# Each move of the whole becomes one of every piece.
_MOST = 32
Shape = tuple[int, ...]
x = varying("x")


@dataclass(frozen=True, slots=True)
class Piece:
    """What moves do with one piece of what they move.

    Args:
        held: its shape in front of them.
        wanted: its shape behind them.
        movement: where its parts go.
    """

    held: Shape
    wanted: Shape
    movement: Movement

    def written(self) -> int:
        """The elements that moving it writes."""
        return math.prod(self.held) * copies(self.held, planned(self.held, self.movement, self.wanted), self.wanted)

    def moved(self, x: Value) -> Value:
        """``x`` behind the moves."""
        for sizes, perm in planned(self.held, self.movement, self.wanted):
            x = transposed(_seen(x, sizes), perm)
        return _seen(x, self.wanted)


def _seen(x: Value, shape: Sequence[Dim]) -> Value:
    """``x`` as ``shape``: where axes of size 1 go and others come, by two views that copy nothing."""
    kept = real(shape)
    if not kept or kept != real(x.shape) or only_units(x.shape, shape):
        return reshaped(x, shape)
    return reshaped(reshaped(x, kept), shape)


@rewrite(mil.split(x, rest))
def split_before_moves(op: Op, x: Value) -> list[Value]:
    """Pieces of what was moved are pieces of what there was before, each moved.

    %x: f32[2,24,4,5]
    %1 = mil.transpose(%x) {perm=[0, 3, 2, 1]}
    %2 = mil.reshape(%1, [2, 5, 1, 96])
    %a, %b, %c, %d = mil.split(%2) {num_splits=4, axis=3}
    %y = mil.mul(%a, %b)
    %z = mil.mul(%c, %d)
        ->
    %1 = mil.transpose(%x) {perm=[0, 3, 2, 1]}
    %a, %b, %c, %d = mil.split(%1) {split_sizes=[1, 1, 1, 1], axis=2}
    %y = mil.mul(%a, %b)
    %z = mil.mul(%c, %d)
    """
    if not only_use(x) or x.op is None or len(op.results) > _MOST:
        reject("what is split has other users, or there are too many pieces")
    axis = concat_axis(op)
    shapes = [result.shape for result in op.results]
    best: tuple[int, Value, Movement, int, list[Piece]] | None = None
    for chain in chains(x.op):
        movement = chain.movement() if chain.copies else None
        if movement is None:
            continue
        found = _in_front(chain.root.shape, movement, axis, shapes)
        if found is not None:
            saved = _saved(chain.copies, found[1])
            if saved > (best[0] if best is not None else 0):
                best = saved, chain.root, movement, *found
    if best is None:
        reject("the pieces are copied as often")
    _, root, movement, own, pieces = best
    apart = _apart(root.shape, movement, axis, pieces)
    if apart is not None:
        place, whole = apart
        return list(mil.split.many(whole.moved(root), split_sizes=(1,) * len(pieces), axis=place))
    parts = mil.split.many(root, split_sizes=tuple(piece.held[own] for piece in pieces), axis=own)
    return [piece.moved(part) for piece, part in zip(pieces, parts, strict=True)]


@rewrite(any_of(mil.transpose(x, rest), mil.reshape(x, rest)))
def concat_behind_moves(op: Op) -> Value:
    """What is joined and moved is moved and joined.

    %a: f32[2,5,1,12], %b: f32[2,5,1,12]
    %1 = mil.concat([%a, %b]) {axis=1}
    %2 = mil.reshape(%1, [4, 5, 12])
    %3 = mil.transpose(%2) {perm=[0, 2, 1]}
    %y = mil.reshape(%3, [2, 24, 1, 5])
        ->
    %1 = mil.transpose(%a) {perm=[0, 3, 2, 1]}
    %2 = mil.transpose(%b) {perm=[0, 3, 2, 1]}
    %y = mil.concat([%1, %2]) {axis=1}
    """
    *_, chain = chains(op) or [None]
    if chain is None or chain.root.op is None or chain.root.op.defn is not mil.concat or not only_use(chain.root):
        reject("what is moved is not joined, or has other users")
    given = [value for value in chain.root.op.variadic("values") if isinstance(value, Value)]
    movement = chain.movement() if chain.copies else None
    if movement is None or not 1 < len(given) <= _MOST or any(not value.tensor.is_static for value in given):
        reject("a view has axes that straddle those before, or there are too many pieces")
    found = _behind(op.results[0].shape, movement, concat_axis(chain.root.op), [value.shape for value in given])
    if found is None or _saved(chain.copies, found[1]) <= 0:
        reject("the pieces are copied as often")
    own, pieces = found
    return mil.concat([piece.moved(value) for piece, value in zip(pieces, given, strict=True)], axis=own)


def _in_front(root: Shape, movement: Movement, axis: int, shapes: Sequence[Shape]) -> tuple[int, list[Piece]] | None:
    """The axis of what is moved that is cut where it is cut along ``axis`` behind the moves, and the pieces."""
    found = _cut(movement, movement.axes, _axes(root, movement), axis, [shape[axis] for shape in shapes])
    if found is None:
        return None
    own, cuts = found
    return own, [Piece(_with(root, own, size), shape, cut) for shape, (size, cut) in zip(shapes, cuts, strict=True)]


def _apart(root: Shape, movement: Movement, axis: int, pieces: Sequence[Piece]) -> tuple[int, Piece] | None:
    """An axis of size 1 that pieces can be split along, and the whole so; None where that writes more than they do."""
    number = next(number for number in movement.axes[axis] if movement.parts[number] != 1)
    wanted = pieces[0].wanted
    if any(piece.movement.parts[number] != 1 for piece in pieces):
        return None
    for place in (place for place, size in enumerate(wanted) if size == 1):
        axes = [tuple(other for other in own if other != number) for own in movement.axes]
        axes[place] = (*axes[place], number)
        whole = Piece(root, _with(wanted, place, len(pieces)), Movement(movement.parts, tuple(axes)))
        if whole.written() <= sum(piece.written() for piece in pieces):
            return place, whole
    return None


def _behind(wanted: Shape, movement: Movement, axis: int, shapes: Sequence[Shape]) -> tuple[int, list[Piece]] | None:
    """The axis behind the moves that is joined where what is moved is joined along ``axis``, and the pieces."""
    root = _with(shapes[0], axis, sum(shape[axis] for shape in shapes))
    found = _cut(movement, _axes(root, movement), movement.axes, axis, [shape[axis] for shape in shapes])
    if found is None:
        return None
    own, cuts = found
    return own, [Piece(shape, _with(wanted, own, size), cut) for shape, (size, cut) in zip(shapes, cuts, strict=True)]


def _axes(root: Shape, movement: Movement) -> list[list[int]]:
    """The parts that each axis of what is moved holds."""
    blocks = iter(blocks_of(root, movement) or ())
    return [[] if size == 1 else next(blocks, []) for size in root]


def _cut(
    movement: Movement, here: Sequence[Sequence[int]], there: Sequence[Sequence[int]], axis: int, sizes: Sequence[int]
) -> tuple[int, list[tuple[int, Movement]]] | None:
    """The axis on the other side of a movement, and for each piece its size there, and its movement.

    None where a piece stands scattered there, or as rows of one element, which fill a 32nd of their memory (rule A06).
    """
    parts = [size for size in movement.parts if isinstance(size, int)]
    block = [number for number in here[axis] if parts[number] != 1]
    own = next((place for place, other in enumerate(there) if block and block[0] in other), None)
    if own is None:
        return None
    other = [number for number in there[own] if parts[number] != 1]
    inside, beyond = (math.prod(parts[number] for number in numbers[1:]) for numbers in (block, other))
    if other[0] != block[0] or any(size % inside for size in sizes):
        return None
    counts = [size // inside for size in sizes]
    if own == len(there) - 1 and beyond == 1 and 1 in counts:
        return None
    cuts = [Movement((*parts[: block[0]], count, *parts[block[0] + 1 :]), movement.axes) for count in counts]
    return own, [(count * beyond, cut) for count, cut in zip(counts, cuts, strict=True)]


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _saved(count: int, pieces: Sequence[Piece]) -> int:
    """How many elements fewer the pieces are written than the whole, which is written ``count`` times."""
    return sum(count * math.prod(piece.held) - piece.written() for piece in pieces)


RULES: list[Rule] = [split_before_moves, concat_behind_moves]
