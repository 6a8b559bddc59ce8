"""Pieces that are joined, and then shuffled, are interleaved as they are joined.

    %a: f32[1,4,6,6], %b: f32[1,4,6,6]
    %1 = mil.concat([%a, %b]) {axis=1}
    %2 = mil.reshape(%1, [1, 2, 4, 6, 6])
    %3 = mil.transpose(%2) {perm=[0, 2, 1, 3, 4]}
    %y = mil.reshape(%3, [1, 8, 6, 6])
        ->
    %y = mil.concat([%a, %b]) {axis=1, interleave=true}

The channel shuffle of ShuffleNet: three copies less.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.common import dims, only_use
from anec.passes.lower_to_mil.permutation import real, volume
from anec.passes.mil_cleanup.moves import chains
from anec.passes.mil_cleanup.slices import concat_axis
from anec.rewrite import Rule, reject, rest, rewrite, var


@rewrite(mil.reshape(mil.transpose(var("shuffled"), rest), rest))
def interleave_concat(op: Op) -> Value:
    """Groups that were pieces of a concat change places with what is in each."""
    shape = op.results[0].tensor.shape
    for chain in chains(op):
        root, joined = chain.root, chain.root.op
        if joined is None or joined.defn is not mil.concat or not only_use(root) or root.tensor.shape != shape:
            continue
        movement = chain.movement()
        if movement is None:
            break
        values, axis = joined.variadic("values"), concat_axis(joined)
        if joined.attr("interleave") or len({dims(value) for value in values}) != 1:
            continue
        outside, own = real(shape[:axis]), dims(values[0])[axis]
        parts = (*outside, len(values), own, *real(shape[axis + 1 :]))
        kept = [number for number, size in enumerate(movement.parts) if size != 1]
        order = [kept.index(number) for number in movement.order if number in kept]
        before = len(order) - len(real(shape[axis + 1 :])) - 2
        swapped = [*range(before), before + 1, before, *range(before + 2, len(order))]
        seen = real(movement.parts)
        if before >= 0 and seen[before:] == parts[-len(seen) + before :] and order == swapped:
            assert volume(seen[:before]) == volume(outside)
            return mil.concat(list(values), axis=axis, interleave=True)
    return reject("it shuffles no concat of equal pieces")


RULES: list[Rule] = [interleave_concat]
