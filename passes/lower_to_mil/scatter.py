"""Writing by index or slice; torch's in-place assignments arrive as these.

    %y = aten.index_put.default(%x, [%i], %v)     %i: i64[3], %v: f32[3,8]
        ->
    %1 = mil.greater_equal(%i, 0)
    %2 = mil.add(%i, 2)
    %3 = mil.select(%1, %i, %2)
    %y = mil.scatter(%x, %3, %v) {axis=0, mode="update"}

    %y = aten.slice_scatter.default(%x, %v) {dim=0, start=2}     %x: f32[4,3], %v: f32[2,3]
        ->
    %y = mil.slice_update(%x, %v, [2, 0], [4, 0]) {begin_mask=[false, true], end_mask=[false, true]}

slice_update is iOS18's; before, a slice is put together from its neighbours. Computed indices that
follow one another are a slice too, see ``runs``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.common import is_empty
from anec.passes.lower_to_mil.index import as_result, cut_to, source
from anec.passes.lower_to_mil.masked_writes import put_where
from anec.passes.lower_to_mil.movement import sliced
from anec.passes.lower_to_mil.positions import Merged, by_axis, is_mask, merge, positions, size_of
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.runs import FIRST_WITH_SLICE_UPDATE, put_run, run_start
from anec.passes.lower_to_mil.shared import (
    as_value,
    broadcast_to,
    constant_tensor,
    filled,
    flat,
    reshaped,
)
from anec.passes.lower_to_mil.typing import END, INT32_MAX, INT32_MIN, argument, axis, cast, result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

Write = Callable[[Value, Value, str], Value]


# -- slices ----------------------------------------------------------------------------------------


def put_slice(x: Value, part: Value, at: int, start: int, step: int, ctx: Context) -> Value:
    """``x`` with ``part`` in the places start, start + step, ... of an axis of fixed size."""
    size, length = _fixed(x, at), _fixed(part, at)
    if length == 0:
        return x
    if length == size:
        return part
    if ctx.module.opset >= FIRST_WITH_SLICE_UPDATE:
        along = [index == at for index in range(x.rank)]
        others = tuple(not here for here in along)
        return mil.slice_update(
            x,
            part,
            begin=tuple(start if here else 0 for here in along),
            end=tuple(start + (length - 1) * step + 1 if here else 0 for here in along),
            stride=tuple(step if here else 1 for here in along) if step != 1 else None,
            begin_mask=others,
            end_mask=others,
        )
    if step == 1:
        return _between(x, part, at, start, start + length - size)
    places = mil.range_1d(end=start + length * step, start=start, step=step)
    if x.tensor.dtype is DType.BOOL:
        carried = mil.scatter(value(x, DType.F32), places, value(part, DType.F32), axis=at, mode="update")
        return mil.cast(carried, dtype="bool")
    return mil.scatter(x, places, part, axis=at, mode="update")


def _fixed(x: Value, at: int) -> int:
    return static(x.tensor.with_shape((x.tensor.shape[at],)))[0]


def _between(x: Value, part: Value, at: int, start: int, stop: int) -> Value:
    """``part`` between ``x[:start]`` and ``x[stop:]``; a ``stop`` of 0 is the end."""
    pieces = [sliced(x, at, 0, start)] if start else []
    return mil.concat([*pieces, part, *([sliced(x, at, stop)] if stop else [])], axis=at)


def _put_in_free(op: Op, x: Value, part: Value, at: int, start: int, stop: int) -> Value:
    """What ``_between`` gives along an axis of free size, if the ends meet whatever it is."""
    found = _between(x, part, at, start, stop)
    if found.type != result_type(op):
        _fixed(x, at)
    return found


@rewrite(each("slice_scatter"))
def slice_scatter(op: Op, ctx: Context) -> Value:
    """A slice replaced by ``src``."""
    dtype = result_type(op).dtype
    x, part = value(op.operand("self"), dtype), value(op.operand("src"), dtype)
    at = axis(op.attr("dim"), x.rank)
    size = x.tensor.shape[at]
    start, end, step = op.attr("start"), op.attr("end"), op.attr("step")
    start = 0 if start is None else start
    if not isinstance(start, int) or not isinstance(step, int):
        reject("its bounds are symbolic")
    if isinstance(size, int):
        return put_slice(x, part, at, max(start + size, 0) if start < 0 else min(start, size), step, ctx)
    stop = 0 if end is None or end == size or (isinstance(end, int) and end >= END) else end
    if step != 1 or not isinstance(stop, int):
        reject("along an axis of free size it takes a step of 1 and numbers as bounds")
    return _put_in_free(op, x, part, at, start, stop)


@rewrite(each("select_scatter"))
def select_scatter(op: Op, ctx: Context) -> Value:
    """A slice of size 1 replaced by ``src``."""
    dtype = result_type(op).dtype
    x, part = value(op.operand("self"), dtype), value(op.operand("src"), dtype)
    at = axis(op.attr("dim"), x.rank)
    size, place = x.tensor.shape[at], op.attr("index")
    if not isinstance(place, int):
        reject("the index is symbolic")
    one = mil.expand_dims(part, axes=(at,))
    if isinstance(size, int):
        return put_slice(x, one, at, axis(place, size), 1, ctx)
    return _put_in_free(op, x, one, at, place, place + 1)


# -- index lists -----------------------------------------------------------------------------------


@rewrite(each("index_put", "_index_put_impl"))
def index_put(op: Op, ctx: Context) -> Value:
    """A choice where a mask says all, a slice where a constant index is one, else a scatter."""
    x, new = source(op), source(op, "values")
    given = op.variadic("indices")
    masks = [operand for operand in given if isinstance(operand, Value)]
    if len(masks) == 1 and is_mask(masks[0]):
        found = put_where(op, x, new, masks[0], given.index(masks[0]), ctx)
        if found is not None:
            return as_result(found, op)
    merged = merge(x, by_axis(op, x.rank, ctx), ctx)
    picked = x.tensor.with_shape(merged.picked)
    updates = new if new.tensor.shape == picked.shape else broadcast_to(new, static(picked))
    if not op.attr("accumulate"):
        row = _progression(merged, ctx)
        if row is not None:
            return as_result(merged.restored(put_slice(merged.x, updates, merged.axis, *row, ctx)), op)
        start = _computed_start(op, merged, ctx)
        if start is not None:
            part = reshaped(updates, _unit(merged)) if merged.index.rank != 1 else updates
            return as_result(merged.restored(put_run(merged.x, part, merged.axis, start)), op)
    return as_result(merged.restored(_scatter(merged, updates, bool(op.attr("accumulate")))), op)


def _scatter(merged: Merged, updates: Value, accumulate: bool) -> Value:
    index = merged.index
    if index.rank == 0:
        index, updates = mil.expand_dims(index, axes=(0,)), mil.expand_dims(updates, axes=(merged.axis,))
    mode = "add" if accumulate else "update"
    return mil.scatter(merged.x, index, updates, axis=merged.axis, mode=mode)


def _computed_start(op: Op, merged: Merged, ctx: Context) -> Value | None:
    """Where the slice starts that computed indices are; one that crosses the end from below 0 is none."""
    if ctx.module.opset < FIRST_WITH_SLICE_UPDATE or not merged.x.tensor.is_static:
        return None
    if all(size == 1 for size in merged.index.tensor.shape):
        return run_start(merged.index, ctx)
    given = [operand for operand in op.variadic("indices") if isinstance(operand, Value)]
    return run_start(given[0], ctx) if len(given) == 1 and ctx.facts.range(given[0]).nonnegative else None


def _unit(merged: Merged) -> tuple[int, ...]:
    """The shape of one slice along the merged axis."""
    sizes = static(merged.x.tensor)
    return (*sizes[: merged.axis], 1, *sizes[merged.axis + 1 :])


def _progression(merged: Merged, ctx: Context) -> tuple[int, int] | None:
    """(start, step) of a constant index that is a slice; a slice update needs no scatter."""
    numbers = constant_tensor(merged.index, ctx)
    if numbers is None or numbers.dim() != 1 or numbers.numel() == 0:
        return None
    size = static(merged.x.tensor)[merged.axis]
    places = [int(place) + size * (place < 0) for place in numbers.tolist()]
    step = places[1] - places[0] if len(places) > 1 else 1
    if step < 1 or any(b - a != step for a, b in pairwise(places)):
        return None
    return places[0], step


def _along_one(op: Op, ctx: Context, *, wraps: bool = False) -> tuple[Value, Write]:
    """Data, and a scatter of slices along the dim of an op with a list of places."""
    x = source(op)
    scalar = x.rank == 0
    data = mil.expand_dims(x, axes=(0,)) if scalar else x
    at = axis(op.attr("dim"), data.rank)
    index = op.operand("index")
    found = positions(index, size_of(data, at), ctx) if wraps else value(index, DType.I32)
    row = flat(found)
    shape = [1 if scalar else size for size in static(data.tensor)]
    shape[at] = static(row.tensor)[0]

    def write(into: Value, updates: Value, mode: str) -> Value:
        return mil.scatter(into, row, broadcast_to(updates, tuple(shape)), axis=at, mode=mode)

    return data, write


@rewrite(each("index_add", "index_copy", "index_fill.int_Scalar", "index_fill.int_Tensor"))
def index_write(op: Op, ctx: Context) -> Value:
    """A scatter of slices along one axis."""
    kind = op.defn.root
    if kind == "index_copy" and (found := _copied_run(op, ctx)) is not None:
        return as_result(found, op)
    data, write = _along_one(op, ctx, wraps=kind == "index_fill")
    if kind == "index_fill":
        given = argument(op, "value")
        updates = filled((), given.value, data.tensor.dtype) if isinstance(given, Literal) else source(op, "value")
    else:
        updates = source(op, "source")
    if kind == "index_add" and op.attr("alpha") != 1:
        updates = mil.mul(updates, cast(argument(op, "alpha"), data.tensor.dtype))
    result = write(data, updates, "add" if kind == "index_add" else "update")
    return as_result(result if op.results[0].rank else mil.squeeze(result, axes=(0,)), op)


def _copied_run(op: Op, ctx: Context) -> Value | None:
    """index_copy of a slice: torch wants its indices within 0 and the size, so that none wraps around."""
    x, part = source(op), source(op, "source")
    if ctx.module.opset < FIRST_WITH_SLICE_UPDATE or x.rank != part.rank or not x.rank or not x.tensor.is_static:
        return None
    start = run_start(as_value(op.operand("index")), ctx)
    return None if start is None else put_run(x, part, axis(op.attr("dim"), x.rank), start)


@rewrite(each("put"))
def put(op: Op, ctx: Context) -> Value:
    """Into all elements in a row."""
    x = source(op)
    row = reshaped(x, (math.prod(static(x.tensor)),))
    index = flat(positions(op.operand("index"), size_of(row, 0), ctx))
    updates = reshaped(source(op, "source"), static(index.tensor))
    mode = "add" if op.attr("accumulate") else "update"
    return as_result(reshaped(mil.scatter(row, index, updates, axis=0, mode=mode), static(x.tensor)), op)


# -- scatter, with an index for each element -----------------------------------------------------------

_MODES = {
    "add": "add",
    "sum": "add",
    "multiply": "mul",
    "prod": "mul",
    "amax": "max",
    "amin": "min",
    "mean": "mean",
}


@rewrite(
    each(
        "scatter.src",
        "scatter.value",
        "scatter.reduce",
        "scatter.value_reduce",
        "scatter_add",
        "scatter_reduce.two",
    )
)
def scatter(op: Op, ctx: Context) -> Value:
    """An update, or a reduction, for each element of the index."""
    x, index = source(op), value(op.operand("index"), DType.I32)
    if is_empty(index):
        return as_result(x, op)
    scalar = x.rank == 0
    x, index = (v if v.rank else mil.expand_dims(v, axes=(0,)) for v in (x, index))
    at = axis(op.attr("dim"), x.rank)
    if "src" in op.defn.by_name:
        given = source(op, "src")
        updates = cut_to(given if given.rank else mil.expand_dims(given, axes=(0,)), index)
    else:
        updates = filled(static(index.tensor), argument(op, "value").value, x.tensor.dtype)  # type: ignore[union-attr]  # a literal
    mode = "add" if op.defn.root == "scatter_add" else "update"
    if "reduce" in op.defn.by_name:
        mode = _MODES[str(op.attr("reduce"))]
    region = cut_to(x, index, at)

    def write(into: Value, what: Value, how: str) -> Value:
        return mil.scatter_along_axis(into, index, what, axis=at, mode=how)

    keep_self = "include_self" not in op.defn.by_name or bool(op.attr("include_self"))
    result = put_region(x, combined(region, updates, mode, keep_self, write), ctx)
    return as_result(mil.squeeze(result, axes=(0,)) if scalar else result, op)


def combined(data: Value, updates: Value, mode: str, include_self: bool, write: Write) -> Value:
    """A scatter that reduces; without ``include_self`` the places that are hit are cleared first."""
    dtype = data.tensor.dtype
    if mode == "update":
        return write(data, updates, mode)
    if not include_self:
        data = write(data, _full_like(updates, _neutral(mode, dtype)), "update")
    if mode != "mean":
        return write(data, updates, mode)
    number = 1.0 if dtype.is_float else 1
    counts = filled(static(data.tensor), 1 if include_self else 0, dtype)
    counts = write(counts, _full_like(updates, 1), "add")
    if not include_self:
        counts = mil.maximum(counts, number)
    return (mil.real_div if dtype.is_float else mil.floor_div)(write(data, updates, "add"), counts)


def _full_like(x: Value, number: float) -> Value:
    return filled(static(x.tensor), number, x.tensor.dtype)


def _neutral(mode: str, dtype: DType) -> float | int:
    """The number that changes nothing."""
    if mode in ("max", "min"):
        lowest, highest = (-math.inf, math.inf) if dtype.is_float else (INT32_MIN, INT32_MAX)
        return lowest if mode == "max" else highest
    return 1 if mode == "mul" else 0


def put_region(x: Value, region: Value, ctx: Context) -> Value:
    """``x`` with its leading corner replaced."""
    whole, part = static(x.tensor), static(region.tensor)
    short = [at for at in range(x.rank) if part[at] != whole[at]]
    if not short:
        return region
    if ctx.module.opset >= FIRST_WITH_SLICE_UPDATE:
        return mil.slice_update(x, region, begin=(0,) * x.rank, end=part)
    for at in reversed(short):
        # What lies behind the corner along this axis, no wider than the corner along the earlier ones.
        begin = tuple(part[at] if index == at else 0 for index in range(x.rank))
        extent = [part[index] if index in short and index < at else whole[index] for index in range(x.rank)]
        extent[at] = whole[at] - part[at]
        region = mil.concat([region, mil.slice_by_size(x, begin=begin, size=tuple(extent))], axis=at)
    return region


@rewrite(each("index_reduce"))
def index_reduce(op: Op, ctx: Context) -> Value:
    """A scatter of slices that reduces."""
    data, write = _along_one(op, ctx)
    mode = _MODES[str(op.attr("reduce"))]
    updates = source(op, "source")
    result = combined(data, updates, mode, bool(op.attr("include_self")), write)
    return as_result(result if op.results[0].rank else mil.squeeze(result, axes=(0,)), op)


# -- masks -----------------------------------------------------------------------------------------


RULES: list[Rule] = [
    slice_scatter,
    select_scatter,
    index_put,
    index_write,
    put,
    scatter,
    index_reduce,
]
