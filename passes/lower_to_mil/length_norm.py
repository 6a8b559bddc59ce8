"""Norms that divide by a length, in forms that float16 bears.

    %w: f32[8] weight
    %y = nn.rms_norm(%x, %w) {axes=[-1]}     ->     %1 = mil.mul(%x, -1.0)
                                                    %2 = mil.concat([%x, %1]) {axis=1}
                                                    %3 = mil.layer_norm(%2) {axes=[1], epsilon=1e-06}
                                                    %4 = mil.slice_by_index(%3, [0, 0], [0, 8]) {end_mask=[true, false]}
                                                    %y = mil.mul(%4, %w)

    %y = nn.l2_norm(%x) {axes=[-1]}          ->     %1 = mil.abs(%x)
                                                    %2 = mil.reduce_max(%1) {axes=[1], keep_dims=true}
                                                    %3 = mil.maximum(%2, 5.960464477539063e-08)
                                                    %4 = mil.real_div(%x, %3)
                                                    %5 = mil.reduce_l2_norm(%4) {axes=[1], keep_dims=true}
                                                    %6 = mil.maximum(%5, 1.6777216e-05)
                                                    %y = mil.real_div(%4, %6)

In float16 the square of 256 is infinite, that of 2e-4 is 0, and 1e-6 is off by 1 %. There are three forms, which
the option ``norms`` of ``lower-to-mil`` chooses from:

* ``layernorm``: x beside -x has the mean 0 and the variance mean(x^2), so Core ML's layer norm, which sums wide,
  gives the RMS norm (ANEMLL's form). From iOS17 its epsilon may be float32, so ``auto`` takes it there.
* ``maxscale``: x is divided by its largest element, or by a power of two near the root of epsilon if that
  is larger; no square then leaves the range, and epsilon is compared on the same scale.
* ``plain``: x * rsqrt(mean(x^2) + epsilon), for float32 and for values between 0.01 and 100.

L2 and global response norms are divided by their largest element in all of them but ``plain``.
"""

from __future__ import annotations

import math

from anec.dialects import mil, nn
from anec.ir.attr_types import SMALLEST_HALF
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.typing import axes, cast, number, result_type, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, rewrite

# From here on an epsilon may be float32 beside float16: coremltools, iOS17's normalization ops.
_WIDE_EPSILON = 17


@rewrite(nn.rms_norm)
def lower_rms_norm(op: Op, opts: object, ctx: Context) -> Value:
    """In the form asked for, or that of the target."""
    type_ = result_type(op)
    x = value(op.operand("x"), type_.dtype)
    over, epsilon = axes(op.attr("axes"), x.rank), _epsilon(op)
    form = getattr(opts, "norms", "auto")
    if form == "auto":
        form = "layernorm" if ctx.module.opset >= _WIDE_EPSILON else "maxscale"
    if form == "layernorm" and x.rank <= 5 and isinstance(x.tensor.shape[over[-1]], int):
        normal = _by_layer_norm(x, over, epsilon)
    else:
        normal = _plain(x, over, epsilon) if form == "plain" else _by_maximum(x, over, epsilon)
    weight = cast(op.operand("weight"), type_.dtype)
    return mil.mul(normal, along(weight, x.rank, over)) if isinstance(weight, Value) else normal


def _epsilon(op: Op) -> float:
    found = number(op.attr("epsilon"), DType.F32)
    assert isinstance(found, float)
    return found


def along(vector: Value, rank: int, over: tuple[int, ...]) -> Value:
    """A weight of the shape of the axes ``over``, so that it broadcasts against rank ``rank``."""
    missing = tuple(index - over[0] for index in range(over[0], rank) if index not in over)
    return mil.expand_dims(vector, axes=missing) if missing else vector


def _plain(x: Value, over: tuple[int, ...], epsilon: float) -> Value:
    mean = mil.reduce_mean(mil.mul(x, x), axes=over, keep_dims=True)
    return mil.mul(x, mil.rsqrt(mean, epsilon=epsilon))


def _by_layer_norm(x: Value, over: tuple[int, ...], epsilon: float) -> Value:
    """The first half of the layer norm of x beside -x."""
    last = over[-1]
    both = mil.concat([x, mil.mul(x, -1.0)], axis=last)
    normal = mil.layer_norm(both, axes=over, epsilon=epsilon)
    # The other axes are taken whole, as they may be symbolic.
    end = [x.tensor.shape[last] if index == last else 0 for index in range(x.rank)]
    return mil.slice_by_index(normal, [0] * x.rank, end, end_mask=tuple(index != last for index in range(x.rank)))


def _largest(x: Value, over: tuple[int, ...], least: float) -> Value:
    largest = mil.reduce_max(mil.abs(x), axes=over, keep_dims=True)
    return mil.maximum(largest, least) if least else largest


def _by_maximum(x: Value, over: tuple[int, ...], epsilon: float) -> Value:
    """With u = x / m: u / sqrt(mean(u^2) + epsilon / m^2); m is at least about sqrt(epsilon)."""
    # Scaling by a power of two is exact, and epsilon / least^2 lies between 1 and 4.
    least = max(2.0 ** math.floor(math.log2(epsilon) / 2), SMALLEST_HALF) if epsilon else 0.0
    size = _largest(x, over, least)
    scaled = mil.real_div(x, size)
    mean = mil.reduce_mean(mil.mul(scaled, scaled), axes=over, keep_dims=True)
    if epsilon:
        share = mil.real_div(least, size)
        mean = mil.add(mean, mil.mul(mil.mul(share, share), epsilon / least**2))
    return mil.mul(scaled, mil.rsqrt(mean, epsilon=0.0))


@rewrite(nn.l2_norm)
def lower_l2_norm(op: Op, opts: object) -> Value:
    """Not mil.l2_norm, which is over the last three axes together and adds its epsilon to the sum."""
    x = value(op.operand("x"), result_type(op).dtype)
    over, epsilon = axes(op.attr("axes"), x.rank), _epsilon(op)
    if getattr(opts, "norms", "auto") == "plain":
        length = mil.reduce_l2_norm(x, axes=over, keep_dims=True)
        return mil.real_div(x, mil.maximum(length, epsilon) if epsilon else length)
    # Where the largest element is above ``least``, which epsilon is not, the length is above 1, so epsilon only
    # counts where ``least`` has been divided by.
    least = max(2.0 ** math.ceil(math.log2(epsilon)), SMALLEST_HALF) if epsilon else 0.0
    scaled = mil.real_div(x, _largest(x, over, least))
    length = mil.reduce_l2_norm(scaled, axes=over, keep_dims=True)
    return mil.real_div(scaled, mil.maximum(length, epsilon / least) if epsilon else length)


@rewrite(nn.global_response_norm)
def lower_global_response_norm(op: Op, opts: object) -> Value:
    """Norms of what was divided by the largest element of all that are compared."""
    x = value(op.operand("x"), result_type(op).dtype)
    over, across, epsilon = axes(op.attr("axes"), x.rank), axes(op.attr("axis"), x.rank), _epsilon(op)
    if getattr(opts, "norms", "auto") == "plain":
        length = mil.reduce_l2_norm(x, axes=over, keep_dims=True)
        return mil.real_div(length, mil.add(mil.reduce_mean(length, axes=across, keep_dims=True), epsilon))
    least = max(2.0 ** math.floor(math.log2(epsilon)), SMALLEST_HALF) if epsilon else 0.0
    size = _largest(x, tuple(sorted({*over, *across})), least)
    length = mil.reduce_l2_norm(mil.real_div(x, size), axes=over, keep_dims=True)
    mean = mil.reduce_mean(length, axes=across, keep_dims=True)
    if epsilon:
        mean = mil.add(mean, mil.mul(mil.real_div(least, size), epsilon / least))
    return mil.real_div(length, mean)


RULES: list[Rule] = [lower_rms_norm, lower_l2_norm, lower_global_response_norm]
