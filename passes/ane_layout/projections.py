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

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.ane_layout.forms import Form, Route, extended, is_movement
from anec.passes.common import only_use
from anec.passes.lower_to_mil.movement import moved, sliced
from anec.passes.lower_to_mil.permutation import Movement, volume
from anec.passes.mil_cleanup.slices import ranges
from anec.rewrite import Rule, constant, optional, reject, rest, rewrite, var


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
    movement = route.movement(Form.WRITTEN, Form.WRITTEN)
    assert movement is not None
    parts = movement.axes[axis]
    if len(parts) != 1 or not route.root.tensor.is_static:
        reject("what it takes does not stand together")
    part = parts[0]
    at, inner = _owner(route.root.shape, movement.parts, part)
    if at is None:
        reject("what it takes does not stand together")
    held = sliced(route.root, at, start * inner, stop * inner)
    sizes = list(movement.parts)
    sizes[part] = stop - start
    return moved(held, Movement(tuple(sizes), movement.axes), op.results[0].tensor.shape)


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


def _owner(shape: tuple[int, ...], parts: tuple[Dim, ...], part: int) -> tuple[int | None, int]:
    """The axis whose outermost part this is, and how many elements lie below one step of it."""
    place = 0
    for axis, size in enumerate(shape):
        own: list[int] = []
        # Parts of one axis follow each other; those of size 1 belong nowhere.
        while place < len(parts) and (volume([parts[i] for i in own]) != size or parts[place] == 1):
            own.append(place)
            place += 1
        real = [index for index in own if parts[index] != 1]
        if part in own:
            inner = volume([parts[index] for index in real[1:]])
            return (axis, inner) if real[:1] == [part] and isinstance(inner, int) else (None, 1)
    return None, 1


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
    _, start, stop = cut
    weight, bias = linear.value("weight"), linear.operand("bias")
    part = sliced(bias, 0, start, stop) if isinstance(bias, Value) else bias
    return mil.linear(linear.value("x"), sliced(weight, 0, start, stop), part)


@rewrite(mil.split(projected.named("whole"), rest)[0])
def split_projections(op: Op, whole: Value) -> list[Value]:
    """A linear whose channels are split is one linear a part."""
    linear = whole.op
    assert linear is not None
    if not only_use(whole) or op.attr("axis") not in (-1, whole.rank - 1):
        reject("it is no split of channels, or the projection has other users")
    weight, bias = linear.value("weight"), linear.operand("bias")
    parts: list[Value] = []
    start = 0
    for result in op.results:
        stop = start + result.shape[-1]
        part = sliced(bias, 0, start, stop) if isinstance(bias, Value) else bias
        parts.append(mil.linear(linear.value("x"), sliced(weight, 0, start, stop), part))
        start = stop
    return parts


def _takes_channels(user: Op, whole: Value) -> bool:
    if user.defn is not mil.slice_by_index:
        return False
    cut = cut_of(user)
    return cut is not None and cut[0] == whole.rank - 1


RULES: list[Rule] = [slice_before_movement, split_projection, split_projections]
