"""Bounds and activations made of straight pieces, and the exponential units.

    %y = aten.clamp.default(%x) {min=0, max=6}     ->     %y = mil.relu6(%x)
    %y = aten.clamp.default(%x) {min=-1, max=1}    ->     %y = mil.clip(%x) {alpha=-1.0, beta=1.0}

Core ML's clip wants floats and a lower bound below the upper one; what does not fit it is a maximum
and a minimum.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Expr
from anec.ir.facts import is_constant, scalar_of
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType
from anec.passes.lower_to_mil.elementwise import same
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, choose
from anec.passes.lower_to_mil.typing import cast, in_range, number, result_type, static
from anec.rewrite import Rule, reject, rewrite

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def bounded(x: Value, lower: Attr, upper: Attr) -> Value:
    """Keep x between two numbers of its dtype; None is no bound. Where lower > upper, upper wins."""
    lower = None if lower == -math.inf else lower
    upper = None if upper == math.inf else upper
    if x.tensor.dtype.is_float:
        if lower == 0 and upper is None:
            return mil.relu(x)
        if lower == 0 and upper == 6:
            return mil.relu6(x)
        # From iOS17 clip wants alpha < beta.
        if isinstance(lower, float) and isinstance(upper, float) and lower < upper:
            return mil.clip(x, alpha=lower, beta=upper)
    if lower is not None:
        x = mil.maximum(x, Literal(lower))
    return x if upper is None else mil.minimum(x, Literal(upper))


def _bound(op: Op, lower: Attr, upper: Attr) -> Value:
    dtype = result_type(op).dtype
    x = as_value(cast(op.operand("self"), dtype))
    if isinstance(lower, Expr) or isinstance(upper, Expr):
        for bound, target in ((lower, mil.maximum), (upper, mil.minimum)):
            x = x if bound is None else target(x, cast(Literal(bound), dtype))
        return x
    bounds = (in_range(bound, op.results[0].tensor.dtype) for bound in (lower, upper))
    return bounded(x, *(None if bound is None else _limit(bound, x) for bound in bounds))


def _limit(bound: Attr, x: Value) -> Attr:
    """A bound in the dtype of x; of integers an infinite one is none."""
    if not x.tensor.dtype.is_float and isinstance(bound, float) and math.isinf(bound):
        return bound
    return number(bound, x.tensor.dtype)


@rewrite(each("clamp", "clip", "hardtanh", "clamp_min", "clamp_max"))
def clamp(op: Op) -> Value:
    """Bounds that are numbers."""
    names = ("min_val", "max_val") if op.defn.root == "hardtanh" else ("min", "max")
    lower, upper = (op.attr(name) if name in op.defn.by_name else None for name in names)
    return _bound(op, lower, upper)


@rewrite(each("clamp.Tensor", "clip.Tensor", "clamp_min.Tensor", "clamp_max.Tensor"))
def clamp_tensor(op: Op) -> Value:
    """Bounds that are tensors, broadcast."""
    dtype = result_type(op).dtype
    x: Operand = cast(op.operand("self"), dtype)
    bools = dtype is DType.BOOL
    largest, smallest = (mil.logical_or, mil.logical_and) if bools else (mil.maximum, mil.minimum)
    for name, target in (("min", largest), ("max", smallest)):
        bound = cast(op.operand(name), dtype) if name in op.defn.by_name else None
        if bound is not None:
            x = target(x, bound)
    return as_value(x)


@rewrite(each("relu", "relu6"))
def relu(op: Op) -> Value:
    """max(x, 0), and min(x, 6) for relu6."""
    return _bound(op, 0, 6 if op.defn.root == "relu6" else None)


@rewrite(each("threshold"))
def threshold(op: Op) -> Value:
    """``value`` where x <= threshold; NaN stays."""
    type_ = result_type(op)
    x = same(op)
    dtype = op.results[0].tensor.dtype
    limit, low = (number(in_range(op.attr(name), dtype), type_.dtype) for name in ("threshold", "value"))
    if limit == low:
        return bounded(x, limit, None)
    return choose(mil.less_equal(x, Literal(limit)), Literal(low), x, type_)


@rewrite(each("leaky_relu"))
def leaky_relu(op: Op) -> Value:
    """x, or negative_slope * x below 0."""
    return mil.leaky_relu(same(op), alpha=_float(op, "negative_slope"))


@rewrite(each("elu", "selu", "celu"))
def elu(op: Op) -> Value:
    """Scale * (x, or alpha * (exp(x * input_scale) - 1) below 0), by one mil.elu."""
    name = op.defn.root
    if name == "selu":
        alpha, scale, slope = _SELU_ALPHA, _SELU_SCALE, 1.0
    elif name == "celu":
        alpha, scale, slope = _float(op, "alpha"), 1.0, 1 / _float(op, "alpha")
    else:
        alpha, scale, slope = (_float(op, attr) for attr in ("alpha", "scale", "input_scale"))
    x = same(op)
    if slope > 0:
        curve = mil.elu(x if slope == 1 else mil.mul(x, slope), alpha=alpha * slope)
        factor = scale / slope
        return curve if factor == 1 else mil.mul(curve, factor)
    below = mil.mul(mil.sub(mil.exp(mil.mul(x, slope)), 1.0), alpha * scale)
    return choose(mil.greater(x, 0.0), mil.mul(x, scale), below, result_type(op))


def _float(op: Op, name: str) -> float:
    given = op.attr(name)
    assert isinstance(given, (int, float))
    return float(given)


@rewrite(each("prelu", "_prelu_kernel"))
def prelu(op: Op) -> Value:
    """One slope is a leaky_relu; mil.prelu takes a constant slope a channel, at rank 4 only."""
    type_ = result_type(op)
    x = same(op)
    weight = as_value(cast(op.operand("weight"), type_.dtype))
    slope = scalar_of(op.operand("weight"))
    if slope is not None:
        return mil.leaky_relu(x, alpha=float(slope))
    per_channel = _per_channel(op, x, weight)
    if x.rank == 4 and per_channel and is_constant(weight):
        return mil.prelu(x, weight if weight.rank == 1 else mil.reshape(weight, shape=(-1,)))
    if op.defn.root == "prelu" and weight.rank == 1 and x.rank > 1:
        shape = [1] * x.rank
        shape[1] = -1
        weight = mil.reshape(weight, shape=tuple(shape))
    elif weight.rank > x.rank:
        weight = mil.reshape(weight, shape=())
    return choose(mil.greater(x, 0.0), x, mil.mul(x, weight), type_)


def _per_channel(op: Op, x: Value, weight: Value) -> bool:
    """True when the weight holds one number for each entry of axis 1."""
    sizes = static(weight.tensor)
    if x.rank < 2 or math.prod(sizes) != x.tensor.shape[1]:
        return False
    return op.defn.root == "prelu" or (len(sizes) == x.rank and sizes[1] == math.prod(sizes))


@rewrite(each("hardshrink"))
def hardshrink(op: Op) -> Value:
    """0 where abs(x) <= lambd; NaN stays."""
    x = same(op)
    return choose(mil.less_equal(mil.abs(x), _float(op, "lambd")), Literal(0.0), x, result_type(op))


@rewrite(each("softshrink"))
def softshrink(op: Op) -> Value:
    """Take away what of x lies in [-lambd, lambd]."""
    x, limit = same(op), _float(op, "lambd")
    if limit < 0:
        reject(f"lambd is {limit}")
    return mil.sub(x, bounded(x, -limit, limit)) if limit else x


@rewrite(each("rrelu"))
def rrelu(op: Op) -> Value:
    """In evaluation the slope is the middle of its range."""
    return _middle_slope(op)


@rewrite(each("rrelu_with_noise"))
def rrelu_with_noise(op: Op) -> Value:
    """In evaluation the noise stays as it is."""
    return _middle_slope(op)


@rewrite(each("rrelu_with_noise_functional"))
def rrelu_with_noise_functional(op: Op) -> list[Value]:
    """In evaluation the noise is returned as it came."""
    return [_middle_slope(op), as_value(op.operand("noise"))]


def _middle_slope(op: Op) -> Value:
    if op.attr("training"):
        reject("training=True draws random slopes: make them an input of the model")
    return mil.leaky_relu(same(op), alpha=(_float(op, "lower") + _float(op, "upper")) / 2)


RULES: list[Rule] = [
    clamp,
    clamp_tensor,
    relu,
    threshold,
    leaky_relu,
    elu,
    prelu,
    hardshrink,
    softshrink,
    rrelu,
    rrelu_with_noise,
    rrelu_with_noise_functional,
]
