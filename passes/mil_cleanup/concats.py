"""Concats of one piece, of concats, and of pieces that were cut from one tensor.

    %a, %b = mil.split(%x) {num_splits=2, axis=1}
    %y = mil.concat([%a, %b]) {axis=1}
        ->
    %x

An inner concat that something else uses too stays whole: its copy is needed anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import only_use
from anec.passes.mil_cleanup.slices import concat_axis, ranges
from anec.rewrite import Reject, Rule, reject, rest, rewrite, var

values = var("values")


@rewrite(mil.concat(values, rest))
def drop_concat(op: Op, values: tuple[Operand, ...]) -> Value:
    """A concat of one piece.

    %y = mil.concat([%x]) {axis=1}     ->     %x
    """
    if len(values) != 1 or not isinstance(values[0], Value) or values[0].type != op.result.type:
        reject("there are several pieces")
    return values[0]


@rewrite(mil.concat(values, rest))
def flatten_concat(op: Op, values: tuple[Operand, ...]) -> Value:
    """A concat of a concat along the same axis is one concat.

    %1 = mil.concat([%a, %b]) {axis=1}
    %y = mil.concat([%1, %c]) {axis=1}     ->     %y = mil.concat([%a, %b, %c]) {axis=1}
    """
    axis = concat_axis(op)
    flat: list[Operand] = []
    for value in values:
        inner = _concat_of(value, axis)
        flat.extend(inner.variadic("values") if inner is not None else [value])
    if len(flat) == len(values):
        reject("no piece is a concat of its own along this axis")
    return mil.concat(flat, axis=axis)


def _concat_of(value: Operand, axis: int) -> Op | None:
    """The concat along ``axis`` that makes a value and is used for nothing else."""
    op = value.op if isinstance(value, Value) and only_use(value) else None
    if op is None or op.name != "mil.concat" or op.attr("interleave") or len(op.variadic("values")) < 2:
        return None
    return op if value.rank and concat_axis(op) == axis else None  # type: ignore[union-attr]  # it has an op


@dataclass(frozen=True, slots=True)
class Part:
    """A piece that is ``source`` from ``start`` to ``stop`` along one axis."""

    source: Value
    start: int
    stop: int


@rewrite(mil.concat(values, rest))
def join_pieces(op: Op, values: tuple[Operand, ...]) -> Value:
    """Pieces that together are a whole tensor are that tensor.

    %x: f32[8]
    %a = mil.slice_by_index(%x, [0], [3])
    %b = mil.slice_by_index(%x, [3], [8])
    %y = mil.concat([%a, %b]) {axis=0}     ->     %x
    """
    axis = concat_axis(op)
    if not all(isinstance(value, Value) and value.tensor.is_static for value in values):
        reject("a piece is symbolic")
    joined: list[Operand] = []
    at = 0
    while at < len(values):
        whole, count = _whole(values[at:], axis)
        joined.append(whole)
        at += count
    if len(joined) == len(values):
        reject("the pieces are not a whole tensor")
    only = joined[0]
    return only if len(joined) == 1 and isinstance(only, Value) else mil.concat(joined, axis=axis)


def _whole(values: tuple[Operand, ...], axis: int) -> tuple[Operand, int]:
    """The tensor that the first values make up, and how many they are; else the first value alone."""
    first = _part(values[0], axis)
    if first is None or first.start != 0:
        return values[0], 1
    reached = 0
    for count, value in enumerate(values, 1):
        part = _part(value, axis)
        if part is None or part.source is not first.source or part.start != reached:
            break
        reached = part.stop
        if reached == first.source.shape[axis] and count > 1:
            return first.source, count
    return values[0], 1


def _part(value: Operand, axis: int) -> Part | None:
    """What a value was cut from along ``axis``, by a split or a slice; None for anything else."""
    op = value.op if isinstance(value, Value) else None
    if op is None or op.name not in ("mil.split", "mil.slice_by_index"):
        return None
    source = op.value("x")
    if not source.tensor.is_static:
        return None
    if op.name == "mil.split":
        assert isinstance(value, Value)
        if concat_axis(op) != axis:
            return None
        start = sum(result.shape[axis] for result in op.results[: value.index])
        return Part(source, start, start + value.shape[axis])
    if len(op.result.shape) != source.rank:
        return None
    try:
        taken = ranges(op)
    except Reject:
        return None
    across = [r == range(size) for i, (r, size) in enumerate(zip(taken, source.shape, strict=True)) if i != axis]
    along = taken[axis]
    return Part(source, along.start, along.stop) if all(across) and along.step == 1 and len(along) else None


RULES: list[Rule] = [drop_concat, join_pieces, flatten_concat]
