"""Indices that follow one another: a slice whose start is computed, as of a cache at a position.

    %y = aten.index_copy.default(%x, %i, %v) {dim=1}     %i: i64[1], %v: f32[3,1], %x: f32[3,8]
        ->
    %1 = mil.mul(%i, [0, 1])
    %2 = mil.add(%1, [0, 1])
    %y = mil.slice_update(%x, %v, %1, %2) {begin_mask=[true, false], end_mask=[true, false]}

slice_update is iOS18's, and Core ML does it in place on a state. Before, this is a scatter.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.facts import is_constant
from anec.ir.graph import Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.shared import constant_tensor, reshaped
from anec.passes.lower_to_mil.typing import value
from anec.pipeline.base import Context

FIRST_WITH_SLICE_UPDATE = 18
# Ops that hand an index on as it is.
_SAME = frozenset("mil.cast mil.identity aten._to_copy.default aten.clone.default aten.alias.default".split())
_SUMS = frozenset(("mil.add", "aten.add.Tensor"))


def run_start(index: Value, ctx: Context) -> Value | None:
    """The first of computed indices that follow one another, as i32[1]; None where that is not known."""
    if not index.tensor.is_static or is_constant(index):
        return None
    if index.tensor.size == 1:
        return reshaped(value(index, DType.I32), (1,))
    while index.op is not None and index.op.name in _SAME and index.tensor.dtype.is_integer:
        index = index.op.inputs[0]
    if index.op is None or index.op.name not in _SUMS or index.op.attrs.get("alpha", 1) != 1 or index.rank != 1:
        return None
    for steps, start in (index.op.operands[:2], index.op.operands[1::-1]):
        if isinstance(steps, Value) and isinstance(start, Value) and start.tensor.size == 1:
            numbers = constant_tensor(steps, ctx)
            if numbers is not None and numbers.dim() == 1 and bool((numbers.diff() == 1).all()):
                first = reshaped(value(start, DType.I32), (1,))
                return mil.add(first, int(numbers[0])) if int(numbers[0]) else first
    return None


def put_run(x: Value, part: Value, at: int, start: Value) -> Value:
    """``x`` with ``part`` in the places from ``start`` (i32[1], not negative) on along an axis."""
    length = part.tensor.shape[at]
    assert isinstance(length, int)
    along = [int(axis == at) for axis in range(x.rank)]
    begin = mil.mul(start, Literal(tuple(along)))
    end = mil.add(begin, Literal(tuple(length * here for here in along)))
    others = tuple(not here for here in along)
    return mil.slice_update(x, part, begin, end, begin_mask=others, end_mask=others)
