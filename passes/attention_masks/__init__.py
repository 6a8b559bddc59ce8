"""Masks of attention: added, finite, computed once for all layers.

    %q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8]
    %ones = aten.ones.default() {size=[4, 4], dtype=bool}
    %mask = aten.tril.default(%ones)
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = weight "y.mask" : f32[1,1,4,4]
    %y = nn.attention(%q, %k, %v, %1)

    %q: f32[2,2,4,8], %k: f32[2,2,9,8], %v: f32[2,2,9,8], %mask: bool[2,1,1,9]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)

    %q: f32[2,2,4,8], %k: f32[2,2,9,8], %v: f32[2,2,9,8], %mask: f32[2,1,1,9]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten.clamp_min.default(%mask) {min=-40000.0}
    %y = nn.attention(%q, %k, %v, %1)

A constant mask (causal, a window, a bias by position) is one weight that equal layers share; one that
hides nothing goes. What depends on inputs is made of ops that equal layers share behind `cse`.

A hidden score is 40000 lower instead of minus infinity or float32's lowest number: float16 holds the
sum, and the exponential is 0 as long as scores differ by less than 39000. Queries that see no key
give zeros where torch does, that is for bool masks and -inf, and the mean of all values for numbers as
low as float32's lowest, of those that -inf does not hide if others are: a sum of two lowest numbers
is -60000 then, or a row is lowered by its largest number. Where a computed mask is of the keys alone,
an input of padding only, they attend by their scores.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph
from anec.passes.attention_masks import computed, constant, finite
from anec.passes.attention_masks.constant import read_once
from anec.passes.common import settle
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class StaticAttentionMask(Pass):
    """Fold masks of attention into one finite weight, or one sum all layers share.

    Attributes:
        budget: the largest constant mask, in bytes, that becomes a weight; a larger one stays an expression.
    """

    name = "static-attention-mask"
    # Hidden scores are lower by a finite number; see above.
    fidelity = Close(rtol=1e-6, atol=1e-9)
    rules = (*constant.RULES, *computed.RULES, *finite.RULES)
    dialects = frozenset({"nn"})
    after = ("attention",)

    budget: int = 64 << 20

    def run(self, graph: Graph, ctx: Context) -> None:
        with read_once():
            settle(ctx, self.rules, self)


__all__ = ["StaticAttentionMask"]
