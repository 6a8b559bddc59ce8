"""Tensors of rank 5 where an op takes four axes, and shuffles by other factors than the hardware has.

    %x: f32[1,4,2,16,8], %y: f32[1,4,2,8,16]
    %z = mil.matmul(%x, %y)
        ->
    %1 = mil.squeeze(%x) {axes=[0]}
    %2 = mil.squeeze(%y) {axes=[0]}
    %3 = mil.matmul(%1, %2)
    %z = mil.expand_dims(%3) {axes=[0]}

Neighbouring axes along which the operands agree are one (rules B24, B27 and B32). Where that would write tensors
anew, a product of few entries is one product an entry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anec.ane.limits import Limits
from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.axes import held
from anec.passes.ane_legalize.blocks import to_channels, to_space
from anec.passes.ane_legalize.runs import MOST_RUNS, pieces
from anec.passes.ane_legalize.windows import Ints, breaks
from anec.passes.common import rebuild, varying
from anec.passes.lower_to_mil.movement import joined, rearranged, reshaped
from anec.rewrite import Rule, any_of, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

x = varying("x")


def _operands(op: Op, rank: int) -> dict[str, Ints]:
    """The shapes of x and y with ``rank`` axes; numbers are left out.

    Raises:
        Reject: a size is symbolic.
    """
    found: dict[str, Ints] = {}
    for name in ("x", "y"):
        operand = op.operand(name)
        if isinstance(operand, Value) and operand.rank:
            if not operand.tensor.is_static:
                reject("sizes are symbolic")
            found[name] = (1,) * (rank - operand.rank) + operand.shape
    return found


def _joint(shapes: Sequence[Ints], result: Ints, axes: int, limits: Limits) -> int:
    """The first of two neighbours among ``axes`` that are one in every operand; one of size 1 copies nothing.

    Raises:
        Reject: there are none, or they would be longer than the hardware has axes.
    """
    found: int | None = None
    for axis in range(axes - 1):
        pair = slice(axis, axis + 2)
        alike = 1 in result[pair] or all(shape[pair] in (result[pair], (1, 1)) for shape in shapes)
        if alike and math.prod(result[pair]) <= held(4, axis, limits):
            if 1 in result[pair]:
                return axis
            found = axis if found is None else found
    return found if found is not None else reject("the operands stretch along different axes")


def _joined(shape: Ints, axis: int) -> Ints:
    return (*shape[:axis], math.prod(shape[axis : axis + 2]), *shape[axis + 2 :])


def _in_four_axes(op: Op, axes: int, limits: Limits) -> Value:
    """The op on operands of which two neighbours among the first ``axes`` are joined."""
    result, operands = op.results[0], _in_five_axes(op)
    at = _joint(list(operands.values()), result.shape, axes, limits)
    changes = {name: reshaped(op.value(name), _joined(shape, at)) for name, shape in operands.items()}
    return reshaped(rebuild(op, **changes), result.shape)


def _in_five_axes(op: Op) -> dict[str, Ints]:
    """The shapes of x and y where the op has five axes.

    Raises:
        Reject: it has others, or a size is symbolic.
    """
    result = op.results[0].tensor
    return _operands(op, 5) if result.rank == 5 and result.is_static else reject(f"the result is {result}")


def _copies(op: Op) -> bool:
    """Whether operands or the result of ``op`` are written anew when leading axes of them are joined."""
    result = op.results[0]
    if 1 in result.shape[1:3] or result.shape[0] == 1:
        return False
    given = [operand for operand in op.inputs if operand.rank > 3 and not operand.is_constant]
    views = [operand.op is not None and operand.op.defn is mil.reshape for operand in given]
    return not all(views) or not all(user.defn is mil.reshape for user in result.users) or result.is_output


def _by_entry(op: Op) -> Value:
    """A product for each entry of the first axis, side by side."""
    operands, count = _in_five_axes(op), op.results[0].shape[0]
    entries = {
        name: [reshaped(each, shape[1:]) for each in (pieces(given, 0) if shape[0] > 1 else [given])]
        for name, shape in operands.items()
        for given in (op.value(name),)
    }
    made = [
        rebuild(op, **{name: parts[at if len(parts) > 1 else 0] for name, parts in entries.items()})
        for at in range(count)
    ]
    return joined([mil.expand_dims(each, axes=(0,)) for each in made], 0)


@rewrite(mil.matmul(rest))
def product_in_four_axes(op: Op, opts: AneLegalize) -> Value:
    """A product of rank 5 is one an entry of its first axis; leading axes of many entries, and of views, are joined.

    %x: f32[2,4,3,16,8], %y: f32[4,3,8,16]
    %z = mil.matmul(%x, %y)
        ->
    %1, %2 = mil.split(%x) {num_splits=2, axis=0}
    %3 = mil.squeeze(%1) {axes=[0]}
    %4 = mil.squeeze(%2) {axes=[0]}
    %5 = mil.matmul(%3, %y)
    %6 = mil.matmul(%4, %y)
    %7 = mil.expand_dims(%5) {axes=[0]}
    %8 = mil.expand_dims(%6) {axes=[0]}
    %z = mil.concat([%7, %8]) {axis=0}
    """
    if breaks(op, opts.limits, "B24") is None:
        reject("its operands have four axes at most")
    few = op.results[0].tensor.is_static and op.results[0].shape[0] <= MOST_RUNS
    return _by_entry(op) if few and _copies(op) else _in_four_axes(op, 3, opts.limits)


_BINARY = (mil.add, mil.sub, mil.mul, mil.real_div, mil.maximum, mil.minimum, mil.pow, mil.floor_div)


@rewrite(any_of(*(defn(rest) for defn in _BINARY)))
def stretch_in_four_axes(op: Op, opts: AneLegalize) -> Value:
    """What is stretched along the depth of a tensor of rank 5 is stretched along an axis of rank 4.

    %x: f32[1,4,3,16,8], %m: f32[1,1,3,16,8]
    %y = mil.add(%x, %m)
        ->
    %1 = mil.squeeze(%x) {axes=[0]}
    %2 = mil.squeeze(%m) {axes=[1]}
    %3 = mil.add(%1, %2)
    %y = mil.expand_dims(%3) {axes=[0]}
    """
    result = op.results[0].tensor
    if result.rank != 5 or not result.is_static or breaks(op, opts.limits, "B32") is None:
        reject("nothing is stretched along a depth")
    return _in_four_axes(op, 5, opts.limits)


_SHUFFLES = (mil.pixel_shuffle, mil.pixel_unshuffle, mil.depth_to_space, mil.space_to_depth)


@rewrite(any_of(*(defn(x, rest) for defn in _SHUFFLES)))
def shuffle_as_transpose(op: Op, opts: AneLegalize, x: Value) -> Value:
    """A shuffle by another factor than 2, 3, 4 and 8 is a transpose of five axes (rule B20).

    %x: f32[1,50,4,4]
    %y = mil.pixel_shuffle(%x) {upscale_factor=5}
        ->
    %1 = mil.reshape(%x, [2, 5, 5, 4, 4])
    %2 = mil.transpose(%1) {perm=[0, 3, 1, 4, 2]}
    %y = mil.reshape(%2, [1, 2, 20, 20])
    """
    if not x.tensor.is_static or breaks(op, opts.limits, "B20") is None:
        reject("the factor is native")
    names = ("upscale_factor", "downscale_factor", "block_size")
    factor = next(op.attr(name) for name in names if name in op.defn.by_name)
    assert isinstance(factor, int)
    if op.defn is mil.pixel_shuffle:
        return to_space(x, (factor, factor))
    if op.defn is mil.pixel_unshuffle:
        return to_channels(x, (factor, factor))
    batch, channels, height, width = x.shape
    shape = op.results[0].shape
    if op.defn is mil.depth_to_space:
        sizes = (batch, factor, factor, channels // factor**2, height, width)
        return rearranged(x, sizes, (0, 3, 4, 1, 5, 2), shape)
    sizes = (batch, channels, height // factor, factor, width // factor, factor)
    return rearranged(x, sizes, (0, 3, 5, 1, 2, 4), shape)


RULES: list[Rule] = [product_in_four_axes, stretch_in_four_axes, shuffle_as_transpose]
