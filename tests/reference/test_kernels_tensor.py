"""Padding, joining, making, sorting and selecting kernels against numpy and torchvision."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torchvision  # type: ignore[import-untyped]  # ships no types
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import AnecError
from anec.reference import lookup
from reference.numpy_kernels import kernel, run, values

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=150)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


# -- padding


@st.composite
def paddings(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[int, int]], str]:
    shape = draw(shapes)
    mode = draw(st.sampled_from(["constant", "reflect", "replicate"]))
    sides = []
    for size in shape[draw(st.integers(0, len(shape) - 1)) :]:
        most = {"constant": 4, "reflect": size - 1, "replicate": size}[mode]
        sides.append((draw(st.integers(0, most)), draw(st.integers(0, most))))
    return shape, sides, mode


@EXAMPLES
@given(paddings(), st.sampled_from([np.float16, np.float32, np.float64]))
def test_pad_is_numpys(case: tuple[tuple[int, ...], list[tuple[int, int]], str], dtype: Any) -> None:
    shape, sides, mode = case
    x = values(*shape).astype(dtype)
    every = [(0, 0)] * (len(shape) - len(sides)) + sides
    if mode == "constant":
        expected = np.pad(x, every, constant_values=1.5)
    else:
        expected = np.pad(x, every, mode="edge" if mode == "replicate" else "reflect")
    result = run("pad", x, tuple(itertools.chain(*sides)), mode=mode, constant_val=1.5)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == dtype


@pytest.mark.parametrize(
    ("amounts", "mode"),
    [
        ((0, 0, 3, 0), "reflect"),
        ((0, 4), "replicate"),
        ((-1, 0), "constant"),
        ((1,), "constant"),
        ((1, 1), "wrap"),
    ],
)
def test_pad_refuses(amounts: tuple[int, ...], mode: str) -> None:
    with pytest.raises(AnecError):
        run("pad", values(2, 3), amounts, mode=mode)


# -- joining and cutting


def test_concat_stack_split() -> None:
    x, y = values(2, 3, 4), values(2, 3, 4, seed=1)
    for axis in (-3, -1, 0, 1, 2):
        np.testing.assert_array_equal(run("concat", [x, y], axis), np.concatenate([x, y], axis))
        np.testing.assert_array_equal(run("stack", [x, y], axis), np.stack([x, y], axis))
        mixed = run("concat", [x, y], axis, interleave=True)
        np.testing.assert_array_equal(np.take(mixed, range(0, 2 * x.shape[axis], 2), axis), x)
        np.testing.assert_array_equal(np.take(mixed, range(1, 2 * x.shape[axis], 2), axis), y)
    scalars = [np.array(1, np.int32), np.array(7, np.int32)]
    np.testing.assert_array_equal(run("concat", scalars, 0), [1, 7])
    parts = run("split", x, 2, split_sizes=(1, 3))
    assert [p.shape for p in parts] == [(2, 3, 1), (2, 3, 3)]
    np.testing.assert_array_equal(np.concatenate(parts, 2), x)
    assert [p.shape for p in run("split", x, -1, num_splits=2)] == [(2, 3, 2)] * 2
    assert len(run("split", x, 1, num_splits=1)) == 1
    for bad in ({"num_splits": 3}, {"split_sizes": (1, 2)}, {}, {"split_sizes": (1, 3), "num_splits": 3}):
        with pytest.raises(AnecError):
            run("split", x, 2, **bad)
    with pytest.raises(AnecError):
        run("concat", [x, y.astype(np.float32)], 0)
    with pytest.raises(AnecError):
        run("concat", [x, y[:1]], 0, interleave=True)


def test_tile() -> None:
    x = values(2, 3)
    np.testing.assert_array_equal(run("tile", x, (2, 3)), np.tile(x, (2, 3)))
    for bad in ((2,), (0, 1)):
        with pytest.raises(AnecError):
            run("tile", x, bad)


# -- making tensors


def test_fill_takes_the_dtype_of_the_value() -> None:
    assert run("fill", (2, 3), value=True).dtype == bool
    assert run("fill", (2, 3), value=4).dtype == np.int32
    half = run("fill", np.array([2, 3], np.int32), value=np.array(0.1, np.float16))
    assert half.dtype == np.float16 and half.shape == (2, 3) and half[1, 2] == np.float16(0.1)
    like = run("fill_like", values(2, 5), value=-2.5)
    np.testing.assert_array_equal(like, np.full((2, 5), -2.5, np.float32))


@pytest.mark.parametrize(
    ("start", "end", "step"), [(0, 5, 1), (5, 0, -2), (1.0, 2.0, 0.3), (-1.5, 1.5, 0.5), (3, 3, 1), (2, 0, 1)]
)
def test_range_1d(start: float, end: float, step: float) -> None:
    result = run("range_1d", end, start, step)
    expected = np.arange(start, end, step)
    assert result.dtype == (np.int32 if isinstance(start, int) else np.float32)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    whole = torch.tensor(end, dtype=torch.int32 if isinstance(start, int) else torch.float64)
    np.testing.assert_allclose(kernel("range_1d")(whole, start, step).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("axis", [-3, -1, 0, 1, 2])
def test_one_hot_with_indices_out_of_range(axis: int) -> None:
    indices = np.array([[0, 3, -1], [2, 4, 1]], dtype=np.int32)
    expected = np.full((2, 3, 4), 0.5, np.float32)
    for place in np.ndindex(2, 3):
        if 0 <= indices[place] < 4:
            expected[(*place, indices[place])] = 2.0
    result = run("one_hot", indices, 4, axis=axis, on_value=2.0, off_value=0.5)
    np.testing.assert_array_equal(result, np.moveaxis(expected, -1, axis))
    assert run("one_hot", indices, 4).dtype == np.int32


# -- sums, sorts, bands


@pytest.mark.parametrize(("exclusive", "reverse"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_cumsum(exclusive: bool, reverse: bool, dtype: Any) -> None:
    x = values(3, 4, 2, dtype=dtype)
    for axis in (-1, 0, 1, 2):
        source = np.flip(x, axis) if reverse else x
        expected = np.cumsum(source, axis)
        if exclusive:
            expected = expected - source
        expected = np.flip(expected, axis) if reverse else expected
        result = run("cumsum", x, axis=axis, exclusive=exclusive, reverse=reverse)
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
        assert result.dtype == dtype
    infinite = run("cumsum", np.array([1.0, np.inf, 2.0]), exclusive=True)
    np.testing.assert_array_equal(infinite, [0.0, 1.0, np.inf])
    with pytest.raises(AnecError):
        run("cumsum", x, axis=-2)


@pytest.mark.parametrize(("lower", "upper"), [(-1, -1), (0, -1), (-1, 0), (0, 0), (1, 2), (2, 0)])
def test_band_part(lower: int, upper: int) -> None:
    x = values(2, 4, 5)
    expected = x.copy()
    for row, column in np.ndindex(4, 5):
        if (lower >= 0 and row - column > lower) or (upper >= 0 and column - row > upper):
            expected[:, row, column] = 0
    np.testing.assert_array_equal(run("band_part", x, lower=lower, upper=upper), expected)


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint16])
def test_sorts(ascending: bool, dtype: Any) -> None:
    x = np.random.default_rng(3).permutation(60).reshape(3, 4, 5).astype(dtype)
    for axis in (-1, 0, 1):
        order = np.argsort(x.astype(np.int64) * (1 if ascending else -1), axis=axis)
        result = run("argsort", x, axis=axis, ascending=ascending)
        np.testing.assert_array_equal(result, order)
        assert result.dtype == np.int32
        for k in (1, 2, -1):
            best = np.take(order, range(x.shape[axis] if k == -1 else k), axis)
            top, where = run("topk", x, k=k, axis=axis, ascending=ascending, output_indices_dtype="uint16")
            np.testing.assert_array_equal(where, best)
            np.testing.assert_array_equal(top, np.take_along_axis(x, best, axis))
            assert where.dtype == np.uint16 and top.dtype == dtype
            alone = run("topk", x, k=k, axis=axis, ascending=ascending, return_indices=False)
            np.testing.assert_array_equal(alone, top)
    with pytest.raises(AnecError):
        run("topk", x, k=6)


def test_non_zero() -> None:
    x = np.array([[3, 0, 0], [0, 4, 0], [5, 6, 0]], dtype=np.float32)
    result = run("non_zero", x)
    np.testing.assert_array_equal(result, np.argwhere(x))
    assert result.dtype == np.int32
    found = lookup("mil.non_zero")
    assert found is not None and found.data_dependent


# -- non-maximum suppression


def _boxes(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    centers, sizes = generator.uniform(0, 20, (2, count, 2)), generator.uniform(2, 9, (2, count, 2))
    return np.concatenate([centers, sizes], -1), generator.standard_normal((2, count, classes))


def _kept(boxes: np.ndarray, scores: np.ndarray, limit: float, per_class: bool) -> list[int]:
    center, size = torch.from_numpy(boxes[:, :2]), torch.from_numpy(boxes[:, 2:])
    corners = torch.cat([center - size / 2, center + size / 2], 1)
    best, best_class = torch.from_numpy(scores).max(1)
    if per_class:
        return torchvision.ops.batched_nms(corners, best, best_class, limit).tolist()  # type: ignore[no-any-return]
    return torchvision.ops.nms(corners, best, limit).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("count", "most", "classes"), [(12, 5, 1), (20, 30, 3), (7, 7, 4)])
def test_non_maximum_suppression(per_class: bool, count: int, most: int, classes: int) -> None:
    boxes, scores = _boxes(count, count, classes)
    kept_boxes, kept_scores, indices = run(
        "non_maximum_suppression",
        boxes.transpose(0, 2, 1),
        scores.transpose(0, 2, 1),
        0.2,
        most,
        per_class_suppression=per_class,
    )
    for entry in range(2):
        expected = _kept(boxes[entry], scores[entry], 0.2, per_class)[:most]
        rest = most - len(expected)
        assert indices[entry].tolist() == expected + [-1] * rest
        np.testing.assert_array_equal(kept_boxes[entry, :, : len(expected)].T, boxes[entry][expected])
        np.testing.assert_array_equal(kept_scores[entry, :, : len(expected)].T, scores[entry][expected])
        assert not kept_boxes[entry, :, len(expected) :].any()


def test_suppression_before_ios17() -> None:
    # The expected values of coremltools' own smoke test, with a box of no area among them.
    boxes = np.arange(4, dtype=np.float32)[None, :, None].repeat(4, 2)
    scores = np.array([[[-3.5], [9.4], [2.3], [0.7]]], dtype=np.float32)
    options: dict[str, Any] = {"per_class_suppression": True, "opset": 15}
    result = run("non_maximum_suppression", boxes, scores, 0.2, 2, score_threshold=0.4, **options)
    np.testing.assert_array_equal(result[0], boxes[:, 1:3])
    np.testing.assert_array_equal(result[1], scores[:, 1:3])
    assert result[2].tolist() == [[1, 2]] and result[3].tolist() == [2]
    few = run("non_maximum_suppression", boxes, scores, 0.2, 4, score_threshold=2.0, **options)
    assert few[2].tolist() == [[1, 2, -1, -1]] and few[3].tolist() == [2]
    none = run("non_maximum_suppression", boxes, scores, 0.2, 2, score_threshold=99.0, **options)
    assert none[2].tolist() == [[1, -1]] and none[3].tolist() == [1], "the best box stays"
    with pytest.raises(AnecError):
        run("non_maximum_suppression", boxes, scores, 0.2, 2, opset=15)
