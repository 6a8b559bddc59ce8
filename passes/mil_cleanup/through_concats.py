"""What scales or shifts a concat goes into its pieces, where each of them takes it in.

    %x: f32[1,3,8,8], %w: f32[4,3,1,1] weight, %v: f32[2,3,1,1] weight, %m: f32[6] weight, %s: f32[6] weight
    %1 = mil.conv(%x, %w)
    %2 = mil.conv(%x, %v)
    %3 = mil.concat([%1, %2]) {axis=1}
    %y = mil.batch_norm(%3, %m, %s)
        ->
    %4 = mil.slice_by_index(%m, [0], [4])
    %5 = mil.slice_by_index(%s, [0], [4])
    %6 = mil.rsqrt(%5) {epsilon=1e-05}
    %7 = mil.mul(%4, -1.0)
    %8 = mil.mul(%7, %6)
    %9 = mil.reshape(%6, [4, 1, 1, 1])
    %10 = mil.mul(%w, %9)
    %1 = mil.conv(%x, %10, %8)
    %11 = mil.slice_by_index(%m, [4], [6])
    %12 = mil.slice_by_index(%s, [4], [6])
    %13 = mil.rsqrt(%12) {epsilon=1e-05}
    %14 = mil.mul(%11, -1.0)
    %15 = mil.mul(%14, %13)
    %16 = mil.reshape(%13, [2, 1, 1, 1])
    %17 = mil.mul(%v, %16)
    %2 = mil.conv(%x, %17, %15)
    %y = mil.concat([%1, %2]) {axis=1}

The rule gives each piece an op of its own, which the rules beside it fold. A piece takes it in if it is made by
weights, by a batch norm, or constant; a tensor that is joined as it is would be copied once more.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import known, only_use, rebuild
from anec.passes.mil_cleanup.channels import Place, in_front, moves_to
from anec.passes.mil_cleanup.slices import concat_axis, take
from anec.passes.mil_cleanup.steps import Step, step_of, steps_on
from anec.passes.mil_cleanup.through_moves import WEIGHTED
from anec.passes.mil_cleanup.weighted import weights_of
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

_STATISTICS = ("mean", "variance", "gamma", "beta")


@rewrite(any_of(*steps_on(mil.concat(var("values"), rest).named("last"))))
def fold_into_pieces(op: Op, last: Value, values: tuple[Operand, ...]) -> Value:
    """What scales or shifts a concat does so to its pieces, if none of them keeps an op for it.

    %x: f32[2,8], %w: f32[4,8] weight, %v: f32[3,8] weight, %s: f32[7] weight
    %1 = mil.linear(%x, %w)
    %2 = mil.linear(%x, %v)
    %3 = mil.concat([%1, %2]) {axis=1}
    %y = mil.mul(%3, %s)
        ->
    %4 = mil.slice_by_index(%s, [0], [4])
    %5 = mil.reshape(%4, [4, 1])
    %6 = mil.mul(%w, %5)
    %1 = mil.linear(%x, %6)
    %7 = mil.slice_by_index(%s, [4], [7])
    %8 = mil.reshape(%7, [3, 1])
    %9 = mil.mul(%v, %8)
    %2 = mil.linear(%x, %9)
    %y = mil.concat([%1, %2]) {axis=1}
    """
    step = step_of(op)
    if step.x is not last or last.op is None or not only_use(last):
        reject("the concat has other users")
    axis = concat_axis(last.op)
    apart = step.place is not None and step.place.axis == axis
    stops = [0]
    for piece in values:
        if not isinstance(piece, Value) or not isinstance(size := piece.tensor.shape[axis], int):
            reject("a piece is a literal, or its size symbolic")
        _check_taken_in(piece, step, Place(axis, size) if apart else step.place)
        stops.append(stops[-1] + size)
    joined = "x" if op.operand("x") is last else "y"
    names = _STATISTICS if step.constant is None else tuple({"x", "y"} - {joined})
    constants = {name: found for name in names if (found := op.operand(name)) is not None}
    if apart and not all(isinstance(constant, Value) for constant in constants.values()):
        reject("the constant is a list of numbers")
    made = []
    for piece, start, stop in zip(values, stops, stops[1:], strict=False):
        own = constants
        if apart:
            # Statistics are vectors; other constants are aligned with the last axis.
            own = {name: _cut(c, axis - last.rank if len(names) == 1 else 0, start, stop) for name, c in own.items()}
        made.append(rebuild(op, **{joined: piece}, **own))
    return mil.concat(made, axis=axis)


def _check_taken_in(piece: Value, step: Step, place: Place | None) -> None:
    """Refuse a piece that would keep an op of its own for the step.

    Raises:
        Reject: weights, a batch norm or a constant do not stand in front of it, or are used elsewhere.
    """
    if known(piece) and only_use(piece):
        return
    moves, source = moves_to(piece)
    place, front = in_front(moves, place), source.op
    if front is not None and front.name == "mil.batch_norm":
        if place is not None and place != Place(1, front.value("mean").tensor.size):
            reject("its channels are not those of the batch norm")
        step_of(front)
        return
    if front is None or front.name not in WEIGHTED:
        reject("a piece takes in neither scale nor offset")
    target = weights_of(front)
    if place is not None and (place.axis, place.size) != (target.given.axis, target.channels):
        reject("its channels are not those of the weights")
    if front.name == "mil.matmul" and step.shifts:
        reject("a matmul has no bias")
    if step.scales:
        target.own_weight()


def _cut(constant: Operand, axis: int, start: int, stop: int) -> Value:
    """A constant from ``start`` to ``stop`` along an axis."""
    assert isinstance(constant, Value)
    axis %= constant.rank
    taken = tuple(range(start, stop) if at == axis else range(size) for at, size in enumerate(constant.shape))
    return take(constant, taken)


RULES: list[Rule] = [fold_into_pieces]
