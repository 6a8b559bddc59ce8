"""Norms.

    %w: f32[8] weight, %b: f32[8] weight
    %y = nn.layer_norm(%x, %w, %b) {axes=[-1]}     ->     %y = mil.layer_norm(%x, %w, %b) {axes=[-1], epsilon=1e-05}

Core ML wants the weights of its norms constant; computed ones become products and sums.
"""

from __future__ import annotations

from anec.dialects import mil, nn
from anec.errors import UnsupportedError
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.length_norm import along
from anec.passes.lower_to_mil.movement import reshaped
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.lower_to_mil.typing import axes, axis, cast, number, result_type, value
from anec.rewrite import Rule, reject, rewrite


def _weight(op: Op, name: str, dtype: DType) -> Value | None:
    found = cast(op.operand(name), dtype)
    return found if isinstance(found, Value) else None


def _constant(*values: Value | None) -> bool:
    return all(value is None or is_constant(value) for value in values)


def _epsilon(op: Op) -> float:
    found = number(op.attr("epsilon"), DType.F32)
    assert isinstance(found, float)
    return found


def _affine(x: Value, weight: Value | None, bias: Value | None) -> Value:
    x = x if weight is None else mil.mul(x, weight)
    return x if bias is None else mil.add(x, bias)


def _per_channel(vector: Value | None, rank: int) -> Value | None:
    return None if vector is None else along(vector, rank, (1,))


@rewrite(nn.layer_norm)
def lower_layer_norm(op: Op) -> Value:
    """One op; weights computed by the model come after it, and a shift without a scale too.

    coremltools cannot type a layer_norm that has beta but not gamma.
    """
    type_ = result_type(op)
    x = value(op.operand("x"), type_.dtype)
    weight, bias = _weight(op, "weight", type_.dtype), _weight(op, "bias", type_.dtype)
    if type_.rank > 5:
        raise UnsupportedError(f"layer norm of {type_}", hint="Core ML's tensors have rank 5 at most")
    settings = {"axes": op.attr("axes"), "epsilon": _epsilon(op)}
    if _constant(weight, bias) and (weight is not None or bias is None):
        return mil.layer_norm(x, gamma=weight, beta=bias, **settings)
    found = axes(op.attr("axes"), x.rank)
    weight, bias = (None if vector is None else along(vector, x.rank, found) for vector in (weight, bias))
    return _affine(mil.layer_norm(x, **settings), weight, bias)


@rewrite(nn.group_norm)
def lower_group_norm(op: Op) -> Value:
    """A layer norm over [channels of the group, space]; weights are by channel, so they come after."""
    type_ = result_type(op)
    x = value(op.operand("x"), type_.dtype)
    groups = op.attr("groups")
    weight, bias = _weight(op, "weight", type_.dtype), _weight(op, "bias", type_.dtype)
    channels = type_.shape[1]
    if groups == channels and type_.rank > 2:
        return _instance_norm(x, weight, bias, _epsilon(op))
    if groups == 1 and type_.rank <= 5:
        normal = mil.layer_norm(x, axes=tuple(range(1, x.rank)), epsilon=_epsilon(op))
    else:
        if not isinstance(channels, int) or not isinstance(groups, int):
            reject(f"the channels of {type_} are symbolic")
        grouped = reshaped(x, (type_.shape[0], groups, channels // groups, volume(type_.shape[2:])))
        normal = reshaped(mil.layer_norm(grouped, axes=(2, 3), epsilon=_epsilon(op)), type_.shape)
    return _affine(normal, _per_channel(weight, x.rank), _per_channel(bias, x.rank))


@rewrite(nn.instance_norm)
def lower_instance_norm(op: Op) -> Value:
    """One op, with the space axes merged beyond two."""
    type_ = result_type(op)
    weight, bias = _weight(op, "weight", type_.dtype), _weight(op, "bias", type_.dtype)
    return _instance_norm(value(op.operand("x"), type_.dtype), weight, bias, _epsilon(op))


def _instance_norm(x: Value, weight: Value | None, bias: Value | None, epsilon: float) -> Value:
    """Core ML takes ranks 3 and 4: more space axes are one."""
    shape = x.tensor.shape
    flat = x if x.rank <= 4 else reshaped(x, (*shape[:2], volume(shape[2:])))
    if _constant(weight, bias):
        return reshaped(mil.instance_norm(flat, gamma=weight, beta=bias, epsilon=epsilon), shape)
    normal = reshaped(mil.instance_norm(flat, epsilon=epsilon), shape)
    return _affine(normal, _per_channel(weight, x.rank), _per_channel(bias, x.rank))


@rewrite(nn.batch_norm)
def lower_batch_norm(op: Op) -> Value:
    """Core ML takes ranks 3 to 5 and constant statistics; else x * scale + shift, both by channel."""
    type_ = result_type(op)
    x = value(op.operand("x"), type_.dtype)
    mean, variance = value(op.operand("mean"), type_.dtype), value(op.operand("variance"), type_.dtype)
    weight, bias = _weight(op, "weight", type_.dtype), _weight(op, "bias", type_.dtype)
    if 3 <= x.rank <= 5 and _constant(mean, variance, weight, bias):
        return mil.batch_norm(x, mean, variance, gamma=weight, beta=bias, epsilon=_epsilon(op))
    spread = mil.sqrt(mil.add(variance, _epsilon(op)))
    scale = mil.real_div(1.0 if weight is None else weight, spread)
    offset = mil.mul(mean, scale)
    shift = mil.mul(offset, -1.0) if bias is None else mil.sub(bias, offset)
    return _affine(x, _per_channel(scale, x.rank), _per_channel(shift, x.rank))


@rewrite(nn.log_softmax)
def lower_log_softmax(op: Op) -> Value:
    """X - max - log(sum(exp(x - max))): nothing overflows, and the sum is at least 1."""
    x = value(op.operand("x"), result_type(op).dtype)
    if x.rank == 0:
        return mil.sub(x, x)
    over = (axis(op.attr("axis"), x.rank),)
    below = mil.sub(x, mil.reduce_max(x, axes=over, keep_dims=True))
    return mil.sub(below, mil.reduce_log_sum_exp(below, axes=over, keep_dims=True))


RULES: list[Rule] = [
    lower_layer_norm,
    lower_group_norm,
    lower_instance_norm,
    lower_batch_norm,
    lower_log_softmax,
]
