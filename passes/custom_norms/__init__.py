"""Norms that a model spells out become one `nn` op each, whatever the spelling.

    %w: f32[8] weight
    %1 = aten.mul.Tensor(%x, %x)
    %2 = aten.mean.dim(%1) {dim=[-1], keepdim=true}
    %3 = aten.add.Tensor(%2, 1e-05)
    %4 = aten.pow.Tensor_Scalar(%3) {exponent=-0.5}
    %5 = aten.mul.Tensor(%x, %4)
    %y = aten.mul.Tensor(%w, %5)                           ->     %y = nn.rms_norm(%x, %w) {axes=[-1], epsilon=1e-05}

What is divided by the root of its own mean square is an RMS norm, by its own length an L2 norm, and
without its mean a layer norm. The epsilon has to stand where the op has it: inside the root, or as the least
length. A norm over the batch is a batch norm in training, and stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.common import settle
from anec.passes.custom_norms import affine, moved, response, scaled
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class CustomNorms(Pass):
    """Recognise norms that are spelled out, and take weights, casts and permutes into them."""

    name = "custom-norms"
    fidelity = EXACT
    rules = (*scaled.RULES, *response.RULES, *affine.RULES, *moved.RULES)
    dialects = frozenset({"aten", "nn"})
    after = ("canonicalize",)

    def run(self, graph: Graph, ctx: Context) -> None:
        settle(ctx, self.rules, self)


__all__ = ["CustomNorms"]
