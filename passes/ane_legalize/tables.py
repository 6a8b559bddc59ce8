"""A table that a product reads in pieces is looked up in the same pieces, so that it is stored once.

    %ids: i32[1,5], %h: f32[1,5,8], %w: f32[20000,8] weight
    %1 = mil.gather(%w, %ids) {axis=0}
    %2 = mil.add(%1, %h)
    %y = mil.linear(%2, %w)
        ->
    %1 = mil.slice_by_index(%w, [0, 0], [10000, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %2 = mil.slice_by_index(%w, [10000, 0], [20000, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %3 = mil.mod(%ids, 10000)
    %4 = mil.gather(%2, %3) {axis=0}
    %5 = mil.expand_dims(%ids) {axes=[2]}
    %6 = mil.less(%5, 10000)
    %7 = mil.gather(%1, %3) {axis=0}
    %8 = mil.select(%6, %7, %4)
    %9 = mil.add(%8, %h)
    %10 = mil.slice_by_index(%w, [0, 0], [10000, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %11 = mil.linear(%9, %10)
    %12 = mil.slice_by_index(%w, [10000, 0], [20000, 0]) {begin_mask=[false, true], end_mask=[false, true]}
    %13 = mil.linear(%9, %12)
    %y = mil.concat([%11, %13]) {axis=2}

Embeddings of language models are their heads too, and nothing in the program is as large. Three more ops for each
piece work on the rows that are looked up, on the CPU, which does lookups at computed places anyway.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Graph, Op, Value
from anec.ir.types import DType
from anec.passes.ane_layout.projections import cut_of
from anec.passes.common import known, tensor
from anec.passes.lower_to_mil.movement import sliced
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite

table, indices = tensor("table"), tensor("indices")


@rewrite(mil.gather(table, indices, rest))
def lookup_in_pieces(op: Op, ctx: Context, table: Value, indices: Value) -> Value:
    """Pieces are as long as the first; each is asked for the remainder, and the place says which one is right."""
    if table.weight is None or known(indices) or indices.tensor.dtype is not DType.I32:
        reject("it is no lookup of computed places in a weight")
    if op.attr("axis") != 0 or op.attr("batch_dims") not in (None, 0):
        reject("it does not look up rows")
    size, length = table.shape[0], _length(table)
    if ctx.module.opset < 17 and not ctx.facts.range(indices).nonnegative:
        # Before iOS17 places count from the end where they are negative.
        indices = mil.select(mil.less(indices, 0), mil.add(indices, size), indices)
    # ``cse`` makes one of these and the slices that are there.
    pieces = [sliced(table, 0, start, min(start + length, size)) for start in range(0, size, length)]
    rows, rest_of = mil.mod(indices, length), pieces[-1].shape[0]
    found = mil.gather(pieces[-1], rows if rest_of == length else mil.minimum(rows, rest_of - 1), axis=0)
    beside = indices
    if table.rank > 1:
        beside = mil.expand_dims(indices, axes=tuple(range(indices.rank, indices.rank + table.rank - 1)))
    for number in range(len(pieces) - 1, 0, -1):
        within = mil.less(beside, number * length)
        found = mil.select(within, mil.gather(pieces[number - 1], rows, axis=0), found)
    return found


def _length(table: Value) -> int:
    """How many rows the slices have that a table is read in; the last one may have fewer.

    Raises:
        Reject: something reads it whole, or they leave rows out, overlap or differ.
    """
    cuts: set[tuple[int, int]] = set()
    for user in table.users:
        cut = cut_of(user) if user.defn is mil.slice_by_index else None
        if cut is not None and cut[0] == 0:
            cuts.add(cut[1:])
        elif user.defn is not mil.gather:
            reject(f"{user.name} reads the table whole")
    size, length = table.shape[0], max((stop - start for start, stop in cuts), default=0)
    if not 0 < length < size:
        reject("nothing reads it in pieces")
    if cuts != {(start, min(start + length, size)) for start in range(0, size, length)}:
        reject("its slices are not pieces of one length")
    return length


def stored_twice(graph: Graph) -> list[Value]:
    """The weights that are looked up whole, and are read in pieces too."""
    return [
        weight
        for weight in graph.weights.values()
        if any(user.defn is mil.gather for user in weight.users) and any(map(_is_cut, weight.users))
    ]


def _is_cut(user: Op) -> bool:
    """Whether a slice is taken of a constant, or of what it becomes."""
    behind = [user, *(further for result in user.results for further in result.users if known(result))]
    return any(op.defn is mil.slice_by_index and known(op.results[0]) for op in behind)


RULES: list[Rule] = [lookup_in_pieces]
