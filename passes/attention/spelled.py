"""Attention that is spelled out: two products with a softmax between them.

    %q: f32[1,2,5,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: f32[1,1,5,7]
    %1 = aten.transpose.int(%k) {dim0=-2, dim1=-1}
    %2 = aten.matmul.default(%q, %1)
    %3 = aten.div.Tensor(%2, 2.8284271247461903)
    %4 = aten.add.Tensor(%3, %mask)
    %5 = aten.softmax.int(%4) {dim=-1}
    %y = aten.matmul.default(%5, %v)
        ->
    %y = nn.attention(%q, %k, %v, %mask)

    %q: f32[1,5,2,8], %k: f32[1,7,2,8], %v: f32[1,7,2,8]
    %1 = aten.einsum.default([%q, %k]) {equation="bqhd,bkhd->bhqk"}
    %2 = aten.softmax.int(%1) {dim=-1}
    %y = aten.einsum.default([%2, %v]) {equation="bhqk,bkhd->bqhd"}
        ->
    %q1 = aten.permute.default(%q) {dims=[0, 2, 1, 3]}
    %k1 = aten.permute.default(%k) {dims=[0, 2, 1, 3]}
    %v1 = aten.permute.default(%v) {dims=[0, 2, 1, 3]}
    %1 = nn.attention(%q1, %k1, %v1) {scale=1.0}
    %y = aten.permute.default(%1) {dims=[0, 2, 1, 3]}

The second product sums over the axis the softmax was taken along. Attention weights that something
else uses as well keep the spelling: the product would be computed twice.
"""

from __future__ import annotations

import math

from anec.dialects import aten, nn
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.algebra import in_dtype
from anec.passes.attention.frames import Frame, Permuted
from anec.passes.attention.matrices import PRODUCTS, Matrix, permuted, product
from anec.passes.attention.scores import FOLLOWED, Scores, passed, scores
from anec.passes.common import broadcast, only_use
from anec.rewrite import Rule, any_of, reject, rest, rewrite

SOFTMAXES = frozenset(("aten.softmax.int", "aten._softmax.default", "aten.special_softmax.int"))


@rewrite(any_of(*(defn(rest) for defn in PRODUCTS)))
def attention(op: Op) -> Value:
    """softmax(scale * q k^T + mask) v.

    %q: f32[1,2,5,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8]
    %1 = aten.transpose.int(%k) {dim0=2, dim1=3}
    %2 = aten.matmul.default(%q, %1)
    %3 = aten.softmax.int(%2) {dim=-1}
    %y = aten.matmul.default(%3, %v)                         ->     %y = nn.attention(%q, %k, %v) {scale=1.0}
    """
    if not op.result.tensor.dtype.is_float or op.is_constant:
        reject("it is no product of floats that vary")
    second = product(op.result)
    if second is None or second.addend is not None or second.scale != 1:
        reject("it is not one product of two matrices")
    for weights, values, turned in ((second.left, second.right, False), (second.right, second.left, True)):
        found = _softmax(weights)
        if found is not None:
            result = _built(op, found, values.turned)
            # With the weights on the right the product is the result transposed.
            order = (*range(result.rank - 2), result.rank - 1, result.rank - 2) if turned else range(result.rank)
            return permuted(result, tuple(order[axis] for axis in second.order))
    return reject("no operand is a softmax")


def _softmax(weights: Matrix) -> Scores | None:
    """What the attention weights ``[*, L, S]`` are a softmax of; None when they are none over S."""
    value, frame, alone = passed(weights.value, Frame().before(Permuted(weights.order)))
    op = value.op
    if op is not None and op.name == "aten.slice.Tensor" and getattr(op.value("self").op, "name", "") in SOFTMAXES:
        reject("a part of the softmax alone is used, as with a sink", followed=1)
    if op is None or op.name not in SOFTMAXES:
        return None
    axis = op.attr("dim")
    assert isinstance(axis, int)
    placed = frame.placed(value.tensor.shape)
    if placed.behind[-1] != placed.before[axis]:
        reject("the softmax is over another axis than the product sums", followed=1)
    if not alone or not only_use(value):
        reject("the attention weights are used elsewhere too", followed=FOLLOWED)
    return scores(op.value("self"), frame)


def _built(op: Op, found: Scores, values: Matrix) -> Value:
    """The attention ``[*, L, V]`` over ``values`` ``[*, S, V]``."""
    dtype = op.result.tensor.dtype
    query, key = _operands(found)
    for factor in found.factors:
        scaling = factor.build(dtype)
        if scaling.rank and scaling.tensor.shape[-1] != 1:
            reject("a tensor scales the scores along the keys", followed=FOLLOWED)
        query = aten.mul.Tensor(query, scaling)
    if key.is_constant and key.rank == 2:
        reject("the keys are one constant matrix: it is a layer of weights", followed=FOLLOWED)
    mask = None
    for part in found.masks:
        added = part.build(dtype)
        mask = added if mask is None else aten.add.Tensor(mask, added)
    size = query.tensor.shape[-1]
    operands = (in_dtype(value, dtype) for value in (query, key, values.build()))
    softcap = {"softcap": found.softcap} if found.softcap else {}
    return nn.attention(*operands, mask, **scaled(found.scale, size), **softcap)


def scaled(scale: float, size: Dim) -> dict[str, float]:
    """The attribute of a scale; none for 1 / sqrt(size)."""
    natural = isinstance(size, int) and math.isclose(scale * math.sqrt(size), 1.0, rel_tol=1e-14)
    return {} if natural else {"scale": scale}


def _operands(found: Scores) -> tuple[Value, Value]:
    """Queries ``[*, L, E]`` and keys ``[*, S, E]`` as they lie behind the chain of views and permutes."""
    left, right = found.product.left, found.product.right
    if not found.frame.steps:
        return left.build(), right.build()
    lead = broadcast(left.shape[:-2], right.shape[:-2])
    if lead is None:
        reject("the leading axes of queries and keys do not fit")
    placed = found.frame.placed((*lead, left.shape[-2], right.shape[-2]))
    query, key = left, right
    if placed.behind[-2:] != placed.before[-2:]:
        query, key = right, left
        if placed.behind[-2:] != placed.before[:-3:-1]:
            reject("the axes of queries and keys are mixed with others", followed=FOLLOWED)
    return placed.led(query.build(), lead), placed.led(key.build(), lead)


RULES: list[Rule] = [attention]
