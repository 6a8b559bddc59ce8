"""torchvision's deformable convolution and RoIAlign lowered: torchvision's numbers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import anec
from anec.dialects import torchvision
from anec.dialects.aten import definition
from anec.errors import UnsupportedError
from anec.ir.facts import is_constant
from anec.ir.graph import Module
from anec.passes.lower_to_mil import LowerToMil
from anec.testing import check_lowering, run_pass, single_op

pytest.importorskip("torchvision")
TARGETS = ("iOS15", "iOS17", "iOS18")


def ops(module: Module) -> list[str]:
    """What is left to run."""
    return [op.defn.root for op in module.ops() if not all(is_constant(result) for result in op.results)]


def deform(n, groups, offset_groups, stride, pad, dilation, mask, kernel, weights=("weight", "bias"), target="iOS18"):
    height, width, channels = 7, 8, 4
    rows, columns = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip((height, width), pad, dilation, kernel, stride, strict=True)
    )
    entries = kernel[0] * kernel[1] * offset_groups
    return check_lowering(
        "torchvision.deform_conv2d.default",
        torch.randn(n, channels, height, width),
        torch.randn(4, channels // groups, *kernel),
        torch.randn(n, 2 * entries, rows, columns) * 2,
        torch.rand(n, entries, rows, columns) if mask else torch.zeros(n, 1),
        torch.randn(4),
        *stride, *pad, *dilation, groups, offset_groups, mask, weights=weights, target=target,
    )  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("n", "groups", "offset_groups", "stride", "pad", "dilation", "mask", "kernel"),
    [
        (1, 1, 1, (1, 1), (0, 0), (1, 1), True, (3, 3)),
        (2, 2, 1, (2, 2), (1, 1), (1, 1), True, (3, 2)),
        (2, 1, 2, (1, 2), (1, 0), (2, 2), False, (2, 3)),
        (1, 2, 4, (1, 1), (1, 1), (1, 1), True, (1, 1)),
        (2, 4, 2, (3, 3), (2, 2), (1, 2), True, (3, 3)),
    ],
)
def test_deform_conv2d(n, groups, offset_groups, stride, pad, dilation, mask, kernel, target):
    found = ops(deform(n, groups, offset_groups, stride, pad, dilation, mask, kernel, target=target))
    assert (found.count("resample"), found.count("conv"), len(found) <= 11) == (1, 1, True)


def test_deform_conv2d_with_a_computed_weight():
    deform(1, 1, 1, (1, 1), (1, 1), (1, 1), True, (3, 3), weights=())


def regions(n: int, count: int, seed: int = 0) -> torch.Tensor:
    """Regions within, partly and wholly outside, large and tiny."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 6 - 1.5
    size = torch.rand(count, 2, generator=generator) * torch.tensor([12.0, 0.5, 7.0, 3.0, 25.0])[:count, None]
    image = torch.randint(0, n, (count, 1), generator=generator).float()
    return torch.cat([image, corner, corner + size], dim=1)


def align(n, count, scale, bins, samples, aligned, *, constant=False, target="iOS18"):
    return check_lowering(
        "torchvision.roi_align.default", torch.randn(n, 3, 7, 9), regions(n, count), scale, *bins, samples, aligned,
        weights=("rois",) if constant else (), target=target,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_roi_align(samples, aligned, target):
    for n, count, scale in itertools.product((1, 2), (1, 5), (1.0, 0.5)):
        module = align(n, count, scale, (2, 3), samples, aligned, target=target)
        assert len(ops(module)) <= (45 if n == 1 else 90)


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("samples", [-1, 2])
def test_constant_regions_are_products(samples, aligned, target):
    for n, count, scale in itertools.product((1, 2), (1, 5), (1.0, 0.25)):
        found = ops(align(n, count, scale, (3, 2), samples, aligned, constant=True, target=target))
        assert found[-2:] == ["matmul", "matmul"]
        assert found[:-2] in ([], ["gather"])


def refused(name: str, *args: object) -> str:
    module, _ = single_op(name, *args)
    with pytest.raises(UnsupportedError) as caught:
        run_pass(module, LowerToMil())
    return str(caught.value)


def test_what_depends_on_data_is_refused_with_a_way_out():
    message = refused("torchvision.roi_align.default", torch.randn(1, 3, 7, 9), regions(1, 3), 1.0, 2, 2, -1, True)
    assert "give a sampling_ratio" in message


class Regions(torch.nn.Module):
    """Deformable convolution at predicted offsets, then regions of its result."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.nn.Conv2d(4, 18, 3, padding=1)
        self.weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3) / 6)
        self.bias = torch.nn.Parameter(torch.randn(8))

    def forward(self, x: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(x.shape[0], 1)
        y = torch.ops.torchvision.deform_conv2d(
            x, self.weight, self.offset(x) * 3, zeros, self.bias, 1, 1, 1, 1, 1, 1, 1, 1, False
        )
        return torch.ops.torchvision.roi_align(y, rois, 0.5, 3, 3, 2, True)


@pytest.mark.parametrize(("precision", "decibels"), [("fp32", 110), ("fp16", 55)])
def test_a_model(precision, decibels):
    torch.manual_seed(0)
    model, x = Regions().eval(), torch.randn(2, 4, 16, 12)
    rois = regions(2, 5) * torch.tensor([1.0, 2.0, 2.0, 2.0, 2.0])
    compiled = anec.compile(model, (x, rois), precision=precision, check="all")
    (found,) = compiled.run(dict(zip(compiled.input_names, (x, rois), strict=True))).values()
    with torch.no_grad():
        wanted = model(x, rois)
    error = (torch.as_tensor(found) - wanted).square().mean().sqrt()
    assert 20 * math.log10(float(wanted.abs().max() / error)) > decibels


class Suppress(torch.nn.Module):
    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return boxes[torch.ops.torchvision.nms(boxes, scores, 0.5)]


def test_suppression_is_refused():
    with pytest.raises(UnsupportedError) as caught:
        anec.compile(Suppress(), (torch.rand(8, 4), torch.rand(8)))
    assert "suppress outside" in str(caught.value)


def test_the_dialect_needs_no_torchvision_to_be_named():
    import subprocess
    import sys

    code = (
        "import sys; from anec.dialects import torchvision, resolve; "
        "assert resolve('torchvision.roi_align.default') is torchvision.roi_align.default; "
        "print('torch' in sys.modules, 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_schemas_are_those_of_the_installed_torchvision():
    for name, defn in torchvision.ops.items():
        op = getattr(torch.ops.torchvision, name.partition(".")[0]).default
        installed = definition("torchvision", str(op._schema).partition("::")[2])
        assert (defn.params, defn.results) == (installed.params, installed.results)
