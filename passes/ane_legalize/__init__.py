"""What the Neural Engine of a generation cannot take, in a form it can.

    %x: f32[1,50,4,4]
    %y = mil.pixel_shuffle(%x) {upscale_factor=5}
        ->
    %1 = mil.reshape(%x, [2, 5, 5, 4, 4])
    %2 = mil.transpose(%1) {perm=[0, 3, 1, 4, 2]}
    %y = mil.reshape(%2, [1, 2, 20, 20])

Each family of rules has a file of its own. A rule leaves alone what fits: a program within the limits
of the generation stays as it is. The limits are those of ``anec.ane.limits``.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ane.limits import Limits, limits_of
from anec.ir.graph import Graph
from anec.passes.ane_legalize import (
    arithmetic,
    axes,
    computed_weights,
    convolutions,
    copies,
    frames,
    islands,
    lookups,
    ranks,
    rows,
    shears,
    tables,
    transposed,
    upsampling,
    volumes,
)
from anec.passes.common import settle
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class AneLegalize(Pass):
    """Rewrite what the Neural Engine of a generation cannot take.

    Attributes:
        generation: ``M1`` to ``M5``, or an iPhone chip.
    """

    name = "ane-legalize"
    rules = (
        *axes.RULES,
        *volumes.RULES,
        *frames.RULES,
        *frames.LAST,
        *computed_weights.RULES,
        *convolutions.RULES,
        *transposed.RULES,
        *rows.RULES,
        *ranks.RULES,
        *lookups.RULES,
        *shears.RULES,
        *tables.RULES,
        *copies.RULES,
        *arithmetic.RULES,
        *islands.RULES,
        *upsampling.RULES,
    )
    # Sums are taken in another order.
    fidelity = Close(rtol=1e-6, atol=1e-9)
    dialects = frozenset({"mil"})
    after = ("lower-to-mil", "ane-layout")
    requires = ("mil",)

    generation: str = "M1"

    def __post_init__(self) -> None:
        # An unknown one is told before any pass runs.
        limits_of(self.generation)

    @property
    def limits(self) -> Limits:
        """What the generation holds and runs."""
        return limits_of(self.generation)

    def run(self, graph: Graph, ctx: Context) -> None:
        settle(ctx, [rule for rule in self.rules if rule not in frames.LAST], self)
        settle(ctx, frames.LAST, self)
        for weight in tables.stored_twice(graph):
            ctx.note(f"%{weight.name} is a table and the weight of a product in pieces: it is stored once for each")
        left = axes.beyond(graph, self.limits)
        if left:
            ctx.note(f"ops with axes that {self.generation} does not hold: {len(left)}; {next(iter(left.values()))}")


__all__ = ["AneLegalize"]
