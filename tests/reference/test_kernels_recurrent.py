"""MIL's recurrent kernels against torch.nn's, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anec.errors import AnecError
from reference.running import DTYPE, close, draw, run


def gates(tensor: Tensor, order: tuple[int, ...]) -> Tensor:
    """Reorder the gates that torch stacks along axis 0."""
    blocks = tensor.chunk(len(order))
    return torch.cat([blocks[index] for index in order])


LSTM, GRU = (0, 1, 3, 2), (0, 2, 1)  # torch: i f g o and r z n; MIL: i f o z and r o z


@pytest.mark.parametrize(
    ("steps", "batch", "inputs", "hidden", "bias"),
    [(1, 1, 3, 4, True), (5, 2, 4, 3, True), (6, 1, 1, 1, False), (4, 2, 5, 7, True)],
)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm(direction: str, steps: int, batch: int, inputs: int, hidden: int, bias: bool) -> None:
    torch.manual_seed(steps + hidden)
    two = direction == "bidirectional"
    module = nn.LSTM(inputs, hidden, bias=bias, bidirectional=two, dtype=DTYPE)
    x, h, c = (
        draw(steps, batch, inputs),
        draw(1 + two, batch, hidden, seed=1),
        draw(1 + two, batch, hidden, seed=2),
    )

    def weights(suffix: str) -> list[Tensor | None]:
        parameters = dict(module.named_parameters())
        found: list[Tensor | None] = [gates(parameters[f"weight_{side}_l0{suffix}"], LSTM) for side in ("ih", "hh")]
        total = parameters[f"bias_ih_l0{suffix}"] + parameters[f"bias_hh_l0{suffix}"] if bias else None
        return [*found, None if total is None else gates(total, LSTM)]

    back = dict(zip(("weight_ih_back", "weight_hh_back", "bias_back"), weights("_reverse"), strict=True)) if two else {}
    states = [torch.cat(list(state), -1) for state in (h, c)]
    walked = x.flip(0) if direction == "reverse" else x
    with torch.no_grad():
        wanted, (last_h, last_c) = module(walked, (h, c))
    for output_sequence in (True, False):
        y, got_h, got_c = run(
            "lstm", x, *states, *weights(""), direction=direction, output_sequence=output_sequence, **back
        )
        close(got_h, torch.cat(list(last_h), -1))
        close(got_c, torch.cat(list(last_c), -1))
        close(y, wanted if output_sequence else got_h.unsqueeze(0))


@pytest.mark.parametrize(
    ("steps", "batch", "inputs", "hidden"), [(1, 1, 3, 4), (5, 2, 4, 3), (6, 1, 1, 1), (4, 2, 5, 7)]
)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gru_with_reset_after_is_torch_gru(direction: str, steps: int, batch: int, inputs: int, hidden: int) -> None:
    torch.manual_seed(steps + hidden)
    module = nn.GRU(inputs, hidden, dtype=DTYPE)
    x, h = draw(steps, batch, inputs), draw(1, batch, hidden, seed=1)
    weight_ih, weight_hh, bias_ih, bias_hh = (gates(parameter, GRU) for parameter in module.parameters())
    with torch.no_grad():
        wanted, last = module(x.flip(0) if direction == "reverse" else x, h)
    for output_sequence in (True, False):
        y, got = run(
            "gru",
            x,
            h[0],
            weight_ih,
            weight_hh,
            bias_hh,
            bias_ih,
            direction=direction,
            output_sequence=output_sequence,
            reset_after=True,
        )
        close(got, last[0])
        close(y, wanted if output_sequence else last)


def test_gru_without_reset_after_resets_before_the_product() -> None:
    x, h = draw(3, 2, 4), draw(2, 5, seed=1)
    weight_ih, weight_hh, bias = draw(15, 4, seed=2), draw(15, 5, seed=3), draw(15, seed=4)
    y, _ = run("gru", x, h, weight_ih, weight_hh, bias, output_sequence=True)
    for step in range(3):
        i_r, i_o, i_z = (x[step] @ weight_ih.T + bias).chunk(3, -1)
        h_r, h_o, h_z = weight_hh.chunk(3)
        r, z = torch.sigmoid(i_r + h @ h_r.T), torch.sigmoid(i_z + h @ h_z.T)
        o = torch.tanh(i_o + (r * h) @ h_o.T)
        h = (1 - z) * o + z * h
        close(y[step], h)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (5, 2)])
def test_rnn(direction: str, activation: str, steps: int, batch: int) -> None:
    torch.manual_seed(0)
    module = nn.RNN(3, 4, nonlinearity=activation, dtype=DTYPE)
    x, h = draw(steps, batch, 3), draw(1, batch, 4, seed=1)
    weight_ih, weight_hh, bias_ih, bias_hh = module.parameters()
    with torch.no_grad():
        wanted, last = module(x.flip(0) if direction == "reverse" else x, h)
    y, got = run(
        "rnn",
        x,
        h[0],
        weight_ih,
        weight_hh,
        bias_ih + bias_hh,
        direction=direction,
        activation=activation,
        output_sequence=True,
    )
    close(y, wanted)
    close(got, last[0])


def test_lstm_clip_and_peepholes_act_on_the_cell() -> None:
    x, h, c = draw(4, 2, 3), draw(2, 5, seed=1), draw(2, 5, seed=2)
    weight_ih, weight_hh, peephole = draw(20, 3, seed=3), draw(20, 5, seed=4), draw(15, seed=5)
    y, _, last_c = run("lstm", x, h, c, weight_ih, weight_hh, peephole=peephole, clip=0.3, output_sequence=True)
    p_i, p_f, p_o = peephole.chunk(3)
    for step in range(4):
        i, f, o, z = (x[step] @ weight_ih.T + h @ weight_hh.T).chunk(4, -1)
        c = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(z)
        c = c.clamp(-0.3, 0.3)
        h = torch.sigmoid(o + p_o * c) * torch.tanh(c)
        close(y[step], h)
    close(last_c, c)


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("lstm", {"direction": "backward"}),
        ("lstm", {"direction": "bidirectional"}),
        ("lstm", {"activation": "gelu"}),
        ("lstm", {"weight_hh": torch.ones(15, 4)}),
        ("gru", {"direction": "bidirectional"}),
        ("rnn", {"activation": "gelu"}),
    ],
)
def test_illegal_recurrences_are_refused(op: str, arguments: dict[str, Any]) -> None:
    rows = {"lstm": 4, "gru": 3, "rnn": 1}[op] * 4
    states = {"initial_h": torch.ones(2, 4)} | ({"initial_c": torch.ones(2, 4)} if op == "lstm" else {})
    weights = {"weight_ih": torch.ones(rows, 3), "weight_hh": torch.ones(rows, 4)}
    with pytest.raises(AnecError):
        run(op, torch.ones(5, 2, 3), **{**states, **weights, **arguments})
