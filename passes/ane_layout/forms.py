"""The forms a tensor can be held in, and the way from one use of it to another.

    rank    as written      channels first    sequence last    rows last
    2       [B, C]          [B, C, 1, 1]
    2       [S, C]                                             [1, C, 1, S]
    3       [B, S, C]       [B, C, 1, S]
    3       [H, S, E]                         [1, H, E, S]
    3       [S, H, E]                                          [1, H, E, S]
    4       [B, H, W, C]    [B, C, H, W]
    4       [B, H, S, E]                      [B, H, E, S]
    4       [B, S, H, E]                                       [B, H, E, S]

The channels of a sequence model stand last, the Neural Engine wants them on axis 1 and the longest
axis last (Apple, "Deploying Transformers on the Apple Neural Engine"; rule A07). Heads of attention,
before they are merged, stay in front of their channels: [B, H, E, S] is a view of [B, H E, 1, S]. A tensor
of another rank has one form. Nothing here builds an op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, reduce

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.common import VIEWS
from anec.passes.lower_to_mil.movement import only_units
from anec.passes.lower_to_mil.permutation import Movement, planned, volume
from anec.passes.lower_to_mil.permutation import Step as Planned


class Form(Enum):
    """How a tensor is held."""

    WRITTEN = "as written"
    CHANNELS_FIRST = "channels first"
    SEQUENCE_LAST = "sequence last"
    ROWS_LAST = "rows last"


# For each rank, where each axis stands; all forms but the written one are of rank 4.
_PLACES: dict[Form, dict[int, tuple[int, ...]]] = {
    Form.CHANNELS_FIRST: {2: (0, 1), 3: (0, 3, 1), 4: (0, 2, 3, 1)},
    Form.SEQUENCE_LAST: {3: (1, 3, 2), 4: (0, 1, 3, 2)},
    Form.ROWS_LAST: {2: (3, 1), 3: (3, 1, 2), 4: (0, 3, 1, 2)},
}
# How much dearer rows of one element are to make: they fill a 32nd of their memory.
_EMPTY = 4
# A copy of all elements: into a shape, or, of that shape, by a permutation.
Copy = tuple[tuple[Dim, ...], tuple[int, ...] | None]


def forms_of(rank: int) -> tuple[Form, ...]:
    """The forms a tensor of ``rank`` has besides the written one."""
    return tuple(form for form, places in _PLACES.items() if rank in places)


def places(form: Form, rank: int) -> tuple[int, ...]:
    """Where each axis of a tensor of ``rank`` stands in ``form``.

    >>> places(Form.CHANNELS_FIRST, 3)
    (0, 3, 1)
    """
    return _PLACES[form][rank]


def shape_in(shape: Sequence[Dim], form: Form) -> tuple[Dim, ...]:
    """The shape of the tensor that holds one of ``shape`` in ``form``.

    >>> shape_in((2, 77, 512), Form.CHANNELS_FIRST)
    (2, 512, 1, 77)
    """
    if form is Form.WRITTEN:
        return tuple(shape)
    held: list[Dim] = [1] * 4
    for size, place in zip(shape, places(form, len(shape)), strict=True):
        held[place] = size
    return tuple(held)


@dataclass(frozen=True, slots=True)
class Step:
    """One view or permute of a route.

    Args:
        view: the new shape, or None for a permute.
        perm: the permutation, or None for a view.
    """

    view: tuple[Dim, ...] | None = None
    perm: tuple[int, ...] | None = None

    def shape(self, given: Sequence[Dim]) -> tuple[Dim, ...]:
        """The shape that the step makes of ``given``."""
        return self.view if self.view is not None else tuple(given[axis] for axis in self.perm or ())


@dataclass(frozen=True, slots=True)
class Route:
    """A use of a tensor: the value that an op made, and the views and permutes behind it.

    Args:
        root: a result of an op that computes, or an input.
        steps: the views and permutes.
    """

    root: Value
    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> Route:
        """The route with one more step."""
        return Route(self.root, (*self.steps, step))

    def broadcast(self, rank: int) -> Route:
        """The route with axes of size 1 in front, up to ``rank``."""
        shape = self.shape
        return self.then(Step((1,) * (rank - len(shape)) + shape)) if len(shape) < rank else self

    def movement(self, held: Form, wanted: Form) -> Movement | None:
        """How the data of the root, held in one form, stand in the tensor used, wanted in another.

        Returns:
            None when the axes of some view straddle those before.
        """
        return _movement(self.root.tensor.shape, self.steps, held, wanted)

    @property
    def is_roundabout(self) -> bool:
        """Whether fewer transposes than are written take the root to its use."""
        movement = self.movement(Form.WRITTEN, Form.WRITTEN)
        assert movement is not None
        permutes = sum(step.perm is not None for step in self.steps)
        return bool(permutes) and len(planned(self.root.tensor.shape, movement, self.shape)) < permutes

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The shape of the tensor used, as written."""
        return _shape(self.root.tensor.shape, self.steps)


def _shape(shape: tuple[Dim, ...], steps: tuple[Step, ...]) -> tuple[Dim, ...]:
    return reduce(lambda at, step: step.shape(at), steps, shape)


# Layers repeat each other's routes.
@lru_cache(maxsize=4096)
def _movement(shape: tuple[Dim, ...], steps: tuple[Step, ...], held: Form, wanted: Form) -> Movement | None:
    at: Movement | None = Movement.of(shape_in(shape, held))
    if held is not Form.WRITTEN and at is not None:
        stand = places(held, len(shape))
        units = [place for place in range(4) if place not in stand]
        at = at.permuted((*stand, *units)).viewed(shape)
    for step in steps:
        if at is None:
            return None
        shape = step.shape(shape)
        at = at.permuted(step.perm) if step.perm is not None else at.viewed(shape)
    if wanted is not Form.WRITTEN and at is not None:
        stand = places(wanted, len(shape))
        at = at.permuted(sorted(range(len(shape)), key=lambda axis: stand[axis]))
    return at


def is_movement(op: Op) -> bool:
    """Whether ``op`` only moves data, in a way that a route may hold."""
    return op.defn in VIEWS or op.defn is mil.transpose


def extended(route: Route, op: Op) -> Route | None:
    """The route with the step ``op`` takes; None when a form of the root cannot be seen so.

    A view whose axes straddle those before it, the shift of relative positions for instance, needs
    the data in the order they were written.
    """
    if op.defn is mil.transpose:
        perm = op.attr("perm")
        assert isinstance(perm, tuple)
        return route.then(Step(perm=tuple(axis % len(perm) for axis in perm if isinstance(axis, int))))
    found = route.then(Step(op.results[0].tensor.shape))
    held = (Form.WRITTEN, *forms_of(route.root.rank))
    return found if all(found.movement(form, Form.WRITTEN) is not None for form in held) else None


def cost(route: Route, held: Form, wanted: Form) -> int:
    """What bringing the root, held in one form, to a use that wants another takes; twice the elements moved.

    What leaves the last axis as it is copies rows: a transpose then counts half, a reshape nothing (rule
    A30). Rows of one element leave most of their memory empty (A06): to make them is a reshape too.
    """
    return _cost(route.root.tensor.shape, route.steps, held, wanted)


@lru_cache(maxsize=1 << 14)
def _cost(shape: tuple[Dim, ...], steps: tuple[Step, ...], held: Form, wanted: Form) -> int:
    at, total = shape_in(shape, held), 0
    end = shape_in(_shape(shape, steps), wanted)
    for sizes, perm in _planned(shape, steps, held, wanted):
        total += _viewing(at, sizes) + (1 if perm[-1] == len(perm) - 1 else 2)
        at = tuple(sizes[axis] for axis in perm)
    size = volume(end)
    assert isinstance(size, int)
    return size * (total + _viewing(at, end))


def _planned(shape: tuple[Dim, ...], steps: tuple[Step, ...], held: Form, wanted: Form) -> list[Planned]:
    movement = _movement(shape, steps, held, wanted)
    assert movement is not None
    return planned(shape_in(shape, held), movement, shape_in(_shape(shape, steps), wanted))


@lru_cache(maxsize=1 << 14)
def _written(shape: tuple[Dim, ...], steps: tuple[Step, ...], held: Form, wanted: Form) -> tuple[Copy, ...]:
    at, made = shape_in(shape, held), list[Copy]()
    for sizes, perm in _planned(shape, steps, held, wanted):
        if not only_units(at, sizes):
            made.append((sizes, None))
        made.append((sizes, perm))
        at = tuple(sizes[axis] for axis in perm)
    end = shape_in(_shape(shape, steps), wanted)
    return tuple(made) if only_units(at, end) else (*made, (end, None))


def tensors_written(route: Route, held: Form, wanted: Form) -> tuple[Copy, ...]:
    """The reshapes and transposes of that way: each writes all elements, views of rows too."""
    return _written(route.root.tensor.shape, route.steps, held, wanted)


def _viewing(shape: Sequence[Dim], wanted: Sequence[Dim]) -> int:
    """What a view takes for each element."""
    rows, made = _last(shape), _last(wanted)
    return 0 if made == rows else _EMPTY if made == 1 else 1


def _last(shape: Sequence[Dim]) -> Dim:
    return shape[-1] if shape else 1
