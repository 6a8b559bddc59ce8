"""Resizing and resampling kernels against torch where the meaning is equal, else against numpy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision  # type: ignore[import-untyped]  # ships no types
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from anec.errors import AnecError
from anec.reference import lookup

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=100)
SAMPLING_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def kernel(name: str) -> Callable[..., Any]:
    found = lookup(f"mil.{name}")
    assert found is not None, name
    return found.function


def assert_same(result: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def documented_points(mode: str, size: int, count: int) -> np.ndarray:
    """Where Core ML's documentation puts the points, in its own terms (numpy.linspace)."""
    last = size - 1
    if mode == "ALIGN_CORNERS" and count == 1:
        return np.array([last / 2])
    if mode in ("ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"):
        return np.linspace(0, last, count)
    if mode == "DEFAULT":
        return np.minimum(last, np.linspace(0, size - size / count, count))
    if mode == "OFFSET_CORNERS":
        spacing = max(1, last) / count
        return np.minimum(last, np.linspace(spacing / 2, spacing / 2 + (count - 1) * spacing, count))
    return np.array([min(last, max(0, i * size / count + size / count / 2 - 0.5)) for i in range(count)])


def interpolated(x: Tensor, axis: int, points: np.ndarray) -> Tensor:
    line = np.arange(x.shape[axis])
    return torch.from_numpy(np.apply_along_axis(lambda row: np.interp(points, line, row), axis, x.numpy()))


# -- interpolating


@EXAMPLES
@given(sizes, sizes, st.sampled_from(SAMPLING_MODES))
def test_resize_bilinear_samples_the_documented_points(old: tuple[int, int], new: tuple[int, int], mode: str) -> None:
    x = image(2, 3, *old)
    expected = x
    for axis in (2, 3):
        expected = interpolated(expected, axis, documented_points(mode, old[axis - 2], new[axis - 2]))
    result = kernel("resize_bilinear")(x, target_size_height=new[0], target_size_width=new[1], sampling_mode=mode)
    assert_same(result, expected)
    general = kernel("resize")(x, new, 2, sampling_mode=mode)
    assert_same(general, expected)


@EXAMPLES
@given(sizes, sizes, st.booleans())
def test_resize_bilinear_is_torchs(old: tuple[int, int], new: tuple[int, int], align: bool) -> None:
    x = image(1, 2, *old)
    expected = functional.interpolate(x, size=new, mode="bilinear", align_corners=align)
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS"
    result = kernel("resize_bilinear")(x, target_size_height=new[0], target_size_width=new[1], sampling_mode=mode)
    assert_same(result, expected)


@EXAMPLES
@given(sizes, st.tuples(*[st.sampled_from([0.5, 0.7, 1, 1.5, 2, 2.6, 3, 3.17])] * 2), st.booleans())
def test_upsample_bilinear_recomputes_the_scale(
    old: tuple[int, int], factors: tuple[float, float], align: bool
) -> None:
    x = image(1, 2, *old)
    arguments = {"scale_factor_height": factors[0], "scale_factor_width": factors[1], "align_corners": align}
    if any(int(size * factor) == 0 for size, factor in zip(old, factors, strict=True)):
        with pytest.raises(AnecError):
            kernel("upsample_bilinear")(x, **arguments)
        return
    new = [int(np.float32(size) * np.float32(factor)) for size, factor in zip(old, factors, strict=True)]
    expected = functional.interpolate(x, size=new, mode="bilinear", align_corners=align)
    assert_same(kernel("upsample_bilinear")(x, **arguments), expected)


def test_upsample_bilinear_centers() -> None:
    x = image(1, 1, 4, 5)
    legacy = kernel("upsample_bilinear")(
        x, scale_factor_height=2, scale_factor_width=3, align_corners=False, half_pixel_centers=False
    )
    default = kernel("resize_bilinear")(x, target_size_height=8, target_size_width=15)
    assert_same(legacy, default)
    aligned = kernel("upsample_bilinear")(x, scale_factor_height=2)
    assert_same(aligned, functional.interpolate(x, size=(8, 5), mode="bilinear", align_corners=True))
    with pytest.raises(AnecError):
        kernel("upsample_bilinear")(x, align_corners=True, half_pixel_centers=True)


# -- nearest


@EXAMPLES
@given(sizes, sizes)
def test_nearest(old: tuple[int, int], new: tuple[int, int]) -> None:
    x = image(1, 2, *old)
    exact = functional.interpolate(x, size=new, mode="nearest-exact")
    result = kernel("resize_nearest_neighbor")(x, *new)
    assert torch.equal(result, exact)
    general = kernel("resize")(x, (1, *new), 2, interpolation_mode="NEAREST_NEIGHBOR")
    assert torch.equal(general, exact)
    unaligned = {"interpolation_mode": "NEAREST_NEIGHBOR", "sampling_mode": "UNALIGN_CORNERS"}
    assert torch.equal(kernel("resize")(x, new, 2, **unaligned), exact)


@EXAMPLES
@given(sizes, st.tuples(*[st.sampled_from([0.5, 0.67, 1.0, 1.12, 2, 2.5, 3, 3.17])] * 2))
def test_upsample_nearest(old: tuple[int, int], factors: tuple[float, float]) -> None:
    x = image(1, 2, *old)
    new = [int(np.float32(size) * np.float32(factor)) for size, factor in zip(old, factors, strict=True)]
    if 0 in new:
        return
    expected = functional.interpolate(x, size=new, mode="nearest")
    result = kernel("upsample_nearest_neighbor")(x, scale_factor_height=factors[0], scale_factor_width=factors[1])
    assert torch.equal(result, expected)


def test_nearest_of_two_to_three() -> None:
    x = torch.tensor([-6.174, 9.371]).reshape(1, 2, 1)
    resized = kernel("resize")(x, (3, 2), 2, interpolation_mode="NEAREST_NEIGHBOR")
    assert resized[0, :, 0].tolist() == x[0, [0, 1, 1], 0].tolist(), "the value coremltools expects of resize"
    upsampled = kernel("upsample_nearest_neighbor")(x, scale_factor_height=1.5)
    assert upsampled[0, :, 0].tolist() == x[0, [0, 0, 1], 0].tolist()


def test_resize_counts_its_shape_from_the_right() -> None:
    x = image(2, 3, 4, 5)
    line = kernel("resize")(x, (9, 9, 9), 1, sampling_mode="UNALIGN_CORNERS")
    assert_same(line, interpolated(x, 3, documented_points("UNALIGN_CORNERS", 5, 9)))
    kept = kernel("resize")(x, torch.tensor([7, 0, 2], dtype=torch.int32), 2)
    assert_same(kept, interpolated(x, 3, documented_points("DEFAULT", 5, 2)))
    volume = kernel("resize")(x, (6, 8, 10), 3, sampling_mode="UNALIGN_CORNERS")
    expected = functional.interpolate(x.unsqueeze(0), size=(6, 8, 10), mode="trilinear")
    assert_same(volume.unsqueeze(0), expected)
    numbers = torch.tensor([[0, 10]], dtype=torch.int32)
    assert kernel("resize")(numbers, (5,), 1).tolist() == [[0, 4, 8, 10, 10]]
    for shape, dims in (((1, 2, 3, 4, 5), 2), ((4, 4), 3), ((4, -4), 2)):
        with pytest.raises(AnecError):
            kernel("resize")(x, shape, dims)
    with pytest.raises(AnecError, match="sampling_mode"):
        kernel("resize")(x, (4, 4), 2, sampling_mode="HALF_PIXEL")


def test_crop() -> None:
    x = image(1, 2, 5, 6)
    assert torch.equal(kernel("crop")(x, (1, 2), (0, 3)), x[:, :, 1:3, :3])
    with pytest.raises(AnecError):
        kernel("crop")(x, (3, 2), (0, 0))


# -- resample and affine


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 1, 1, 3), (1, 2, 6, 1)])
@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [True, False])
def test_resample_is_grid_sample(shape: tuple[int, ...], sampling: str, padding: str, align: bool) -> None:
    x = image(*shape)
    grid = 4 * image(shape[0], 3, 7, 2, seed=1)
    grid[0, 0, 0] = torch.tensor([-1.0, 1.0])
    grid[0, 0, 1] = torch.tensor([0.0, 0.5])
    expected = functional.grid_sample(x, grid, mode=sampling, padding_mode=padding, align_corners=align)
    mode = {"zeros": "constant", "reflection": "reflection" if align else "symmetric"}.get(padding, padding)
    result = kernel("resample")(x, grid, sampling, mode, 0.0, "normalized_minus_one_to_one", align)
    assert_same(result, expected)
    other = kernel("resample")(x, (grid + 1) / 2, sampling, mode, 0.0, "normalized_zero_to_one", align)
    assert_same(other, expected)


def test_resample_pads_with_its_value() -> None:
    x = image(1, 2, 4, 5)
    grid = 3 * image(1, 6, 6, 2, seed=2)
    for sampling in ("bilinear", "nearest"):
        expected = functional.grid_sample(x - 6.5, grid, mode=sampling, align_corners=True) + 6.5
        result = kernel("resample")(x, grid, sampling, "constant", 6.5, "normalized_minus_one_to_one", True)
        assert_same(result, expected)


def test_resample_reads_pixels_as_x_y() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    places = torch.tensor([[[[3, 0], [0, 2], [5, 1]]]], dtype=torch.int32)
    settings: tuple[Any, ...] = ("nearest", "border", 0.0, "unnormalized", False)
    assert kernel("resample")(x, places, *settings).flatten().tolist() == [3.0, 8.0, 7.0]
    halves = torch.tensor([[[[0.5, 0.0], [1.5, 0.0], [2.5, 0.0]]]])
    assert kernel("resample")(x, halves, *settings).flatten().tolist() == [0.0, 2.0, 2.0], "halves to even"


@pytest.mark.parametrize("align", [True, False])
def test_reflection_mirrors_at_centers_whatever_align_corners_says(align: bool) -> None:
    x = torch.arange(4.0, dtype=torch.float64).reshape(1, 1, 1, 4)
    points = torch.linspace(-7, 9, 33, dtype=torch.float64)
    places = torch.stack([points, torch.zeros_like(points)], -1).reshape(1, 1, -1, 2)
    folded = kernel("resample")(x, places, "bilinear", "reflection", 0.0, "unnormalized", align)
    expected = 3 - ((points % 6) - 3).abs()
    assert_same(folded.flatten(), expected)


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [(3, 3), (2, 5), (1, 4)])
def test_affine_is_affine_grid(batch: int, size: tuple[int, int]) -> None:
    x = image(2, 3, 4, 5)
    matrix = image(batch, 6, seed=3)
    settings = ("bilinear", "constant", 0.0, "normalized_minus_one_to_one", True)
    theta = matrix.reshape(batch, 2, 3).expand(2, 2, 3)
    grid = functional.affine_grid(theta, [2, 3, *size], align_corners=True)
    expected = functional.grid_sample(x, grid, align_corners=True)
    assert_same(kernel("affine")(x, matrix, *size, *settings), expected)
    for wrong in (
        ("nearest", *settings[1:]),
        (*settings[:2], 1.0, *settings[3:]),
        (*settings[:4], False),
    ):
        with pytest.raises(AnecError):
            kernel("affine")(x, matrix, *size, *wrong)


# -- crop_resize


@pytest.mark.parametrize("mode", SAMPLING_MODES)
@pytest.mark.parametrize("target", [(1, 1), (3, 2), (7, 9)])
def test_a_box_is_resized_as_an_image_of_its_own(mode: str, target: tuple[int, int]) -> None:
    x = image(2, 3, 6, 7)
    boxes = torch.tensor([[0, 0, 5, 6], [1, 2, 4, 6], [2, 1, 2, 3]], dtype=torch.float64)
    numbers = torch.tensor([1, 0, 1], dtype=torch.int32)
    goal = {"target_height": target[0], "target_width": target[1], "sampling_mode": mode, "pad_value": 99.0}
    result = kernel("crop_resize")(x, boxes, box_indices=numbers, **goal)
    assert result.shape == (3, 3, *target)
    for entry, (top, left, bottom, right) in enumerate(boxes.int().tolist()):
        cut = x[numbers[entry] : numbers[entry] + 1, :, top : bottom + 1, left : right + 1]
        expected = kernel("resize_bilinear")(
            cut, target_size_height=target[0], target_size_width=target[1], sampling_mode=mode
        )
        torch.testing.assert_close(result[entry : entry + 1], expected, rtol=1e-11, atol=1e-11)


def test_offset_corners_is_roi_align() -> None:
    x = image(2, 3, 8, 9)
    boxes = torch.tensor([[0.5, 1.25, 6.0, 7.5], [2.0, 0.0, 4.5, 6.25]], dtype=torch.float64)
    numbers = torch.tensor([1, 0])
    rois = torch.cat([numbers[:, None].double(), boxes[:, [1, 0, 3, 2]] / 0.5], 1)
    expected = torchvision.ops.roi_align(x, rois, (4, 5), spatial_scale=0.5, sampling_ratio=1)
    result = kernel("crop_resize")(
        x,
        boxes / 0.5,
        box_indices=numbers,
        target_height=4,
        target_width=5,
        spatial_scale=0.5,
        sampling_mode="OFFSET_CORNERS",
    )
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


def test_box_coordinates() -> None:
    x = image(1, 2, 6, 9)
    corners = torch.tensor([[0.2, 0.125, 0.8, 0.75]], dtype=torch.float64)
    top, left, bottom, right = corners.unbind(1)
    forms = {
        "CORNERS_WIDTH_FIRST": [left, top, right, bottom],
        "CENTER_SIZE_HEIGHT_FIRST": [(top + bottom) / 2, (left + right) / 2, bottom - top, right - left],
        "CENTER_SIZE_WIDTH_FIRST": [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top],
    }
    settings: dict[str, Any] = {"target_height": 3, "target_width": 4, "sampling_mode": "ALIGN_CORNERS"}
    expected = kernel("crop_resize")(x, corners, normalized_coordinates=True, **settings)
    rows, columns = (torch.linspace(1, *end, dtype=torch.float64) for end in ((4, 3), (6, 4)))
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).unsqueeze(0)
    sampled = kernel("resample")(x, grid, "bilinear", "border", 0.0, "unnormalized", True)
    assert_same(expected, sampled)
    for form, numbers in forms.items():
        result = kernel("crop_resize")(
            x, torch.stack(numbers, 1), normalized_coordinates=True, box_coordinate_mode=form, **settings
        )
        assert_same(result, expected)
    with pytest.raises(AnecError):
        kernel("crop_resize")(x, corners, box_coordinate_mode="CORNERS")


def test_regions_before_ios17() -> None:
    x = image(2, 3, 5, 6)
    boxes = torch.tensor([[1, 1, 3, 4], [0, 2, 4, 5], [-1, 0, 6, 5]], dtype=torch.float64)
    settings: dict[str, Any] = {"target_height": 2, "target_width": 3, "sampling_mode": "ALIGN_CORNERS"}
    every = kernel("crop_resize")(x, roi=boxes.reshape(3, 1, 4, 1, 1), opset=15, **settings)
    assert every.shape == (3, 2, 3, 2, 3)
    numbers = torch.tensor([1, 0, 1])
    one = kernel("crop_resize")(x, boxes, box_indices=numbers, **settings)
    assert torch.equal(every[range(3), numbers], one)
    assert not one[2].any(), "rows above and below the image are padding, unblended"
    rows = torch.cat([numbers[:, None].double(), boxes], 1).reshape(3, 1, 5, 1, 1)
    chosen = kernel("crop_resize")(x, roi=rows, opset=16, pad_value=7.0, **settings)
    assert chosen.shape == (3, 1, 3, 2, 3)
    assert torch.equal(chosen[:2, 0], one[:2]) and (chosen[2] == 7).all()
    for wrong in ({"boxes": boxes, "opset": 16}, {"roi": rows}, {"boxes": boxes}, {"boxes": boxes[:1, :3]}):
        with pytest.raises(AnecError):
            kernel("crop_resize")(x, **wrong)
    with pytest.raises(AnecError, match="image"):
        kernel("crop_resize")(x, boxes, box_indices=torch.tensor([0, 2, 0]))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float16, 2e-2)])
def test_every_dtype_gives_itself(dtype: torch.dtype, close: float) -> None:
    x = image(1, 2, 5, 6)
    grid = image(1, 3, 4, 2, seed=4) / 2
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("resize_bilinear", (), {"target_size_height": 7, "target_size_width": 3}),
        ("upsample_bilinear", (), {"scale_factor_height": 1.5}),
        ("resize", ((7, 9), 2), {}),
        ("resize_nearest_neighbor", (7, 3), {}),
        ("resample", (grid, "bilinear", "constant", 0.5, "normalized_minus_one_to_one", True), {}),
        ("crop_resize", (torch.tensor([[0.5, 1, 3, 4]]),), {"target_height": 4, "target_width": 2}),
    ]
    for name, args, keywords in calls:
        wide = kernel(name)(x, *args, **keywords)
        narrow_args = [a.to(dtype) if isinstance(a, Tensor) else a for a in args]
        narrow = kernel(name)(x.to(dtype), *narrow_args, **keywords)
        assert wide.dtype == torch.float64 and narrow.dtype == dtype, name
        torch.testing.assert_close(narrow.double(), wide, rtol=close, atol=close, msg=name)


def test_sampling_modes_differ() -> None:
    x = image(1, 1, 5, 5)
    results = [
        kernel("resize_bilinear")(x, target_size_height=8, target_size_width=3, sampling_mode=mode)
        for mode in SAMPLING_MODES
    ]
    different = [not torch.allclose(a, b) for a, b in itertools.combinations(results, 2)]
    assert different.count(False) == 1, "only the two aligned modes agree, and only while sizes exceed 1"
    single = [kernel("resize_bilinear")(x, sampling_mode=mode) for mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS")]
    assert single[0].item() == x[0, 0, 0, 0].item() and single[1].item() == x[0, 0, 2, 2].item()
