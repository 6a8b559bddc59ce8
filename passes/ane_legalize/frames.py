"""A volume as its frames, images side by side in the batch, and what works on each frame by itself.

    %x: f32[3,4,8,8]
    %1 = mil.expand_dims(%x) {axes=[0]}
    %2 = mil.transpose(%1) {perm=[0, 2, 1, 3, 4]}
    %y = mil.relu(%2)
        ->
    %1 = mil.relu(%x)
    %2 = mil.expand_dims(%1) {axes=[2]}
    %a, %b, %c = mil.split(%2) {num_splits=3, axis=0}
    %y = mil.concat([%a, %b, %c]) {axis=2}

Convolutions over volumes work on frames (``volumes.py``) and give a volume again, as a view of them. What stands
between two of them takes the frames behind that view, so that a whole network of them is one of images; the views that
are left become copies of single images, up to 64 of them. The axis whose entries are frames is the depth, or another
one along which a kernel has a single entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.pointwise import BOUNDED, PAIRS
from anec.passes.ane_legalize.runs import MOST_PIECES, pieces, repeated
from anec.passes.common import dims, rebuild, varying
from anec.passes.lower_to_mil.movement import joined, reshaped, sliced
from anec.passes.lower_to_mil.padding import padded
from anec.passes.lower_to_mil.shared import filled
from anec.passes.mil_cleanup.pads import own_pads
from anec.passes.mil_cleanup.slices import concat_axis
from anec.passes.mil_cleanup.transposes import permutation
from anec.rewrite import Rule, any_of, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

_RANK, _DEPTH = 5, 2
# A longer window would hold the volume as many times.
DEEPEST = 16


def _forth(axis: int) -> tuple[int, ...]:
    return (0, axis, *(at for at in range(1, _RANK) if at != axis))


def _back(axis: int) -> tuple[int, ...]:
    return tuple(_forth(axis).index(at) for at in range(_RANK))


@dataclass(frozen=True, slots=True)
class Frames:
    """A volume, [batch, channels, *space], as images.

    Args:
        images: [batch * count, channels, *space without the axis].
        batch: of the volume.
        axis: the axis of the volume whose entries are images.
    """

    images: Value
    batch: int
    axis: int = _DEPTH

    @property
    def count(self) -> int:
        """How many images a volume is."""
        return self.images.shape[0] // self.batch

    @property
    def volume(self) -> Value:
        """The volume they are."""
        stacked = reshaped(self.images, (self.batch, self.count, *self.images.shape[1:]))
        return mil.transpose(stacked, perm=_back(self.axis))

    def of(self, images: Value) -> Frames:
        """Others of the same volumes."""
        return Frames(images, self.batch, self.axis)


def frames_behind(volume: Value, axis: int | None = None) -> Frames | None:
    """The frames that ``volume`` is a view of, along ``axis`` or any; None where it is none of them."""
    turned = volume.op
    if turned is None or turned.defn is not mil.transpose or volume.rank != _RANK or not volume.tensor.is_static:
        return None
    stacked = turned.value("x")
    view = stacked.op
    if view is None or view.defn not in (mil.reshape, mil.expand_dims):
        return None
    images = view.value("x")
    if images.rank != _RANK - 1 or not images.tensor.is_static or images.shape[1:] != stacked.shape[2:]:
        return None
    axes = range(_DEPTH, _RANK) if axis is None else (axis,)
    found = [at for at in axes if permutation(turned) == _back(at)]
    return Frames(images, volume.shape[0], found[0]) if found else None


def frames_of(volume: Value, axis: int = _DEPTH) -> Frames:
    """The frames of a volume, those that it was made of if there are such.

    A few are taken out and put one behind the other: no tensor with a depth is transposed (rule B04).
    """
    found = frames_behind(volume, axis)
    if found is not None:
        return found
    batch, count = volume.shape[0], volume.shape[axis]
    # More are one transpose.
    if batch * count <= MOST_PIECES:
        images = [image for single in pieces(volume, 0) for image in pieces(single, axis)]
        return Frames(mil.squeeze(joined(images, 0), axes=(axis,)), batch, axis)
    stacked = mil.transpose(volume, perm=_forth(axis))
    return Frames(reshaped(stacked, (batch * count, *stacked.shape[2:])), batch, axis)


# -- windows along the axis of the frames ----------------------------------------------------------


def taps(frames: Frames, starts: Sequence[int], count: int, step: int, *, repeat: bool = False) -> list[Value]:
    """For each start, ``count`` images a volume from there on, ``step`` apart, as [batch * count, channels, *image].

    Args:
        frames: of the volumes.
        starts: where the first image stands; below 0 it is in front of the volume.
        count: how many images.
        step: from one to the next.
        repeat: beyond the ends of a volume is its first or last image, not zeros.
    """
    images, batch, size = frames.images, frames.batch, frames.count
    if (list(starts), count, step) == ([0], size, 1):
        return [images]
    own = [[0 <= start + at * step < size for at in range(count)] for start in starts]
    if count == 1 and batch > 1 and all(0 <= start < size for start in starts):
        return [_every(images, 0, start, batch, size) for start in starts]
    within = next((index for index, places in enumerate(own) if all(places)), None)
    if batch > 1 and (size != count * step or (repeat and within is None)):
        if batch * len(starts) > MOST_PIECES:
            stacked = _extended(reshaped(images, (batch, size, *images.shape[1:])), 1, starts, count, step, repeat)
            parts = [_every(stacked, 1, start - min(*starts, 0), count, step) for start in starts]
            return [reshaped(part, (batch * count, *images.shape[1:])) for part in parts]
        volumes = mil.split.many(images, num_splits=batch, axis=0)
        each = [taps(Frames(volume, 1, frames.axis), starts, count, step, repeat=repeat) for volume in volumes]
        return [joined(parts, 0) for parts in zip(*each, strict=True)]
    # Volumes behind each other are one; what is of a neighbour is zeroed, or what another tap has.
    extended = _extended(images, 0, starts, batch * count, step, repeat)
    parts = [_every(extended, 0, start - min(*starts, 0), batch * count, step) for start in starts]
    if batch == 1:
        return parts
    other = parts[within] if repeat and within is not None else None
    return [_inside(part, batch, places, other) for part, places in zip(parts, own, strict=True)]


def _every(x: Value, axis: int, start: int, count: int, step: int) -> Value:
    if (start, step, count) == (0, 1, x.shape[axis]):
        return x
    return sliced(x, axis, start, start + (count - 1) * step + 1, step)


def _extended(x: Value, axis: int, starts: Sequence[int], count: int, step: int, repeat: bool) -> Value:
    """``x`` with as much in front and behind as the taps reach beyond it: zeros, or its ends."""
    size = x.shape[axis]
    before, after = max(-min(starts), 0), max(max(starts) + (count - 1) * step + 1 - size, 0)

    def beyond(amount: int, at: int) -> list[Value]:
        if not amount:
            return []
        if repeat:
            return [sliced(x, axis, at, at + 1)] * amount
        return [filled((*x.shape[:axis], amount, *x.shape[axis + 1 :]), 0.0, x.tensor.dtype)]

    return joined([*beyond(before, 0), x, *beyond(after, size - 1)], axis)


def _inside(part: Value, batch: int, own: Sequence[bool], other: Value | None) -> Value:
    """A tap of several volumes in a row, with zeros, or what ``other`` has, where it took what is of a neighbour."""
    if all(own):
        return part
    if not any(own):
        return filled(part.shape, 0.0, part.tensor.dtype) if other is None else other

    def mask(inside: float) -> Value:
        numbers = filled((sum(own), 1, 1, 1), inside, part.tensor.dtype)
        before = own.index(True)
        around = [(before, len(own) - before - sum(own)), (0, 0), (0, 0), (0, 0)]
        return mil.tile(padded(numbers, around, 1.0 - inside), (batch, 1, 1, 1))

    kept = mil.mul(part, mask(1.0))
    return kept if other is None else mil.add(kept, mil.mul(other, mask(0.0)))


# -- what works on each frame ----------------------------------------------------------------------

_UNARY = (*BOUNDED, "sqrt", "exp", "prelu", "batch_norm")
x, y = varying("x"), varying("y")


@rewrite(any_of(*(mil.resolve(name)(rest, x=x) for name in _UNARY), *(defn(rest) for defn in PAIRS)))
def pointwise_on_frames(op: Op) -> Value:
    """What works position by position works on frames as it does on volumes."""
    result = op.results[0].tensor
    if result.rank != _RANK or not result.is_static:
        reject("it gives no volume")
    operands = {name: op.operand(name) for name in ("x", "y") if name in op.defn.by_name}
    given = {name: operand for name, operand in operands.items() if operand is not None}
    # One that is broadcast has other frames.
    full = [value for value in given.values() if isinstance(value, Value) and value.tensor.shape == result.shape]
    behind = [frames_behind(value) for value in full]
    frames = next((found for found in behind if found is not None), None)
    if frames is None:
        reject("it works on no frames")
    changes = {name: _beside(operand, frames, result.static_shape) for name, operand in given.items()}
    return frames.of(rebuild(op, **changes)).volume


def _beside(operand: Value | Literal, frames: Frames, shape: tuple[int, ...]) -> Value | Literal:
    """An operand beside frames: the frames of it, or what is the same for all frames of a volume.

    Raises:
        Reject: it differs between frames, or between more volumes than are worth an op each.
    """
    if isinstance(operand, Literal):
        return reject("numbers of a list lie along its last axis") if dims(operand) else operand
    if not operand.tensor.is_static:
        reject("sizes are symbolic")
    if operand.shape == shape:
        return frames_of(operand, frames.axis).images
    own = (1,) * (_RANK - operand.rank) + operand.shape
    if own[frames.axis] != 1:
        reject(f"%{operand.name} differs between frames")
    if not operand.rank:
        return operand
    if own[0] > 1 and own[0] * frames.count > MOST_PIECES:
        reject(f"%{operand.name} would be repeated for {own[0] * frames.count} frames")
    image = reshaped(operand, [own[at] for at in _forth(frames.axis) if at != frames.axis])
    if own[0] == 1:
        return image
    return repeated(image, 0, frames.count)


@rewrite(mil.concat)
def concat_on_frames(op: Op) -> Value:
    """Channels of volumes are joined frame by frame, if one of them is frames."""
    values, axis = op.variadic("values"), concat_axis(op)
    volumes = [value for value in values if isinstance(value, Value)]
    found = [frames for frames in map(frames_behind, volumes) if frames is not None]
    if not found or axis != 1 or len(volumes) != len(values) or not op.results[0].tensor.is_static:
        reject("it joins no channels of frames")
    first = found[0]
    images = [frames_of(volume, first.axis).images for volume in volumes]
    return first.of(mil.concat(images, axis=1, interleave=bool(op.attr("interleave")))).volume


@rewrite(any_of(mil.max_pool(x, rest), mil.avg_pool(x, rest)))
def pool_on_frames(op: Op) -> Value:
    """A window over a volume is one over each frame, and the largest, or the mean, of the frames it spans.

    %x: f32[2,4,8,8]
    %1 = mil.expand_dims(%x) {axes=[0]}
    %2 = mil.transpose(%1) {perm=[0, 2, 1, 3, 4]}
    %y = mil.max_pool(%2) {kernel_sizes=[1, 2, 2], strides=[1, 2, 2], pad_type="valid"}
        ->
    %1 = mil.max_pool(%x) {kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"}
    %2 = mil.expand_dims(%1) {axes=[2]}
    %a, %b = mil.split(%2) {num_splits=2, axis=0}
    %y = mil.concat([%a, %b]) {axis=2}
    """
    frames = frames_behind(op.value("x"))
    if frames is None or not op.results[0].tensor.is_static:
        reject("it works on no frames")
    pads = own_pads(op, _RANK)
    sizes, steps = _steps(op, "kernel_sizes"), _steps(op, "strides")
    place = frames.axis - _DEPTH
    depth, step, before = sizes[place], steps[place], pads[2 * place]
    shape = op.results[0].shape
    if depth > DEEPEST or (op.defn is mil.avg_pool and any(pads[2 * place : 2 * place + 2])):
        reject(f"the window is {depth} deep, or its padding counts")
    within = [at for at in range(_RANK - _DEPTH) if at != place]
    images = frames.images
    if any(sizes[at] > 1 or steps[at] > 1 for at in within):
        changes = {"kernel_sizes": tuple(sizes[at] for at in within), "strides": tuple(steps[at] for at in within)}
        around = tuple(pad for at in within for pad in pads[2 * at : 2 * at + 2])
        padding = {"pad_type": "custom", "pad": around} if any(around) else {"pad_type": "valid", "pad": None}
        own: dict[str, object] = {**op.attrs, **changes, **padding, "x": images}
        images = op.defn.build((), {name: given for name, given in own.items() if given is not None}).result
    starts = [tap - before for tap in range(depth)]
    parts = taps(frames.of(images), starts, shape[frames.axis], step, repeat=op.defn is mil.max_pool)
    found = reduce(mil.maximum if op.defn is mil.max_pool else mil.add, parts)
    return frames.of(found if op.defn is mil.max_pool or depth == 1 else mil.mul(found, 1 / depth)).volume


def _steps(op: Op, name: str) -> tuple[int, ...]:
    given = op.attr(name)
    found = tuple(size for size in given if isinstance(size, int)) if isinstance(given, tuple) else ()
    return found or (1,) * (_RANK - _DEPTH)


@rewrite(mil.reduce_mean(x, rest))
def mean_of_frames(op: Op, opts: AneLegalize, x: Value) -> Value:
    """The mean of volumes is that of the means of their frames."""
    frames, axes = frames_behind(x), op.attr("axes")
    if frames is None or not isinstance(axes, tuple):
        reject("it works on no frames")
    if sorted(axis % _RANK for axis in axes if isinstance(axis, int)) != list(range(_DEPTH, _RANK)):
        reject("it is no mean of whole volumes")
    means = mil.reduce_mean(frames.images, axes=(2, 3), keep_dims=True)
    if frames.batch == 1 or frames.count > DEEPEST:
        stacked = reshaped(means, (frames.batch, frames.count, *means.shape[1:]))
        return reshaped(mil.reduce_mean(stacked, axes=(1,), keep_dims=False), op.results[0].shape)
    shares = frames.of(mil.mul(means, 1 / frames.count))
    return reshaped(reduce(mil.add, taps(shares, range(frames.count), 1, 1)), op.results[0].shape)


# -- where no image is wanted any more -------------------------------------------------------------


@rewrite(mil.transpose(x, rest))
def volume_of_frames(op: Op) -> Value:
    """Frames that nothing more works on are put one behind the other in their volume.

    %x: f32[3,4,8,8]
    %1 = mil.expand_dims(%x) {axes=[0]}
    %y = mil.transpose(%1) {perm=[0, 2, 1, 3, 4]}
        ->
    %1 = mil.expand_dims(%x) {axes=[2]}
    %2, %3, %4 = mil.split(%1) {num_splits=3, axis=0}
    %y = mil.concat([%2, %3, %4]) {axis=2}
    """
    frames = frames_behind(op.results[0])
    if frames is None or not 1 < frames.images.shape[0] <= MOST_PIECES:
        reject("it is no volume of a few frames")
    images = pieces(mil.expand_dims(frames.images, axes=(frames.axis,)), 0)
    own = [images[at : at + frames.count] for at in range(0, len(images), frames.count)]
    return joined([joined(of_one, frames.axis) for of_one in own], 0)


RULES: list[Rule] = [pointwise_on_frames, concat_on_frames, pool_on_frames, mean_of_frames]
LAST: list[Rule] = [volume_of_frames]

__all__ = ["DEEPEST", "Frames", "frames_behind", "frames_of", "taps"]
