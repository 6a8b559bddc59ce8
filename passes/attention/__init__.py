"""Attention that a model spells out becomes one `nn.attention`, whatever the spelling.

    %q: f32[1,2,5,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: bool[1,1,5,7]
    %1 = aten.mul.Tensor(%q, 0.35355339059327379)
    %2 = aten.transpose.int(%k) {dim0=2, dim1=3}
    %3 = aten.matmul.default(%1, %2)
    %4 = aten.where.ScalarOther(%mask, %3) {other=-inf}
    %5 = aten.softmax.int(%4) {dim=-1}
    %y = aten.matmul.default(%5, %v)
        ->
    %1 = aten.where.Scalar(%mask) {self=0.0, other=-inf}
    %y = nn.attention(%q, %k, %v, %1)

Products may be matmul, bmm, baddbmm or einsum, with heads in the batch or beside it; scales stand in
front of queries, keys or scores; masks are added or chosen; scores may be capped by a tanh. What is
behind the pass has queries, keys and values of four axes, one key head for each group of query heads.

A query that sees no key at all gives zeros, where a softmax of nothing but -inf gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.attention import operands, softmaxes, spelled
from anec.passes.common import settle
from anec.passes.dce import remove_dead_ops
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class Attention(Pass):
    """Recognise attention that is spelled out, and take scales and repeated heads into it."""

    name = "attention"
    fidelity = EXACT
    rules = (*softmaxes.RULES, *spelled.RULES, *operands.RULES)
    dialects = frozenset({"aten", "nn"})
    after = ("canonicalize",)

    def run(self, graph: Graph, ctx: Context) -> None:
        # What nobody takes, as attention weights that nn.MultiheadAttention averages, is no other user.
        remove_dead_ops(graph)
        settle(ctx, self.rules, self)


__all__ = ["Attention"]
