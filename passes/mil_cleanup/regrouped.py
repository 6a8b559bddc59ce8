"""Arithmetic with what is the same along regrouped axes does not mind how they are grouped.

    %x: f32[1,64,1,77], %gate: f32[1,1,1,77]
    %1 = mil.reshape(%x, [1, 4, 16, 77])
    %2 = mil.mul(%1, %gate)
    %y = mil.reshape(%2, [1, 64, 1, 77])
        ->
    %y = mil.mul(%x, %gate)

Heads of attention are views of channels: what is there for all of them, a mask of queries for
instance, needs no heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from anec.ir.graph import Op, Value
from anec.ir.opdef import LayoutKind, Pattern
from anec.passes.common import VIEWS, has_rows, only_use, rebuild, varying
from anec.passes.mil_cleanup.reshapes import reshape_to
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_REACH = 16
computed = varying("computed")


def _views(inner: Pattern) -> Pattern:
    return any_of(*(view(inner, rest) for view in VIEWS))


@rewrite(_views(computed))
def view_before_arithmetic(op: Op, computed: Value) -> Value:
    """A view behind elementwise ops moves in front of them, to the view that they begin with.

    %x: f32[2,12,5], %s: f32[5]
    %1 = mil.reshape(%x, [2, 3, 4, 5])
    %2 = mil.add(%1, %s)
    %y = mil.reshape(%2, [6, 4, 5])     ->     %1 = mil.reshape(%x, [6, 4, 5])
                                               %y = mil.add(%1, %s)
    """
    if not _begins_with_view(computed):
        reject("what is seen does not begin with a view")
    shape = op.result.shape
    inner, name = computed.op, _full(computed)
    assert inner is not None
    assert name is not None
    others = {
        other: _regrouped(operand, computed.shape, shape)
        for other, operand in inner.arguments().items()
        if isinstance(operand, Value) and other != name
    }
    return rebuild(inner, **{name: reshape_to(inner.value(name), shape)}, **others)


def _begins_with_view(value: Value) -> bool:
    """Whether elementwise ops, each with one operand as large as its result, lead from a view to ``value``."""
    for _ in range(_REACH):
        name = _full(value)
        if name is None:
            return False
        assert value.op is not None
        value = value.op.value(name)
        if value.op is not None and value.op.defn in VIEWS:
            return only_use(value)
    return False


def _full(value: Value) -> str | None:
    """The one operand as large as the result of an elementwise op; None for another op."""
    op = value.op
    if op is None or op.defn.layout.kind is not LayoutKind.ELEMENTWISE or not only_use(value):
        return None
    if not value.tensor.is_static or has_rows(op):
        return None
    found = [
        name
        for name, given in op.arguments().items()
        if isinstance(given, Value) and given.tensor.shape == value.tensor.shape and not given.is_constant
    ]
    return found[0] if len(found) == 1 else None


def _regrouped(given: Value, seen: Sequence[int], shape: Sequence[int]) -> Value:
    """What is broadcast to a tensor ``seen`` as something else, so that it is broadcast to the tensor itself.

    Raises:
        Reject: it differs along an axis that the view regroups.
    """
    if not given.tensor.is_static:
        reject("a size is symbolic")
    own = (*(1,) * (len(seen) - given.rank), *given.shape)
    found = [1] * len(shape)
    for before, behind in groups(shape, seen):
        if [shape[axis] for axis in before] == [seen[axis] for axis in behind]:
            for axis, other in zip(before, behind, strict=True):
                found[axis] = own[other]
        elif any(own[axis] != 1 for axis in behind):
            reject("an operand differs along axes that are regrouped")
    while len(found) > given.rank and found[0] == 1:
        del found[0]
    return reshape_to(given, found)


def groups(shape: Sequence[int], seen: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The axes of two views of one buffer that hold the same elements, in the smallest groups; none of size 1.

    >>> list(groups((2, 12, 5), (2, 3, 4, 5)))
    [([0], [0]), ([1], [1, 2]), ([2], [3])]
    """
    left, right = ([axis for axis, size in enumerate(sizes) if size != 1] for sizes in (shape, seen))
    while left or right:
        before, behind = [left.pop(0)], [right.pop(0)]
        while (first := prod(shape[axis] for axis in before)) != (other := prod(seen[axis] for axis in behind)):
            if first < other:
                before.append(left.pop(0))
            else:
                behind.append(right.pop(0))
        yield before, behind


RULES: list[Rule] = [view_before_arithmetic]
