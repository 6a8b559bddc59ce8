"""Channels followed through ops that move elements, or average them, within a channel.

A view of [2, 4, 6, 6] as [2, 144] lays 36 elements of a channel in a row; one of [2, 6, 6, 4] lays all
channels 36 times one after another. What is constant within a channel passes such an op either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand, Pattern
from anec.passes.common import VIEWS, only_use, rebuild, tensor
from anec.passes.lower_to_mil.permutation import divide, volume
from anec.passes.mil_cleanup.pads import own_pads
from anec.passes.mil_cleanup.transposes import permutation
from anec.rewrite import any_of, reject, rest

# Each element is an average of elements of its plane, whose weights add up to 1.
_RESIZES = (mil.upsample_nearest_neighbor, mil.upsample_bilinear)
_MOVES = (*VIEWS, *_RESIZES, mil.transpose, mil.reduce_mean, mil.avg_pool, mil.pixel_shuffle)
_MOVE_NAMES = frozenset(defn.name for defn in _MOVES)


@dataclass(frozen=True, slots=True)
class Place:
    """``count`` channels along an axis: each ``after`` times in a row, and all of that ``before`` times."""

    axis: int
    count: int
    before: int = 1
    after: int = 1

    @property
    def size(self) -> int:
        return self.before * self.count * self.after

    def laid_out(self, vector: Value) -> Value:
        """An entry for each channel as an entry for each element of the axis."""
        if self.size == self.count:
            return vector
        repeated = mil.tile(mil.reshape(vector, (1, self.count, 1)), (self.before, 1, self.after))
        return mil.reshape(repeated, (self.size,))


def moved(name: str) -> Pattern:
    """A move of something, bound to ``name``."""
    return any_of(*(defn(tensor("source"), rest).named(name) for defn in _MOVES))


def moves_to(value: Value) -> tuple[list[Op], Value]:
    """The moves that end in ``value``, last first, and what they begin with.

    Raises:
        Reject: something in between has other users.
    """
    found: list[Op] = []
    while value.op is not None and value.op.name in _MOVE_NAMES:
        _check_users(value)
        found.append(value.op)
        value = value.op.value("x")
    _check_users(value)
    return found, value


def _check_users(value: Value) -> None:
    if not only_use(value):
        reject("what is moved has other users")


def moved_again(moves: Sequence[Op], value: Value) -> Value:
    """``value`` through the same moves, which are given last first."""
    for move in reversed(moves):
        value = rebuild(move, x=value)
    return value


def behind(moves: Sequence[Op], place: Place | None) -> Place | None:
    """Where channels lie behind the moves; None stands for one number for all.

    Raises:
        Reject: a move mixes channels.
    """
    for move in reversed(moves):
        place = _through(move, place, forward=True)
    return place


def in_front(moves: Sequence[Op], place: Place | None) -> Place | None:
    """Where the channels that lie at ``place`` behind the moves come from.

    Raises:
        Reject: a move mixes channels.
    """
    for move in moves:
        place = _through(move, place, forward=False)
    return place


def _through(move: Op, place: Place | None, *, forward: bool) -> Place | None:
    if move.name == "mil.avg_pool":
        _check_average(move)
    if place is None:
        return None
    x = move.value("x")
    if move.defn in VIEWS:
        shapes = (x.tensor.shape, move.result.tensor.shape)
        return _viewed(place, *(shapes if forward else shapes[::-1]))
    if move.name == "mil.transpose":
        perm = permutation(move)
        return replace(place, axis=perm.index(place.axis) if forward else perm[place.axis])
    if move.name == "mil.reduce_mean":
        return _averaged(move, place, forward=forward)
    if move.name == "mil.pixel_shuffle":
        return _shuffled(move, place, forward=forward)
    return place if place.axis < 2 else reject("the channels are averaged")


def _viewed(place: Place, old: Sequence[Dim], new: Sequence[Dim]) -> Place:
    """A view keeps all channels together on one axis, or cuts them apart."""
    outer = volume(old[: place.axis]) * place.before
    inner = volume(old[place.axis + 1 :]) * place.after
    for axis, size in enumerate(new):
        before, after = divide(outer, volume(new[:axis])), divide(inner, volume(new[axis + 1 :]))
        if isinstance(before, int) and isinstance(after, int) and before * place.count * after == size:
            return Place(axis, place.count, before, after)
    return reject("a view cuts the channels apart")


def _averaged(move: Op, place: Place, *, forward: bool) -> Place:
    """A mean over other axes."""
    rank, axes = move.value("x").rank, move.attr("axes")
    over = [axis % rank for axis in axes if isinstance(axis, int)] if isinstance(axes, tuple) else range(rank)
    kept = [axis for axis in range(rank) if move.attr("keep_dims") or axis not in over]
    axis = place.axis if forward else kept[place.axis]
    if axis in over:
        reject("the channels are averaged")
    return replace(place, axis=kept.index(axis) if forward else axis)


def _check_average(move: Op) -> None:
    """Refuse an average that counts zeros around the tensor."""
    counted = not move.attr("exclude_padding_from_average")
    if move.attr("ceil_mode") or (counted and any(own_pads(move, move.value("x").rank))):
        reject("the pool is padded")


def _shuffled(move: Op, place: Place, *, forward: bool) -> Place:
    """A channel of a pixel shuffle's result comes from several in a row of its operand."""
    factor = move.attr("upscale_factor")
    if forward or place.axis != 1 or not isinstance(factor, int):
        reject("a shuffle cuts the channels apart")
    return replace(place, after=place.after * factor**2)


def laid_out(operand: Operand, place: Place | None) -> Operand:
    """A literal, or a vector of an entry a channel, as the axis of ``place`` has it."""
    return operand if place is None or not isinstance(operand, Value) else place.laid_out(operand)


__all__ = ["Place", "behind", "in_front", "laid_out", "moved", "moved_again", "moves_to"]
