"""Plans of views and permutations against numpy, on drawn tensors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import prod

import numpy as np
import pytest

from anec.passes.lower_to_mil.permutation import MAX_RANK, Movement, copies, planned

Array = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def followed(x: Array, movement: Movement, wanted: Sequence[int]) -> Array:
    """What the plan makes of ``x``."""
    for sizes, perm in planned(x.shape, movement, wanted):
        assert len(sizes) <= MAX_RANK
        x = x.reshape([size for size in sizes if isinstance(size, int)]).transpose(perm)
    return x.reshape(wanted)


def grouped(sizes: Sequence[int], draw: random.Random) -> list[int]:
    found, at = [], 0
    while at < len(sizes):
        step = draw.randint(1, 3)
        found.append(prod(sizes[at : at + step]))
        at += step
    return found


@pytest.mark.parametrize("seed", range(200))
def test_a_plan_does_what_the_movement_does(seed: int) -> None:
    draw = random.Random(seed)
    parts = [draw.choice([1, 2, 3, 4]) for _ in range(draw.randint(2, 6))]
    perm = draw.sample(range(len(parts)), len(parts))
    given, wanted = grouped(parts, draw), grouped([parts[axis] for axis in perm], draw)
    x = np.arange(prod(parts)).reshape(given)
    found = followed(x, Movement.of(parts).permuted(perm), wanted)
    np.testing.assert_array_equal(found, x.reshape(parts).transpose(perm).reshape(wanted))


@pytest.mark.parametrize("seed", range(200))
def test_what_is_behind_another_movement(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.choice([2, 3, 4]) for _ in range(4)]
    x = np.arange(prod(sizes)).reshape(sizes)

    def one() -> tuple[Movement, Array]:
        perm = draw.sample(range(4), 4)
        at = draw.randrange(3)
        made = x.transpose(perm)
        shape = (*made.shape[:at], made.shape[at] * made.shape[at + 1], *made.shape[at + 2 :])
        movement = Movement.of(sizes).permuted(perm).viewed(shape)
        assert movement is not None
        return movement, made.reshape(shape)

    (first, before), (second, wanted) = one(), one()
    between = second.behind(first)
    assert between is not None
    np.testing.assert_array_equal(followed(before, between, wanted.shape), wanted)


def test_parts_that_are_no_parts_of_each_other() -> None:
    seen = Movement.of((6,)).viewed((2, 3))
    assert seen is not None
    assert seen.behind(Movement.of((3, 2))) is None


@pytest.mark.parametrize(
    ("given", "sizes", "perm", "wanted", "count"),
    [
        # Heads of a sequence, channels first: as they are wanted.
        ((2, 192, 1, 16), (2, 4, 48, 16), (0, 1, 3, 2), (2, 4, 16, 48), 2),
        # A batch that is seen as two: as it is.
        ((16, 16, 8, 64), (2, 8, 16, 8, 64), (0, 1, 3, 2, 4), (2, 1, 64, 16, 64), 2),
        # Windows: as few axes as there may be.
        ((1, 8, 8, 5), (1, 2, 4, 2, 4, 5), (0, 1, 3, 2, 4, 5), (4, 4, 4, 5), 3),
        ((2, 3, 4), (2, 3, 4), (0, 2, 1), (2, 4, 3), 1),
    ],
)
def test_how_often_the_data_are_written(
    given: tuple[int, ...], sizes: tuple[int, ...], perm: tuple[int, ...], wanted: tuple[int, ...], count: int
) -> None:
    movement = Movement.of(sizes).permuted(perm)
    assert copies(given, planned(given, movement, wanted), wanted) == count
