"""The indices of max pooling, and what is done with them: max_unpool.

    %x: f32[1,3,8]
    %y, %i = aten.adaptive_max_pool1d.default(%x) {output_size=[2]}
    return %y, %i
        ->
    %y = mil.max_pool(%x) {kernel_sizes=[4], strides=[4], pad_type="valid"}
    %1 = mil.gather(%x, %entries) {axis=2}
    %2 = mil.reshape(%1, [1, 3, 2, 4])
    %3 = mil.expand_dims(%y) {axes=[3]}
    %4 = mil.equal(%2, %3)
    %5 = mil.fill([1, 3, 2, 4]) {value=2147483647}
    %6 = mil.select(%4, %places, %5)
    %i = mil.reduce_min(%6) {axes=[3], keep_dims=false}
    return %y, %i

Core ML's pooling has no indices. The entries of each window are gathered side by side; the first
that equals the maximum, in the order of the flat index, is torch's. That takes as many numbers as
there are windows times entries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import reshaped
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import choose, filled
from anec.passes.lower_to_mil.typing import INT32_MAX, result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

Entries = Sequence[Sequence[int]]
"""For each window along an axis, where its entries are; an entry may come twice."""
_MOST = 1 << 26


def indices_used(op: Op) -> bool:
    """True when something reads the second result."""
    return len(op.results) > 1 and (bool(op.results[1].uses) or op.results[1].is_output)


def windows_side_by_side(op: Op, x: Value, entries: Sequence[Entries], ctx: Context) -> tuple[Value, Value]:
    """The windows of ``x`` ([n, c, *space]) as [n, c, windows, entries], and the flat index of each entry.

    Raises:
        Reject: a symbolic size, or too much memory.
    """
    import torch

    sizes = static(x.tensor)
    space, lead = sizes[2:], sizes[:2]
    strides = [math.prod(space[axis + 1 :]) for axis in range(len(space))]
    count = math.prod(len(along) for along in entries)
    length = math.prod(len(along[0]) for along in entries)
    if math.prod(lead) * count * length > _MOST:
        reject(f"the indices of {count} windows of {length} entries take too much memory")
    # [windows of the axes..., entries of the axes...]: an axis has its own of each, and the sum has all.
    rank = len(space)
    table = torch.zeros((), dtype=torch.int32)
    for at, (along, stride) in enumerate(zip(entries, strides, strict=True)):
        places = torch.tensor(along, dtype=torch.int32) * stride
        shape = [1] * (2 * rank)
        shape[at], shape[rank + at] = places.shape
        table = table + places.reshape(shape)
    table = table.reshape(count, length)
    flat = reshaped(x, (*lead, math.prod(space)))
    gathered = mil.gather(flat, constant(ctx, op, table.reshape(-1), "entries", DType.I32), axis=2)
    return reshaped(gathered, (*lead, count, length)), constant(ctx, op, table, "places", DType.I32)


def first_places(windows: Value, places: Value, best: Value) -> Value:
    """Where the maxima ``best`` stand in windows side by side, as torch's flat int32 index."""
    lead, count = static(windows.tensor)[:2], static(windows.tensor)[2]
    hit = mil.equal(windows, reshaped(best, (*lead, count, 1)))
    found = choose(hit, places, Literal(INT32_MAX), windows.tensor.with_dtype(DType.I32))
    return reshaped(mil.reduce_min(found, axes=(3,), keep_dims=False), best.tensor.shape)


@rewrite(each("max_unpool2d", "max_unpool3d"))
def max_unpool(op: Op) -> Value:
    """Zeros, and each maximum where it was."""
    type_ = result_type(op)
    shape = static(type_)
    space = int(op.defn.root[-2])
    lead, area = shape[:-space], math.prod(shape[-space:])
    x, index = value(op.operand("self"), type_.dtype), value(op.operand("indices"), DType.I32)
    flat = (*lead, math.prod(static(x.tensor)[-space:]))
    zeros = filled((*lead, area), 0, type_.dtype)
    result = mil.scatter_along_axis(zeros, reshaped(index, flat), reshaped(x, flat), axis=len(lead), mode="update")
    return reshaped(result, shape)


RULES: list[Rule] = [max_unpool]
