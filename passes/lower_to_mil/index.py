"""Reading by index.

    %y = aten.embedding.default(%w, %i)     %w: f32[10,8] weight, %i: i64[4]
        ->
    %y = mil.gather(%w, %i) {axis=0}

    %y = aten.index.Tensor(%x, [none, %i])     %i: i64[4]
        ->
    %1 = mil.greater_equal(%i, 0)
    %2 = mil.add(%i, 8)
    %3 = mil.select(%1, %i, %2)
    %y = mil.gather(%x, %3) {axis=1}

Several index tensors become one index into the merged axes. gather takes no bools: they go through
float32.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.positions import by_axis, merge, positions, size_of
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, broadcast_to, carrier, flat
from anec.passes.lower_to_mil.symbolic import vector
from anec.passes.lower_to_mil.typing import axis, cast, result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite


def source(op: Op, name: str = "self") -> Value:
    """The tensor that is read, in a dtype MIL gathers."""
    return value(op.operand(name), carrier(result_type(op).dtype))


def as_result(x: Value, op: Op) -> Value:
    """Back from the dtype that carried bools."""
    return as_value(cast(x, result_type(op).dtype))


@rewrite(each("embedding"))
def embedding(op: Op) -> Value:
    """Torch refuses negative indices here."""
    return mil.gather(source(op, "weight"), value(op.operand("indices"), DType.I32), axis=0)


@rewrite(each("index_select"))
def index_select(op: Op) -> Value:
    """A gather along one axis; torch refuses negative indices here."""
    x, index = source(op), value(op.operand("index"), DType.I32)
    if x.rank == 0:
        return as_result(mil.squeeze(mil.gather(mil.expand_dims(x, axes=(0,)), flat(index), axis=0), axes=(0,)), op)
    return as_result(mil.gather(x, flat(index), axis=axis(op.attr("dim"), x.rank)), op)


@rewrite(each("gather"))
def gather(op: Op) -> Value:
    """Torch reads only as much of the other axes as the index has."""
    x, index = source(op), value(op.operand("index"), DType.I32)
    if x.rank == 0 or index.rank == 0:
        row, place = (v if v.rank else mil.expand_dims(v, axes=(0,)) for v in (x, index))
        found = mil.gather_along_axis(row, place, axis=0)
        return as_result(found if index.rank else mil.squeeze(found, axes=(0,)), op)
    at = axis(op.attr("dim"), x.rank)
    return as_result(mil.gather_along_axis(cut_to(x, index, at), index, axis=at), op)


def cut_to(x: Value, like: Value, free: int | None = None) -> Value:
    """The leading part of ``x`` of the shape of ``like``; the axis ``free`` stays whole."""
    wanted = [x.tensor.shape[at] if at == free else dim for at, dim in enumerate(like.tensor.shape)]
    if tuple(wanted) == x.tensor.shape:
        return x
    return mil.slice_by_size(x, begin=(0,) * x.rank, size=vector(wanted))


@rewrite(each("take_along_dim"))
def take_along_dim(op: Op) -> Value:
    """gather, of shapes that broadcast."""
    x, index = source(op), value(op.operand("indices"), DType.I32)
    if op.attr("dim") is None:
        return as_result(mil.gather_along_axis(flat(x), flat(index), axis=0), op)
    at = axis(op.attr("dim"), x.rank)
    sizes, places = list(static(x.tensor)), list(static(index.tensor))
    for other in range(x.rank):
        if other != at:
            sizes[other] = places[other] = max(sizes[other], places[other])
    return as_result(
        mil.gather_along_axis(broadcast_to(x, tuple(sizes)), broadcast_to(index, tuple(places)), axis=at), op
    )


@rewrite(each("take"))
def take(op: Op, ctx: Context) -> Value:
    """Of all elements in a row."""
    row = flat(source(op)) if source(op).rank else mil.expand_dims(source(op), axes=(0,))
    return as_result(mil.gather(row, positions(op.operand("index"), size_of(row, 0), ctx), axis=0), op)


@rewrite(each("index.Tensor"))
def index(op: Op, ctx: Context) -> Value:
    """A gather along the axis, or the merged axes, that are indexed."""
    x = source(op)
    merged = merge(x, by_axis(op, x.rank, ctx), ctx)
    return as_result(mil.gather(merged.x, merged.index, axis=merged.axis), op)


@rewrite(each("one_hot"))
def one_hot(op: Op) -> Value:
    """An int32 vector a class long, for each index."""
    classes = op.attr("num_classes")
    if not isinstance(classes, int) or classes < 0:
        reject("the number of classes depends on the indices")
    return mil.one_hot(value(op.operand("self"), DType.I32), classes, axis=-1, on_value=1, off_value=0)


RULES: list[Rule] = [
    embedding,
    index_select,
    gather,
    take_along_dim,
    take,
    index,
    one_hot,
]
