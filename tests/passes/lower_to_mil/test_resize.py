"""nn.interpolate lowered: torch's numbers, by Core ML's ops where they say the same."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anec.dialects import registry
from anec.errors import UnsupportedError
from anec.ir.facts import is_constant
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.passes.lower_to_mil import LowerToMil
from anec.reference.evaluate import evaluate
from anec.testing import DOUBLE, assert_legal, check_lowering, check_module_lowering, module_of, run_pass, single_op

TARGETS = ("iOS15", "iOS17", "iOS18")
SPACES = {1: (7,), 2: (5, 7), 3: (3, 4, 5)}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def ops(module: Module) -> list[str]:
    """What is left to run."""
    return [op.defn.root for op in module.ops() if not all(is_constant(result) for result in op.results)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("space", [1, 2, 3])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
@pytest.mark.parametrize("factor", [0.4, 0.5, 1.0, 1.3, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("by_scale", [False, True])
def test_every_mode(mode, space, factor, by_scale, target):
    x = randn(2, 3, *SPACES[space])
    size = tuple(int(n * factor) for n in SPACES[space])
    scales = (factor,) * space if by_scale else None
    for align in (False, True) if mode == "linear" else (False,):
        name = LINEAR[space] if mode == "linear" else mode
        check_lowering(
            "nn.interpolate", x, size=size, mode=name, align_corners=align, scales=scales, target=target
        )


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize(("mode", "antialias"), [("bicubic", False), ("bicubic", True), ("bilinear", True)])
@pytest.mark.parametrize("size", [(3, 4), (5, 7), (9, 5), (4, 12), (1, 2)])
@pytest.mark.parametrize("align", [False, True])
def test_by_matrices(mode, antialias, size, align, target):
    attrs = {"size": size, "mode": mode, "align_corners": align, "antialias": antialias}
    check_lowering("nn.interpolate", randn(2, 3, 5, 7), **attrs, target=target)


@pytest.mark.parametrize(
    ("shape", "attrs", "wanted"),
    [
        ((1, 2, 4, 5), {"size": (8, 15)}, ["upsample_nearest_neighbor"]),
        ((1, 2, 4, 5), {"size": (8, 15), "mode": "nearest-exact"}, ["upsample_nearest_neighbor"]),
        ((1, 2, 4, 6), {"size": (2, 2)}, ["slice_by_index"]),
        ((1, 2, 4, 6), {"size": (2, 12)}, ["slice_by_index", "upsample_nearest_neighbor"]),
        ((1, 2, 4, 5), {"size": (6, 5)}, ["gather"]),
        ((1, 2, 4, 5), {"size": (4, 5)}, []),
        ((1, 2, 4, 5), {"size": (8, 10), "mode": "bilinear"}, ["upsample_bilinear"]),
        ((1, 2, 4, 5), {"size": (6, 10), "mode": "bilinear"}, ["resize_bilinear"]),
        ((1, 2, 4, 5), {"size": (4, 5), "mode": "bilinear"}, []),
        ((1, 2, 5), {"size": (10,), "mode": "linear"}, ["expand_dims", "upsample_bilinear", "squeeze"]),
        ((1, 2, 5), {"size": (10,)}, ["expand_dims", "upsample_nearest_neighbor", "squeeze"]),
        ((1, 2, 4, 5), {"size": (8, 5), "mode": "bicubic"}, ["matmul"]),
        ((1, 2, 4, 5), {"size": (8, 10), "mode": "bicubic"}, ["matmul", "matmul"]),
        ((1, 2, 3, 4, 5), {"size": (3, 8, 10), "mode": "trilinear"}, ["upsample_bilinear"]),
        ((1, 2, 3, 4, 5), {"size": (6, 4, 5), "mode": "trilinear"}, ["reshape", "matmul", "reshape"]),
        ((1, 2, 3, 4, 5), {"size": (6, 8, 10)}, ["gather", "upsample_nearest_neighbor"]),
        ((1, 2, 8, 8), {"size": (10, 10), "mode": "bilinear", "scales": (1.3, 1.3)}, ["matmul", "matmul"]),
    ],
)
def test_one_op_where_one_says_it(shape, attrs, wanted):
    assert ops(check_lowering("nn.interpolate", randn(*shape), **attrs)) == wanted


def test_the_axis_that_shrinks_goes_first():
    """A product costs what it gives: [4, 100] to [40, 10] takes the columns first."""
    module = check_lowering("nn.interpolate", randn(1, 1, 4, 100), size=(40, 10), mode="bicubic")
    first = next(op for op in module.ops() if op.name == "mil.matmul")
    assert first.result.shape == (1, 1, 4, 10)


def test_equal_matrices_are_one_weight():
    from anec.dialects import nn

    def bicubic(x, antialias=False):
        return nn.interpolate(x, size=(6, 6), mode="bicubic", antialias=antialias)

    module, inputs = module_of(lambda x: (bicubic(bicubic(x), antialias=True), bicubic(x)), randn(1, 2, 4, 4))
    check_module_lowering(module, inputs)
    # One for the columns and one for the rows; the antialiased 6 to 6 is nothing.
    assert len(module.weights) == 2
    assert all(weight.name.endswith((".columns", ".rows")) for weight in module.weights.values())


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic"]),
    height=st.integers(1, 7),
    width=st.integers(2, 7),
    rows=st.integers(1, 13),
    columns=st.integers(1, 13),
    align=st.booleans(),
    antialias=st.booleans(),
    scale=st.none() | st.floats(0.3, 3),
    target=st.sampled_from(TARGETS),
)
def test_forms_together(mode, height, width, rows, columns, align, antialias, scale, target):
    nearest = mode.startswith("nearest")
    assume(not (nearest and (align or antialias)))
    if scale is not None:
        rows, columns = int(height * scale), int(width * scale)
        assume(rows > 0 and columns > 0)
    # torch's antialiasing of images one pixel wide repeats the first pixel (as of 2.14).
    assume(not antialias or columns > 1)
    check_lowering(
        "nn.interpolate", randn(1, 2, height, width), size=(rows, columns), mode=mode, align_corners=align,
        antialias=antialias, scales=None if scale is None else (scale, scale), target=target,
    )  # fmt: skip


@pytest.mark.parametrize("size", [(10, 14), (2, 3), (6, 9)])
def test_integers_are_picked_not_computed(size):
    x = torch.randint(0, 255, (1, 2, 5, 7), dtype=torch.uint8)
    module = check_lowering("nn.interpolate", x, size=size, mode="nearest")
    assert "upsample_nearest_neighbor" not in ops(module)


def test_interpolated_integers_are_an_error():
    module, _ = single_op("nn.interpolate", torch.zeros(1, 1, 4, 4, dtype=torch.uint8), size=(8, 8), mode="bilinear")
    with pytest.raises(UnsupportedError, match="rounds"):
        run_pass(module, LowerToMil())


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_half_precision_stays_half(mode):
    for size in ((8, 10), (6, 7)):
        module = check_lowering("nn.interpolate", randn(1, 2, 4, 5).half(), size=size, mode=mode)
        assert all(str(op.result.tensor.dtype) == "f16" for op in module.ops())


def symbolic(attrs: str, size: str) -> Module:
    return parse_module(
        "anec 1\nmodule target=iOS17\ndims H in 1..64, W in 1..64\n\n"
        f"func main(%x: f32[1,2,H,W]) -> (%y: f32[1,2,{size}]) {{\n"
        f"  %y = nn.interpolate(%x) {{{attrs}}} : f32[1,2,{size}]\n  return %y\n}}\n",
        registry,
    )


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_symbolic_sizes_go_by_whole_factors(mode):
    name = {"nearest": "upsample_nearest_neighbor", "bilinear": "upsample_bilinear"}[mode]
    module = symbolic(f'size=[(2*H), (3*W)], mode="{mode}", scales=[2.0, 3.0]', "2*H,3*W")
    run_pass(module, LowerToMil())
    assert ops(module) == [name]
    (op,) = module.ops()
    assert (op.attr("scale_factor_height"), op.attr("scale_factor_width")) == (2, 3)
    assert_legal(module)


def test_antialiasing_of_symbolic_sizes_is_an_error():
    with pytest.raises(UnsupportedError, match="antialiased"):
        run_pass(symbolic('size=[(2*H), (2*W)], mode="bicubic", antialias=true', "2*H,2*W"), LowerToMil())


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize("size", [(7, 3), (10, 14), (5, 2), (1, 1), (4, 9), (15, 7)])
def test_area_is_adaptive_pooling_in_few_ops(size, target):
    """torch.export spells mode="area" as adaptive average pooling, whether size or scale factor is given."""
    module = check_lowering("nn.adaptive_avg_pool", randn(2, 3, 5, 7), size=size, target=target)
    assert len(ops(module)) <= 2


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(8, 10), (6, 7), (2, 5)])
def test_a_symbolic_batch_changes_nothing(mode, size):
    text = (
        "anec 1\nmodule target=iOS17\ndims B in 1..8\n\n"
        f"func main(%x: f32[B,2,4,5]) -> (%y: f32[B,2,{size[0]},{size[1]}]) {{\n"
        f'  %y = nn.interpolate(%x) {{size=[{size[0]}, {size[1]}], mode="{mode}"}} : f32[B,2,{size[0]},{size[1]}]\n'
        "  return %y\n}\n"
    )
    module = parse_module(text, registry)
    run_pass(module, LowerToMil())
    assert_legal(module)
    for batch in (1, 3):
        x = randn(batch, 2, 4, 5)
        (y,) = evaluate(module, {"x": x}, precision=DOUBLE).values()
        torch.testing.assert_close(y, torch.nn.functional.interpolate(x.double(), size=size, mode=mode))


def test_sizes_at_which_float32_and_exact_arithmetic_pick_differently_follow_the_exact():
    """torch's float32 nearest takes 0 for 41 * 2 / 82; over the reals it is 1."""
    x = torch.tensor([[[1.0, 2.0]]])
    module, inputs = single_op("nn.interpolate", x, size=(82,), mode="nearest")
    run_pass(module, LowerToMil())
    ours = evaluate(module, inputs)["y"].flatten()
    assert ours.tolist() == [1.0] * 41 + [2.0] * 41
    assert math.isclose(float(torch.nn.functional.interpolate(x, size=82)[0, 0, 41]), 1.0)
