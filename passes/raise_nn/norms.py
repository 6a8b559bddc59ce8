"""Norms: every ATen overload to one `nn` op.

    %w: f32[8]
    %y = aten.rms_norm.default(%x, %w) {normalized_shape=[8], eps=1e-06}
        ->
    %y = nn.rms_norm(%x, %w) {axes=[-1]}

    %w: f32[8], %b: f32[8], %mean: f32[8], %variance: f32[8]
    %y, %m, %r = aten._native_batch_norm_legit_no_training.default(%x, %w, %b, %mean, %variance)
        {momentum=0.1, eps=1e-05}
        ->
    %y = nn.batch_norm(%x, %mean, %variance, %w, %b)

A norm that updates its running statistics is in training mode and stays.
"""

from __future__ import annotations

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.passes.raise_nn.common import MACHINE_EPSILON, integer, last_axes, number, only_first, optional
from anec.rewrite import Rule, reject, rewrite


def _affine(op: Op) -> tuple[Value | None, Value | None]:
    return optional(op, "weight"), optional(op, "bias")


def _layer_norm(source: OpDef, name: str) -> Rule:
    @rewrite(source, name=name)
    def raise_layer_norm(op: Op) -> Value:
        only_first(op)
        axes = last_axes(op.attr("normalized_shape"))
        return nn.layer_norm(op.value("input"), *_affine(op), axes=axes, epsilon=number(op, "eps"))

    return raise_layer_norm


def _group_norm(source: OpDef, groups: str, name: str) -> Rule:
    @rewrite(source, name=name)
    def raise_group_norm(op: Op) -> Value:
        only_first(op)
        count, epsilon = integer(op, groups), number(op, "eps")
        return nn.group_norm(op.value("input"), *_affine(op), groups=count, epsilon=epsilon)

    return raise_group_norm


def _rms_norm(source: OpDef, name: str) -> Rule:
    @rewrite(source, name=name)
    def raise_rms_norm(op: Op) -> Value:
        only_first(op)
        x = op.value("input")
        epsilon = MACHINE_EPSILON.get(x.tensor.dtype) if op.attr("eps") is None else number(op, "eps")
        if epsilon is None:
            reject(f"{x.tensor.dtype} has no machine epsilon")
        axes = last_axes(op.attr("normalized_shape"))
        return nn.rms_norm(x, optional(op, "weight"), axes=axes, epsilon=epsilon)

    return raise_rms_norm


@rewrite(aten.instance_norm.default)
def raise_instance_norm(op: Op) -> Value:
    """With running statistics it is a batch norm."""
    x, epsilon = op.value("input"), number(op, "eps")
    if op.attr("use_input_stats"):
        return nn.instance_norm(x, *_affine(op), epsilon=epsilon)
    return _by_running_statistics(op, x, epsilon)


def _by_running_statistics(op: Op, x: Value, epsilon: float) -> Value:
    mean, variance = optional(op, "running_mean"), optional(op, "running_var")
    if mean is None or variance is None:
        reject("there are no running statistics")
    return nn.batch_norm(x, mean, variance, *_affine(op), epsilon=epsilon)


def _batch_norm(source: OpDef, name: str) -> Rule:
    @rewrite(source, name=name)
    def raise_batch_norm(op: Op) -> Value:
        """The inference form; one in training mode updates running statistics and stays."""
        only_first(op)
        x, epsilon = op.value("input"), number(op, "eps")
        if "training" in op.defn.by_name and op.attr("training"):
            if optional(op, "running_mean") is not None:
                reject("it updates running statistics: export the model in eval mode")
            return _by_batch_statistics(op, x, epsilon)
        return _by_running_statistics(op, x, epsilon)

    return raise_batch_norm


@rewrite(aten._native_batch_norm_legit.no_stats)
def raise_batch_norm_without_statistics(op: Op) -> Value:
    """A norm that keeps no statistics (``track_running_stats=False``) takes those of the batch."""
    only_first(op)
    return _by_batch_statistics(op, op.value("input"), number(op, "eps"))


def _by_batch_statistics(op: Op, x: Value, epsilon: float) -> Value:
    """Over the batch and all space; a batch of one is an instance norm."""
    weight, bias = _affine(op)
    if x.rank > 2 and x.tensor.shape[0] == 1:
        return nn.instance_norm(x, weight, bias, epsilon=epsilon)
    axes = (0, *range(2, x.rank))
    normal = nn.layer_norm(x, axes=axes, epsilon=epsilon)
    along = [-1, *[1] * (x.rank - 2)]
    if weight is not None:
        normal = aten.mul.Tensor(normal, aten.view.default(weight, size=along))
    if bias is not None:
        normal = aten.add.Tensor(normal, aten.view.default(bias, size=along))
    return normal


RULES: list[Rule] = [
    _layer_norm(aten.layer_norm.default, "raise_layer_norm"),
    _layer_norm(aten.native_layer_norm.default, "raise_native_layer_norm"),
    _group_norm(aten.group_norm.default, "num_groups", "raise_group_norm"),
    _group_norm(aten.native_group_norm.default, "group", "raise_native_group_norm"),
    _rms_norm(aten.rms_norm.default, "raise_rms_norm"),
    _rms_norm(aten._fused_rms_norm.default, "raise_fused_rms_norm"),
    raise_instance_norm,
    _batch_norm(aten.batch_norm.default, "raise_batch_norm"),
    _batch_norm(aten.native_batch_norm.default, "raise_native_batch_norm"),
    _batch_norm(aten._native_batch_norm_legit.default, "raise_native_batch_norm_legit"),
    _batch_norm(aten._native_batch_norm_legit_no_training.default, "raise_batch_norm_no_training"),
    raise_batch_norm_without_statistics,
]
