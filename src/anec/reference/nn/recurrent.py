"""Recurrent kernels: torch's own. Weights come in the flat order of torch.nn.LSTM and its like."""

from __future__ import annotations

import torch
from torch import Tensor

from anec.reference import kernel
from anec.reference.mil.common import choice

_aten = torch.ops.aten


@kernel("nn.lstm")
def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weights: list[Tensor],
    *,
    layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    has_bias: bool = True,
    projection: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run torch.nn.LSTM; return the output, h_n and c_n.

    x ``[S, B, I]`` (``[B, S, I]`` with ``batch_first``), states ``[layers * directions, B, H]``;
    ``projection`` repeats what the weights say.
    """
    output, h, c = _aten.lstm.input(
        x, [initial_h, initial_c], weights, has_bias, layers, 0.0, False, bidirectional, batch_first
    )
    return output, h, c


@kernel("nn.gru")
def gru(
    x: Tensor,
    initial_h: Tensor,
    weights: list[Tensor],
    *,
    layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    has_bias: bool = True,
) -> tuple[Tensor, Tensor]:
    """Run torch.nn.GRU; return the output and h_n."""
    output, h = _aten.gru.input(
        x, initial_h, weights, has_bias, layers, 0.0, False, bidirectional, batch_first
    )
    return output, h


@kernel("nn.rnn")
def rnn(
    x: Tensor,
    initial_h: Tensor,
    weights: list[Tensor],
    *,
    layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    has_bias: bool = True,
    nonlinearity: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """Run torch.nn.RNN; return the output and h_n.

    Raises:
        AnecError: the nonlinearity is neither tanh nor relu.
    """
    choice("nn.rnn: nonlinearity", nonlinearity, ("tanh", "relu"))
    function = _aten.rnn_tanh.input if nonlinearity == "tanh" else _aten.rnn_relu.input
    output, h = function(x, initial_h, weights, has_bias, layers, 0.0, False, bidirectional, batch_first)
    return output, h
