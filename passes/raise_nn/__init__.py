"""Raising: ATen's composites become the `nn` ops that say the same, whatever overload export left.

    %w: f32[8], %b: f32[8]
    %y, %mean, %rstd = aten.native_layer_norm.default(%x, %w, %b) {normalized_shape=[8], eps=1e-05}
        ->
    %y = nn.layer_norm(%x, %w, %b) {axes=[-1]}

One file a family. A further result of an ATen op (a mean, indices, a log-sum-exp) must be unused.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.passes.raise_nn import activations, attention, norms, pooling, recurrent, resize
from anec.pipeline.base import EXACT, Pass
from anec.pipeline.registry import register
from anec.rewrite import Rule

RULES: list[Rule] = [
    rule for family in (norms, activations, attention, resize, pooling, recurrent) for rule in family.RULES
]


@register
@dataclass
class RaiseToNN(Pass):
    """Turn ATen composites into `nn` ops."""

    name = "raise-to-nn"
    rules = RULES
    fidelity = EXACT
    dialects = frozenset({"aten", "nn"})
