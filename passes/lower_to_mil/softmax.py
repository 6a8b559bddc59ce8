"""Softmax and its logarithm.

    %y = aten._softmax.default(%x) {dim=-1, half_to_float=false}     ->     %y = mil.softmax(%x) {axis=1}

The logarithm takes the maximum out first: fp16 holds exp(x) only up to x = 11.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.elementwise import same
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import choose
from anec.passes.lower_to_mil.typing import axis, result_type
from anec.rewrite import Rule, rewrite


@rewrite(each("softmax.int", "_softmax", "special_softmax"))
def softmax(op: Op) -> Value:
    """In the dtype of the result, which ``dtype`` or half_to_float may widen."""
    x = same(op)
    return _scalar_softmax(x) if x.rank == 0 else mil.softmax(x, axis=axis(op.attr("dim"), x.rank))


def _scalar_softmax(x: Value) -> Value:
    """The softmax of one number is 1."""
    return mil.squeeze(mil.softmax(mil.expand_dims(x, axes=(0,)), axis=0), axes=(0,))


@rewrite(each("_safe_softmax"))
def safe_softmax(op: Op) -> Value:
    """Rows of nothing but -inf give 0, not NaN."""
    x = same(op)
    if x.rank == 0:
        return choose(mil.equal(x, -math.inf), Literal(0.0), _scalar_softmax(x), result_type(op))
    at = axis(op.attr("dim"), x.rank)
    empty = mil.equal(mil.reduce_max(x, axes=(at,), keep_dims=True), -math.inf)
    return choose(empty, Literal(0.0), mil.softmax(x, axis=at), result_type(op))


@rewrite(each("log_softmax.int", "_log_softmax", "special_log_softmax"))
def log_softmax(op: Op) -> Value:
    """Less the maximum, then less log(sum(exp)) of what is left."""
    x = same(op)
    if x.rank == 0:
        return mil.sub(x, x)
    at = axis(op.attr("dim"), x.rank)
    below = mil.sub(x, mil.reduce_max(x, axes=(at,), keep_dims=True))
    return mil.sub(below, mil.reduce_log_sum_exp(below, axes=(at,), keep_dims=True))


RULES: list[Rule] = [softmax, safe_softmax, log_softmax]
