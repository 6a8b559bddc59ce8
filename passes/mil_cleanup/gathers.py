"""Gathering by constant indices that count up is slicing, and by all of them in order it is nothing.

    %x: f32[2,8]
    %1 = mil.gather(%x, [2, 4, 6]) {axis=1}
    %y = mil.relu(%1)
        ->
    %1 = mil.slice_by_index(%x, [0, 2], [0, 7]) {stride=[1, 2], begin_mask=[true, false], end_mask=[true, false]}
    %y = mil.relu(%1)

A gather runs on the CPU, in the middle of what else the Neural Engine would do. Masks made with
torch.vmap look up each entry of a padding mask by its own place.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.passes.common import varying
from anec.passes.lower_to_mil.movement import reshaped, sliced
from anec.passes.lower_to_mil.shared import constant_tensor
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite

# More indices are not looked at.
_MOST = 1 << 20


@rewrite(mil.gather(varying("x"), rest))
def gather_as_slice(op: Op, ctx: Context, x: Value) -> Value:
    """Indices first, first + step, ... are a slice.

    %x: f32[8]
    %y = mil.gather(%x, [[0, 1, 2, 3], [4, 5, 6, 7]]) {axis=0}    ->    %y = mil.reshape(%x, [2, 4])
    """
    axis, batch = op.attr("axis"), op.attr("batch_dims") if "batch_dims" in op.defn.by_name else 0
    if not isinstance(axis, int) or batch or not x.tensor.is_static:
        reject("sizes are symbolic, or there are batch axes")
    axis %= x.rank
    size = x.shape[axis]
    indices = _numbers(op, ctx)
    shape = op.results[0].tensor.shape
    if not indices or not all(0 <= index < size for index in indices):
        reject("the indices are not constant, or count from the end")
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    if step < 1 or indices != list(range(indices[0], indices[0] + step * len(indices), step)):
        reject("the indices do not count up evenly")
    if len(indices) == size:
        return reshaped(x, shape)
    return reshaped(sliced(x, axis, indices[0], indices[-1] + 1, step), shape)


def _numbers(op: Op, ctx: Context) -> list[int]:
    """The constant indices in order; none when they are not known."""
    given = op.operand("indices")
    if isinstance(given, Literal):
        return [item for item in _flat(given.value) if isinstance(item, int)]
    if not isinstance(given, Value) or not given.tensor.is_static or given.tensor.size > _MOST:
        return []
    found = constant_tensor(given, ctx)
    return [] if found is None else [int(index) for index in found.reshape(-1).tolist()]


def _flat(value: object) -> list[object]:
    return [entry for item in value for entry in _flat(item)] if isinstance(value, tuple) else [value]


RULES: list[Rule] = [gather_as_slice]
