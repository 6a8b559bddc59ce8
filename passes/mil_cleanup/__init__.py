"""Cleaning up at the level of Core ML's ops: what computes nothing goes, neighbours join.

    %1 = mil.linear(%x, %w)                                  %w: f32[4,8] weight, %s: f32[4] weight
    %2 = mil.mul(%1, %s)
    %y = mil.transpose(%2) {perm=[0, 1]}
        ->
    %1 = mil.reshape(%s, [4, 1])
    %2 = mil.mul(%w, %1)
    %y = mil.linear(%x, %2)

Each family of rules has a file of its own. Changed weights are constant ops: emission computes
them, no pass does.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.common import settle
from anec.passes.mil_cleanup import (
    affine,
    branches,
    broadcasts,
    casts,
    chains,
    clips,
    concats,
    constants_past_moves,
    elementwise,
    flattened,
    gathers,
    inputs,
    interleaved,
    joined_moves,
    moved_arithmetic,
    moves,
    norms,
    pads,
    products,
    regrouped,
    reshapes,
    slices,
    spaces,
    splits,
    stretched,
    through_concats,
    through_moves,
    transposes,
)
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class MilCleanup(Pass):
    """Drop ops that compute nothing and join neighbours, exactly."""

    name = "mil-cleanup"
    fidelity = EXACT
    rules = (
        *elementwise.RULES,
        *casts.RULES,
        *clips.RULES,
        *reshapes.RULES,
        *transposes.RULES,
        *slices.RULES,
        *concats.RULES,
        *pads.RULES,
        *broadcasts.RULES,
        *affine.RULES,
        *inputs.RULES,
        *through_moves.RULES,
        *constants_past_moves.RULES,
        *through_concats.RULES,
        *norms.RULES,
        *chains.RULES,
        *branches.RULES,
        *products.RULES,
        *flattened.RULES,
        *gathers.RULES,
        *spaces.RULES,
        *regrouped.RULES,
        *interleaved.RULES,
        *moves.RULES,
        *splits.RULES,
        *stretched.RULES,
        *moved_arithmetic.RULES,
        *joined_moves.RULES,
    )

    def run(self, graph: Graph, ctx: Context) -> None:
        settle(ctx, self.rules, self)


__all__ = ["MilCleanup"]
