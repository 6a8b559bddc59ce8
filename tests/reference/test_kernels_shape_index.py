"""Reshaping, slicing, block and indexing kernels against numpy and plain loops."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import AnecError
from reference.numpy_kernels import run, values

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=150)
MODES = ("update", "add", "sub", "mul", "div", "max", "min")
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


# -- reshape and friends


@pytest.mark.parametrize(
    ("shape", "to", "opset", "expected"),
    [
        ((2, 3, 4), (0, -1), 15, None),
        ((2, 3, 4), (0, -1, 2), 15, (2, 6, 2)),
        ((2, 3, 4), (4, 0, 2), 16, (4, 3, 2)),
        ((2, 50), (1, 0, -1, 0), 17, (1, 1, 2, 50)),
        ((2, 3, 4), (-1, 0), 17, (6, 4)),
        ((3, 2, 5), (0, 0, -1, 0, 0), 18, (1, 1, 3, 2, 5)),
        ((6,), (-1, -1), 18, None),
        ((6,), (4,), 18, None),
        ((6,), (-1, 4), 18, None),
        ((6,), (-2, 3), 18, None),
    ],
)
def test_reshape(shape: tuple[int, ...], to: tuple[int, ...], opset: int, expected: tuple[int, ...] | None) -> None:
    x = values(*shape)
    if expected is None:
        with pytest.raises(AnecError):
            run("reshape", x, to, opset=opset)
    else:
        np.testing.assert_array_equal(run("reshape", x, to, opset=opset), x.reshape(expected))
        as_tensor = np.array(to, dtype=np.int32)
        assert run("reshape", x, as_tensor, opset=opset).shape == expected


def test_reshape_like_ignores_a_masked_end() -> None:
    x = values(6, 30)
    first, second = values(2, 3, 4), values(1, 5, 6)
    result = run("reshape_like", x, [first, second], (0, 1), (2, 0), (False, True))
    np.testing.assert_array_equal(result, x.reshape(2, 3, 5, 6))
    with pytest.raises(AnecError):
        run("reshape_like", x, [first, second], (0, 1), (2, 2), (False, False))


def test_axes_of_size_one() -> None:
    x = values(1, 3, 1, 2)
    assert run("squeeze", x).shape == (3, 2)
    assert run("squeeze", x, axes=(0, 1)).shape == (3, 1, 2), "a size other than 1 stays"
    assert run("squeeze", x, axes=(-2,)).shape == (1, 3, 2)
    assert run("expand_dims", x, (-1, 0)).shape == (1, 1, 3, 1, 2, 1), "negative axes count from the result"
    assert run("expand_dims", x, (1, 3)).shape == (1, 1, 3, 1, 1, 2)
    with pytest.raises(AnecError):
        run("expand_dims", x, (6,))


@pytest.mark.parametrize("axis", [-3, -2, -1, 0, 1, 2, 3])
def test_flatten2d(axis: int) -> None:
    x = values(2, 3, 4)
    expected = x.reshape(math.prod(x.shape[:axis]), -1)
    np.testing.assert_array_equal(run("flatten2d", x, axis=axis), expected)


def test_transpose_and_reverse() -> None:
    x = values(2, 3, 4)
    np.testing.assert_array_equal(run("transpose", x, (2, -3, 1)), x.transpose(2, 0, 1))
    np.testing.assert_array_equal(run("reverse", x), x[::-1, ::-1, ::-1])
    np.testing.assert_array_equal(run("reverse", x, axes=(-1,)), x[..., ::-1])
    for bad in ((0, 1), (0, 0, 1)):
        with pytest.raises(AnecError):
            run("transpose", x, bad)


def test_shape_is_int32() -> None:
    result = run("shape", values(2, 1, 5))
    np.testing.assert_array_equal(result, [2, 1, 5])
    assert result.dtype == np.int32


@pytest.mark.parametrize(("sequence", "batch"), list(itertools.permutations(range(3), 2)))
def test_reverse_sequence(sequence: int, batch: int) -> None:
    x = values(3, 4, 5)
    generator = np.random.default_rng(1)
    lengths = generator.integers(0, x.shape[sequence] + 1, x.shape[batch]).astype(np.int32)
    expected = x.copy()
    for entry, length in enumerate(lengths):
        at: list[Any] = [slice(None)] * 3
        at[batch], at[sequence] = slice(entry, entry + 1), slice(0, length)
        expected[tuple(at)] = np.flip(x[tuple(at)], axis=sequence)
    result = run("reverse_sequence", x, lengths, seq_axis=sequence, batch_axis=batch - 3)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("axis", "size", "stride"), [(0, 2, 1), (1, 3, 2), (-1, 5, 3), (-2, 4, 1)])
def test_sliding_windows(axis: int, size: int, stride: int) -> None:
    x = values(3, 6, 8)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=axis)
    at = axis % 3
    kept = np.take(windows, range(0, windows.shape[at], stride), axis=at)
    np.testing.assert_array_equal(run("sliding_windows", x, axis, size, stride=stride), np.moveaxis(kept, -1, at + 1))


# -- slices


@st.composite
def slicings(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, tuple[Any, ...]]]:
    shape = draw(shapes)
    rank = len(shape)
    bound = st.integers(-7, 7)
    stride = st.sampled_from([1, 1, 2, 3, -1, -1, -2, -3])
    flags = st.lists(st.booleans(), min_size=rank, max_size=rank).map(tuple)
    squeeze = draw(st.lists(st.sampled_from([False, False, True]), min_size=rank, max_size=rank).map(tuple))
    begin = [draw(bound) for _ in shape]
    for axis, (size, gone) in enumerate(zip(shape, squeeze, strict=True)):
        if gone:
            begin[axis] = draw(st.integers(-size, size - 1))
    arguments = {
        "begin": tuple(begin),
        "end": tuple(draw(bound) for _ in shape),
        "stride": tuple(draw(stride) for _ in shape),
        "begin_mask": draw(flags),
        "end_mask": draw(flags),
        "squeeze_mask": squeeze,
    }
    return shape, arguments


def numpy_index(arguments: dict[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    index: list[Any] = []
    for axis in range(len(arguments["begin"])):
        begin = None if arguments["begin_mask"][axis] else arguments["begin"][axis]
        end = None if arguments["end_mask"][axis] else arguments["end"][axis]
        if arguments["squeeze_mask"][axis]:
            index.append(begin or 0)
        else:
            index.append(slice(begin, end, arguments["stride"][axis]))
    return tuple(index)


@EXAMPLES
@given(slicings())
def test_slice_by_index_is_numpys(case: tuple[tuple[int, ...], dict[str, tuple[Any, ...]]]) -> None:
    shape, arguments = case
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(run("slice_by_index", x, **arguments), x[numpy_index(arguments)])


@EXAMPLES
@given(slicings())
def test_slice_update_is_numpys_assignment(case: tuple[tuple[int, ...], dict[str, tuple[Any, ...]]]) -> None:
    shape, arguments = case
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    expected, original = x.copy(), x.copy()
    place = x[numpy_index(arguments)]
    if np.ndim(place) == 0:
        with pytest.raises(AnecError):
            run("slice_update", x, np.array(1, np.float32), **arguments)
        return
    update = -1 - np.arange(place.size, dtype=np.float32).reshape(place.shape)
    expected[numpy_index(arguments)] = update
    np.testing.assert_array_equal(run("slice_update", x, update, **arguments), expected)
    np.testing.assert_array_equal(x, original, "the operand stays as it was")


def test_slices_refuse_what_does_not_fit() -> None:
    x = values(3, 4)
    with pytest.raises(AnecError, match="stride of 0"):
        run("slice_by_index", x, (0, 0), (2, 2), stride=(1, 0))
    with pytest.raises(AnecError, match="each of 2 axes"):
        run("slice_by_index", x, (0,), (2,))
    with pytest.raises(AnecError, match="index 3 of axis 0"):
        run("slice_by_index", x, (3, 0), (0, 2), squeeze_mask=(True, False))
    with pytest.raises(AnecError, match="slice of"):
        run("slice_update", x, values(1, 4), (0, 0), (2, 4))


def test_slice_by_size() -> None:
    x = values(4, 5, 6)
    np.testing.assert_array_equal(run("slice_by_size", x, (1, 0, 3), (2, -1, 3)), x[1:3, :, 3:])
    np.testing.assert_array_equal(run("slice_by_size", x, (0, -2, -6), (4, -1, 2)), x[:, -2:, :2])
    begin = np.array([1, 2, 3], dtype=np.int32)
    np.testing.assert_array_equal(run("slice_by_size", x, begin, (1, 1, 1)), x[1:2, 2:3, 3:4])
    with pytest.raises(AnecError):
        run("slice_by_size", x, (3, 0, 0), (2, 5, 6))


# -- blocks


@pytest.mark.parametrize(("block", "shape"), [(2, (2, 3, 4, 6)), (3, (1, 2, 6, 3))])
def test_space_and_depth(block: int, shape: tuple[int, ...]) -> None:
    x = values(*shape)
    c = shape[1]
    by_block = run("space_to_depth", x, block)
    by_channel = run("pixel_unshuffle", x, block)
    for by, bx, channel in itertools.product(range(block), range(block), range(c)):
        piece = x[:, channel, by::block, bx::block]
        np.testing.assert_array_equal(by_block[:, (by * block + bx) * c + channel], piece)
        np.testing.assert_array_equal(by_channel[:, channel * block * block + by * block + bx], piece)
    np.testing.assert_array_equal(run("depth_to_space", by_block, block), x)
    np.testing.assert_array_equal(run("pixel_shuffle", by_channel, block), x)
    for name, bad in (("depth_to_space", values(1, 3, 2, 2)), ("space_to_depth", values(1, 1, 7, 6))):
        with pytest.raises(AnecError):
            run(name, bad, 2 * block)


@pytest.mark.parametrize(("block", "pads"), [((2, 2), ((0, 0), (0, 0))), ((2, 3), ((1, 2), (0, 2)))])
def test_space_and_batch(block: tuple[int, int], pads: tuple[tuple[int, int], tuple[int, int]]) -> None:
    x = values(2, 3, 5 if pads[0][0] else 4, 7 if pads[1][1] else 6)
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    result = run("space_to_batch", x, block, pads)
    for by, bx, entry in itertools.product(range(block[0]), range(block[1]), range(2)):
        piece = padded[entry, :, by :: block[0], bx :: block[1]]
        np.testing.assert_array_equal(result[(by * block[1] + bx) * 2 + entry], piece)
    flat = (*pads[0], *pads[1])
    np.testing.assert_array_equal(run("batch_to_space", result, block, flat), x)


# -- gather


@st.composite
def gathers(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    shape = draw(shapes)
    axis = draw(st.integers(0, len(shape) - 1))
    batch = draw(st.integers(0, axis))
    more = draw(st.lists(st.integers(1, 3), min_size=0, max_size=2))
    return shape, (*shape[:batch], *more), axis, batch


@EXAMPLES
@given(gathers(), st.booleans())
def test_gather_with_batch_axes(case: tuple[tuple[int, ...], tuple[int, ...], int, int], negative_axis: bool) -> None:
    shape, index_shape, axis, batch = case
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    size = shape[axis]
    indices = np.random.default_rng(0).integers(-size, size, index_shape).astype(np.int32)
    rows = np.empty(index_shape[:batch], dtype=object)
    for place in np.ndindex(*shape[:batch]):
        rows[place] = np.take(x[place], indices[place], axis=axis - batch)
    expected = np.array(rows.tolist()) if batch else rows[()]
    at = axis - len(shape) if negative_axis else axis
    np.testing.assert_array_equal(
        run("gather", x, indices, axis=at, batch_dims=batch, opset=16), expected.astype(np.float32)
    )
    positive = np.where(indices < 0, indices + size, indices)
    assert run("gather", x, positive, axis=at, batch_dims=batch, opset=17).shape == expected.shape


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.bool_])
def test_gather_moves_every_dtype(dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2 if dtype == np.bool_ else 100, (4, 3)).astype(dtype)
    indices = np.array([[3, 0], [1, 1]], dtype=np.int32)
    np.testing.assert_array_equal(run("gather", x, indices), x[indices])
    along = np.array([[3, 0, 1]], dtype=np.int16)
    np.testing.assert_array_equal(run("gather_along_axis", x, along), np.take_along_axis(x, along.astype(int), 0))
    vectors = np.array([[0, 2], [3, 1]], dtype=np.uint16)
    np.testing.assert_array_equal(run("gather_nd", x, vectors), [x[0, 2], x[3, 1]])


@pytest.mark.parametrize(("batch", "depth"), [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)])
def test_gather_nd_with_batch_axes(batch: int, depth: int) -> None:
    x = values(2, 3, 4)
    generator = np.random.default_rng(batch + depth)
    limits = x.shape[batch : batch + depth]
    picked = (*(2, 3)[:batch], 5)
    indices = np.stack([generator.integers(-n, n, picked) for n in limits], axis=-1).astype(np.int32)
    expected = np.empty((*picked, *x.shape[batch + depth :]))
    for place in np.ndindex(*picked):
        expected[place] = x[(*place[:batch], *indices[place])]
    np.testing.assert_array_equal(run("gather_nd", x, indices, batch_dims=batch, opset=15), expected)


def test_undefined_reads_show() -> None:
    x = values(3, 2)
    outside = np.array([0, -1, 3], dtype=np.int32)
    result = run("gather", x, outside, opset=17)
    np.testing.assert_array_equal(result[0], x[0])
    assert np.isnan(result[1:]).all()
    np.testing.assert_array_equal(run("gather", x, outside[:2], opset=16), x[[0, -1]])
    assert np.isnan(run("gather", x, outside, opset=16)[2]).all(), "beyond the wrapped range too"
    lowest = np.iinfo(np.int32).min
    assert run("gather", values(3, dtype=np.int32), outside, opset=18).tolist()[1:] == [lowest] * 2
    for name, indices in (("gather", outside), ("gather_along_axis", outside[:, None].repeat(2, 1))):
        with pytest.raises(AnecError, match="out of bounds"):
            run(name, x, indices, validate_indices=True)
    with pytest.raises(AnecError, match="out of bounds"):
        run("gather_nd", x, np.array([[0, 2]], dtype=np.int32), validate_indices=True)


# -- scatter


def _combine(mode: str, data: np.ndarray, at: tuple[Any, ...], update: Any) -> None:
    if mode == "update":
        data[at] = update
    elif mode == "div" and np.issubdtype(data.dtype, np.integer):
        data[at] = int(data[at] / update)
    else:
        names = {"sub": "subtract", "mul": "multiply", "div": "divide", "max": "maximum", "min": "minimum"}
        data[at] = getattr(np, names.get(mode, mode))(data[at], update)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_scatter_accumulates_repeated_indices(mode: str, dtype: Any) -> None:
    data = values(3, 4, 2, dtype=dtype) * (50 if dtype == np.int32 else 1)
    generator = np.random.default_rng(5)
    for axis in (-3, 1, 2):
        at = axis % 3
        count = 6
        shape = (*data.shape[:at], count, *data.shape[at + 1 :])
        updates = generator.integers(1, 9, shape).astype(dtype) * generator.choice([-1, 1], shape).astype(dtype)
        indices = generator.integers(-data.shape[at], data.shape[at], count).astype(np.int32)
        expected = data.copy()
        for place in np.ndindex(*shape):
            target = (*place[:at], indices[place[at]], *place[at + 1 :])
            _combine(mode, expected, target, updates[place])
        result = run("scatter", data, indices, updates, axis=axis, mode=mode, opset=16)
        np.testing.assert_allclose(result, expected, rtol=1e-12)
        assert result.dtype == dtype

        spread = generator.integers(0, data.shape[at], shape).astype(np.int32)
        expected = data.copy()
        for place in np.ndindex(*shape):
            target = (*place[:at], spread[place], *place[at + 1 :])
            _combine(mode, expected, target, updates[place])
        result = run("scatter_along_axis", data, spread, updates, axis=axis, mode=mode)
        np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd(mode: str, depth: int) -> None:
    data = values(3, 4, 2)
    generator = np.random.default_rng(depth)
    indices = np.stack([generator.integers(-n, n, (2, 4)) for n in data.shape[:depth]], axis=-1).astype(np.int32)
    updates = generator.uniform(0.5, 2, (2, 4, *data.shape[depth:]))
    expected = data.copy()
    for place in np.ndindex(2, 4):
        for inner in np.ndindex(*data.shape[depth:]):
            _combine(mode, expected, (*indices[place], *inner), updates[(*place, *inner)])
    np.testing.assert_allclose(run("scatter_nd", data, indices, updates, mode=mode, opset=15), expected, rtol=1e-12)


def test_scatter_defaults_and_bounds() -> None:
    data = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
    updates = np.array([[5, 6, 7], [8, 9, 10]], dtype=np.float32)
    swapped = np.array([1, 0], dtype=np.int32)
    np.testing.assert_array_equal(run("scatter", data, swapped, updates), [[9, 11, 13], [9, 11, 13]])
    outside = np.array([-1, 0], dtype=np.int32)
    np.testing.assert_array_equal(run("scatter", data, outside, updates, opset=16), [[9, 11, 13], [9, 11, 13]])
    np.testing.assert_array_equal(run("scatter", data, outside, updates, opset=17), [[9, 11, 13], [4, 5, 6]])
    with pytest.raises(AnecError, match="out of bounds"):
        run("scatter", data, outside, updates, validate_indices=True)
    with pytest.raises(AnecError, match="mode"):
        run("scatter", data, swapped, updates, mode="max_out")
    with pytest.raises(AnecError, match="updates has shape"):
        run("scatter", data, swapped, updates[:1])
