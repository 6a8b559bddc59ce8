"""Symbolic sizes without computed shapes: a size is borrowed from a tensor that has it.

    %y = aten.expand.default(%row) {size=[(B), -1]}        %row: f32[1,8], %x: f32[B,3]
        ->
    %1 = mil.slice_by_index(%x, [0, 0], [0, 1]) {...}      f32[B,1]
    %2 = mil.less(%1, %1)                                  false, of whatever number
    %3 = mil.cast(%2) {dtype="fp32"}
    %y = mil.add(%row, %3)

Every type here is inferred as for any other op, and Core ML has to compute no shape.
"""

from __future__ import annotations

from collections.abc import Iterator

from anec.dialects import mil
from anec.ir.build import Builder
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.types import DType, TensorType
from anec.passes.lower_to_mil.typing import MIL_NAMES, dtype_of
from anec.rewrite import reject


def falses(like: Value | None, size: Dim) -> Value:
    """A vector of ``size`` times false.

    Args:
        like: where to look first for an axis of that size, if anywhere.
        size: a symbolic size.

    Raises:
        Reject: no tensor before has an axis of that size.
    """
    for tensor, at in _axes_of(like, size):
        first = tensor if tensor.tensor.dtype is not DType.BOOL else mil.cast(tensor, dtype=MIL_NAMES[DType.I32])
        line = first
        if tensor.rank > 1:
            others = [axis != at for axis in range(tensor.rank)]
            line = mil.slice_by_index(
                first,
                (0,) * tensor.rank,
                tuple(int(other) for other in others),
                begin_mask=tuple(not other for other in others),
                end_mask=tuple(not other for other in others),
                squeeze_mask=tuple(others),
            )
        return mil.less(line, line)
    return reject(f"no tensor before has the symbolic size {size}")


def zeros(like: Value | None, size: Dim, dtype: DType) -> Value:
    """A vector of ``size`` zeros, see :func:`falses`."""
    found = falses(like, size)
    return found if dtype is DType.BOOL else mil.cast(found, dtype=MIL_NAMES[dtype])


def counted(like: Value | None, size: Dim) -> Value:
    """The int32 vector 0, 1, 2... of ``size`` entries, see :func:`falses`."""
    ones = mil.cast(mil.logical_not(falses(like, size)), dtype=MIL_NAMES[DType.I32])
    return mil.cumsum(ones, axis=0, exclusive=True)


def _axes_of(like: Value | None, size: Dim) -> Iterator[tuple[Value, int]]:
    """Tensors that exist here with an axis of ``size``: ``like``, the inputs, then what was computed."""
    builder = Builder.current("a symbolic size")
    graph = builder.graph
    for value in (*([like] if like is not None else []), *graph.inputs, *_before(graph.first, builder.before)):
        if not isinstance(value.type, TensorType) or dtype_of(value) is not value.tensor.dtype:
            continue
        if value.tensor.dtype not in MIL_NAMES:
            continue
        for at, dim in enumerate(value.tensor.shape):
            if dim == size and value.rank <= 5:
                yield value, at


def _before(first: Op | None, anchor: Op | None) -> Iterator[Value]:
    op = first
    while op is not None and op is not anchor:
        if op.defn.dialect == "mil":
            yield from op.results
        op = op.next
