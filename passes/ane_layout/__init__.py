"""Channels on axis 1, the sequence last: the layout the Neural Engine works in.

    %g: f32[8] weight, %b: f32[8] weight, %w: f32[32,8] weight, %c: f32[32] weight, %v: f32[8,32] weight
    %x: f32[1,77,8]
    %1 = mil.layer_norm(%x, %g, %b) {axes=[-1]}
    %2 = mil.linear(%1, %w, %c)
    %3 = mil.gelu(%2) {mode="EXACT"}
    %y = mil.linear(%3, %v)
        ->
    %4 = mil.transpose(%x) {perm=[0, 2, 1]}
    %5 = mil.expand_dims(%4) {axes=[2]}
    %1 = mil.layer_norm(%5, %g, %b) {axes=[1]}
    %6 = mil.expand_dims(%w) {axes=[2, 3]}
    %2 = mil.conv(%1, %6, %c)
    %3 = mil.gelu(%2) {mode="EXACT"}
    %7 = mil.expand_dims(%v) {axes=[2, 3]}
    %8 = mil.conv(%3, %7)
    %9 = mil.transpose(%8) {perm=[0, 3, 2, 1]}
    %y = mil.squeeze(%9) {axes=[2]}

Which ops work in which form is one minimum cut over the function (``cut.py``); a view or permute
belongs to the edge it lies on, and goes where both ends agree. Nothing is computed otherwise, and
weights are reshaped as constants. Sources: Apple, "Deploying Transformers on the Apple Neural
Engine" and ml-ane-transformers (rules A07, A20, A23, A30).
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.ane_layout import projections
from anec.passes.ane_layout.apply import Rebuilder
from anec.passes.ane_layout.cut import decide
from anec.passes.ane_layout.problem import Problem
from anec.passes.dce import remove_dead_ops, remove_dead_weights
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class AneLayout(Pass):
    """Hold what a sequence or mixed model computes as (B, C, 1, S) where that moves less."""

    name = "ane-layout"
    rules = projections.RULES
    fidelity = EXACT
    dialects = frozenset({"mil"})
    after = ("lower-to-mil",)
    requires = ("mil",)

    def run(self, graph: Graph, ctx: Context) -> None:
        if not all(result.tensor.is_static for op in graph.ops() for result in op.results):
            ctx.note("ane-layout leaves functions of flexible shapes as they are")
            return
        ctx.rewrite(self.rules, opts=self)
        problem = Problem.of(graph)
        chosen = decide(problem)
        if chosen or any(route.is_roundabout for route in problem.routes.values()):
            Rebuilder(graph, ctx, problem, chosen).run()
            remove_dead_ops(graph)
            remove_dead_weights(graph)
