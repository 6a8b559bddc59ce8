"""Activations of the `nn` dialect.

    %y = nn.gelu(%x) {approximate="tanh"}     ->     %y = mil.gelu(%x) {mode="TANH_APPROXIMATION"}
    %y = nn.hard_swish(%x)                    ->     %1 = mil.sigmoid_hard(%x) {alpha=0.16667, beta=0.5}
                                                     %y = mil.mul(%x, %1)

None of them takes the exponential of a large positive number where torch does not.
"""

from __future__ import annotations

from collections.abc import Callable

from anec.dialects import mil, nn
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.ir.types import DType
from anec.passes.lower_to_mil.typing import axis, number, result_type, value
from anec.rewrite import Rule, reject, rewrite

_GELU_MODES = {"none": "EXACT", "tanh": "TANH_APPROXIMATION", "sigmoid": "SIGMOID_APPROXIMATION"}


def _log_sigmoid(x: Value) -> Value:
    """-softplus(-x): no exponential of a large number, no logarithm of zero."""
    return mil.mul(mil.softplus(mil.mul(x, -1.0)), -1.0)


_POINTWISE: dict[OpDef, Callable[[Value], Value]] = {
    nn.silu: lambda x: mil.silu(x),
    nn.mish: lambda x: mil.mul(x, mil.tanh(mil.softplus(x))),
    nn.hard_swish: lambda x: mil.mul(x, mil.sigmoid_hard(x, alpha=1 / 6, beta=0.5)),
    nn.log_sigmoid: _log_sigmoid,
    nn.softsign: lambda x: mil.softsign(x),
}


def _pointwise(source: OpDef, build: Callable[[Value], Value]) -> Rule:
    @rewrite(source, name=f"lower_{source.root}")
    def lower(op: Op) -> Value:
        return build(value(op.operand("x"), result_type(op).dtype))

    return lower


@rewrite(nn.gelu)
def lower_gelu(op: Op) -> Value:
    """Core ML has all three forms."""
    mode = _GELU_MODES.get(str(op.attr("approximate")))
    if mode is None:
        reject(f"there is no gelu {op.attr('approximate')!r}")
    return mil.gelu(value(op.operand("x"), result_type(op).dtype), mode=mode)


@rewrite(nn.hard_sigmoid)
def lower_hard_sigmoid(op: Op) -> Value:
    """Core ML has it with any slope and offset."""
    alpha, beta = (number(op.attr(name), DType.F32) for name in ("alpha", "beta"))
    return mil.sigmoid_hard(value(op.operand("x"), result_type(op).dtype), alpha=alpha, beta=beta)


@rewrite(nn.softplus)
def lower_softplus(op: Op) -> Value:
    """Linear beyond the threshold, as torch has it; the other branch may overflow there."""
    x = value(op.operand("x"), result_type(op).dtype)
    beta, threshold = number(op.attr("beta"), DType.F32), number(op.attr("threshold"), DType.F32)
    assert isinstance(beta, float)
    assert isinstance(threshold, float)
    if beta == 0:
        reject("beta is 0")
    scaled = x if beta == 1 else mil.mul(x, beta)
    curve = mil.softplus(scaled)
    if beta != 1:
        curve = mil.mul(curve, 1 / beta)
    return mil.select(mil.greater(scaled, threshold), x, curve)


@rewrite(nn.glu)
def lower_glu(op: Op) -> Value:
    """One half times the sigmoid of the other."""
    x = value(op.operand("x"), result_type(op).dtype)
    kept, gate = mil.split.many(x, num_splits=2, axis=axis(op.attr("axis"), x.rank))
    return mil.mul(kept, mil.sigmoid(gate))


RULES: list[Rule] = [
    *(_pointwise(source, build) for source, build in _POINTWISE.items()),
    lower_gelu,
    lower_hard_sigmoid,
    lower_softplus,
    lower_glu,
]
