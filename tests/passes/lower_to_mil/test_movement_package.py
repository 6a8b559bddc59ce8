"""What these families emit, coremltools takes: every form in one package, and the package's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import anec
from lowering import floats


class Forms(nn.Module):
    """One output for each form of Core ML op that views, windows, products and pools come down to."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)
        self.beyond = nn.ConvTranspose2d(4, 6, 2, stride=2, output_padding=1)
        self.same = nn.Conv2d(4, 8, 3, padding="same", dilation=2)
        self.linear = nn.Linear(6, 5)
        self.bilinear = nn.Bilinear(6, 6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        windows = x.view(1, 2, 2, 2, 4, 2, 3).permute(0, 2, 4, 6, 1, 3, 5)
        return (
            *(self.up(x), self.beyond(x), self.same(x), self.linear(x), self.bilinear(x, x)),
            *(F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2), F.channel_shuffle(x, 2)),
            *(F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
            *(F.max_pool2d(x, 2, dilation=2), F.max_pool1d(x[0], 2), F.avg_pool3d(x[None], (1, 2, 2))),
            *(F.adaptive_avg_pool2d(x, (3, 5)), F.adaptive_max_pool2d(x, (3, 5)), F.adaptive_avg_pool2d(x, 1)),
            *(F.unfold(x, 3, padding=1), F.fold(F.unfold(x, 3), (8, 6), 3), x.unfold(2, 3, 2)),
            *(F.pad(x, (1, 2, 0, 1), mode=mode) for mode in ("reflect", "replicate", "circular")),
            *(F.pad(x, (1, -1), value=2.0), F.pad(x.long(), (1, 2), value=3).float()),
            *(x.roll(1, 2), x.flip(1), torch.rot90(x, 1, (2, 3)), x.diagonal(0, 2, 3), torch.diag_embed(x[0, 0])),
            *(x.repeat_interleave(2, 1), x.expand(3, -1, -1, -1), x.repeat(2, 1, 1, 1)),
            *(torch.einsum("nchw,ndhw->ncd", x, x), torch.einsum("bchq,bkhc->bkhq", x, x.permute(0, 3, 2, 1))),
            *(x @ x.transpose(2, 3), x @ x[0, 0, 0], torch.outer(x[0, 0, 0], x[0, 0, 1])),
            *(x[:, -1, ..., ::2], torch.stack([x, x], 1), x.unbind(1)[0], x.split([1, 3], 1)[1], torch.cat([x, x], 2)),
            *(windows.reshape(1, 2, -1), F.conv1d(x[0].transpose(0, 1), torch.ones(3, 4, 2))),
        )


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_every_form_is_emitted(target: str, tmp_path: Path) -> None:
    model, x = Forms().eval(), floats(1, 4, 8, 6)
    compiled = anec.compile(model, (x,), target=target, precision="fp32")
    compiled.save(tmp_path / "forms.mlpackage")
    found = anec.load(tmp_path / "forms.mlpackage").run({compiled.input_names[0]: x.numpy()})
    with torch.no_grad():
        expected = model(x)
    for got, wanted in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(got), wanted, rtol=1e-5, atol=1e-5)
