"""Recurrent layers.

    %x: f32[5,1,3], %h0: f32[1,1,4], %c0: f32[1,1,4], %w_ih: f32[16,3] weight, %w_hh: f32[16,4] weight
    %b_ih: f32[16] weight, %b_hh: f32[16] weight
    %y, %h, %c = aten.lstm.input(%x, [%h0, %c0], [%w_ih, %w_hh, %b_ih, %b_hh]) {has_biases=true, num_layers=1,
                                 dropout=0.0, train=false, bidirectional=false, batch_first=false}
        ->
    %y, %h, %c = nn.lstm(%x, %h0, %c0, [%w_ih, %w_hh, %b_ih, %b_hh]) {layers=1}

Weights keep torch's flat order: by layer, then by direction.
"""

from __future__ import annotations

from typing import Any

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.passes.raise_nn.common import integer, number
from anec.rewrite import Rule, reject, rewrite


def _settings(op: Op) -> dict[str, Any]:
    if op.attr("train") and number(op, "dropout") != 0:
        reject("it drops values at random between layers: export the model in eval mode")
    return {
        "layers": integer(op, "num_layers"),
        "bidirectional": bool(op.attr("bidirectional")),
        "batch_first": bool(op.attr("batch_first")),
        "has_bias": bool(op.attr("has_biases")),
    }


@rewrite(aten.lstm.input)
def raise_lstm(op: Op) -> tuple[Value, ...]:
    """Five weights a direction, or three without biases, are those of a projection."""
    states = op.variadic("hx")
    settings = _settings(op)
    directions = 2 if settings["bidirectional"] else 1
    weights = op.variadic("params")
    plain = 4 if settings["has_bias"] else 2
    projected = len(weights) == settings["layers"] * directions * (plain + 1)
    hidden = states[0]
    if len(states) != 2 or not isinstance(hidden, Value):
        reject(f"it has {len(states)} states")
    projection = hidden.tensor.shape[2] if projected else 0
    return nn.lstm.many(op.value("input"), hidden, states[1], weights, **settings, projection=projection)


@rewrite(aten.gru.input)
def raise_gru(op: Op) -> tuple[Value, ...]:
    """The weights stay in order."""
    return nn.gru.many(op.value("input"), op.value("hx"), op.variadic("params"), **_settings(op))


def _rnn(nonlinearity: str) -> Rule:
    @rewrite(getattr(aten, f"rnn_{nonlinearity}").input, name=f"raise_rnn_{nonlinearity}")
    def raise_rnn(op: Op) -> tuple[Value, ...]:
        weights = op.variadic("params")
        return nn.rnn.many(
            op.value("input"), op.value("hx"), weights, **_settings(op), nonlinearity=nonlinearity
        )

    return raise_rnn


RULES: list[Rule] = [raise_lstm, raise_gru, *(_rnn(nonlinearity) for nonlinearity in ("tanh", "relu"))]
