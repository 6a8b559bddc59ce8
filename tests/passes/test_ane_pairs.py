"""Rotary positions in pairs of neighbouring channels, of all tokens but the first: halves, and the same numbers."""

from __future__ import annotations

import pytest
import torch

import anec


class Rotated(torch.nn.Module):
    """An attention whose first token has no position, as EVA-02's."""

    sine: torch.Tensor
    cosine: torch.Tensor

    def __init__(self, tokens: int) -> None:
        super().__init__()
        torch.manual_seed(tokens)
        self.inner, self.outer = torch.nn.Linear(24, 72), torch.nn.Linear(24, 24)
        angle = torch.rand(tokens - 1, 12)
        self.register_buffer("sine", angle.sin())
        self.register_buffer("cosine", angle.cos())

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        first, others = x[:, :, :1], x[:, :, 1:]
        pairs = torch.stack([-others[..., 1::2], others[..., ::2]], -1).reshape(others.shape)
        return torch.cat([first, others * self.cosine + pairs * self.sine], dim=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.inner(x).reshape(batch, tokens, 3, 2, 12).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = torch.nn.functional.scaled_dot_product_attention(3 * self.turned(q), 3 * self.turned(k), v)
        out: torch.Tensor = self.outer(mixed.transpose(1, 2).reshape(batch, tokens, 24))
        return x + out


@pytest.mark.parametrize(("batch", "tokens"), [(1, 6), (2, 9)])
def test_a_first_token_without_a_position(batch: int, tokens: int) -> None:
    model, x = Rotated(tokens).eval(), torch.randn(batch, tokens, 24, generator=torch.Generator().manual_seed(1))
    compiled = anec.compile(model, (x,), passes="default,ane", precision="fp32")
    (found,) = compiled.run({compiled.input_names[0]: x}).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x).detach(), rtol=1e-5, atol=1e-5)
    ops = list(compiled.module.main)
    assert all(result.rank < 5 for op in ops for result in op.results if not op.is_constant), "pairs are interleaved"
    plain = anec.compile(model, (x,), passes="default", precision="fp32")
    written = [
        sum(op.results[0].tensor.size for op in each.module.main if op.defn.root in ("reshape", "transpose"))
        for each in (compiled, plain)
    ]
    assert written[0] < written[1]
