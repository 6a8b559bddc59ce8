"""The passes bicubic and bicubic-to-bilinear."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import anec
import golden
from anec.errors import CheckError, UsageError
from anec.ir.facts import is_constant


@pytest.mark.parametrize("path", golden.cases("bicubic"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    assert bool(outcome.fired) != path.stem.endswith(".not")


class Resize(torch.nn.Module):
    def __init__(self, **attrs: object) -> None:
        super().__init__()
        self.attrs = attrs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, **self.attrs)


def smooth(*shape: int) -> torch.Tensor:
    """An image: waves, not noise."""
    rows, columns = torch.meshgrid(torch.linspace(0, 3, shape[2]), torch.linspace(0, 4, shape[3]), indexing="ij")
    phases = torch.arange(shape[0] * shape[1], dtype=torch.float32).reshape(*shape[:2], 1, 1)
    return torch.sin(rows * 2 + phases) + torch.cos(columns - phases)


def ops(compiled: anec.CompiledModel) -> list[str]:
    return [op.defn.root for op in compiled.module.main if not all(is_constant(result) for result in op.results)]


@pytest.mark.parametrize("form", ["auto", "product", "convolution"])
@pytest.mark.parametrize("attrs", [{"size": (16, 20)}, {"scale_factor": 1.7}, {"size": (4, 5), "antialias": True}])
def test_every_form_is_exact(form, attrs):
    x = smooth(1, 2, 8, 10)
    model = Resize(mode="bicubic", **attrs)
    # Strides of 5 and transposed kernels become more ops within the limits of the hardware.
    passes = f"raise-to-nn,bicubic{{form={form}}},ane,-ane-legalize"
    compiled = anec.compile(model, (x,), passes=passes, precision="fp32", check="all")
    found = compiled.run({compiled.input_names[0]: x})
    torch.testing.assert_close(torch.as_tensor(next(iter(found.values()))), model(x), rtol=1e-5, atol=1e-5)
    assert len(ops(compiled)) <= 4


INTERPOLATIONS = [
    (1, {"mode": "linear", "size": 9}),
    (1, {"mode": "nearest", "scale_factor": 1.6}),
    (2, {"mode": "nearest-exact", "size": (9, 4)}),
    (2, {"mode": "bilinear", "scale_factor": 2.0, "align_corners": True}),
    (2, {"mode": "bilinear", "scale_factor": 1.7}),
    (2, {"mode": "bilinear", "scale_factor": 1.7, "recompute_scale_factor": True}),
    (2, {"mode": "bilinear", "size": (3, 11), "antialias": True}),
    (2, {"mode": "bicubic", "scale_factor": 1.5}),
    (2, {"mode": "bicubic", "size": (13, 3), "align_corners": True}),
    (2, {"mode": "bicubic", "size": (4, 3), "antialias": True}),
    (2, {"mode": "area", "scale_factor": 0.6}),
    (2, {"mode": "area", "size": (14, 5)}),
    (3, {"mode": "trilinear", "size": (3, 9, 14)}),
    (3, {"mode": "nearest", "size": (2, 9, 14)}),
]


@pytest.mark.parametrize(("space", "attrs"), INTERPOLATIONS, ids=str)
def test_every_interpolation_compiles(space, attrs):
    x = torch.randn(2, 3, *(4, 6, 7)[3 - space :], generator=torch.Generator().manual_seed(0))
    model = Resize(**attrs)
    compiled = anec.compile(model, (x,), precision="fp32")
    assert len(ops(compiled)) <= 6
    found = compiled.run({compiled.input_names[0]: x})
    torch.testing.assert_close(torch.as_tensor(next(iter(found.values()))), model(x), rtol=1e-5, atol=1e-5)


def test_symbolic_sizes_are_left_to_the_lowering():
    text = """anec 1
module target=iOS18
dims h in 1..64

func main(%s: f32[1,2,h,6]) -> (%t: f32[1,2,2*h,6]) {
  %t = nn.interpolate(%s) {size=[(2*h), 6], mode="bicubic"} : f32[1,2,2*h,6]
  return %t
}
"""
    assert [op.name for op in anec.opt(anec.read(text), "bicubic").main] == ["nn.interpolate"]


def test_an_unknown_form_is_an_error():
    with pytest.raises(UsageError, match="form=best") as caught:
        anec.compile(Resize(size=(2, 2)), (smooth(1, 1, 4, 4),), passes="bicubic{form=best}")
    assert "convolution" in (caught.value.hint or "")


@pytest.mark.parametrize(("scale", "most", "wanted"), [(2, 0, "bilinear"), (2, 2, "bilinear"), (3, 2, "bicubic")])
def test_bilinear_instead_of_bicubic(scale, most, wanted):
    x = smooth(1, 2, 16, 16)
    model = Resize(mode="bicubic", scale_factor=scale)
    compiled = anec.compile(
        model, (x,), passes=f"bicubic-to-bilinear{{max-scale={most}.0}},default,ane", precision="fp32"
    )
    assert ops(compiled) == (["upsample_bilinear"] if wanted == "bilinear" else ["matmul", "matmul"])
    (report,) = [each for each in compiled.report.passes if each.spec.startswith("bicubic-to-bilinear")]
    if wanted == "bilinear":
        assert 30 < report.loss < 80
    else:
        assert report.loss == float("inf")  # it was raised to nn.interpolate, and that is all


def test_what_loses_too_much_is_an_error():
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(CheckError, match="loses too much"):
        anec.compile(
            Resize(mode="bicubic", scale_factor=4), (noise,), passes="bicubic-to-bilinear,default,ane", precision="fp32"
        )


def test_shrinking_is_left_alone():
    x = smooth(1, 2, 16, 16)
    model = Resize(mode="bicubic", size=(8, 8))
    assert ops(anec.compile(model, (x,), passes="bicubic-to-bilinear,default,ane")).count("matmul") == 2


def test_it_stands_in_no_named_pipeline():
    from anec.passes.pipelines import PIPELINES

    assert not any("bicubic-to-bilinear" in text for text in PIPELINES.values())
