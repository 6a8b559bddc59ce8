"""Putting tensors together: cat, stack and their kin.

    %y = aten.cat.default([%a, %b]) {dim=-1}      ->     %y = mil.concat([%a, %b]) {axis=1}

Operands are cast to the dtype torch promotes them to; empty ones, which torch skips, are left out.
"""

from __future__ import annotations

from anec.dialects import aten, mil
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.movement import broadcast, joined, reshaped
from anec.passes.lower_to_mil.padding import padded
from anec.passes.lower_to_mil.permutation import MAX_RANK
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.typing import axis, result_type, value
from anec.rewrite import Rule, reject, rewrite


def _operands(op: Op, name: str = "tensors") -> list[Value]:
    dtype = result_type(op).dtype
    if result_type(op).rank > MAX_RANK:
        reject(f"the result has rank {result_type(op).rank}, Core ML's tensors have at most {MAX_RANK} axes")
    return [value(operand, dtype) for operand in op.variadic(name)]


def _joined(values: list[Value], at: int) -> Value:
    """Leaves out what is empty: a legacy ``[0]``, or a cache that holds nothing yet."""
    full = [item for item in values if 0 not in item.tensor.shape]
    if not full:
        reject("the result is empty, and Core ML has no empty tensors")
    return joined(full, at)


@rewrite(each("cat", "concat", "concatenate"))
def cat(op: Op) -> Value:
    """One concat of what is not empty."""
    return _joined(_operands(op), axis(op.attr("dim"), result_type(op).rank))


@rewrite(aten.stack.default)
def stack(op: Op) -> Value:
    """A new axis; of one tensor it is nothing else."""
    values, kind = _operands(op), result_type(op)
    at = axis(op.attr("dim"), kind.rank)
    if 0 in kind.shape:
        reject("the result is empty, and Core ML has no empty tensors")
    return mil.stack(values, axis=at) if len(values) > 1 else reshaped(values[0], kind.shape)


@rewrite(aten.hstack.default)
def hstack(op: Op) -> Value:
    """Along axis 1, or 0 for vectors and scalars."""
    values = [reshaped(item, (1,)) if item.rank == 0 else item for item in _operands(op)]
    return _joined(values, 0 if values[0].rank == 1 else 1)


@rewrite(each("vstack", "row_stack"))
def vstack(op: Op) -> Value:
    """Along axis 0; vectors and scalars are rows."""
    values = _operands(op)
    return _joined([reshaped(item, (1, *(item.tensor.shape or (1,)))) if item.rank < 2 else item for item in values], 0)


@rewrite(aten.dstack.default)
def dstack(op: Op) -> Value:
    """Along axis 2; vectors are [1, n, 1], matrices [m, n, 1]."""
    values = []
    for item in _operands(op):
        shape = item.tensor.shape
        if item.rank < 2:
            item = reshaped(item, (1, *(shape or (1,)), 1))
        elif item.rank == 2:
            item = reshaped(item, (*shape, 1))
        values.append(item)
    return _joined(values, 2)


@rewrite(aten.column_stack.default)
def column_stack(op: Op) -> Value:
    """Along axis 1; vectors and scalars are columns."""
    values = [reshaped(item, (*(item.tensor.shape or (1,)), 1)) if item.rank < 2 else item for item in _operands(op)]
    return _joined(values, 1)


@rewrite(aten.block_diag.default)
def block_diag(op: Op) -> Value:
    """Each matrix is widened with zeros to its rows of the result."""
    columns = result_type(op).static_shape[1]
    rows = []
    before = 0
    for item in _operands(op):
        matrix = reshaped(item, (1,) * (2 - item.rank) + item.tensor.shape)
        width = matrix.shape[1]
        rows.append(padded(matrix, [(0, 0), (before, columns - before - width)], 0))
        before += width
    return _joined(rows, 0)


@rewrite(aten.cartesian_prod.default)
def cartesian_prod(op: Op) -> Value:
    """A column for each vector, the last one varying fastest."""
    vectors = _operands(op)
    if len(vectors) == 1:
        return vectors[0]
    sizes = [vector.shape[0] for vector in vectors]
    columns = []
    for index, vector in enumerate(vectors):
        before, after = 1, 1
        for size in sizes[:index]:
            before *= size
        for size in sizes[index + 1 :]:
            after *= size
        grid = broadcast(reshaped(vector, (1, sizes[index], 1)), (before, sizes[index], after))
        columns.append(reshaped(grid, (before * sizes[index] * after,)))
    return mil.stack(columns, axis=1)


RULES: list[Rule] = [cat, stack, hstack, vstack, dstack, column_stack, block_diag, cartesian_prod]
