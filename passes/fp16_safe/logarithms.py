"""Logarithms of what is 0 in float16, or infinite.

    %1 = mil.sigmoid(%x)
    %y = mil.log(%1) {epsilon=0.0}                         ->     %1 = mil.mul(%x, -1.0)
                                                                  %2 = mil.softplus(%1)
                                                                  %y = mil.mul(%2, -1.0)

    %1 = mil.exp(%x)
    %2 = mil.reduce_sum(%1) {axes=[1], keep_dims=true}
    %y = mil.log(%2) {epsilon=0.0}
        ->
    %1 = mil.reduce_max(%x) {axes=[1], keep_dims=true}
    %2 = mil.clip(%1) {alpha=-65504.0, beta=65504.0}
    %3 = mil.sub(%x, %2)
    %4 = mil.reduce_log_sum_exp(%3) {axes=[1], keep_dims=true}
    %y = mil.add(%4, %2)

A number that keeps a logarithm from 0 is taken into it: the logarithm of 1e-9 is -20.7, which float16 holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.attr_types import HALF_MAX
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.passes.algebra import close, maker, number
from anec.passes.common import varying
from anec.passes.fp16_safe.sums import Axes, positive
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite, var

x = varying("x")
# Below this an epsilon is mil.log's own 1e-45, which stands for none.
_NONE = 1e-37
# From here on float16 holds a bound to within 1 %; below it has fewer than six binary digits.
_HELD = 2.0**-18


@rewrite(mil.log(mil.reduce_sum(mil.exp(x), axes=var("axes"), keep_dims=var("keep")), epsilon=var("epsilon")))
def log_sum_exp(x: Value, axes: Axes, keep: bool, epsilon: float) -> Value:
    """log(sum(exp(x))) takes the maximum out of the sum; rows of -inf stay -inf.

    %1 = mil.exp(%x)
    %2 = mil.reduce_sum(%1) {axes=[1]}
    %y = mil.log(%2) {epsilon=0.0}
        ->
    %1 = mil.reduce_max(%x) {axes=[1], keep_dims=true}
    %2 = mil.clip(%1) {alpha=-65504.0, beta=65504.0}
    %3 = mil.sub(%x, %2)
    %4 = mil.reduce_log_sum_exp(%3) {axes=[1], keep_dims=false}
    %5 = mil.squeeze(%2) {axes=[1]}
    %y = mil.add(%4, %5)
    """
    if epsilon > _NONE:
        reject("a number is added to the sum")
    over = positive(axes, x.rank)
    most = mil.clip(mil.reduce_max(x, axes=over, keep_dims=True), alpha=-HALF_MAX, beta=HALF_MAX)
    rest_ = mil.reduce_log_sum_exp(mil.sub(x, most), axes=over, keep_dims=keep)
    return mil.add(rest_, most if keep else mil.squeeze(most, axes=over))


@dataclass(frozen=True, slots=True)
class _Guarded:
    """``value + least`` where it is added, else ``value`` between ``least`` and ``most``."""

    value: Value
    least: float = 0.0
    most: float = math.inf
    added: bool = False


def _guarded(x: Value, epsilon: Attr) -> _Guarded:
    """The operand of a logarithm, and what keeps it from 0.

    Raises:
        Reject: two numbers do.
    """
    added = epsilon if isinstance(epsilon, float) and epsilon > _NONE else 0.0
    found = _bound(x)
    if added and found.least:
        reject("two numbers keep it from 0")
    return _Guarded(x, added, added=True) if added else found


def _bound(x: Value) -> _Guarded:
    op = maker(x)
    if op is None or op.defn.root not in ("add", "maximum", "clip"):
        return _Guarded(x)
    if op.defn.root == "clip":
        low, high, inner = op.attr("alpha"), op.attr("beta"), op.value("x")
        bounded = isinstance(low, float) and isinstance(high, float) and 0 < low < high
        return _Guarded(inner, low, high) if bounded else _Guarded(x)  # type: ignore[arg-type]  # floats, as asked
    for inner_, other in ((op.operand("x"), op.operand("y")), (op.operand("y"), op.operand("x"))):
        known = number(other)
        if known is not None and known > 0 and isinstance(inner_, Value) and inner_.type == x.type:
            return _Guarded(inner_, known, added=op.defn.root == "add")
    return _Guarded(x)


@rewrite(mil.log(varying("p"), rest), domain={"p": (0.0, math.inf)})
def logarithm(op: Op, p: Value, ctx: Context) -> Value:
    """log(p) of a probability by its scores; a tiny guard becomes its logarithm.

    %1 = mil.relu(%x)
    %2 = mil.maximum(%1, 1e-10)
    %y = mil.log(%2) {epsilon=0.0}                         ->     %1 = mil.relu(%x)
                                                                  %2 = mil.log(%1) {epsilon=0.0}
                                                                  %y = mil.maximum(%2, -23.025850929940457)

    %x: f32[2,8]
    %1 = mil.softmax(%x) {axis=1}
    %2 = mil.add(%1, 1e-09)
    %y = mil.log(%2) {epsilon=0.0}
        ->
    %1 = mil.reduce_max(%x) {axes=[1], keep_dims=true}
    %2 = mil.sub(%x, %1)
    %3 = mil.reduce_log_sum_exp(%2) {axes=[1], keep_dims=true}
    %4 = mil.sub(%2, %3)
    %5 = mil.sub(%4, -20.72326583694641)
    %6 = mil.abs(%5)
    %7 = mil.mul(%6, -1.0)
    %8 = mil.maximum(%4, -20.72326583694641)
    %9 = mil.softplus(%7)
    %y = mil.add(%8, %9)
    """
    found = _guarded(p, op.attr("epsilon"))
    if found.least >= _HELD:
        reject(f"float16 holds {found.least:g}")
    exact = _of_probability(found.value)
    if exact is None and not found.least:
        reject("it is no logarithm of a probability, and no number guards it")
    if exact is None:
        x = found.value
        if not ctx.facts.range(x).nonnegative:
            if found.added:
                reject("where it is a little below 0 the sum is not, but the logarithm would be NaN")
            x = mil.relu(x)
        exact = mil.log(x, epsilon=0.0)
    if not found.least:
        return exact
    least = math.log(found.least)
    if found.added:
        # log(p + e) = max(log p, log e) + log(1 + exp(-|log p - log e|)); of p = 0 too, where log p is -inf.
        apart = mil.mul(mil.abs(mil.sub(exact, least)), -1.0)
        return mil.add(mil.maximum(exact, least), mil.softplus(apart))
    if math.isfinite(found.most) and found.most < HALF_MAX:
        return mil.clip(exact, alpha=least, beta=math.log(found.most))
    return mil.maximum(exact, least)


def _of_probability(p: Value) -> Value | None:
    """The logarithm of a softmax, a sigmoid, or one less a sigmoid."""
    op = maker(p)
    if op is None:
        return None
    if op.name == "mil.softmax":
        x, axis = op.value("x"), op.attr("axis")
        below = mil.sub(x, mil.reduce_max(x, axes=(axis,), keep_dims=True))
        return mil.sub(below, mil.reduce_log_sum_exp(below, axes=(axis,), keep_dims=True))
    if op.name == "mil.sigmoid":
        return mil.mul(mil.softplus(mil.mul(op.value("x"), -1.0)), -1.0)
    inner = maker(op.operand("y")) if op.name == "mil.sub" and close(number(op.operand("x")), 1.0) else None
    if inner is not None and inner.name == "mil.sigmoid" and inner.result.type == p.type:
        return mil.mul(mil.softplus(inner.value("x")), -1.0)
    return None


RULES: list[Rule] = [log_sum_exp, logarithm]
