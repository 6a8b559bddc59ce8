"""Norms whose statistics are used too: the mean and the inverse root of the variance.

    %y, %mean, %rstd = aten.native_layer_norm.default(%x) {normalized_shape=[8], eps=1e-05}
    return %y, %mean, %rstd
        ->
    %y = mil.layer_norm(%x) {axes=[1], epsilon=1e-05}
    %mean = mil.reduce_mean(%x) {axes=[1], keep_dims=true}
    %1 = mil.sub(%x, %mean)
    %2 = mil.square(%1)
    %3 = mil.reduce_mean(%2) {axes=[1], keep_dims=true}
    %rstd = mil.rsqrt(%3) {epsilon=1e-05}
    return %y, %mean, %rstd

A norm whose first result alone is used is raised to an `nn` op before.
"""

from __future__ import annotations

from anec.dialects import mil, nn
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import reshaped
from anec.passes.lower_to_mil.typing import cast, number, result_type, static, value
from anec.rewrite import Rule, reject, rewrite


def _statistics(x: Value, over: tuple[int, ...], epsilon: Attr) -> tuple[Value, Value]:
    """The mean and 1 / sqrt(variance + epsilon), with the reduced axes kept."""
    mean = mil.reduce_mean(x, axes=over, keep_dims=True)
    variance = mil.reduce_mean(mil.square(mil.sub(x, mean)), axes=over, keep_dims=True)
    return mean, mil.rsqrt(variance, epsilon=number(epsilon, x.tensor.dtype))


def _parameters(op: Op, x: Value) -> tuple[Value | None, Value | None]:
    found = (cast(op.operand(name), x.tensor.dtype) for name in ("weight", "bias"))
    weight, bias = (operand if isinstance(operand, Value) else None for operand in found)
    return weight, bias


@rewrite(each("native_layer_norm"))
def layer_norm(op: Op) -> list[Value]:
    """Over the last axes."""
    x = value(op.operand("input"), result_type(op).dtype)
    shape = op.attr("normalized_shape")
    assert isinstance(shape, tuple)
    over = tuple(range(x.rank - len(shape), x.rank))
    normal = nn.layer_norm(x, *_parameters(op, x), axes=over, epsilon=op.attr("eps"))
    return [normal, *_statistics(x, over, op.attr("eps"))]


@rewrite(each("native_group_norm"))
def group_norm(op: Op) -> list[Value]:
    """Over the channels of a group and all space."""
    x = value(op.operand("input"), result_type(op).dtype)
    batch, groups = static(result_type(op, 1))
    size = x.tensor.size
    if size is None:
        reject(f"the statistics of {x.tensor}, whose size is symbolic")
    normal = nn.group_norm(x, *_parameters(op, x), groups=groups, epsilon=op.attr("eps"))
    grouped = reshaped(x, (batch, groups, size // (batch * groups)))
    return [normal, *(mil.squeeze(found, axes=(2,)) for found in _statistics(grouped, (2,), op.attr("eps")))]


RULES: list[Rule] = [layer_norm, group_norm]
