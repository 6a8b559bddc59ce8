"""nn.grid_sample lowered, in every form: torch's numbers on, between and beyond pixels."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from anec.errors import UnsupportedError
from anec.ir.facts import is_constant
from anec.ir.graph import Module
from anec.passes.grid_sample import GridSample
from anec.passes.lower_to_mil import LowerToMil
from anec.reference.evaluate import evaluate
from anec.testing import DOUBLE, assert_same_numbers, check_lowering, run_pass, single_op

PADDINGS = ("zeros", "border", "reflection")
IMAGES = list(itertools.product(("bilinear", "nearest", "bicubic"), PADDINGS, (False, True)))
VOLUMES = [each for each in IMAGES if each[0] != "bicubic"]
# Odd and even sizes, an axis of one pixel, one image and two.
SHAPES = {
    2: [((1, 2, 5, 6), (3, 4)), ((2, 3, 4, 1), (2, 5))],
    3: [((1, 2, 3, 5, 6), (2, 3, 4)), ((2, 3, 2, 4, 1), (2, 3, 1))],
}
# Corners, the middle, on and half way between pixels, well outside.
CORNERS = (-1.0, 1.0, 0.0, -2.5, 0.5, -0.6, 1.2, 3.0)


def ops(module: Module) -> list[str]:
    """What is left to run."""
    return [op.defn.root for op in module.ops() if not all(is_constant(result) for result in op.results)]


def grid_for(shape: tuple[int, ...], out: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Points anywhere, every third coordinate a special one."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randn(shape[0], *out, len(out), generator=generator) * 1.2
    flat = grid.view(-1)
    flat[::3] = torch.tensor(CORNERS)[torch.arange(len(flat[::3])) % len(CORNERS)]
    return grid


def check(shape, out, mode, padding, align, *, constant=False, target="iOS18", form="auto", seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    attrs = {"mode": mode, "padding_mode": padding, "align_corners": align}
    module, inputs = single_op(
        "nn.grid_sample", x, grid_for(shape, out, seed), weights=("grid",) if constant else (), target=target, **attrs
    )
    before = evaluate(module, inputs, precision=DOUBLE)
    run_pass(module, GridSample(form=form))
    run_pass(module, LowerToMil())
    assert_same_numbers(before, evaluate(module, inputs, precision=DOUBLE), rtol=1e-10, atol=1e-12)
    return module


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize(("mode", "padding", "align"), IMAGES)
def test_images(mode, padding, align, target):
    for (shape, out), constant in itertools.product(SHAPES[2], (False, True)):
        module = check(shape, out, mode, padding, align, constant=constant, target=target)
        if not constant:
            assert (ops(module) == ["resample"]) == (mode != "bicubic")


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize(("mode", "padding", "align"), VOLUMES)
def test_volumes(mode, padding, align, target):
    for (shape, out), constant in itertools.product(SHAPES[3], (False, True)):
        module = check(shape, out, mode, padding, align, constant=constant, target=target)
        assert "resample" not in ops(module)


@pytest.mark.parametrize(("mode", "padding", "align"), IMAGES)
def test_gathers_say_the_same(mode, padding, align):
    for seed, (shape, out) in enumerate(SHAPES[2]):
        for constant in (False, True):
            found = ops(check(shape, out, mode, padding, align, constant=constant, form="gather", seed=seed))
            assert found.count("gather") == 1
            assert "resample" not in found
            if constant:
                assert len(found) <= 10


@pytest.mark.parametrize(("mode", "most"), [("nearest", 45), ("bilinear", 65), ("bicubic", 70)])
def test_the_number_of_ops_does_not_grow(mode, most):
    small, large = (
        len(ops(check((2, 1, size, size + 1), (size, size), mode, "reflection", False, form="gather")))
        for size in (3, 17)
    )
    assert small == large <= most


def sampled(grid: torch.Tensor, x: torch.Tensor, **attrs: object) -> list[str]:
    return ops(check_lowering("nn.grid_sample", x, grid, weights=("grid",), **attrs))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_constant_grids_along_the_axes_are_products(mode):
    x = torch.randn(2, 3, 8, 6)
    theta = torch.tensor([[[0.7, 0.0, 0.1], [0.0, -1.1, 0.2]]]).expand(2, 2, 3)
    grid = F.affine_grid(theta, [2, 3, 5, 9], align_corners=False)
    assert sampled(grid, x, mode=mode) == ["matmul", "matmul"]
    identity = F.affine_grid(torch.eye(2, 3)[None].expand(2, 2, 3), [2, 3, 8, 6], align_corners=False)
    if mode == "nearest":
        assert sampled(identity, x, mode=mode) == []


def test_constant_grids_are_a_small_matrix_or_resample():
    turned = torch.tensor([[[0.8, -0.6, 0.0], [0.6, 0.8, 0.0]]])
    for size, wanted in ((8, ["reshape", "matmul", "reshape"]), (32, ["resample"])):
        grid = F.affine_grid(turned, [1, 1, size, size], align_corners=False)
        assert sampled(grid, torch.randn(1, 2, size, size)) == wanted


def test_half_way_between_pixels_the_declared_precision_decides():
    """0.1 and the like are not quite half way in float64, but are in float32: torch's own pixel is taken."""
    x = torch.arange(1.0, 11.0).reshape(1, 1, 1, 10)
    points = torch.tensor([-0.8, -0.6, -0.4, 0.2, 0.4, 0.6, 0.8])
    grid = torch.stack([points, torch.zeros(7)], dim=-1).reshape(1, 1, 7, 2)
    for align in (False, True):
        attrs = {"mode": "nearest", "align_corners": align, "padding_mode": "border"}
        module, inputs = single_op("nn.grid_sample", x, grid, weights=("grid",), **attrs)
        for precise in (False, True):
            run_pass(module, LowerToMil())
            given = (x.double(), grid.double()) if precise else (x, grid)
            (y,) = evaluate(module, inputs, **({"precision": DOUBLE} if precise else {})).values()
            assert torch.equal(y, F.grid_sample(*given, **attrs))


def test_bicubic_volumes_are_an_error():
    module, _ = single_op("nn.grid_sample", torch.randn(1, 1, 2, 2, 2), torch.randn(1, 2, 2, 2, 3), mode="bicubic")
    with pytest.raises(UnsupportedError, match="bicubic"):
        run_pass(module, LowerToMil())
