"""Canonical forms at the level of torch's ops: what computes nothing goes, constants show.

    %1 = aten.clone.default(%x)                  %x: f32[2,3,4]
    %2 = aten.view.default(%1) {size=[6, 4]}
    %y = aten.view.default(%2) {size=[24]}
        ->
    %y = aten.view.default(%x) {size=[24]}

Forms that a later pass recognises are left as they are: a chain of transposes goes only when it
cancels, a clamp stays a clamp.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.canonicalize import arithmetic, identities, reductions, structures, views, writes
from anec.passes.common import settle
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class Canonicalize(Pass):
    """Drop ops that compute nothing and bring others to one form, exactly."""

    name = "canonicalize"
    fidelity = EXACT
    rules = (*identities.RULES, *arithmetic.RULES, *views.RULES, *reductions.RULES, *structures.RULES, *writes.RULES)

    def run(self, graph: Graph, ctx: Context) -> None:
        settle(ctx, self.rules, self)


__all__ = ["Canonicalize"]
