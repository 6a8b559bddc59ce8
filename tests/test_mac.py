"""Level 3: saved packages through Core ML itself. Skipped where there is no Core ML."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import anec
from anec.check.metrics import compare


class Small(torch.nn.Module):
    """Convolution, norm, activation, attention-like products, an integer output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.norm(torch.nn.functional.gelu(self.conv(image)).flatten(2).transpose(1, 2))
        mixed = torch.softmax(tokens @ tokens.transpose(1, 2) / 8**0.5, dim=-1) @ tokens
        scores = self.head(mixed.mean(1))
        return {"scores": scores, "best": scores.argmax(-1)}


@pytest.mark.mac
@pytest.mark.parametrize(("precision", "psnr"), [("fp32", 90.0), ("fp16", 40.0)])
def test_core_ml_agrees_with_torch(precision: str, psnr: float, tmp_path: Path) -> None:
    model, image = Small().eval(), torch.randn(1, 3, 17, 16)
    compiled = anec.compile(model, (image,), passes="default,ane", precision=precision)
    compiled.save(tmp_path / "small.mlpackage")
    found = compiled.mlmodel("CPU_ONLY").predict({"image": image.numpy()})
    with torch.no_grad():
        wanted = model(image)
    metric = compare("scores", torch.from_numpy(found["scores"]), wanted["scores"])
    assert not metric.problem
    assert not metric.void
    assert metric.psnr >= psnr
    assert int(found["best"][0]) == int(wanted["best"][0])


@pytest.mark.mac
def test_apples_compiler_takes_the_package(tmp_path: Path) -> None:
    from anec.backend import check_package

    compiled = anec.compile(Small().eval(), (torch.randn(1, 3, 17, 16),), passes="default,ane")
    compiled.save(tmp_path / "small.mlpackage")
    assert check_package(tmp_path / "small.mlpackage").compiled
