"""Activations that a model spells out become the one op that says the same.

    %1 = aten.mul.Tensor(%x, 0.5)
    %2 = aten.pow.Tensor_Scalar(%x) {exponent=3}
    %3 = aten.mul.Tensor(%2, 0.044715)
    %4 = aten.add.Tensor(%x, %3)
    %5 = aten.mul.Tensor(%4, 0.7978845608)
    %6 = aten.tanh.default(%5)
    %7 = aten.add.Tensor(%6, 1.0)
    %y = aten.mul.Tensor(%1, %7)                     ->     %y = nn.gelu(%x) {approximate="tanh"}

The formula counts, not its spelling; the numbers in it are compared within 1e-6, because models carry them rounded.
Where Core ML has no such op, one is composed that does not overflow in float16.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.activations import curves, gated, pieces
from anec.passes.common import settle
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class Activations(Pass):
    """Recognise activations that are spelled out."""

    name = "activations"
    # The model's 0.79788456 is not sqrt(2 / pi), but means it.
    fidelity = Close(rtol=1e-6, atol=1e-6)
    rules = (*curves.RULES, *pieces.RULES, *gated.RULES)
    dialects = frozenset({"aten", "nn"})
    after = ("canonicalize",)

    def run(self, graph: Graph, ctx: Context) -> None:
        settle(ctx, self.rules, self)


__all__ = ["Activations"]
