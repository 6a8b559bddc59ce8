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
from math import inf

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
    if sum(_size(user.results[0]) for user in op.value("x").users if user.defn is op.defn) > _size(op.value("x")):
        reject("slices overlap, so moving what they are taken of writes less")
    part = Part.of(route, axis)
    inner = volume(part.inside)
    if part.outside or not isinstance(inner, int):
        reject("what it takes does not stand together")
    held = sliced(route.root, part.at, start * inner, stop * inner)
    return moved(held, part.cut(stop - start), op.results[0].tensor.shape)


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


def _taken_by(op: Op) -> tuple[int, range] | None:
    """The one axis that a slice cuts, and what it takes of it, in rising steps; None for another slice.

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
    return (axis, taken) if taken else None


def cut_of(op: Op) -> tuple[int, int, int] | None:
    """The one axis that a slice cuts, where it starts and where it stops; None for another slice, and for one by steps.

    Raises:
        Reject: the bounds are not known, or the operand is symbolic.
    """
    found = _taken_by(op)
    return (found[0], found[1].start, found[1].stop) if found is not None and found[1].step == 1 else None


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

    def cut(self, size: int) -> Movement:
        """The movement of what is left of the part."""
        sizes = list(self.movement.parts)
        sizes[self.number] = size
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
    return [_channels(linear, taken.start, taken.stop) for _, taken in _cuts(op) or ()]


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


@rewrite(any_of(mil.slice_by_index(var("x"), rest), mil.split(var("x"), rest)))
def split_interleaved(op: Op) -> list[Value]:
    """What lies in channels head by head, or every second, is one linear, or conv, a slice, of the weight's rows.

    %x: f32[1,77,16], %w: f32[48,16] weight
    %1 = mil.linear(%x, %w)
    %2 = mil.reshape(%1, [1, 77, 2, 24])
    %y = mil.slice_by_index(%2, [0, 0, 0, 8], [1, 77, 2, 16])
        ->
    %1 = mil.reshape(%w, [2, 24, 16])
    %2 = mil.slice_by_index(%1, [0, 8, 0], [0, 16, 0]) {begin_mask=[true, false, true],
                                                        end_mask=[true, false, true]}
    %3 = mil.reshape(%2, [16, 16])
    %4 = mil.linear(%x, %3)
    %y = mil.reshape(%4, [1, 77, 2, 8])
    """
    route = _route(op.value("x"))
    cuts = _cuts(op)
    maker, channels = route.root.op, route.root.rank - 1
    if maker is None or cuts is None:
        reject("it is no slice of one axis, or of an input")
    weight, bias = _weight(maker), maker.operand("bias") if "bias" in maker.defn.by_name else None
    if maker.defn is mil.conv:
        channels = 1
    part = Part.of(route, cuts[0][0])
    if part.at != channels or not (part.outside or any(taken.step > 1 for _, taken in cuts)):
        reject("what it takes does not lie in the channels, or stands together there")
    if _cut_from(route.root, channels) > _size(route.root):
        reject("the linear has other users, or its slices overlap")
    made: list[Value] = []
    for result, (_, taken) in zip(op.results, cuts, strict=True):
        rows = _rows(weight, part, taken)
        if maker.defn is mil.matmul:
            one = rebuild(maker, y=rows, transpose_y=True)
        else:
            one = rebuild(maker, weight=rows, **({"bias": _rows(bias, part, taken)} if isinstance(bias, Value) else {}))
        made.append(moved(one, part.cut(len(taken)), result.tensor.shape))
    return made


def _weight(maker: Op) -> Value:
    """The constant matrix, or kernel, of a product, channels in front.

    Raises:
        Reject: it is another op, or has none.
    """
    if maker.defn is mil.matmul:
        matrix = maker.operand("y")
        if isinstance(matrix, Value) and matrix.is_constant and matrix.rank == 2 and maker.value("x").rank > 1:
            return matrix if maker.attr("transpose_y") else mil.transpose(matrix, perm=(1, 0))
    elif maker.defn in (mil.linear, mil.conv) and maker.attrs.get("groups", 1) in (None, 1):
        weight = maker.value("weight")
        if weight.is_constant:
            return weight
    return reject("it is no part of a product with a constant")


def _cuts(op: Op) -> list[tuple[int, range]] | None:
    """For each result, the one axis that is cut, and what is taken of it."""
    if op.defn is mil.slice_by_index:
        cut = _taken_by(op)
        return None if cut is None else [cut]
    axis = op.attr("axis")
    assert isinstance(axis, int)
    axis %= op.value("x").rank
    stops = list(accumulate(result.shape[axis] for result in op.results))
    return [(axis, range(start, stop)) for start, stop in zip([0, *stops], stops, strict=False)]


def _cut_from(value: Value, channels: int) -> int | float:
    """How many elements are cut out of the channels of a value, through views and permutes; inf if it has other uses.

    Raises:
        Reject: bounds are not known.
    """
    if value.is_output:
        return inf
    total: int | float = 0
    for user in value.users:
        if is_movement(user):
            total += _cut_from(user.results[0], channels)
            continue
        cuts = _cuts(user) if user.defn in (mil.slice_by_index, mil.split) else None
        if cuts is None or Part.of(_route(value), cuts[0][0]).at != channels:
            return inf
        total += sum(map(_size, user.results))
    return total


def _size(value: Value) -> int:
    size = volume(value.tensor.shape)
    assert isinstance(size, int)
    return size


def _rows(weight: Value, part: Part, taken: range) -> Value:
    """The rows of a weight that make a slice of the channels."""
    sizes = (*part.outside, part.movement.parts[part.number], *part.inside)
    whole = reshaped(weight, (*sizes, *weight.shape[1:]))
    rows = sliced(whole, len(part.outside), taken.start, taken.stop, taken.step)
    return reshaped(rows, (volume((*part.outside, len(taken), *part.inside)), *weight.shape[1:]))


RULES: list[Rule] = [slice_before_movement, split_projection, split_projections, split_interleaved]
