"""Sorting, the largest few, medians, and where a number belongs in a sorted row.

    %v, %i = aten.sort.default(%x) {dim=-1}     ->     %v, %i = mil.topk(%x) {k=8, axis=1, ascending=true}

Core ML does not promise the order of equal elements, so a stable sort is as stable as the device's.
Nor does torch: checks draw no edge values here (``edges=False``), of which many are alike.
"""

from __future__ import annotations

import math

from anec.dialects import aten, mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.high_rank import again
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import BOOL_CARRIER, as_value, carrier, choose, flat
from anec.passes.lower_to_mil.symbolic import counted
from anec.passes.lower_to_mil.typing import (
    INT32_MAX,
    argument,
    axis,
    cast,
    dtype_of,
    promoted,
    result_type,
    static,
    value,
)
from anec.rewrite import Rule, reject, rewrite

_MOST = 1 << 24


def _ordered(x: Value, at: int, k: int, ascending: bool, dtype: DType) -> tuple[Value, Value]:
    """The first k along an axis; a number alone is its own order."""
    if x.rank == 0:
        return as_value(cast(x, dtype)), mil.fill(shape=(), value=0)
    values, indices = mil.topk.many(x, k=k, axis=at, ascending=ascending)
    return as_value(cast(values, dtype)), indices


def _entries(op: Op) -> tuple[Value, int]:
    """The tensor in a dtype MIL sorts, and the axis."""
    given = dtype_of(op.operand("self")) or DType.F32
    x = value(op.operand("self"), carrier(given))
    return x, axis(op.attr("dim"), x.rank)


@rewrite(each("topk"), edges=False)
def topk(op: Op) -> tuple[Value, Value]:
    """Largest or smallest first, always sorted."""
    x, at = _entries(op)
    k = op.attr("k")
    if not isinstance(k, int) or k < 1:
        reject(f"k is {k}")
    return _ordered(x, at, k, not op.attr("largest"), result_type(op).dtype)


@rewrite(each("sort", "sort.stable"), edges=False)
def sort(op: Op) -> tuple[Value, Value]:
    """The largest k, of all; -1 says all of a symbolic size."""
    x, at = _entries(op)
    size = x.tensor.shape[at] if x.rank else 1
    k = size if isinstance(size, int) else -1
    return _ordered(x, at, k, not op.attr("descending"), result_type(op).dtype)


@rewrite(each("msort"))
def msort(op: Op) -> Value:
    """Ascending along the first axis."""
    x = value(op.operand("self"), carrier(result_type(op).dtype))
    size = static(x.tensor)[0] if x.rank else 1
    return _ordered(x, 0, size, True, result_type(op).dtype)[0]


@rewrite(each("argsort", "argsort.stable"), edges=False)
def argsort(op: Op) -> Value:
    """Where the sorted elements were."""
    x, at = _entries(op)
    if x.rank == 0:
        return mil.fill(shape=(), value=0)
    return mil.argsort(x, axis=at, ascending=not op.attr("descending"))


@rewrite(each("kthvalue", "median.dim"), edges=False)
def kth(op: Op) -> tuple[Value, Value]:
    """The last of the k smallest; the median is the lower one of two."""
    x, at = _entries(op)
    dtype = result_type(op).dtype
    if x.rank == 0:
        return _ordered(x, at, 1, True, dtype)
    k = op.attr("k") if op.defn.root == "kthvalue" else (static(x.tensor)[at] + 1) // 2
    if not isinstance(k, int):
        reject(f"k is {k}")
    values, indices = (_last(found, at, k) for found in _ordered(x, at, k, True, dtype))
    if op.attr("keepdim"):
        return values, indices
    return mil.squeeze(values, axes=(at,)), mil.squeeze(indices, axes=(at,))


def _last(x: Value, at: int, size: int) -> Value:
    """The last entry of an axis, which stays."""
    if size == 1:
        return x
    begin = tuple(size - 1 if index == at else 0 for index in range(x.rank))
    end = tuple(size if index == at else 0 for index in range(x.rank))
    whole = tuple(index != at for index in range(x.rank))
    return mil.slice_by_index(x, begin=begin, end=end, begin_mask=whole, end_mask=whole)


@rewrite(each("median"))
def median(op: Op) -> Value:
    """The lower of the middle two, of all elements in a row."""
    dtype = result_type(op).dtype
    x = value(op.operand("self"), carrier(dtype))
    if x.rank == 0:
        return as_value(cast(x, dtype))
    row = x if x.rank == 1 else mil.reshape(x, shape=(-1,))
    k = (static(row.tensor)[0] + 1) // 2
    values, _ = _ordered(row, 0, k, True, dtype)
    return mil.squeeze(_last(values, 0, k), axes=(0,))


@rewrite(each("nanmedian", "nanmedian.dim"), edges=False)
def nanmedian(op: Op) -> list[Value]:
    """The lower of the middle two of what is no NaN: those sort behind all numbers."""
    type_ = result_type(op)
    x = value(op.operand("self"), carrier(type_.dtype))
    whole = len(op.results) == 1
    if x.rank == 0:
        return [as_value(cast(x, type_.dtype)), mil.fill(shape=(), value=0)][: len(op.results)]
    x, at = (flat(x), 0) if whole else (x, axis(op.attr("dim"), x.rank))
    known = mil.equal(x, x)
    filled = choose(known, x, Literal(math.inf), x.tensor) if x.tensor.dtype.is_float else x
    values, _ = _ordered(filled, at, static(x.tensor)[at], True, x.tensor.dtype)
    count = mil.reduce_sum(mil.cast(known, dtype="int32"), axes=(at,), keep_dims=True)
    place = mil.maximum(mil.floor_div(mil.sub(count, 1), 2), 0)
    best = mil.gather_along_axis(values, place, axis=at)
    # Looked up in the tensor itself: the sort does not tell infinity from NaN. Of NaN alone any place will do.
    where = mil.reduce_argmax(mil.cast(mil.equal(x, best), dtype="int32"), axis=at, keep_dims=True)
    if x.tensor.dtype.is_float:
        best = choose(mil.equal(count, 0), Literal(math.nan), best, best.tensor)
    results = [as_value(cast(best, type_.dtype)), where]
    if not whole and op.attr("keepdim"):
        return results
    return [mil.squeeze(found, axes=(at,)) for found in results][: len(op.results)]


@rewrite(each("mode"), edges=False)
def mode(op: Op) -> tuple[Value, Value]:
    """Each element is compared with all along the axis; the smallest of the most frequent, and its last place."""
    type_ = result_type(op)
    x = value(op.operand("self"), carrier(type_.dtype))
    if x.rank == 0:
        return as_value(cast(x, type_.dtype)), mil.fill(shape=(), value=0)
    at = axis(op.attr("dim"), x.rank)
    sizes = static(x.tensor)
    if math.prod(sizes) * sizes[at] > _MOST:
        reject(f"comparing all elements along {sizes[at]} of {x.tensor} takes too much memory")
    same = mil.equal(mil.expand_dims(x, axes=(at,)), mil.expand_dims(x, axes=(at + 1,)))
    counts = mil.reduce_sum(mil.cast(same, dtype="int32"), axes=(at,), keep_dims=False)
    frequent = mil.equal(counts, mil.reduce_max(counts, axes=(at,), keep_dims=True))
    highest = math.inf if x.tensor.dtype.is_float else INT32_MAX
    best = mil.reduce_min(choose(frequent, x, Literal(highest), x.tensor), axes=(at,), keep_dims=True)
    places = mil.reshape(counted(sizes[at]), shape=tuple(n if i == at else 1 for i, n in enumerate(sizes)))
    here = choose(mil.equal(x, best), places, Literal(-1), x.tensor.with_dtype(DType.I32))
    keep = bool(op.attr("keepdim"))
    best = best if keep else mil.squeeze(best, axes=(at,))
    return as_value(cast(best, type_.dtype)), mil.reduce_max(here, axes=(at,), keep_dims=keep)


@rewrite(each("searchsorted.Tensor", "searchsorted.Scalar"))
def by_sorter(op: Op) -> Value:
    """The boundaries in the order that their sorter tells."""
    sorter = op.operand("sorter")
    if sorter is None:
        reject("the boundaries are in order")
    ordered = aten.gather.default(op.value("sorted_sequence"), -1, sorter)
    return again(op, {"sorted_sequence": ordered, "sorter": None})[0]


@rewrite(each("bucketize.Tensor", "bucketize.Scalar", "searchsorted.Tensor", "searchsorted.Scalar"))
def bucketize(op: Op) -> Value:
    """The place is the number of boundaries below (with ``right``: or equal): count them."""
    name = "boundaries" if op.defn.root == "bucketize" else "sorted_sequence"
    given, numbers = op.operand(name), argument(op, "self")
    dtype = promoted(given, numbers)
    dtype = BOOL_CARRIER if dtype is DType.BOOL else dtype
    bounds, x = value(given, dtype), cast(numbers, dtype)
    if isinstance(x, Value):
        if bounds.rank > 1:
            bounds = mil.expand_dims(bounds, axes=(bounds.rank - 1,))
        x = mil.expand_dims(x, axes=(x.rank,))
    elif not isinstance(x, Literal) or bounds.rank != 1:
        reject("a number is looked up in one row")
    right = op.attr("right") or ("side" in op.defn.by_name and op.attr("side") == "right")
    below = (mil.less_equal if right else mil.less)(bounds, x)
    # Counted in int32: fp16 counts to 2048 only.
    return mil.reduce_sum(mil.cast(below, dtype="int32"), axes=(-1,), keep_dims=False)


RULES: list[Rule] = [topk, sort, msort, argsort, kth, median, nanmedian, mode, by_sorter, bucketize]
