"""More results than an axis holds: several ops, and one concat at the end.

    %x: f32[1,4,8], %w: f32[20000,8] weight
    %1 = mil.linear(%x, %w)
    %y = mil.tanh(%1)
        ->
    %1 = mil.slice_by_index(%w, [0, 0], [10000, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %2 = mil.linear(%x, %1)
    %3 = mil.slice_by_index(%w, [10000, 0], [20000, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %4 = mil.linear(%x, %3)
    %5 = mil.tanh(%2)
    %6 = mil.tanh(%4)
    %y = mil.concat([%5, %6]) {axis=2}

What stands behind works on the pieces, so that the concat, which no generation takes beyond the limits
(rules B01 to B04), is all that is left to the CPU. Slices of weights are constants.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from anec.ane.limits import Limits
from anec.ane.site import is_run
from anec.dialects import mil
from anec.ir.graph import Graph, Op, Value
from anec.ir.opdef import Operand
from anec.passes.ane_legalize.pointwise import BOUNDED, PAIRS
from anec.passes.ane_legalize.windows import breaks
from anec.passes.common import known, only_use, rebuild, varying
from anec.passes.lower_to_mil.movement import joined, sliced
from anec.passes.mil_cleanup.slices import boundaries, concat_axis
from anec.passes.mil_cleanup.transposes import permutation
from anec.passes.mil_cleanup.weighted import weights_of
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

# More pieces than these are left whole.
_MOST_PIECES = 32
# Output channels are split over the cores, sixteen at a time (rule B65).
_CORES = 16
_SIZES = ("B01", "B02", "B03", "B04")

x = varying("x")
products = any_of(mil.linear(x, rest), mil.conv(x, rest), mil.matmul(x, rest))


def held(rank: int, axis: int, limits: Limits) -> int:
    """The largest size of an axis of a tensor of ``rank`` axes."""
    names = ("NDCHW" if rank > 4 else "NCHW")[-rank:]
    return {"N": limits.batch, "D": limits.depth, "C": limits.channels}.get(names[axis], limits.width)


def beyond(graph: Graph, limits: Limits) -> dict[Op, str]:
    """The ops of static sizes that work on an axis of more entries than the hardware holds, with the reason."""
    shortest = min(limits.batch, limits.channels, limits.depth, limits.width)
    long = (op for op in graph.ops() if any(_is_longer(value, shortest) for value in (*op.inputs, *op.results)))
    static = (op for op in long if is_run(op) and all(v.tensor.is_static for v in (*op.inputs, *op.results)))
    return {op: reason for op in static if (reason := breaks(op, limits, *_SIZES)) is not None}


def _is_longer(value: Value, length: int) -> bool:
    """Whether an axis is longer than what every axis holds; most programs have none, and are done here."""
    return value.tensor.is_static and max(value.shape, default=0) > length


def _cuts(size: int, most: int) -> list[int]:
    """Where ``size`` entries are cut, with both ends, so that no piece has more than ``most``.

    Raises:
        Reject: there would be too many pieces.
    """
    count = math.ceil(size / most)
    if count > _MOST_PIECES:
        reject(f"{size} entries would be {count} pieces")
    piece = math.ceil(size / count)
    piece = min(piece + -piece % _CORES, most)
    return [*range(0, size, piece), size]


@rewrite(products)
def split_outputs(op: Op, opts: AneLegalize, x: Value) -> Value:
    """A product with more outputs than an axis holds is several, of slices of its weight.

    %x: f32[1,8,1,4], %w: f32[70000,8,1,1] weight, %b: f32[70000] weight
    %y = mil.conv(%x, %w, %b)
        ->
    %1 = mil.slice_by_index(%w, [0, 0, 0, 0], [35008, 0, 0, 0]) {begin_mask=[false, true, true, true],
                                                                 end_mask=[false, true, true, true]}
    %2 = mil.slice_by_index(%b, [0], [35008]) {begin_mask=[false], end_mask=[false]}
    %3 = mil.conv(%x, %1, %2)
    %4 = mil.slice_by_index(%w, [35008, 0, 0, 0], [70000, 0, 0, 0]) {begin_mask=[false, true, true, true],
                                                                     end_mask=[false, true, true, true]}
    %5 = mil.slice_by_index(%b, [35008], [70000]) {begin_mask=[false], end_mask=[false]}
    %6 = mil.conv(%x, %4, %5)
    %y = mil.concat([%3, %6]) {axis=1}
    """
    result = op.results[0]
    if not x.tensor.is_static or not result.tensor.is_static:
        reject("sizes are symbolic")
    axis = 1 if op.name == "mil.conv" else result.rank - 1
    size, most = result.shape[axis], held(result.rank, axis, opts.limits)
    if size <= most:
        reject("the outputs fit")
    return joined(_products(op, _cuts(size, most)), axis)


def _products(op: Op, cuts: Sequence[int]) -> list[Value]:
    """A product with a constant, with some of its outputs at a time.

    Raises:
        Reject: its weight is computed, or it has groups.
    """
    target = weights_of(op)
    if target.groups != 1:
        reject("it has groups")
    matmul = op.name == "mil.matmul"
    axis = 1 if matmul and not op.attr("transpose_y") else 0
    parts: list[Value] = []
    for start, stop in itertools.pairwise(cuts):
        changes: dict[str, Value] = {"y" if matmul else "weight": sliced(target.weight, axis, start, stop)}
        if target.bias is not None:
            changes["bias"] = sliced(target.bias, 0, start, stop)
        parts.append(rebuild(op, **changes))
    return parts


_MOVES = (mil.transpose, mil.squeeze, mil.expand_dims)


@rewrite(any_of(*(defn(x, rest) for defn in _MOVES)))
def split_move(op: Op, opts: AneLegalize, x: Value) -> Value:
    """An axis that fits on the channels, and is moved to where it does not, is moved in pieces.

    %x: f32[1,8,1,4], %w: f32[20000,8,1,1] weight
    %1 = mil.conv(%x, %w)
    %y = mil.transpose(%1) {perm=[0, 3, 2, 1]}
        ->
    %1 = mil.slice_by_index(%w, [0, 0, 0, 0], [10000, 0, 0, 0]) {begin_mask=[false, true, true, true],
                                                                 end_mask=[false, true, true, true]}
    %2 = mil.conv(%x, %1)
    %3 = mil.slice_by_index(%w, [10000, 0, 0, 0], [20000, 0, 0, 0]) {begin_mask=[false, true, true, true],
                                                                     end_mask=[false, true, true, true]}
    %4 = mil.conv(%x, %3)
    %5 = mil.transpose(%2) {perm=[0, 3, 2, 1]}
    %6 = mil.transpose(%4) {perm=[0, 3, 2, 1]}
    %y = mil.concat([%5, %6]) {axis=3}
    """
    limits, result = opts.limits, op.results[0]
    if not x.tensor.is_static or not result.tensor.is_static:
        reject("sizes are symbolic")
    most = limits.transposed if op.defn is mil.transpose else max(limits.width, limits.channels)
    long = [axis for axis, size in enumerate(result.shape) if size > min(held(result.rank, axis, limits), most)]
    if len(long) != 1:
        reject("the axes fit" if not long else "several axes are too long")
    if any(size > held(x.rank, axis, limits) for axis, size in enumerate(x.shape)):
        reject("the operand does not fit either")
    given = _origins(op)[long[0]]
    assert given is not None
    cuts = _cuts(x.shape[given], min(held(result.rank, long[0], limits), most))
    front = x.op
    if front is not None and front.name in ("mil.conv", "mil.linear") and only_use(x) and given == _outputs(front):
        parts = _products(front, cuts)
    else:
        parts = [sliced(x, given, start, stop) for start, stop in itertools.pairwise(cuts)]
    return joined([rebuild(op, x=part) for part in parts], long[0])


def _outputs(op: Op) -> int:
    return 1 if op.name == "mil.conv" else op.results[0].rank - 1


def _origins(op: Op) -> list[int | None]:
    """Which axis of its operand each axis of a transpose, squeeze or expand_dims is; None for a new one."""
    if op.defn is mil.transpose:
        return list(permutation(op))
    longer, given = (op.results[0] if op.defn is mil.expand_dims else op.value("x")), op.attr("axes")
    assert isinstance(given, tuple)
    units = {unit % longer.rank for unit in given if isinstance(unit, int)}
    if op.defn is mil.squeeze:
        return [axis for axis in range(longer.rank) if axis not in units]
    kept = iter(range(longer.rank))
    return [None if axis in units else next(kept) for axis in range(longer.rank)]


_UNARY = (*BOUNDED, *"sqrt rsqrt inverse exp exp2 log sign ceil floor round".split())
pieces = mil.concat(rest).named("whole")


@rewrite(
    any_of(
        *(mil.resolve(name)(rest, x=pieces) for name in _UNARY),
        *(defn(pieces, rest) for defn in _MOVES),
        *(form for defn in PAIRS for form in (defn(pieces, var("other")), defn(var("other"), pieces))),
    )
)
def work_on_pieces(op: Op, opts: AneLegalize, whole: Value) -> Value:
    """What stands behind a concat that does not fit works on its pieces.

    %a: f32[1,2,10000], %b: f32[1,2,10000]
    %1 = mil.concat([%a, %b]) {axis=2}
    %y = mil.mul(%1, 0.5)
        ->     %2 = mil.mul(%a, 0.5)
               %3 = mil.mul(%b, 0.5)
               %y = mil.concat([%2, %3]) {axis=2}
    """
    concat, result = whole.op, op.results[0]
    assert concat is not None
    if not result.tensor.is_static or not whole.tensor.is_static or breaks(op, opts.limits, *_SIZES) is None:
        reject("it fits")
    axis, values = concat_axis(concat), list(concat.variadic("values"))
    ends = boundaries(values, axis)
    if ends is None or not 1 < len(values) <= _MOST_PIECES:
        reject("the pieces are too many, or symbolic")
    if op.defn in _MOVES:
        return joined([rebuild(op, x=piece) for piece in values], _origins(op).index(axis))
    if result.shape != whole.shape:
        reject("the other operand is larger")
    names = [name for name in ("x", "y") if name in op.defn.by_name]
    of = {name: _piecewise(op.operand(name), whole, axis, ends) for name in names}
    made = [rebuild(op, **{name: of[name](index) for name in names}) for index in range(len(values))]
    return joined(made, axis)


def _piecewise(operand: Operand, whole: Value, axis: int, ends: list[int]) -> Callable[[int], Operand]:
    """The part of an operand beside each piece of ``whole``.

    Raises:
        Reject: it is as long, is computed, and has no pieces of these sizes.
    """
    if not isinstance(operand, Value):
        return lambda _: operand
    own = axis - whole.rank + operand.rank
    if own < 0 or operand.shape[own] == 1:
        return lambda _: operand
    front = operand.op
    if front is not None and front.name == "mil.concat" and concat_axis(front) == own:
        values = list(front.variadic("values"))
        if boundaries(values, own) == ends:
            return lambda index: values[index]
    if not known(operand):
        reject(f"%{operand.name} is computed in one piece")
    return lambda index: sliced(operand, own, ends[index - 1] if index else 0, ends[index])


RULES: list[Rule] = [split_outputs, split_move, work_on_pieces]
