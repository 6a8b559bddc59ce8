"""What is split behind a move, and moved again, is split in front of it: the moves of each part meet.

    %x: f32[2,6,4,5]
    %1 = mil.transpose(%x) {perm=[0, 2, 3, 1]}
    %a, %b = mil.split(%1) {split_sizes=[2, 4], axis=3}
    %c = mil.transpose(%a) {perm=[0, 3, 1, 2]}
    %d = mil.transpose(%b) {perm=[0, 1, 3, 2]}
        ->
    %a, %b = mil.split(%x) {split_sizes=[2, 4], axis=1}
    %d = mil.transpose(%b) {perm=[0, 2, 1, 3]}
    return %a, %d

Keys and values of one projection are parted so, behind moves that are meant for one of them.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.common import only_use, varying
from anec.passes.mil_cleanup.moves import MOVEMENTS
from anec.passes.mil_cleanup.regrouped import groups
from anec.passes.mil_cleanup.transposes import permutation
from anec.rewrite import Rule, reject, rest, rewrite

x = varying("x")


@rewrite(mil.split(mil.transpose(x, rest), rest))
def split_before_transpose(op: Op, x: Value) -> list[Value]:
    """The parts are transposed.

    %1 = mil.transpose(%x) {perm=[1, 0]}
    %a, %b = mil.split(%1) {num_splits=2, axis=0}
    %c = mil.transpose(%a) {perm=[1, 0]}
    %d = mil.transpose(%b) {perm=[1, 0]}
        ->
    %c, %d = mil.split(%x) {split_sizes=[4, 4], axis=1}
    """
    axis, move = _parted(op)
    perm = permutation(move)
    return [mil.transpose(part, perm=perm) for part in _split(x, op, axis, perm[axis])]


@rewrite(mil.split(mil.reshape(x, rest), rest))
def split_before_view(op: Op, x: Value) -> list[Value]:
    """The parts are seen otherwise, where the axis that is split is there before.

    %x: f32[2,6,4,5]
    %1 = mil.reshape(%x, [2, 6, 20])
    %a, %b = mil.split(%1) {num_splits=2, axis=1}     ->     %a, %b = mil.split(%x) {split_sizes=[3, 3], axis=1}
    %c = mil.reshape(%a, [6, 4, 5])                          %c = mil.reshape(%a, [6, 4, 5])
    %d = mil.reshape(%b, [2, 60])                            %d = mil.reshape(%b, [2, 60])
    """
    axis, _ = _parted(op)
    seen = op.value("x").tensor
    if not x.tensor.is_static or not seen.is_static:
        reject("sizes are symbolic")
    own = [before[0] for before, behind in groups(x.shape, seen.static_shape) if behind == [axis] and len(before) == 1]
    if not own:
        reject("the axis that is split is not there before")
    return [
        mil.reshape(part, result.shape) for part, result in zip(_split(x, op, axis, own[0]), op.results, strict=True)
    ]


def _parted(op: Op) -> tuple[int, Op]:
    """The axis that is split, and the move in front.

    Raises:
        Reject: a part is used as it is, or the move has other users.
    """
    moved, axis = op.value("x"), op.attr("axis")
    assert isinstance(axis, int)
    assert moved.op is not None
    if not only_use(moved):
        reject("the move has other users")
    if not all(user.defn in MOVEMENTS for part in op.results for user in part.users):
        reject("a part is used as it is")
    if any(part.is_output or not part.users for part in op.results):
        reject("a part is not used, or is an output")
    return axis % moved.rank, moved.op


def _split(x: Value, op: Op, axis: int, own: int) -> tuple[Value, ...]:
    return mil.split.many(x, split_sizes=tuple(part.shape[axis] for part in op.results), axis=own)


RULES: list[Rule] = [split_before_transpose, split_before_view]
