"""One projection for queries, keys and values becomes three; each then takes the form its users want.

    %x: f32[1,77,16], %w: f32[48,16] weight
    %1 = mil.linear(%x, %w)
    %2 = mil.reshape(%1, [1, 77, 3, 2, 8])
    %3 = mil.transpose(%2) {perm=[2, 0, 3, 1, 4]}
    %y = mil.slice_by_index(%3, [0, 0, 0, 0, 0], [1, 1, 2, 77, 8]) {squeeze_mask=[true, false, false, false, false]}
        ->
    %4 = mil.slice_by_index(%w, [0, 0], [16, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %5 = mil.expand_dims(%4) {axes=[2, 3]}
    %6 = mil.transpose(%x) {perm=[0, 2, 1]}
    %7 = mil.expand_dims(%6) {axes=[2]}
    %8 = mil.conv(%7, %5)
    %9 = mil.reshape(%8, [2, 8, 77])
    %10 = mil.transpose(%9) {perm=[0, 2, 1]}
    %y = mil.expand_dims(%10) {axes=[0]}

A slice behind views and permutes is first taken in front of them, where what it takes stands
together there; then a linear of which only slices are used is one linear a slice. Separate
projections are what Apple's models have (rule A47). Slices of weights are constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.ane_layout.forms import Form, Route, extended, is_movement
from anec.passes.common import only_use, rebuild
from anec.passes.lower_to_mil.movement import moved, reshaped, sliced
from anec.passes.lower_to_mil.permutation import Movement, volume
from anec.passes.mil_cleanup.slices import ranges
from anec.rewrite import Rule, any_of, constant, optional, reject, rest, rewrite, var


@rewrite(mil.slice_by_index)
def slice_before_movement(op: Op) -> Value:
    """A slice of one axis behind views and permutes is taken of the tensor they began with."""
    found = cut_of(op)
    if found is None:
        reject("it is no slice of one axis by whole numbers")
    axis, start, stop = found
    route = _route(op.value("x"))
    if not route.steps:
        reject("no view or permute stands in front")
    part = Part.of(route, axis)
    inner = volume(part.inside)
    if part.outside or not isinstance(inner, int):
        reject("what it takes does not stand together")
    held = sliced(route.root, part.at, start * inner, stop * inner)
    return moved(held, part.cut(start, stop), op.results[0].tensor.shape)


def _route(value: Value) -> Route:
    """The route that ends at ``value``."""
    steps: list[Op] = []
    at = value
    while at.op is not None and is_movement(at.op) and not at.is_constant:
        steps.append(at.op)
        at = at.op.value("x")
    route = Route(at)
    for step in reversed(steps):
        route = extended(route, step) or Route(step.results[0])
    return route


def cut_of(op: Op) -> tuple[int, int, int] | None:
    """The one axis that a slice cuts, where it starts and where it stops; None for another slice.

    Raises:
        Reject: the bounds are not known, or the operand is symbolic.
    """
    given = op.attr("squeeze_mask")
    shape = op.value("x").tensor.shape
    squeezed = given if isinstance(given, tuple) else (False,) * len(shape)
    found = [
        (axis, taken)
        for axis, (taken, size) in enumerate(zip(ranges(op), shape, strict=True))
        if squeezed[axis] or len(taken) != size or taken.step < 0
    ]
    if len(found) != 1:
        return None
    axis, taken = found[0]
    return (axis, taken.start, taken.stop) if taken and taken.step == 1 else None


@dataclass(frozen=True, slots=True)
class Part:
    """One axis of a tensor behind views and permutes, as a part of an axis of the tensor they began with.

    Args:
        movement: the views and permutes.
        number: which part of the movement it is.
        at: the axis it is part of.
        outside: the sizes of the parts of that axis in front of it.
        inside: those behind it.
    """

    movement: Movement
    number: int
    at: int
    outside: tuple[Dim, ...]
    inside: tuple[Dim, ...]

    @staticmethod
    def of(route: Route, axis: int) -> Part:
        """The part that ``axis`` is.

        Raises:
            Reject: it is several, or sizes are symbolic.
        """
        movement = route.movement(Form.WRITTEN, Form.WRITTEN)
        assert movement is not None
        numbers = movement.axes[axis]
        if len(numbers) != 1 or not route.root.tensor.is_static:
            reject("what it takes does not stand together")
        place = 0
        for at, size in enumerate(route.root.shape):
            own: list[int] = []
            # Parts of one axis follow each other; those of size 1 belong nowhere.
            while place < len(movement.parts) and (
                volume([movement.parts[i] for i in own]) != size or movement.parts[place] == 1
            ):
                own.append(place)
                place += 1
            if numbers[0] in own and movement.parts[numbers[0]] != 1:
                real = [number for number in own if movement.parts[number] != 1]
                outside = tuple(movement.parts[number] for number in real if number < numbers[0])
                inside = tuple(movement.parts[number] for number in real if number > numbers[0])
                return Part(movement, numbers[0], at, outside, inside)
        return reject("what it takes does not stand together")

    def cut(self, start: int, stop: int) -> Movement:
        """The movement of what is left of the part."""
        sizes = list(self.movement.parts)
        sizes[self.number] = stop - start
        return Movement(tuple(sizes), self.movement.axes)


projected = mil.linear(var("x"), constant("weight"), optional(var("bias")))


@rewrite(mil.slice_by_index(projected.named("whole"), rest))
def split_projection(op: Op, whole: Value) -> Value:
    """A linear of which only slices of channels are used is one linear a slice."""
    linear = whole.op
    assert linear is not None
    cut = cut_of(op)
    if cut is None or cut[0] != whole.rank - 1 or op.results[0].rank != whole.rank:
        reject("it is no slice of channels")
    if whole.is_output or not all(_takes_channels(user, whole) for user in whole.users):
        reject("the projection has other users")
    return _channels(linear, *cut[1:])


@rewrite(mil.split(projected.named("whole"), rest)[0])
def split_projections(op: Op, whole: Value) -> list[Value]:
    """A linear whose channels are split is one linear a part."""
    linear = whole.op
    assert linear is not None
    if not only_use(whole) or op.attr("axis") not in (-1, whole.rank - 1):
        reject("it is no split of channels, or the projection has other users")
    return [_channels(linear, start, stop) for _, start, stop in _cuts(op) or ()]


def _channels(linear: Op, start: int, stop: int) -> Value:
    """The linear of some of its channels."""
    weight, bias = linear.value("weight"), linear.operand("bias")
    part = sliced(bias, 0, start, stop) if isinstance(bias, Value) else bias
    return mil.linear(linear.value("x"), sliced(weight, 0, start, stop), part)


def _takes_channels(user: Op, whole: Value) -> bool:
    if user.defn is not mil.slice_by_index:
        return False
    cut = cut_of(user)
    return cut is not None and cut[0] == whole.rank - 1


behind = any_of(mil.reshape(var("seen"), rest), mil.transpose(var("seen"), rest))


@rewrite(any_of(mil.slice_by_index(behind, rest), mil.split(behind, rest)))
def split_interleaved(op: Op) -> list[Value]:
    """What lies in channels head by head is one linear, or conv, a slice, of the weight's rows head by head.

    %x: f32[1,77,16], %w: f32[48,16] weight
    %1 = mil.linear(%x, %w)
    %2 = mil.reshape(%1, [1, 77, 2, 24])
    %y = mil.slice_by_index(%2, [0, 0, 0, 8], [1, 77, 2, 16])
        ->
    %3 = mil.reshape(%w, [2, 24, 16])
    %4 = mil.slice_by_index(%3, [0, 8, 0], [2, 16, 16])
    %5 = mil.reshape(%4, [16, 16])
    %6 = mil.linear(%x, %5)
    %y = mil.reshape(%6, [1, 77, 2, 8])
    """
    route = _route(op.value("x"))
    maker = route.root.op
    if maker is None or maker.defn not in (mil.linear, mil.conv) or maker.attrs.get("groups", 1) not in (None, 1):
        reject("it is no part of a linear")
    weight, bias = maker.value("weight"), maker.operand("bias")
    cuts = _cuts(op)
    if not weight.is_constant or cuts is None or not _is_only_cut(route.root):
        reject("the linear has other users")
    part = Part.of(route, cuts[0][0])
    if part.at != (1 if maker.defn is mil.conv else route.root.rank - 1) or not part.outside:
        reject("what it takes does not lie in the channels, or stands together there")
    made: list[Value] = []
    for result, (_, start, stop) in zip(op.results, cuts, strict=True):
        changes = {"bias": _rows(bias, part, start, stop)} if isinstance(bias, Value) else {}
        one = rebuild(maker, weight=_rows(weight, part, start, stop), **changes)
        made.append(moved(one, part.cut(start, stop), result.tensor.shape))
    return made


def _cuts(op: Op) -> list[tuple[int, int, int]] | None:
    """For each result, the one axis that is cut, where it starts and where it stops."""
    if op.defn is mil.slice_by_index:
        cut = cut_of(op)
        return None if cut is None else [cut]
    axis = op.attr("axis")
    assert isinstance(axis, int)
    axis %= op.value("x").rank
    stops = list(accumulate(result.shape[axis] for result in op.results))
    return [(axis, start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def _is_only_cut(value: Value) -> bool:
    """Whether all that is used of a value, through views and permutes, is cut out of it."""
    if value.is_output:
        return False
    return all(
        _is_only_cut(user.results[0]) if is_movement(user) else user.defn in (mil.slice_by_index, mil.split)
        for user in value.users
    )


def _rows(weight: Value, part: Part, start: int, stop: int) -> Value:
    """The rows of a weight that make a slice of the channels."""
    sizes = (*part.outside, part.movement.parts[part.number], *part.inside)
    rows = sliced(reshaped(weight, (*sizes, *weight.shape[1:])), len(part.outside), start, stop)
    return reshaped(rows, (volume((*part.outside, stop - start, *part.inside)), *weight.shape[1:]))


RULES: list[Rule] = [slice_before_movement, split_projection, split_projections, split_interleaved]
