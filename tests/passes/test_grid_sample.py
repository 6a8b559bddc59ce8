"""The pass grid-sample, models that sample, and their numbers in float16."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import anec
import golden
from anec.errors import UsageError
from anec.ir.facts import is_constant


@pytest.mark.parametrize("path", golden.cases("grid-sample"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    assert bool(outcome.fired) != path.stem.endswith(".not")


def ops(compiled: anec.CompiledModel) -> list[str]:
    return [op.defn.root for op in compiled.module.main if not all(is_constant(result) for result in op.results)]


def run(compiled: anec.CompiledModel, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    given = dict(zip(compiled.input_names, inputs, strict=True))
    return torch.as_tensor(next(iter(compiled.run(given).values())))


class Sample(torch.nn.Module):
    def __init__(self, grid: torch.Tensor | None = None, **attrs: object) -> None:
        super().__init__()
        self.attrs = attrs
        self.register_buffer("grid", grid)

    def forward(self, x: torch.Tensor, grid: torch.Tensor | None = None) -> torch.Tensor:
        return F.grid_sample(x, self.grid if grid is None else grid, **self.attrs)


MODES, PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
# torch samples volumes bilinearly (trilinearly, that is) or nearest.
COMBINATIONS = [
    each for each in itertools.product(MODES, PADDINGS, (False, True), (2, 3)) if each[0] != "bicubic" or each[3] == 2
]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("mode", "padding", "align", "space"), COMBINATIONS)
def test_every_combination_compiles(mode, padding, align, space, constant):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 2, *(5, 4, 3)[:space], generator=generator)
    grid = torch.randn(1, *(3, 2, 3)[:space], space, generator=generator) * 1.2
    model = Sample(grid if constant else None, mode=mode, padding_mode=padding, align_corners=align).eval()
    inputs = (x,) if constant else (x, grid)
    compiled = anec.compile(model, inputs, precision="fp32")
    assert not any(op.defn.dialect == "nn" for op in compiled.module.ops())
    assert len(ops(compiled)) <= (12 if constant else 90)
    torch.testing.assert_close(run(compiled, inputs), model(*inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("form", "mode", "wanted"),
    [("auto", "bilinear", "resample"), ("resample", "bilinear", "resample"), ("gather", "bilinear", "gather"),
     ("resample", "bicubic", "gather")],
)  # fmt: skip
def test_the_form_asked_for_survives_the_pipeline_and_the_package(form, mode, wanted, tmp_path):
    x, grid = torch.randn(2, 3, 5, 6), torch.rand(2, 4, 3, 2) * 2.4 - 1.2
    model = Sample(mode=mode, padding_mode="border", align_corners=False)
    compiled = anec.compile(
        model, (x, grid), passes=f"raise-to-nn,grid-sample{{form={form}}},default,ane", precision="fp32"
    )
    assert {"resample", "gather"} & set(ops(compiled)) == {wanted}
    compiled.save(tmp_path / "sample.mlpackage")
    reloaded = anec.load(tmp_path / "sample.mlpackage")
    torch.testing.assert_close(run(reloaded, (x, grid)), model(x, grid), rtol=1e-5, atol=1e-5)


def test_an_unknown_form_is_an_error():
    with pytest.raises(UsageError, match="form=scatter"):
        anec.compile(Sample(), (torch.randn(1, 1, 4, 4), torch.randn(1, 2, 2, 2)), passes="grid-sample{form=scatter}")


class Affine(torch.nn.Module):
    """Samples where an affine matrix sends the points: a constant one, or one it is given."""

    def __init__(self, theta: torch.Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("theta", theta)

    def forward(self, x: torch.Tensor, theta: torch.Tensor | None = None) -> torch.Tensor:
        theta = self.theta if theta is None else theta
        grid = F.affine_grid(theta.expand(x.shape[0], -1, -1), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


@pytest.mark.parametrize("constant", [False, True])
def test_affine_grids(constant):
    x, theta = torch.randn(2, 3, 6, 5), torch.tensor([[[0.8, 0.0, 0.1], [0.0, 1.1, -0.2]]])
    model, inputs = (Affine(theta), (x,)) if constant else (Affine(), (x, theta))
    compiled = anec.compile(model, inputs, precision="fp32")
    assert ("resample" in ops(compiled)) != constant
    if constant:
        assert ops(compiled) == ["matmul", "matmul"]
    torch.testing.assert_close(run(compiled, inputs), model(*inputs), rtol=1e-5, atol=1e-5)


class Flow(torch.nn.Module):
    """Warps an image by a flow that a convolution predicts, in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = torch.nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        flow = self.flow(x) * 3
        points = [(columns + flow[:, 0]) * 2 / (width - 1) - 1, (rows + flow[:, 1]) * 2 / (height - 1) - 1]
        return F.grid_sample(x, torch.stack(points, dim=-1), align_corners=True)


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("case", ["resample", "gather", "bicubic", "theta", "flow"])
def test_coordinates_keep_float32(case, size):
    """What is sampled is float16, where it is sampled is not: that would be 36 to 47 dB of 256 pixels."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    x = torch.randn(1, 3, size, size, generator=generator)
    grid = torch.rand(1, size, size, 2, generator=generator) * 2.2 - 1.1
    theta = torch.tensor([[[0.9, 0.1, 0.05], [-0.2, 1.1, 0.02]]])
    passes = "raise-to-nn,grid-sample{form=gather},ane" if case == "gather" else "default,ane"
    model, inputs = {
        "resample": (Sample(align_corners=False), (x, grid)),
        "gather": (Sample(align_corners=False), (x, grid)),
        "bicubic": (Sample(mode="bicubic", padding_mode="reflection", align_corners=False), (x, grid)),
        "theta": (Affine(), (x, theta)),
        "flow": (Flow().eval(), (x,)),
    }[case]
    compiled = anec.compile(model, inputs, passes=passes)
    with torch.no_grad():
        wanted = model(*inputs)
    error = (run(compiled, inputs) - wanted).square().mean().sqrt()
    assert 20 * math.log10(float(wanted.abs().max() / error)) > 60
    assert any(str(result.tensor.dtype) == "f16" for op in compiled.module.main for result in op.results)
