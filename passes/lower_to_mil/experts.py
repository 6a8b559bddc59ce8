"""Mixtures of experts: products of groups of rows, each with a matrix of its own, and histograms.

    %x: i32[6]
    %1 = aten._to_copy.default(%x) {dtype=f32}
    %y = aten.histc.default(%1) {bins=4, max=3}
        ->
    %1 = mil.expand_dims(%x) {axes=[0]}
    %2 = mil.range_1d(4, 0, 1)
    %3 = mil.expand_dims(%2) {axes=[1]}
    %4 = mil.equal(%1, %3)
    %5 = mil.cast(%4) {dtype="int32"}
    %6 = mil.reduce_sum(%5) {axes=[1], keep_dims=false}
    %y = mil.cast(%6) {dtype="fp32"}

Where a group ends is known only when the program runs, and Core ML has no shape that depends on
data. So every row is multiplied by every matrix, and its own product kept: as many times the work
as there are experts, in a fixed number of ops.
"""

from __future__ import annotations

from anec.dialects import aten, mil, transformers
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType, TensorType
from anec.passes.lower_to_mil.shared import as_value, choose, flat
from anec.passes.lower_to_mil.symbolic import counted
from anec.passes.lower_to_mil.typing import cast, dtype_of, result_type, static, value
from anec.rewrite import Rule, reject, rewrite


@rewrite(transformers.grouped_mm_fallback.default)
def grouped_mm_fallback(op: Op) -> Value:
    """What transformers computes in a loop; rows behind the last group are 0."""
    return _grouped(op, op.operand("input"), op.operand("weight"), op.operand("offs"))


@rewrite(aten._grouped_mm.default)
def grouped_mm(op: Op) -> Value:
    """Groups of rows, which `offs` ends, or a batch of matrices where there is none."""
    if op.operand("bias") is not None:
        reject("torch itself takes no bias here yet")
    dtype = result_type(op).dtype
    rows, matrices = op.value("self"), op.value("mat2")
    if op.operand("offs") is None:
        return mil.matmul(value(rows, dtype), value(matrices, dtype))
    if rows.rank != 2 or matrices.rank != 3:
        reject("groups of rows only, each with a matrix of its own")
    return _grouped(op, rows, matrices, op.operand("offs"))


def _grouped(op: Op, rows: Operand, matrices: Operand, ends: Operand) -> Value:
    type_ = result_type(op)
    x, w = value(rows, type_.dtype), value(matrices, type_.dtype)
    (experts,) = static(as_value(ends).tensor)
    count, width = type_.shape
    products = mil.matmul(mil.expand_dims(x, axes=(0,)), w)
    behind = mil.expand_dims(value(ends, DType.I32), axes=(1,))
    row = counted(count)
    # A row belongs to as many groups as begin at or before it, less those that end there.
    passed = cast(mil.greater_equal(row, behind), DType.I32)
    group = mil.reduce_sum(as_value(passed), axes=(0,), keep_dims=True)
    own = mil.expand_dims(mil.equal(group, _column(experts)), axes=(2,))
    kept = choose(own, products, Literal(0), TensorType(type_.dtype, (experts, count, width)))
    return mil.reduce_sum(kept, axes=(0,), keep_dims=False)


@rewrite(aten.histc.default)
def histc(op: Op) -> Value:
    """Every element is compared with every bin: as many numbers as elements times bins.

    As in torch, bin `floor((x - low) * bins / (high - low))`, the last one closed; equal bounds mean
    the smallest and largest element, and equal ones of those one more to either side.
    """
    bins, low, high = op.attr("bins"), op.attr("min"), op.attr("max")
    given = dtype_of(op.operand("self"))
    if not isinstance(bins, int) or given is None or not given.is_float:
        reject("whole numbers are counted by their float values only")
    assert isinstance(low, (int, float))
    assert isinstance(high, (int, float))
    x = flat(as_value(op.operand("self")))
    if x.tensor.shape == (0,):
        reject("there is nothing to count")
    dtype = result_type(op).dtype
    whole = _whole(as_value(op.operand("self")))
    if whole is not None and high - low == bins - 1 and float(low).is_integer():
        # A bin for each whole number: what lies outside equals none. Exact in any precision.
        return _counted(mil.equal(mil.expand_dims(flat(whole), axes=(0,)), _column(bins, int(low))), dtype)
    start, span, end = (float(low), float(high - low), float(high)) if low != high else _extent(x)
    scaled = mil.real_div(mil.mul(mil.sub(x, start), float(bins)), span)
    place = mil.minimum(mil.floor(scaled), float(bins - 1))
    found = mil.equal(mil.expand_dims(place, axes=(0,)), value(_column(bins), DType.F32))
    inside = mil.logical_and(mil.greater_equal(x, start), mil.less_equal(x, end))
    return _counted(mil.logical_and(found, mil.expand_dims(inside, axes=(0,))), dtype)


def _whole(x: Value) -> Value | None:
    """The int32 that ``x`` was cast from."""
    if x.op is None or x.op.name not in {"mil.cast", "aten._to_copy.default"}:
        return None
    source = x.op.inputs[0]
    return value(source, DType.I32) if source.tensor.dtype.is_integer else None


def _column(count: int, first: int = 0) -> Value:
    """Whole numbers, one a row."""
    return mil.expand_dims(mil.range_1d(end=first + count, start=first, step=1), axes=(1,))


def _counted(found: Value, dtype: DType) -> Value:
    """How many of each row are true; counted in whole numbers, which float16 does not hold beyond 2048."""
    return value(mil.reduce_sum(value(found, DType.I32), axes=(1,), keep_dims=False), dtype)


def _extent(x: Value) -> tuple[Value, Value, Value]:
    """The smallest element, the distance to the largest, and that one; never of distance 0."""
    low = mil.reduce_min(x, axes=(0,), keep_dims=True)
    high = mil.reduce_max(x, axes=(0,), keep_dims=True)
    equal = value(mil.equal(low, high), x.tensor.dtype)
    start, end = mil.sub(low, equal), mil.add(high, equal)
    return start, mil.sub(end, start), end


RULES: list[Rule] = [grouped_mm_fallback, grouped_mm, histc]
