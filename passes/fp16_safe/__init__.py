"""Formulas that leave float16's range on the way to a result inside it, in forms that do not.

    %1 = mil.softmax(%x) {axis=-1}
    %y = mil.log(%1) {epsilon=0.0}
        ->
    %1 = mil.reduce_max(%x) {axes=[-1], keep_dims=true}
    %2 = mil.sub(%x, %1)
    %3 = mil.reduce_log_sum_exp(%2) {axes=[-1], keep_dims=true}
    %y = mil.sub(%2, %3)

In float16 the smallest number is 6e-8 and the largest 65504: a probability of 1e-8 is 0 and its logarithm
infinite, exp(12) is infinite, and so is the square of 256. Every form is equal over the real numbers. The
pass stands in ``finish`` in front of ``to-fp16``, so float32 programs keep the formulas as they were written;
it works on `mil` ops, so it serves a loaded package too.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.common import settle
from anec.passes.fp16_safe import exponentials, lengths, logarithms, shares, sums
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class Fp16Safe(Pass):
    """Rewrite formulas whose parts leave float16's range, exactly."""

    name = "fp16-safe"
    fidelity = EXACT
    rules = (*exponentials.RULES, *logarithms.RULES, *sums.RULES, *lengths.RULES, *shares.RULES)
    dialects = frozenset({"mil"})
    after = ("lower-to-mil",)

    def run(self, graph: Graph, ctx: Context) -> None:
        settle(ctx, self.rules, self)


__all__ = ["Fp16Safe"]
