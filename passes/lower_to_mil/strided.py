"""Views by strides, and writes through views: positions in the row-major buffer.

    %x: f32[2,4]
    %y = aten.as_strided.default(%x) {size=[3, 2], stride=[1, 1], storage_offset=1}
        ->
    %1 = mil.reshape(%x, [-1])
    %2 = mil.gather(%1, %places) {axis=0}
    %y = mil.reshape(%2, [3, 2])

    %x: f32[2,4], %v: f32[2]
    %y = aten.diagonal_scatter.default(%x, %v)
        ->
    %1 = mil.reshape(%x, [-1])
    %2 = mil.scatter(%1, %places, %v) {axis=0, mode="update"}
    %y = mil.reshape(%2, [2, 4])

A view of dense memory is a slice and a transpose instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shape import dense_memory, dense_view
from anec.passes.lower_to_mil.shared import as_value, carrier, flat, reshaped
from anec.passes.lower_to_mil.typing import cast, result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, rewrite

if TYPE_CHECKING:
    import torch


@rewrite(each("as_strided", "as_strided_copy"))
def as_strided(op: Op, ctx: Context) -> Value:
    """A slice, transpose and repetition where the strides are those of dense memory; else a gather."""
    type_ = result_type(op)
    x = dense_memory(op)
    found = dense_view(op, x)
    if found is not None:
        return found
    row = flat(as_value(cast(x, carrier(x.tensor.dtype))))
    places = constant(ctx, op, _strided(op, x).reshape(-1), "places", DType.I32)
    return as_value(cast(reshaped(mil.gather(row, places, axis=0), static(type_)), type_.dtype))


@rewrite(each("as_strided_scatter", "diagonal_scatter"))
def view_scatter(op: Op, ctx: Context) -> Value:
    """The elements a view sees, replaced by those of ``src``."""
    type_ = result_type(op)
    dtype = carrier(type_.dtype)
    x, part = value(op.operand("self"), dtype), value(op.operand("src"), dtype)
    if op.defn.root == "diagonal_scatter":
        offset, first, second = (op.attr(name) for name in ("offset", "dim1", "dim2"))
        places = _numbered(x).diagonal(offset, first, second)  # type: ignore[arg-type]  # attrs are numbers
    else:
        places = _strided(op, dense_memory(op))
    index = constant(ctx, op, places.reshape(-1), "places", DType.I32)
    written = mil.scatter(flat(x), index, flat(part), axis=0, mode="update")
    return as_value(cast(reshaped(written, static(type_)), type_.dtype))


def _numbered(x: Value) -> torch.Tensor:
    """The place of each element in the row-major buffer."""
    import torch

    return torch.arange(x.tensor.size, dtype=torch.int32).reshape(static(x.tensor))


def _strided(op: Op, x: Value) -> torch.Tensor:
    size, stride, offset = (op.attr(name) for name in ("size", "stride", "storage_offset"))
    return _numbered(x).as_strided(size, stride, offset or 0)  # type: ignore[arg-type]  # attrs are numbers


RULES: list[Rule] = [as_strided, view_scatter]
