"""Ops that keep every element in its place: reshape, squeeze, expand_dims, flatten2d.

    %1 = mil.expand_dims(%x) {axes=[0]}     %x: f32[4,6]
    %y = mil.reshape(%1, [2, 3, 4])
        ->
    %y = mil.reshape(%x, [2, 3, 4])

Of two in a row one is left, and that one says as much as it can: expand_dims before reshape.
"""

from __future__ import annotations

from collections.abc import Sequence

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.opdef import Pattern
from anec.passes.common import ints, only_use, tensor
from anec.passes.lower_to_mil.movement import only_units
from anec.passes.lower_to_mil.permutation import real
from anec.rewrite import Rule, any_of, reject, rest, rewrite

x = tensor("x")


def _reshapes(inner: Pattern) -> list[Pattern]:
    return [op(inner, rest) for op in (mil.reshape, mil.squeeze, mil.expand_dims, mil.flatten2d)]


def inserted(short: Sequence[Dim], long: Sequence[Dim]) -> tuple[int, ...] | None:
    """The axes of size 1 that make ``long`` of ``short``; None when more has to change.

    >>> inserted((2, 3), (1, 2, 1, 3))
    (0, 2)
    """
    axes, at = [], 0
    for axis, size in enumerate(long):
        # An axis of size 1 is taken for the next one of `short` while enough of `long` is left.
        if at < len(short) and size == short[at]:
            at += 1
        elif size == 1:
            axes.append(axis)
        else:
            return None
    return tuple(axes) if at == len(short) else None


def reshape_to(x: Value, shape: Sequence[Dim]) -> Value:
    """``x`` in another shape, by the op that says most: nothing, expand_dims, squeeze or reshape.

    Raises:
        Reject: a symbolic shape that needs a reshape.
    """
    shape = tuple(shape)
    if shape == x.tensor.shape:
        return x
    added = inserted(x.tensor.shape, shape)
    if added:
        return mil.expand_dims(x, axes=added)
    dropped = inserted(shape, x.tensor.shape)
    if dropped:
        return mil.squeeze(x, axes=dropped)
    if not all(isinstance(dim, int) for dim in (*shape, *x.tensor.shape)):
        reject("the shape is symbolic")
    return mil.reshape(x, shape)


@rewrite(any_of(*_reshapes(x)))
def drop_reshape(op: Op, x: Value) -> Value:
    """A reshape to the shape there is.

    %x: f32[2,3]
    %y = mil.reshape(%x, [2, 3])     ->     %x
    """
    return x if x.type == op.result.type else reject("the shape changes")


@rewrite(any_of(*(outer for inner in _reshapes(x) for outer in _reshapes(inner))))
def merge_reshapes(op: Op, x: Value) -> Value:
    """Two reshapes are one.

    %x: f32[1,2,8]
    %1 = mil.squeeze(%x) {axes=[0]}
    %y = mil.expand_dims(%1) {axes=[0]}     ->     %x
    """
    if x.type == op.result.type:
        return x
    seen = op.value("x")
    free = op.defn is mil.expand_dims and seen.op is not None and seen.op.defn is mil.squeeze
    if free and not only_units(x.tensor.shape, op.result.tensor.shape):
        reject("two views that copy nothing would be one that does")
    if not only_use(seen) and real(seen.tensor.shape) == real(op.result.tensor.shape) != real(x.tensor.shape):
        reject("it copies nothing, and the one in front has other users")
    if not op.result.tensor.is_static and op.name == "mil.reshape":
        shape = op.operand("shape")
        if not isinstance(shape, Literal) or 0 in (ints(shape) or ()):
            reject("the shape depends on the operand")
        return mil.reshape(x, shape)
    return reshape_to(x, op.result.tensor.shape)


RULES: list[Rule] = [drop_reshape, merge_reshapes]
