"""The `nn` dialect: what models mean, where neither torch nor Core ML has one word for it.

Kept composites and recognised spellings both become these ops, so that a later pass has one thing
to shape. Every op is lowered to `mil` by rules in ``passes/lower_to_mil``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from anec.dialects import nn_types
from anec.dialects.namespace import Dialect
from anec.ir.attrs import Attr
from anec.ir.graph import Op
from anec.ir.opdef import Effect, Kind, Layout, LayoutKind, OpDef, Param
from anec.ir.types import Type

_POINTWISE = Layout(LayoutKind.ELEMENTWISE)
_OVER_AXES = Layout(LayoutKind.AXES, axes=("axes",))
_FIXED = Layout()
_REQUIRED = object()


def _op(
    name: str,
    operands: str,
    *,
    results: int | None = 1,
    layout: Layout = _FIXED,
    effects: Effect = Effect.NONE,
    infer: Callable[[Op], tuple[Type, ...]] | None = None,
    doc: str,
    **attrs: object,
) -> OpDef:
    """An op from a short form: ``"x weight? values*"`` (optional, list) and attributes with defaults."""
    params = []
    for word in operands.split():
        kind = Kind.VARIADIC if word.endswith("*") else Kind.OPERAND
        params.append(Param(word.rstrip("?*"), kind, required=not word.endswith(("?", "*"))))
    for key, default in attrs.items():
        required = default is _REQUIRED
        params.append(Param(key, Kind.ATTR, required, None if required else _attr(default)))
    return OpDef(
        f"nn.{name}", tuple(params), results=results, effects=effects, layout=layout, infer=infer, doc=doc
    )


def _attr(value: object) -> Attr:
    assert value is None or isinstance(value, (bool, int, float, str, tuple))
    return value


def _norms() -> list[OpDef]:
    return [
        _op("layer_norm", "x weight? bias?", axes=_REQUIRED, epsilon=1e-5, layout=_OVER_AXES, infer=nn_types.same,
            doc="(x - mean) / sqrt(var + epsilon) * weight + bias over trailing or any axes; biased variance"),
        _op("rms_norm", "x weight?", axes=_REQUIRED, epsilon=1e-6, layout=_OVER_AXES, infer=nn_types.same,
            doc="x / sqrt(mean(x^2) + epsilon) * weight"),
        _op("l2_norm", "x", axes=_REQUIRED, epsilon=1e-12, layout=_OVER_AXES, infer=nn_types.same,
            doc="x / max(sqrt(sum(x^2)), epsilon), torch's F.normalize"),
        _op("global_response_norm", "x", axes=_REQUIRED, axis=_REQUIRED, epsilon=1e-6,
            layout=Layout(LayoutKind.AXES, axes=("axes", "axis")),
            doc="n / (mean(n) + epsilon), where n = sqrt(sum(x^2)) over `axes` and the mean goes along `axis`"),
        _op("group_norm", "x weight? bias?", groups=_REQUIRED, epsilon=1e-5, infer=nn_types.same,
            doc="layer norm over groups of channels (axis 1) and all space axes"),
        _op("instance_norm", "x weight? bias?", epsilon=1e-5, infer=nn_types.same,
            doc="group norm with one channel a group"),
        _op("batch_norm", "x mean variance weight? bias?", epsilon=1e-5, layout=Layout(LayoutKind.CONV),
            infer=nn_types.same, doc="the inference form, channels on axis 1"),
    ]  # fmt: skip


def _activations() -> list[OpDef]:
    act = partial(_op, operands="x", layout=_POINTWISE, infer=nn_types.same)
    return [
        act("gelu", approximate="none",
            doc="x * Phi(x); `approximate` is none, tanh or sigmoid (x * sigmoid(1.702 x))"),
        act("silu", doc="x * sigmoid(x)"),
        act("mish", doc="x * tanh(softplus(x))"),
        act("hard_swish", doc="x * relu6(x + 3) / 6"),
        act("hard_sigmoid", alpha=1 / 6, beta=0.5, doc="alpha x + beta, between 0 and 1; by default relu6(x + 3) / 6"),
        act("softplus", doc="log(1 + exp(beta x)) / beta, x where beta x > threshold", beta=1.0, threshold=20.0),
        act("log_sigmoid", doc="log(sigmoid(x))"),
        act("softsign", doc="x / (1 + |x|)"),
        _op("glu", "x", axis=-1, doc="first half * sigmoid(second half) along `axis`"),
        _op("log_softmax", "x", axis=_REQUIRED, layout=Layout(LayoutKind.AXES, axes=("axis",)),
            doc="x - logsumexp(x) along `axis`"),
    ]  # fmt: skip


def _structures() -> list[OpDef]:
    return [
        _op("attention", "query key value mask?", scale=None, causal=False, softcap=0.0,
            doc="softmax(q k^T * scale + mask) v over the last two axes; scale None is 1/sqrt(E); a bool mask keeps "
            "where true; softcap c > 0 puts c * tanh(s / c) before the mask; query heads (axis -3) may be a multiple "
            "of key heads"),
        _op("interpolate", "x", size=_REQUIRED, mode="nearest", align_corners=False, antialias=False, scales=None,
            infer=nn_types.resized,
            doc="resize the space axes to `size`; mode nearest, nearest-exact, linear, bilinear, trilinear, bicubic; "
            "`scales` given by the user replace size ratios, as torch does"),
        _op("grid_sample", "x grid", mode="bilinear", padding_mode="zeros", align_corners=False,
            infer=nn_types.sampled, doc="torch's F.grid_sample, 4-D and 5-D"),
        _op("adaptive_avg_pool", "x", size=_REQUIRED, infer=nn_types.pooled,
            doc="torch's adaptive average pool over len(size) space axes"),
        _op("adaptive_max_pool", "x", size=_REQUIRED, infer=nn_types.pooled,
            doc="torch's adaptive max pool over len(size) space axes"),
        _op("pixel_shuffle", "x", factor=_REQUIRED, doc="torch's channel-major depth to space"),
        _op("pixel_unshuffle", "x", factor=_REQUIRED, doc="torch's channel-major space to depth"),
        _op("channel_shuffle", "x", groups=_REQUIRED, doc="torch's channel shuffle on axis 1"),
    ]  # fmt: skip


def _recurrent() -> list[OpDef]:
    shared: dict[str, Any] = {"layers": 1, "bidirectional": False, "batch_first": False, "has_bias": True}
    return [
        _op("lstm", "x initial_h initial_c weights*", results=3, **shared, projection=0, infer=nn_types.recurrent,
            doc="torch.nn.LSTM: weights in torch's flat order; gives output, h_n, c_n"),
        _op("gru", "x initial_h weights*", results=2, **shared, infer=nn_types.recurrent,
            doc="torch.nn.GRU; gives output, h_n"),
        _op("rnn", "x initial_h weights*", results=2, **shared, nonlinearity="tanh", infer=nn_types.recurrent,
            doc="torch.nn.RNN, nonlinearity tanh or relu; gives output, h_n"),
    ]  # fmt: skip


def _states() -> list[OpDef]:
    return [
        _op("read_state", "state", effects=Effect.READ, doc="the state's value"),
        _op("write_state", "state value", results=0, effects=Effect.WRITE, doc="store `value` in the state"),
    ]


def _make() -> dict[str, OpDef]:
    groups = (_norms(), _activations(), _structures(), _recurrent(), _states())
    return {defn.name.partition(".")[2]: defn for group in groups for defn in group}


nn = Dialect("nn", _make)
