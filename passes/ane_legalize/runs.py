"""Places along an axis as few runs, and what each run takes: a slice, a reversed slice, or one entry stretched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.graph import Value
from anec.passes.lower_to_mil.movement import joined, sliced
from anec.passes.lower_to_mil.shared import filled

# Where twelve branches meet the compiler searches for seconds (rule B54).
MOST_RUNS = 11
# Single entries that are taken out and put side by side one by one.
MOST_PIECES = 64


@dataclass(frozen=True, slots=True)
class Run:
    """The places first, first + step, ...: count of them. The step is -1, 0 or positive."""

    first: int
    count: int
    step: int

    @property
    def last(self) -> int:
        return self.first + (self.count - 1) * self.step


def runs_of(places: Sequence[int]) -> list[Run]:
    """The places as runs, each as long as it gets.

    >>> [(run.first, run.count, run.step) for run in runs_of([0, 2, 4, 3, 2, 2, 2, 9])]
    [(0, 3, 2), (3, 2, -1), (2, 2, 0), (9, 1, 0)]
    """
    found: list[Run] = []
    at = 0
    while at < len(places):
        step = places[at + 1] - places[at] if at + 1 < len(places) else 0
        count = 1
        while step >= -1 and at + count < len(places) and places[at + count] == places[at] + count * step:
            count += 1
        found.append(Run(places[at], count, step if count > 1 else 0))
        at += count
    return found


def taken(x: Value, axis: int, runs: Sequence[Run]) -> Value:
    """The entries of ``x`` at the runs along ``axis``: at most two ops a run, and a concat."""
    return joined([_run(x, axis, run) for run in runs], axis)


def _run(x: Value, axis: int, run: Run) -> Value:
    low, high = min(run.first, run.last), max(run.first, run.last)
    part = x if high + 1 - low == x.shape[axis] and run.step in (-1, 1) else (
        sliced(x, axis, low, high + 1, max(run.step, 1))
    )  # fmt: skip
    if run.step == 0 and run.count > 1:
        return stretched(part, axis, run.count)
    return mil.reverse(part, axes=(axis,)) if run.step < 0 else part


def stretched(x: Value, axis: int, count: int) -> Value:
    """``x``, which has one entry along ``axis``, with ``count`` equal ones: a product with ones, which broadcasts."""
    ones = tuple(count if at == axis else 1 for at in range(x.rank))
    return mil.mul(x, filled(ones, 1.0, x.tensor.dtype))


def pieces(x: Value, axis: int) -> list[Value]:
    """The entries of ``x`` along ``axis``, each with that axis."""
    count = x.shape[axis]
    return [x] if count == 1 else list(mil.split.many(x, num_splits=count, axis=axis))


def repeated(x: Value, axis: int, times: int) -> Value:
    """``x`` with each entry along ``axis`` as often as ``times`` says, one copy behind the other."""
    return joined([piece for piece in pieces(x, axis) for _ in range(times)], axis)
