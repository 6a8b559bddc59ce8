"""Resizing and sampling through `default`: what is left of each, and its numbers in fp32 and fp16."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import anec
from anec.api.compiling import compile_source
from anec.check.metrics import compare
from anec.frontend import Source

# By name: the number of space axes, the arguments, and what is left of it beside constants.
INTERPOLATIONS: dict[str, tuple[int, dict[str, Any], list[str]]] = {
    "linear": (1, {"mode": "linear", "size": 9}, ["nn.interpolate"]),
    "nearest": (1, {"mode": "nearest", "scale_factor": 1.6}, ["nn.interpolate"]),
    "nearest_exact": (2, {"mode": "nearest-exact", "size": (9, 4)}, ["nn.interpolate"]),
    "bilinear": (2, {"mode": "bilinear", "scale_factor": 1.7}, ["nn.interpolate"]),
    "bilinear_corners": (2, {"mode": "bilinear", "scale_factor": 2.0, "align_corners": True}, ["nn.interpolate"]),
    "bilinear_antialiased": (2, {"mode": "bilinear", "size": (3, 11), "antialias": True}, ["mil.matmul"] * 2),
    "bicubic": (2, {"mode": "bicubic", "scale_factor": 1.5}, ["mil.matmul"] * 2),
    "bicubic_corners": (2, {"mode": "bicubic", "size": (13, 3), "align_corners": True}, ["mil.matmul"] * 2),
    "bicubic_antialiased": (2, {"mode": "bicubic", "size": (4, 3), "antialias": True}, ["mil.matmul"] * 2),
    "area": (2, {"mode": "area", "size": (14, 5)}, ["nn.adaptive_avg_pool"]),
    "trilinear": (3, {"mode": "trilinear", "size": (3, 9, 14)}, ["nn.interpolate"]),
    "nearest_volume": (3, {"mode": "nearest", "size": (2, 9, 14)}, ["nn.interpolate"]),
}


class Resized(nn.Module):
    """Each of a line, an image or a volume; an output an interpolation."""

    def forward(self, line: Tensor, image: Tensor, volume: Tensor) -> dict[str, Tensor]:
        inputs = (line, image, volume)
        return {name: F.interpolate(inputs[space - 1], **args) for name, (space, args, _) in INTERPOLATIONS.items()}


# torch samples volumes trilinearly or nearest.
SAMPLES = {
    f"{mode}_{padding}_{'corners' if align else 'edges'}_{space}": (space, mode, padding, align)
    for mode, padding, align, space in itertools.product(
        ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True), (2, 3)
    )
    if (mode, space) != ("bicubic", 3)
}


class Sampled(nn.Module):
    """An output a way of sampling, at the points of grids it is given or at constant ones."""

    def __init__(self, *grids: Tensor) -> None:
        super().__init__()
        for space, grid in enumerate(grids, 2):
            self.register_buffer(f"grid{space}", grid)

    def forward(self, image: Tensor, volume: Tensor, *given: Tensor) -> dict[str, Tensor]:
        grids = given or (self.grid2, self.grid3)
        return {
            name: F.grid_sample((image, volume)[space - 2], grids[space - 2], mode, padding, align)
            for name, (space, mode, padding, align) in SAMPLES.items()
        }


def _case(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    sizes = (5, 4, 3)
    line, image, volume = (torch.randn(2, 3, *sizes[:space], generator=generator) for space in (1, 2, 3))
    grids = [torch.randn(2, *(3, 2, 3)[:space], space, generator=generator) * 1.2 for space in (2, 3)]
    if name == "resized":
        return Resized(), (line, image, volume)
    return (Sampled(*grids), (image, volume)) if name == "constant_grid" else (Sampled(), (image, volume, *grids))


def left(name: str) -> dict[str, list[str]]:
    """By output, the ops behind `default` that compute it from inputs, every rewrite checked."""
    graph = compile_source(Source(*_case(name)), finish=False, check="rewrites").module.main
    found = {}
    for port, output in zip(graph.signature.outputs, graph.outputs, strict=True):
        ops, stack = {}, [output]
        while stack:
            op = stack.pop().op
            if op is not None and op not in ops and not op.is_constant:
                ops[op] = op.name
                stack.extend(op.inputs)
        found[port.name] = list(ops.values())
    return found


def test_what_is_left_of_an_interpolation():
    assert left("resized") == {name: ops for name, (_, _, ops) in INTERPOLATIONS.items()}


def test_a_constant_grid_is_a_product_with_a_matrix():
    for name, ops in left("constant_grid").items():
        assert ops.count("mil.matmul") == 1, name
        assert set(ops) == {"mil.matmul", "mil.reshape"}, name


def test_a_computed_grid_is_a_resample_or_a_gather():
    for name, ops in left("computed_grid").items():
        by_resample = name.endswith("_2") and not name.startswith("bicubic")
        assert {"mil.resample", "mil.gather"} & set(ops) == {"mil.resample" if by_resample else "mil.gather"}, name
        assert not any(op.startswith("nn.") for op in ops), name


@pytest.mark.parametrize(("precision", "rel", "psnr"), [("fp32", 1e-5, 90.0), ("fp16", 1.0, 50.0)])
@pytest.mark.parametrize("name", ["resized", "constant_grid", "computed_grid"])
def test_numbers(name, precision, rel, psnr):
    model, inputs = _case(name)
    compiled = anec.compile(model, inputs, precision=precision)
    found = compiled.run({port: x.numpy() for port, x in zip(compiled.input_names, inputs, strict=True)})
    for output, reference in model(*inputs).items():
        metric = compare(output, torch.from_numpy(found[output]), reference)
        assert metric.rel < rel, metric
        assert metric.psnr > psnr, metric
