"""Cleaning up at the level of Core ML's ops: what computes nothing goes, neighbours join.

    %1 = mil.conv(%x, %w)                          %1 = mil.mul(%w, ...)
    %2 = mil.batch_norm(%1, %mean, %var)    ->     %y = mil.conv(%x, %1, %2)
    %y = mil.transpose(%2) {perm=[0, 1, 2, 3]}

Each family of rules has a file of its own. Changed weights are constant ops: emission computes
them, no pass does.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.common import settle
from anec.passes.mil_cleanup import (
    affine,
    broadcasts,
    casts,
    clips,
    concats,
    elementwise,
    pads,
    reshapes,
    slices,
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
    )

    def run(self, graph: Graph, ctx: Context) -> None:
        settle(ctx, self.rules, self)


__all__ = ["MilCleanup"]
