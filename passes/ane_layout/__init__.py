"""Channels on axis 1, the sequence last: the layout the Neural Engine works in.

    %g: f32[8] weight, %b: f32[8] weight, %w: f32[32,8] weight, %c: f32[32] weight, %v: f32[8,32] weight
    %x: f32[1,8,77]
    %1 = mil.transpose(%x) {perm=[0, 2, 1]}
    %2 = mil.layer_norm(%1, %g, %b) {axes=[-1]}
    %3 = mil.linear(%2, %w, %c)
    %4 = mil.gelu(%3) {mode="EXACT"}
    %y = mil.linear(%4, %v)
        ->
    %5 = mil.expand_dims(%x) {axes=[2]}
    %2 = mil.layer_norm(%5, %g, %b) {axes=[1]}
    %6 = mil.expand_dims(%w) {axes=[2, 3]}
    %3 = mil.conv(%2, %6, %c)
    %4 = mil.gelu(%3) {mode="EXACT"}
    %7 = mil.expand_dims(%v) {axes=[2, 3]}
    %8 = mil.conv(%4, %7)
    %9 = mil.transpose(%8) {perm=[0, 3, 2, 1]}
    %y = mil.squeeze(%9) {axes=[2]}

Which ops work in which form is one minimum cut over the function (``cut.py``); a view or permute
belongs to the edge it lies on, and goes where both ends agree. Nothing is computed otherwise, and
weights are reshaped as constants. Transposes and reshapes never write more than they did before
(``decision.py``). Sources: Apple, "Deploying Transformers on the Apple Neural
Engine" and ml-ane-transformers (rules A07, A20, A23, A30).
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.ane_layout import maps, parted, projections
from anec.passes.ane_layout.apply import Rebuilder
from anec.passes.ane_layout.decision import Decision, decided, is_static
from anec.passes.ane_layout.moves import elements_given
from anec.passes.ane_layout.whole_attention import surplus
from anec.passes.dce import remove_dead_ops, remove_dead_weights
from anec.passes.mil_cleanup import constants_past_moves, moves, regrouped, reshapes
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class AneLayout(Pass):
    """Hold what a sequence or mixed model computes as (B, C, 1, S) where that moves less.

    Attributes:
        bounded: whether transposes and reshapes may write no more than they did before; without, they may
            where that makes products over the last axis 1x1 convs.
    """

    name = "ane-layout"
    rules = (*maps.RULES, *projections.RULES, *parted.RULES)
    fidelity = EXACT
    dialects = frozenset({"mil"})
    after = ("lower-to-mil",)
    requires = ("mil",)

    bounded: bool = True

    def run(self, graph: Graph, ctx: Context) -> None:
        if not is_static(graph):
            ctx.note("ane-layout leaves functions of flexible shapes as they are")
            return
        found = self.decide(graph, ctx)
        if found.note is not None:
            ctx.note(f"ane-layout: {found.note}")
        if found.chosen or any(route.is_roundabout for route in found.problem.routes.values()):
            Rebuilder(graph, ctx, found.problem, found.chosen).run()
            remove_dead_ops(graph)
            remove_dead_weights(graph)
        # Moves of the whole meet before it is parted.
        ctx.rewrite((*reshapes.RULES, *regrouped.RULES, *constants_past_moves.RULES, *moves.RULES), opts=self)
        ctx.rewrite(parted.RULES, opts=self)

    def decide(self, graph: Graph, ctx: Context) -> Decision:
        """Take projections apart, and choose the form of every op of a function of static shapes."""
        allowed = elements_given(graph) - surplus(graph) if self.bounded else None
        ctx.rewrite((*maps.RULES, *projections.RULES), opts=self)
        return decided(graph, allowed)
