"""ane-legalize, frames: a network over volumes is one over images, with the same numbers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn as tnn

import anec
from zoo.weights import perturb

KINDS: dict[str, dict[str, Any]] = {
    "single steps": {},
    "steps": {"step": 2},
    "steps in time, groups": {"step": (2, 1, 1), "groups": 4},
    "depthwise": {"groups": 8},
    "a pool that steps": {"pool": 2, "join": False},
    "no padding in time": {"pool": (2, 1, 1), "pad": 0, "join": False},
    "gates": {"gate": True},
}


class Video(tnn.Module):
    """Convolutions, norms, pools, joined channels and gates, as R3D, R(2+1)D, S3D and X3D have them."""

    def __init__(
        self, step: Any = 1, groups: int = 1, pool: Any = 1, pad: int = 1, *, join: bool = True, gate: bool = False
    ) -> None:
        super().__init__()
        self.first = tnn.Conv3d(4, 8, 3, padding=1)
        self.second = tnn.Conv3d(8, 8, 3, stride=step, padding=1, groups=groups)
        self.norm, self.pool = tnn.BatchNorm3d(8), tnn.MaxPool3d(3, stride=pool, padding=1)
        self.last, self.mean = tnn.Conv3d(8, 6, (3, 1, 1), padding=(pad, 0, 0)), tnn.AvgPool3d((1, 3, 3), stride=1)
        self.narrow = tnn.Conv3d(12, 8, 1)
        self.join, self.gate = join, gate

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.pool(tnn.functional.silu(self.norm(self.second(torch.relu(self.first(x))))))
        if self.gate:
            seen = seen * torch.sigmoid(self.second(seen).mean((2, 3, 4), keepdim=True)) + torch.cat([x, x], 1)
            # What is broadcast in front, and frames of its own: the pooled volume has a depth of 1.
            seen = torch.sigmoid(self.second(seen.mean((2, 3, 4), keepdim=True))) * seen
            seen = self.narrow(torch.cat([seen, x], 1))
        made = self.last(seen)
        made = torch.cat([made, seen], 1) if self.join else made
        return self.mean(made), made.mean((2, 3, 4))


@pytest.mark.parametrize(("batch", "depth", "kind"), list(itertools.product((1, 2), (6, 9), KINDS)))
def test_a_network_over_volumes_works_on_frames(batch: int, depth: int, kind: str) -> None:
    model = perturb(Video(**KINDS[kind]).eval(), seed=1)
    x = torch.randn(batch, 4, depth, 9, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = model(x)
    compiled = anec.compile(model, (x,), passes="default,ane", precision="fp32")
    for found, right in zip(compiled.run({compiled.input_names[0]: x}).values(), wanted, strict=True):
        torch.testing.assert_close(torch.as_tensor(found), right, rtol=1e-5, atol=1e-5 * float(right.abs().max()))
    ops = [op for op in compiled.module.main if not op.is_constant]
    assert not any(op.name in ("mil.transpose", "mil.reshape") for op in ops)
    # What has a depth is taken apart in front and put together behind: all others work on images.
    deep = [op for op in ops if op.results[0].rank == 5]
    assert all(op.name in ("mil.split", "mil.concat", "mil.expand_dims") for op in deep)


@pytest.mark.parametrize(("batch", "depth"), [(1, 65), (33, 3), (65, 4)])
def test_many_frames_are_taken_apart_by_few_ops(batch: int, depth: int) -> None:
    layers = (tnn.Conv3d(4, 4, (2, 1, 1)), tnn.ReLU(), tnn.Conv3d(4, 4, (3, 3, 3), padding=1))
    model = perturb(tnn.Sequential(*layers).eval(), seed=1)
    x = torch.randn(batch, 4, depth, 4, 5, generator=torch.Generator().manual_seed(2))
    compiled = anec.compile(model, (x,), passes="default,ane", precision="fp32")
    (found,) = compiled.run({compiled.input_names[0]: x}).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x).detach(), rtol=1e-5, atol=1e-5)
    assert sum(not op.is_constant for op in compiled.module.main) < 45


def test_a_volume_beside_more_volumes() -> None:
    class Model(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = tnn.Conv3d(4, 4, (3, 1, 1))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.conv(x) + y

    model = perturb(Model().eval(), seed=1)
    x, y = torch.randn(1, 4, 3, 6, 6), torch.randn(2, 4, 3, 6, 6)
    compiled = anec.compile(model, (x, y), passes="default,ane", precision="fp32")
    (found,) = compiled.run(dict(zip(compiled.input_names, (x, y), strict=True))).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x, y).detach(), rtol=1e-5, atol=1e-5)
