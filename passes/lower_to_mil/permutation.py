"""Permutations of any rank, planned as transposes of rank 5 at most.

A tensor that only views and permutes were applied to is a row-major buffer whose parts stand in
another order. The window partition of Swin, [n, h, 8, w, 8, c] permuted by (0, 1, 3, 2, 4, 5), is

    parts (n, h, 8, w, 8, c) in the order 0 1 3 2 4 5    ->    [nh, 8, w, 8c] permuted by (0, 2, 1, 3)

since parts that stay neighbours move as one axis. Nothing here builds an op.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise, permutations

from anec.ir.dims import Dim, Expr, floordiv

# Core ML's tensors have at most five axes.
MAX_RANK = 5
Step = tuple[tuple[Dim, ...], tuple[int, ...]]


def volume(dims: Sequence[Dim]) -> Dim:
    """The product of dimensions."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def divide(left: Dim, right: Dim) -> Dim | None:
    """``left / right`` when it is known to be whole, else None.

    >>> divide(12, 4), divide(12, 5)
    (3, None)
    """
    if left == right:
        return 1
    if isinstance(right, int):
        quotient = floordiv(left, right) if right else 0
        return quotient if quotient * right == left else None
    if isinstance(left, int) or len(right.terms) != 1:
        return None
    factors, divisor = right.terms[0]
    total: Dim = 0
    for monomial, coefficient in left.terms:
        rest = list(monomial)
        for factor in factors:
            if factor not in rest:
                return None
            rest.remove(factor)
        if coefficient % divisor:
            return None
        total = total + (Expr(((tuple(rest), coefficient // divisor),)) if rest else coefficient // divisor)
    return total


@dataclass(frozen=True, slots=True)
class Movement:
    """A tensor as the parts of a row-major buffer in some order.

    Args:
        parts: the sizes of the buffer's parts, in the buffer's order.
        axes: for each axis of the tensor the numbers of its parts, outermost first.
    """

    parts: tuple[Dim, ...]
    axes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(shape: Sequence[Dim]) -> Movement:
        """The tensor that is the buffer itself."""
        return Movement(tuple(shape), tuple((axis,) for axis in range(len(shape))))

    @property
    def order(self) -> tuple[int, ...]:
        """The buffer's parts in the tensor's row-major order."""
        return tuple(part for axis in self.axes for part in axis)

    def permuted(self, perm: Sequence[int]) -> Movement:
        """The tensor with its axes permuted: axis i is the old axis ``perm[i]``."""
        return Movement(self.parts, tuple(self.axes[axis] for axis in perm))

    def viewed(self, shape: Sequence[Dim]) -> Movement | None:
        """The tensor seen as ``shape``; None when an axis of it would straddle parts."""
        return _viewed(self, tuple(shape))

    def behind(self, first: Movement) -> Movement | None:
        """What makes this of a tensor that ``first`` has moved; None when their parts are not parts of each other.

        Nor is there such a thing of an empty tensor.

        >>> Movement.of((2, 3, 4)).permuted((1, 2, 0)).behind(Movement.of((2, 12)).permuted((1, 0))).axes
        ((0,), (1,), (2,))
        """
        ours, theirs = _strides(self.parts), _strides(first.parts)
        if ours is None or theirs is None:
            return None
        inner = sorted({*ours, *theirs}, reverse=True)
        if 0 in inner or any(outer % other for outer, other in pairwise(inner)):
            return None
        places = [stride for axis in _spans(first.axes, theirs, inner) for stride in axis]
        sizes = {stride: outer // stride for outer, stride in pairwise(inner)}
        return Movement(
            tuple(sizes[stride] for stride in places),
            tuple(tuple(map(places.index, axis)) for axis in _spans(self.axes, ours, inner)),
        )

    def steps(self) -> list[Step]:
        """Reshapes and permutations, of rank 5 at most, that bring the buffer into the tensor's order."""
        kept = [number for number in self.order if self.parts[number] != 1]
        runs = _runs(kept, sorted(kept))
        sizes = {run[0]: volume([self.parts[number] for number in run]) for run in runs}
        places = {run[0]: place for place, run in enumerate(runs)}
        current = sorted(places)
        if len(current) <= 1:
            return []
        found: list[Step] = []
        for cuts, perm in plan(tuple(places[number] for number in current)):
            blocks = [current[start:stop] for start, stop in zip((0, *cuts), (*cuts, len(current)), strict=True)]
            found.append((tuple(volume([sizes[number] for number in block]) for block in blocks), perm))
            current = [number for index in perm for number in blocks[index]]
        return found


@lru_cache(maxsize=4096)
def _viewed(seen: Movement, shape: tuple[Dim, ...]) -> Movement | None:
    """See :meth:`Movement.viewed`; kept, as layers repeat each other and rules ask again."""
    # What is left to see: a part's size and its key. Keys sort as the buffer does; splitting the
    # part (3,) makes (3, 0) and (3, 1).
    left: list[tuple[Dim, tuple[int, ...]]] = [(seen.parts[at], (at,)) for at in seen.order if seen.parts[at] != 1]
    taken: list[list[tuple[tuple[int, ...], Dim]]] = []
    for dim in shape:
        axis: list[tuple[tuple[int, ...], Dim]] = []
        need = dim
        while need != 1:
            if not left:
                return None
            size, key = left.pop(0)
            rest = divide(need, size)
            if rest is not None:
                axis.append((key, size))
                need = rest
                continue
            inner = divide(size, need)
            if inner is None:
                return None
            axis.append(((*key, 0), need))
            left.insert(0, (inner, (*key, 1)))
            need = 1
        taken.append(axis)
    if left:
        return None
    keys = sorted((entry for axis in taken for entry in axis), key=lambda entry: entry[0])
    numbers = {key: number for number, (key, _) in enumerate(keys)}
    return Movement(tuple(size for _, size in keys), tuple(tuple(numbers[key] for key, _ in axis) for axis in taken))


def _strides(parts: Sequence[Dim]) -> list[int] | None:
    """How far apart neighbours along each part stand, behind the size of the whole; None where one is symbolic."""
    found = [volume(parts[number:]) for number in range(len(parts) + 1)]
    known = [stride for stride in found if isinstance(stride, int)]
    return known if len(known) == len(found) else None


def _spans(axes: Sequence[Sequence[int]], own: Sequence[int], inner: Sequence[int]) -> list[list[int]]:
    """For each axis the strides of what lies along it, of all strides ``inner`` there are."""
    between = list(pairwise(own))
    return [
        [stride for number in axis for stride in inner if between[number][1] <= stride < between[number][0]]
        for axis in axes
    ]


def _runs(order: Sequence[int], numbers: Sequence[int]) -> list[list[int]]:
    """Cut ``order`` where its next element is not the successor among ``numbers``."""
    rank = {number: position for position, number in enumerate(numbers)}
    runs: list[list[int]] = []
    for number in order:
        if runs and rank[number] == rank[runs[-1][-1]] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


@lru_cache(maxsize=1024)
def plan(places: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Sort ``places`` by moving at most five blocks at a time.

    Returns:
        For each step where the blocks are cut and in which order they are put.

    >>> plan((1, 0))
    (((1,), (1, 0)),)
    """
    steps: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    current = list(places)
    while len(cuts := _cuts(current)) >= MAX_RANK:
        chosen, perm = _best(current, cuts)
        steps.append((chosen, perm))
        current = _apply(current, chosen, perm)
    if cuts:
        blocks = _blocks(current, cuts)
        steps.append((cuts, tuple(sorted(range(len(blocks)), key=lambda index: blocks[index][0]))))
    return tuple(steps)


def _cuts(current: Sequence[int]) -> tuple[int, ...]:
    return tuple(i for i in range(1, len(current)) if current[i] != current[i - 1] + 1)


def _blocks(current: list[int], cuts: Sequence[int]) -> list[list[int]]:
    return [current[start:stop] for start, stop in zip((0, *cuts), (*cuts, len(current)), strict=True)]


def _apply(current: list[int], cuts: Sequence[int], perm: Sequence[int]) -> list[int]:
    blocks = _blocks(current, cuts)
    return [item for index in perm for item in blocks[index]]


def _best(current: list[int], cuts: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The step after which the fewest blocks are left; among equals one that leaves the last in place."""
    options = (
        (chosen, perm)
        for chosen in combinations(cuts, MAX_RANK - 1)
        for perm in permutations(range(MAX_RANK))
        if perm != tuple(range(MAX_RANK))
    )
    return min(
        options,
        key=lambda option: (len(_cuts(_apply(current, *option))), option[1][-1] != MAX_RANK - 1),
    )


def planned(given: Sequence[Dim], movement: Movement, wanted: Sequence[Dim]) -> list[Step]:
    """Reshapes and permutations that bring a tensor into a movement's order; a reshape to ``wanted`` follows.

    One permutation of the tensor itself where only axes of size 1 come or go besides; otherwise what copies least,
    of the tensor itself, of axes that are those wanted, or of as few axes as there may be.
    """
    return list(_planned(tuple(given), movement, tuple(wanted)))


@lru_cache(maxsize=4096)
def _planned(given: tuple[Dim, ...], movement: Movement, wanted: tuple[Dim, ...]) -> tuple[Step, ...]:
    """See :func:`planned`; kept as views are."""
    perm = movement.order if given == movement.parts else _one_transpose(given, movement, wanted)
    found = [movement.steps()]
    if perm is not None and len(given) <= MAX_RANK:
        found.insert(0, [(given, perm)] if list(perm) != sorted(perm) else [])
    if copies(given, found[0], wanted) > 1 and found[0] and volume(given) != 0:
        found += [[step] for step in _single_steps(given, movement, wanted)]
    best = min(found, key=lambda steps: copies(given, steps, wanted))
    return tuple(best)


def copies(given: Sequence[Dim], steps: Sequence[Step], wanted: Sequence[Dim]) -> int:
    """How often the data are written on the way from ``given`` to ``wanted``; axes of size 1 come and go for nothing.

    >>> copies((2, 12, 1), [((2, 3, 4), (0, 2, 1))], (2, 4, 3))
    2
    """
    total, at = len(steps), tuple(given)
    for sizes, perm in steps:
        total += real(at) != real(sizes)
        at = tuple(sizes[axis] for axis in perm)
    return total + (real(at) != real(wanted))


def real(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """The sizes that are not 1.

    >>> real((2, 1, 3))
    (2, 3)
    """
    return tuple(size for size in shape if size != 1)


def _single_steps(given: tuple[Dim, ...], movement: Movement, wanted: tuple[Dim, ...]) -> Iterator[Step]:
    """One permutation of the axes the tensor has, and one that makes those wanted, where there are such."""
    yield from joined_first(movement, wanted)
    front = blocks_of(given, movement)
    if front is not None and len(front) <= MAX_RANK:
        order = [number for number in movement.order if movement.parts[number] != 1]
        places = [order.index(block[0]) for block in front]
        if all(order[at : at + len(block)] == block for at, block in zip(places, front, strict=True)):
            yield _step(movement, front, sorted(front, key=lambda block: order.index(block[0])))


def joined_first(movement: Movement, wanted: Sequence[Dim]) -> Iterator[Step]:
    """One permutation of axes that are those wanted, where they are runs of the buffer's; none otherwise."""
    behind = movement.viewed(wanted)
    if behind is not None and len(real(wanted)) <= MAX_RANK:
        blocks = [block for axis in behind.axes if (block := [n for n in axis if behind.parts[n] != 1])]
        numbers = sorted(number for block in blocks for number in block)
        if all(len(_runs(block, numbers)) == 1 for block in blocks):
            yield _step(behind, sorted(blocks), blocks)


def _step(movement: Movement, blocks: Sequence[list[int]], order: Sequence[list[int]]) -> Step:
    sizes = tuple(volume([movement.parts[number] for number in block]) for block in blocks)
    return sizes, tuple(blocks.index(block) for block in order)


def blocks_of(given: tuple[Dim, ...], movement: Movement) -> list[list[int]] | None:
    """The parts that each axis of a buffer of shape ``given`` holds, none of size 1; None where one straddles axes.

    >>> blocks_of((6, 1, 5), Movement((2, 3, 5), ((2,), (0,), (1,))))
    [[0, 1], [2]]
    """
    left = [number for number, size in enumerate(movement.parts) if size != 1]
    blocks: list[list[int]] = []
    for size in real(given):
        block: list[int] = []
        while left and volume([movement.parts[number] for number in block]) != size:
            block.append(left.pop(0))
        if volume([movement.parts[number] for number in block]) != size:
            return None
        blocks.append(block)
    return blocks


def _one_transpose(given: tuple[Dim, ...], movement: Movement, wanted: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """The permutation of the tensor itself after which only axes of size 1 come or go."""
    axes = [axis for axis, size in enumerate(given) if size != 1]
    parts = [number for number, size in enumerate(movement.parts) if size != 1]
    sizes = [movement.parts[number] for number in parts]
    if [given[axis] for axis in axes] != sizes or len(parts) < 2:
        return None
    # Axes of size 1 stand where the result has them; where it has others, they stay.
    frame = wanted if len(wanted) == len(given) else given
    moving = iter([axes[parts.index(number)] for number in movement.order if number in parts])
    units = iter([axis for axis, size in enumerate(given) if size == 1])
    perm = tuple(next(units if size == 1 else moving, -1) for size in frame)
    if sorted(perm) != list(range(len(given))):
        return None
    made = [given[axis] for axis in perm if given[axis] != 1]
    return perm if made == [size for size in wanted if size != 1] else None


__all__ = ["MAX_RANK", "Movement", "Step", "blocks_of", "copies", "divide", "plan", "planned", "real", "volume"]
