"""Recurrent kernels: x is [sequence, batch, input], states are [batch, hidden].

``direction="reverse"`` walks the sequence from its end and gives the outputs in the order in which
they were made; only the backward half of a bidirectional lstm is put back into input order.
Without ``output_sequence`` the first output is the last step, with a leading axis of size 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel

from .common import choice

# The parameters of hard_sigmoid and scaled_tanh are not inputs: Core ML takes its defaults.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "scaled_tanh": torch.tanh,
    "hard_sigmoid": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    "sigmoid_hard": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
}


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    return ACTIVATIONS[choice("activation", name.lower(), tuple(ACTIVATIONS))]


def _check_shapes(op: str, x: Tensor, hidden: Tensor, weight_ih: Tensor, weight_hh: Tensor, gates: int) -> None:
    if x.dim() != 3:
        raise AnecError(f"{op} of an x of shape {tuple(x.shape)}", hint="[sequence, batch, input]")
    size = hidden.shape[-1]
    if tuple(weight_ih.shape) != (gates * size, x.shape[2]) or tuple(weight_hh.shape) != (gates * size, size):
        raise AnecError(
            f"{op} has weights {tuple(weight_ih.shape)} and {tuple(weight_hh.shape)}",
            hint=f"({gates * size}, {x.shape[2]}) and ({gates * size}, {size})",
        )


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    projected = torch.matmul(x, weight.transpose(0, 1))
    return projected if bias is None else projected + bias


def _stack(outputs: list[Tensor], output_sequence: bool) -> Tensor:
    return torch.stack(outputs if output_sequence else outputs[-1:])


@kernel("mil.rnn")
def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    *,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """Run h = activation(W_ih x + W_hh h + bias); return (outputs, last h).

    Raises:
        AnecError: an unknown direction or activation, or weights that do not fit.
    """
    choice("rnn's direction", direction, ("forward", "reverse"))
    _check_shapes("rnn", x, initial_h, weight_ih, weight_hh, 1)
    act = _activation(activation)
    h, outputs = initial_h, []
    for step in _project(x if direction == "forward" else x.flip(0), weight_ih, bias).unbind(0):
        h = act(step + _project(h, weight_hh, None))
        outputs.append(h)
    return _stack(outputs, output_sequence), h


@kernel("mil.gru")
def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    input_bias: Tensor | None = None,
    *,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run a GRU with the gates reset, output, update; return (outputs, last h).

    r, z = recurrent_activation(...); o = activation(W x + R (r h) + bias); h = (1 - z) o + z h.
    With ``reset_after`` (iOS18, torch's form) o = activation(W x + input_bias + r (R h + bias)):
    ``bias`` is then the hidden side's.

    Raises:
        AnecError: an unknown direction or activation, or weights that do not fit.
    """
    choice("gru's direction", direction, ("forward", "reverse"))
    _check_shapes("gru", x, initial_h, weight_ih, weight_hh, 3)
    gate_act, act = _activation(recurrent_activation), _activation(activation)
    hidden_bias = torch.zeros_like(weight_hh[:, 0]) if bias is None else bias
    bias_r, bias_o, bias_z = hidden_bias.chunk(3)
    weight_r, weight_o, weight_z = weight_hh.chunk(3)
    h, outputs = initial_h, []
    for step in _project(x if direction == "forward" else x.flip(0), weight_ih, input_bias).unbind(0):
        step_r, step_o, step_z = step.chunk(3, -1)
        r = gate_act(step_r + _project(h, weight_r, bias_r))
        z = gate_act(step_z + _project(h, weight_z, bias_z))
        if reset_after:
            o = act(step_o + r * _project(h, weight_o, bias_o))
        else:
            o = act(step_o + _project(r * h, weight_o, bias_o))
        h = (1 - z) * o + z * h
        outputs.append(h)
    return _stack(outputs, output_sequence), h


def _lstm_pass(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    acts: tuple[Callable[[Tensor], Tensor], ...],
    clip: float | None,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Walk x once; return every h, the last h and the last c."""
    weight_ih, weight_hh, bias, peephole = weights
    _check_shapes("lstm", x, h, weight_ih, weight_hh, 4)
    gate_act, cell_act, output_act = acts
    outputs = []
    for step in _project(x, weight_ih, bias).unbind(0):
        i, f, o, z = (step + _project(h, weight_hh, None)).chunk(4, -1)
        if peephole is not None:
            peephole_i, peephole_f, peephole_o = peephole.chunk(3)
            i, f = i + peephole_i * c, f + peephole_f * c
        c = gate_act(f) * c + gate_act(i) * cell_act(z)
        if clip is not None:
            c = torch.clamp(c, -clip, clip)
        if peephole is not None:
            o = o + peephole_o * c
        h = gate_act(o) * output_act(c)
        outputs.append(h)
    return outputs, h, c


@kernel("mil.lstm")
def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    *,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run an LSTM with the gates input, forget, output, cell; return (outputs, last h, last c).

    c = f c + i z, bounded to [-clip, clip]; h = o activation(c). The peepholes of the input and
    forget gate see the previous c, that of the output gate the new one. States of a bidirectional
    lstm are [batch, 2 hidden], the forward half first.

    Raises:
        AnecError: an unknown direction or activation, missing backward weights, or weights that do
            not fit.
    """
    choice("lstm's direction", direction, ("forward", "reverse", "bidirectional"))
    acts = tuple(_activation(name) for name in (recurrent_activation, cell_activation, activation))
    weights = (weight_ih, weight_hh, bias, peephole)
    if direction != "bidirectional":
        walked = x if direction == "forward" else x.flip(0)
        outputs, h, c = _lstm_pass(walked, initial_h, initial_c, weights, acts, clip)
        return _stack(outputs, output_sequence), h, c
    if weight_ih_back is None or weight_hh_back is None:
        raise AnecError("a bidirectional lstm has no backward weights", hint="give weight_ih_back and weight_hh_back")
    weights_back = (weight_ih_back, weight_hh_back, bias_back, peephole_back)
    h, h_back = initial_h.chunk(2, -1)
    c, c_back = initial_c.chunk(2, -1)
    outputs, h, c = _lstm_pass(x, h, c, weights, acts, clip)
    outputs_back, h_back, c_back = _lstm_pass(x.flip(0), h_back, c_back, weights_back, acts, clip)
    if output_sequence:
        sequence = torch.cat([torch.stack(outputs), torch.stack(outputs_back).flip(0)], -1)
    else:
        # Each half gives its own last step: the backward one's is the first of the sequence.
        sequence = torch.cat([outputs[-1], outputs_back[-1]], -1).unsqueeze(0)
    return sequence, torch.cat([h, h_back], -1), torch.cat([c, c_back], -1)
