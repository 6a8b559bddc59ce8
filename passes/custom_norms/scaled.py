"""A value divided by the root of its own mean square, or of its variance.

    %1 = aten.pow.Tensor_Scalar(%x) {exponent=2}
    %2 = aten.mean.dim(%1) {dim=[-1], keepdim=true}
    %3 = aten.add.Tensor(%2, 1e-06)
    %4 = aten.rsqrt.default(%3)
    %y = aten.mul.Tensor(%x, %4)                                    ->     %y = nn.rms_norm(%x) {axes=[-1]}

    %1 = aten.mean.dim(%x) {dim=[-1], keepdim=true}
    %2 = aten.sub.Tensor(%x, %1)
    %3 = aten.var.correction(%x) {dim=[-1], correction=0, keepdim=true}
    %4 = aten.add.Tensor(%3, 1e-05)
    %5 = aten.sqrt.default(%4)
    %y = aten.div.Tensor(%2, %5)
        ->
    %y = nn.layer_norm(%x) {axes=[-1]}

    %1 = aten.linalg_vector_norm.default(%x) {dim=[-1], keepdim=true}
    %2 = aten.clamp.default(%1) {min=1e-12}
    %y = aten.div.Tensor(%x, %2)
        ->
    %y = nn.l2_norm(%x) {axes=[-1]}

What else is in the product stays beside the norm, as does the factor of an unbiased variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.passes.algebra import Factor, in_dtype, product, same
from anec.passes.custom_norms.statistics import FOLLOWED, Divisor, Statistic, centred, divisor
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_QUOTIENTS = (aten.mul.Tensor(rest), aten.div.Tensor(rest))
# How far a computed factor may be from 1 and still be rounding.
_ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class Scaled:
    """``coefficient * numerator / divisor * rest``."""

    numerator: Value
    divisor: Divisor
    coefficient: float
    rest: tuple[Factor, ...]


def _read(op: Op) -> Scaled:
    """The product at ``op`` with a norm in it.

    Raises:
        Reject: there is none.
    """
    if not op.result.tensor.dtype.is_float or op.is_constant:
        reject("it is no product of floats that vary")
    for factor in product(op.result).factors:
        found = divisor(factor) if factor.exponent < 0 else None
        if found is None:
            continue
        measured = found.statistic

        def is_measured(value: Value, of: Statistic = measured) -> bool:
            return _is_measured(value, of)

        parts = product(op.result, is_measured)
        numerator = next((f for f in parts.factors if f.exponent == 1 and is_measured(f.value)), None)
        mine = next((f for f in parts.factors if f == factor), None)
        if numerator is None or mine is None:
            reject("what is divided is not what the mean of squares is taken of", followed=FOLLOWED)
        # One of them: the same root may be in the product twice.
        others = tuple(f for f in parts.without(numerator) if f is not mine)
        if any(f.exponent not in (1, -1) for f in others):
            reject("there are further powers in the product", followed=FOLLOWED)
        return Scaled(numerator.value, found, parts.coefficient, others)
    return reject("nothing is divided by the root of a mean of squares")


def _is_measured(value: Value, of: Statistic) -> bool:
    if not of.centred:
        return same(value, of.x)
    found = centred(value)
    return found is not None and found[1] == of.axes and same(found[0], of.x)


def _times(norm: Value, scaled: Scaled, factor: float, op: Op) -> Value:
    """The norm with what else is in the product."""
    factor *= scaled.coefficient
    if not math.isclose(factor, 1.0, rel_tol=_ROUNDING):
        norm = aten.mul.Tensor(norm, factor)
    for other in scaled.rest:
        norm = (aten.mul if other.exponent == 1 else aten.div).Tensor(norm, other.value)
    if norm.type != op.result.type:
        reject(f"the product is a {op.result.type}, the norm a {norm.type}", followed=FOLLOWED)
    return norm


def _axes(axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Trailing axes counted from the end, as torch's norms have them."""
    trailing = axes == tuple(range(rank - len(axes), rank))
    return tuple(axis - rank for axis in axes) if trailing else axes


def _wide(value: Value, op: Op) -> Value:
    return in_dtype(value, op.result.tensor.dtype)


@rewrite(any_of(*_QUOTIENTS))
def rms_norm(op: Op) -> Value:
    """A value over the root of its mean square plus epsilon; a sum counts as n means.

    %1 = aten.mul.Tensor(%x, %x)
    %2 = aten.mean.dim(%1) {dim=[-1], keepdim=true}
    %3 = aten.add.Tensor(%2, 1e-06)
    %4 = aten.sqrt.default(%3)
    %y = aten.div.Tensor(%x, %4)                        ->     %y = nn.rms_norm(%x) {axes=[-1], epsilon=1e-06}
    """
    scaled = _read(op)
    measured, epsilon = scaled.divisor.statistic, scaled.divisor.epsilon
    if measured.centred or scaled.divisor.floor or _is_length(scaled.divisor):
        reject("it is another norm")
    x = _wide(scaled.numerator, op)
    norm = nn.rms_norm(x, axes=_axes(measured.axes, x.rank), epsilon=epsilon / measured.scale)
    return _times(norm, scaled, measured.scale**-0.5, op)


@rewrite(any_of(*_QUOTIENTS))
def layer_norm(op: Op) -> Value:
    """A value less its mean, over the root of its variance plus epsilon.

    %1 = aten.mean.dim(%x) {dim=[-1], keepdim=true}
    %2 = aten.sub.Tensor(%x, %1)
    %3 = aten.pow.Tensor_Scalar(%2) {exponent=2}
    %4 = aten.mean.dim(%3) {dim=[-1], keepdim=true}
    %5 = aten.add.Tensor(%4, 1e-05)
    %6 = aten.rsqrt.default(%5)
    %y = aten.mul.Tensor(%2, %6)                        ->     %y = nn.layer_norm(%x) {axes=[-1], epsilon=1e-05}
    """
    scaled = _read(op)
    measured = scaled.divisor.statistic
    if not measured.centred or scaled.divisor.floor:
        reject("it is another norm")
    x, axes = _wide(measured.x, op), measured.axes
    if axes[0] == 0 and len(axes) < x.rank:
        if x.tensor.shape[0] != 1:
            reject("the mean goes over the batch, as a batch norm's does", followed=FOLLOWED)
        axes = axes[1:] or axes
    norm = nn.layer_norm(x, axes=_axes(axes, x.rank), epsilon=scaled.divisor.epsilon / measured.scale)
    return _times(norm, scaled, measured.scale**-0.5, op)


@rewrite(any_of(*_QUOTIENTS))
def l2_norm(op: Op) -> Value:
    """A value over its length, or over epsilon where that is larger.

    %1 = aten.mul.Tensor(%x, %x)
    %2 = aten.sum.dim_IntList(%1) {dim=[-1], keepdim=true}
    %3 = aten.sqrt.default(%2)
    %y = aten.div.Tensor(%x, %3)                               ->     %y = nn.l2_norm(%x) {axes=[-1], epsilon=0.0}
    """
    scaled = _read(op)
    measured, floor = scaled.divisor.statistic, scaled.divisor.floor
    if not floor and not _is_length(scaled.divisor):
        reject("it is another norm")
    # sqrt(max(scale * sum / n, floor)) is sqrt(scale / n) * max(length, sqrt(floor * n / scale)).
    squares = measured.count / measured.scale
    x = _wide(scaled.numerator, op)
    norm = nn.l2_norm(x, axes=_axes(measured.axes, x.rank), epsilon=math.sqrt(floor * squares))
    return _times(norm, scaled, math.sqrt(squares), op)


def _is_length(found: Divisor) -> bool:
    """True for a Euclidean norm that nothing guards."""
    unguarded = found.epsilon == 0 and not found.floor and not found.statistic.centred
    return unguarded and math.isclose(found.statistic.scale, found.statistic.count, rel_tol=1e-9)


RULES: list[Rule] = [rms_norm, layer_norm, l2_norm]
