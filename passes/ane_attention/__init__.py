"""Attention in the form the Neural Engine runs: heads side by side, keys on the channel axis.

    %q: f32[1,2,4,64], %k: f32[1,2,6,64], %v: f32[1,2,6,64]
    %y = nn.attention(%q, %k, %v)
        ->
    %1 = mil.mul(%q, 0.125)
    %2 = mil.transpose(%1) {perm=[0, 1, 3, 2]}
    %3 = mil.reshape(%2, [1, 128, 1, 4])
    %4 = mil.transpose(%k) {perm=[0, 2, 1, 3]}
    %5 = mil.reshape(%4, [1, 6, 1, 128])
    %k0, %k1 = mil.split(%5) {num_splits=2, axis=3}
    %6 = mil.transpose(%v) {perm=[0, 1, 3, 2]}
    %7 = mil.reshape(%6, [1, 128, 1, 6])
    %v0, %v1 = mil.split(%7) {num_splits=2, axis=1}
    %q0, %q1 = mil.split(%3) {num_splits=2, axis=1}
    %s0 = mil.einsum([%k0, %q0]) {equation="nchw,nwhu->nchu"}
    %s1 = mil.einsum([%k1, %q1]) {equation="nchw,nwhu->nchu"}
    %8 = mil.concat([%s0, %s1]) {axis=2}
    %9 = mil.softmax(%8) {axis=1}
    %p0, %p1 = mil.split(%9) {num_splits=2, axis=2}
    %o0 = mil.einsum([%v0, %p0]) {equation="nchw,nwhu->nchu"}
    %o1 = mil.einsum([%v1, %p1]) {equation="nchw,nwhu->nchu"}
    %10 = mil.concat([%o0, %o1]) {axis=1}
    %11 = mil.reshape(%10, [2, 64, 4])
    %12 = mil.transpose(%11) {perm=[0, 2, 1]}
    %y = mil.expand_dims(%12) {axes=[0]}

Here %3 and %10 are (B, H E, 1, L), %5 is (B, S, 1, H E), %7 (B, H E, 1, S) and %9 (B, S, H, L).
The moves at both ends are views of what the layers around hold: ``ane-layout`` makes them meet.
The equation is the only one of rank 4 that Core ML runs, and it maps to hardware without a transpose
(rule A22). Heads are split, the keys transposed before that (A21, A47); softmax runs over axis 1
(A23), the mask is (B, S, 1, L) (A25) and finite (A24). Grouped queries use their key head without a
copy of it. Sources: ml-ane-transformers, ml-vision-transformers-ane, coreai-models.

A masked score is 40000 lower than it was instead of minus infinity: exp gives 0 for it as long as
scores differ by less than that. A query whose keys are all masked gives 0 for a bool mask and for
minus infinity, and the mean of all values for a finite mask beyond -40000, as torch does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anec.ane.limits import limits_of
from anec.dialects import nn
from anec.errors import UsageError
from anec.ir.graph import Op, Value
from anec.passes.ane_attention.heads import split_attention
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register
from anec.rewrite import rewrite


@rewrite(nn.attention)
def split_heads(op: Op, ctx: Context, opts: AneAttention) -> Value:
    """One product a head over (B, C, 1, S), keys on axis 1."""
    together, rows = (0 if given == "auto" else given for given in (opts.heads, opts.chunk))
    return split_attention(op, ctx, together, rows, limits_of(opts.generation).working_set)


@register
@dataclass
class AneAttention(Pass):
    """Split attention into heads over (B, C, 1, S), softmax on the channel axis.

    Attributes:
        heads: how many heads share a softmax; auto takes as many as fit the working set.
        chunk: how many queries are taken at a time; auto takes as many as fit the working set.
        generation: whose working set, ``M1`` to ``M5`` or an iPhone chip.

    Raises:
        UsageError: a number below 1, or an unknown generation.
    """

    name = "ane-attention"
    rules = (split_heads,)
    # Masked scores are lower by a finite number; see above.
    fidelity = Close(rtol=1e-6, atol=1e-9)
    dialects = frozenset({"nn"})

    heads: int | Literal["auto"] = "auto"
    chunk: int | Literal["auto"] = "auto"
    generation: str = "M1"

    def __post_init__(self) -> None:
        # 0 said auto once.
        self.heads, self.chunk = self.heads or "auto", self.chunk or "auto"
        for option, given in (("heads", self.heads), ("chunk", self.chunk)):
            if given != "auto" and given < 1:
                raise UsageError(f"{self.name}{{{option}={given}}}: it is auto, or at least 1")
        limits_of(self.generation)
