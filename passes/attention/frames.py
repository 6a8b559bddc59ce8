"""How a tensor inside of a chain of views and permutes lies in the tensor behind the chain.

    %scores: f32[8,5,7]      ->  view [2,4,5,7]  ->  + %bias: f32[1,4,5,7]  ->  permute (0, 1, 3, 2)

What stands beside the scores, a bias, is brought behind the chain with the axes of size 1 it broadcasts along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from anec.dialects import aten
from anec.ir.dims import Dim
from anec.ir.graph import Value
from anec.passes.algebra import aligned
from anec.passes.attention.matrices import permuted
from anec.passes.lower_to_mil.permutation import Movement, volume
from anec.rewrite import reject

Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Permuted:
    """A step of a chain: axis i of the result is axis ``order[i]``."""

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Viewed:
    """A step of a chain: a tensor of the shape ``source`` seen as ``target``."""

    source: Shape
    target: Shape


@dataclass(frozen=True, slots=True)
class Frame:
    """The steps that lead from a tensor to the end of the chain, the nearest first."""

    steps: tuple[Permuted | Viewed, ...] = ()

    def before(self, step: Permuted | Viewed) -> Frame:
        """The frame of what a further step in front of this one takes."""
        if isinstance(step, Permuted) and self.steps and isinstance(self.steps[0], Permuted):
            joined = tuple(step.order[axis] for axis in self.steps[0].order)
            rest = self.steps[1:]
            return Frame(rest) if joined == tuple(range(len(joined))) else Frame((Permuted(joined), *rest))
        if isinstance(step, Permuted) and step.order == tuple(range(len(step.order))):
            return self
        return Frame((step, *self.steps))

    def carried(self, value: Value, rank: int) -> Value:
        """``value``, which broadcasts to a tensor of ``rank`` axes here, as it lies behind the chain."""
        if not self.steps:
            return value
        at = viewed(value, aligned(value, rank))
        for step in self.steps:
            at = permuted(at, step.order) if isinstance(step, Permuted) else regrouped(at, step.source, step.target)
        return at

    def placed(self, shape: Shape) -> Placement:
        """Where the axes of a tensor of ``shape`` come to lie.

        Raises:
            Reject: a view on the way straddles axes that a permute brought together.
        """
        found = Movement.of(shape)
        for step in self.steps:
            following = found.permuted(step.order) if isinstance(step, Permuted) else found.viewed(step.target)
            if following is None:
                reject("a view in front of the softmax mixes axes")
            found = following
        return Placement.of(shape, found)


@dataclass(frozen=True, slots=True)
class Placement:
    """Which parts of a tensor each axis behind a chain is made of; parts of size 1 do not count.

    Args:
        sizes: the size of each part.
        before: the parts of each axis in front of the chain.
        behind: the parts of each axis behind it.
    """

    sizes: dict[int, Dim]
    before: tuple[tuple[int, ...], ...]
    behind: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(shape: Shape, movement: Movement) -> Placement:
        sizes = {number: size for number, size in enumerate(movement.parts) if size != 1}
        left = list(sizes)
        before = []
        for dim in shape:
            mine: list[int] = []
            while volume([sizes[number] for number in mine]) != dim:
                mine.append(left.pop(0))
            before.append(tuple(mine))
        behind = tuple(tuple(number for number in axis if number in sizes) for axis in movement.axes)
        return Placement(sizes, tuple(before), behind)

    def led(self, value: Value, lead: Shape) -> Value:
        """``value`` of the shape [*lead, rows, columns] with the leading axes as they lie behind the chain."""
        order = [number for axis in self.behind[:-2] for number in axis]
        shape = tuple(volume([self.sizes[number] for number in axis]) for axis in self.behind[:-2])
        if order == sorted(order) and shape == lead:
            return value
        tail = value.tensor.shape[-2:]
        whole = expanded(value, (*lead, *tail))
        count = len(order)
        split = viewed(whole, (*(self.sizes[number] for number in sorted(order)), *tail))
        places = tuple(sorted(order).index(number) for number in order)
        return viewed(permuted(split, (*places, count, count + 1)), (*shape, *tail))


def viewed(value: Value, shape: Sequence[Dim]) -> Value:
    """``value`` as ``shape``; the view in front is left out."""
    wanted = tuple(shape)
    if value.tensor.shape == wanted:
        return value
    op = value.op
    if op is not None and op.name in ("aten.view.default", "aten.unsqueeze.default", "aten.reshape.default"):
        source = op.value("self")
        return source if source.tensor.shape == wanted else aten.view.default(source, wanted)
    return aten.view.default(value, wanted)


def expanded(value: Value, shape: Sequence[Dim]) -> Value:
    """``value`` repeated along axes of size 1."""
    wanted = tuple(shape)
    return value if value.tensor.shape == wanted else aten.expand.default(value, wanted)


def regrouped(value: Value, source: Shape, target: Shape) -> Value:
    """``value``, which broadcasts to ``source`` axis by axis, as it broadcasts to the view ``target`` of it.

    Axes that are merged with others are repeated unless all of them have size 1.
    """
    full: list[Dim] = []
    sizes: list[Dim] = []
    for start, stop, begin, end in _groups(source, target):
        mine = value.tensor.shape[start:stop]
        alone = all(size == 1 for size in mine)
        full += mine if alone else source[start:stop]
        sizes += [1] * (end - begin) if alone else target[begin:end]
    return viewed(expanded(value, full), sizes)


def _groups(source: Shape, target: Shape) -> list[tuple[int, int, int, int]]:
    """The smallest runs of axes of both shapes that hold the same elements: starts and ends."""
    cuts = [(0, 0)]
    start, begin = 0, 0
    for stop in range(1, len(source) + 1):
        for end in range(begin + 1, len(target) + 1):
            if volume(source[start:stop]) == volume(target[begin:end]):
                cuts.append((stop, end))
                start, begin = stop, end
                break
    # Axes of size 1 at the end of one shape only belong to the last group.
    if len(cuts) == 1 or volume(source[start:]) != 1 or volume(target[begin:]) != 1:
        return [(0, len(source), 0, len(target))]
    cuts[-1] = (len(source), len(target))
    return [(a, b, c, d) for (a, c), (b, d) in pairwise(cuts)]
