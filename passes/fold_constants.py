"""Constant folding.

    %1 = aten.arange.default() {end=4} : i64[4]
    %2 = aten.mul.Tensor(%1, 2) : i64[4]           ->      %2 = weight "main._2" : i64[4]

What has no elements is constant, whatever it was taken from: ``x[:0].sum()`` is 0.

Only what is small is folded. A constant of more than ``budget`` bytes stays an op on references:
emission computes such ops one at a time, so no pass ever holds a second copy of a model's weights.
For the same reason an op that merely moves or repeats the elements of a weight stays, unless its
result is tiny. Random numbers are never folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from anec.dialects import aten
from anec.errors import UnsupportedError
from anec.ir.facts import constants
from anec.ir.graph import Graph, Op, Value
from anec.ir.types import TensorType
from anec.passes.common import FILLS, MOVES
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register

# Below this, a moved or repeated weight is worth its copy: rules see numbers, not an expression.
_TINY = 4096


@register
@dataclass
class FoldConstants(Pass):
    """Compute small constant expressions now.

    Attributes:
        budget: the largest result in bytes that is folded; a note tells of what stays.
    """

    name = "fold-constants"
    # Each folded result is rounded to its declared dtype, as emission would round it.
    fidelity = Close(rtol=1e-6, atol=1e-6)

    budget: int = 1 << 20

    def run(self, graph: Graph, ctx: Context) -> None:
        _free_the_empty(graph, ctx)
        known = constants(graph)
        unreadable = {v for v in graph.weights.values() if v.weight is not None and v.weight.data is None}
        folded: set[Value] = set()
        large: list[Op] = []
        for op in list(graph.ops()):
            # `known` holds no op whose operands vary; its results say so, unless it has none.
            if op.graph is not graph or not op.results or op.results[0] not in known:
                continue
            if unreadable.intersection(op.inputs):
                unreadable.update(op.results)
            elif self.is_small(op):
                _fold(op, ctx, folded)
            elif op.name not in MOVES and op.name not in FILLS:
                large.append(op)
        if large:
            first = large[0].origin.place or f"%{large[0].results[0].name}"
            what = "a constant stays an op" if len(large) == 1 else f"{len(large)} constants stay ops"
            ctx.note(f"{what} until emission: of more than {self.budget} bytes, or of no fixed size, at {first}")

    def is_small(self, op: Op) -> bool:
        """True when the results of ``op`` are worth holding as weights."""
        if any(not result.tensor.is_static for result in op.results):
            return False
        size = sum(result.tensor.bytes for result in op.results)
        return size <= (min(_TINY, self.budget) if op.name in MOVES or op.name in FILLS else self.budget)


def _free_the_empty(graph: Graph, ctx: Context) -> None:
    """Let a result without elements depend on nothing."""
    for op in list(graph.ops()):
        for result in op.results:
            type_ = result.type
            if not isinstance(type_, TensorType) or not type_.is_static or 0 not in type_.shape:
                continue
            if op.inputs and (result.uses or result.is_output):
                with ctx.builder(before=op):
                    graph.replace(result, aten.full.default(type_.shape, 0, dtype=type_.dtype))


def _fold(op: Op, ctx: Context, folded: set[Value]) -> None:
    """Fold ``op``, and drop the weights made on the way that nothing else needs."""
    from anec.passes.folding import fold

    weights = dict.fromkeys(value for value in op.inputs if value.weight is not None)
    names = [result.name for result in op.results if result.uses or result.is_output]
    count = len(ctx.graph.weights)
    try:
        fold(op, ctx)
    except UnsupportedError:
        # No kernel runs the op here; a lowering may still know what to do with it.
        return
    made = list(islice(reversed(ctx.graph.weights.values()), len(ctx.graph.weights) - count))
    folded.update(made)
    for value, name in zip(reversed(made), names, strict=True):
        ctx.graph.rename(value, name)
    for value in weights:
        if value in folded and not value.uses and not value.is_output and value.weight is not None:
            ctx.graph.remove_weight(value)
            del ctx.module.weights[value.weight.name]
            folded.discard(value)


__all__ = ["FoldConstants"]
