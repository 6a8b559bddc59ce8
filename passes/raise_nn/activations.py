"""Activations.

    %y = aten.hardswish.default(%x)                                      ->     %y = nn.hard_swish(%x)
    %y = aten._log_softmax.default(%x) {dim=-1, half_to_float=false}     ->     %y = nn.log_softmax(%x) {axis=-1}

Softmax itself stays ATen's: Core ML has the same op.
"""

from __future__ import annotations

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.passes.algebra import in_dtype
from anec.passes.raise_nn.common import integer, number, only_first
from anec.rewrite import Rule, reject, rewrite

_SAME: dict[str, OpDef] = {
    "silu": nn.silu,
    "mish": nn.mish,
    "hardswish": nn.hard_swish,
    "hardsigmoid": nn.hard_sigmoid,
    "log_sigmoid": nn.log_sigmoid,
    "log_sigmoid_forward": nn.log_sigmoid,
}


def _same(name: str, target: OpDef) -> Rule:
    @rewrite(getattr(aten, name).default, name=f"raise_{name}")
    def raise_activation(op: Op) -> Value:
        only_first(op)
        return target(op.value("self"))

    return raise_activation


@rewrite(aten.gelu.default)
def raise_gelu(op: Op) -> Value:
    """Whichever approximation."""
    return nn.gelu(op.value("self"), approximate=op.attr("approximate"))


@rewrite(aten.softplus.default)
def raise_softplus(op: Op) -> Value:
    """With its threshold."""
    return nn.softplus(op.value("self"), beta=number(op, "beta"), threshold=number(op, "threshold"))


@rewrite(aten.glu.default)
def raise_glu(op: Op) -> Value:
    """Along any axis."""
    return nn.glu(op.value("self"), axis=integer(op, "dim"))


@rewrite(aten.log_softmax.int)
def raise_log_softmax(op: Op) -> Value:
    """In the dtype asked for."""
    return _log_softmax(op)


@rewrite(aten._log_softmax.default)
def raise_internal_log_softmax(op: Op) -> Value:
    """What export leaves of it."""
    return _log_softmax(op)


def _log_softmax(op: Op) -> Value:
    """Computed in the result's dtype, which ``dtype`` or ``half_to_float`` may widen."""
    dtype = op.results[0].tensor.dtype
    if not dtype.is_float:
        reject(f"it gives {dtype}")
    return nn.log_softmax(in_dtype(op.value("self"), dtype), axis=integer(op, "dim"))


RULES: list[Rule] = [
    *(_same(name, target) for name, target in _SAME.items()),
    raise_gelu,
    raise_softplus,
    raise_glu,
    raise_log_softmax,
    raise_internal_log_softmax,
]
