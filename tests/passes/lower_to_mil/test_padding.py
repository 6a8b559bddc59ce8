"""Padding and sliding windows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import UnsupportedError
from anec.testing import check_lowering
from lowering import TARGETS, Case, bools, case, floats, integers, op_names

X = floats(2, 3, 5, 6)
VOLUME = floats(2, 3, 4, 5, 6)
IMAGE = floats(2, 3, 7, 6)


def folded(
    lead: tuple[int, ...],
    size: tuple[int, int],
    kernel: list[int],
    dilation: list[int],
    padding: list[int],
    stride: list[int],
    dtype: torch.dtype = torch.float32,
) -> Case:
    """col2im of three channels, with as many windows as fit."""
    counts = [(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    x = (floats(*lead, 3 * kernel[0] * kernel[1], counts[0] * counts[1]) * 9).to(dtype)
    return case("col2im", x, list(size), kernel, dilation, padding, stride)


CASES = [
    *(
        case("constant_pad_nd", x, pad, value)
        for x in (X, X.half(), X.long(), X > 0)
        for pad in ([1, 2], [1, 2, 3, 0], [0, 0, 0, 0, 1, 1], [1, 0, 0, 2, 1, 1, 2, 1])
        for value in (0, 1)
    ),
    case("constant_pad_nd", X, [1, 2], -0.5),
    case("constant_pad_nd", X, [-1, 2, 1, -2]),
    case("constant_pad_nd", X.long(), [-1, 2, 1, -2], 3),
    case("constant_pad_nd", X, [0, 0]),
    case("constant_pad_nd", X, [-1, -2]),
    case("constant_pad_nd", floats(4), [1, 1], float("-inf")),
    case("constant_pad_nd", VOLUME, [1, 2, 3, 4, 5, 6], 2),
    case("constant_pad_nd", integers(3) + 2**30, [1, 1], 2**30 + 1),
    case("pad", X, [1, 2]),
    case("pad", X, [1, 2], "constant", 0.5),
    *(case("pad", X, [1, 2, 3, 2], mode) for mode in ("reflect", "replicate", "circular")),
    *(case("pad", X.long(), [1, 2, 3, 2], mode) for mode in ("reflect", "replicate", "circular")),
    *(case("pad", VOLUME, [1, 2, 3, 2, 2, 1], mode) for mode in ("reflect", "replicate", "circular")),
    *(case("pad", VOLUME.long(), [0, 0, 0, 0, 2, 1], mode) for mode in ("reflect", "replicate", "circular")),
    *(case("pad", floats(3, 5), [4, 3], mode) for mode in ("reflect", "replicate", "circular")),
    case("pad", floats(3, 5), [5, 5], "circular"),
    case("pad", floats(1, 3, 5), [9, 7], "replicate"),
    case("pad", X, [-1, 2, 1, -2], "circular"),
    *(
        case(f"{kind}_pad1d", floats(*shape), pad)
        for kind in ("reflection", "replication")
        for shape in ((3, 5), (2, 3, 5))
        for pad in ([2, 3], [0, 1], [-1, 2], [3, -2])
    ),
    *(
        case(f"{kind}_pad2d", floats(*shape), pad)
        for kind in ("reflection", "replication")
        for shape in ((3, 5, 4), (2, 3, 5, 4))
        for pad in ([2, 3, 1, 0], [0, 0, 2, 2], [1, -1, -2, 1])
    ),
    *(
        case(f"{kind}_pad3d", floats(*shape), pad)
        for kind in ("reflection", "replication")
        for shape in ((3, 4, 5, 4), (2, 3, 4, 5, 4))
        for pad in ([2, 3, 1, 0, 1, 2], [0, 0, 2, 2, 0, 0])
    ),
    *(
        case("unfold", x, dim, size, step)
        for x in (X, integers(4, 7), bools(4, 7), floats(7))
        for dim, size, step in ((0, 2, 1), (-1, 3, 2), (-1, 2, 2), (-1, 3, 3), (-1, 5, 5))
        if -x.dim() <= dim < x.dim() and size <= x.shape[dim]
    ),
    case("unfold", X, 1, 3, 1),
    case("unfold", X, 2, 2, 3),
    case("unfold", floats(), 0, 1, 1),
    *(
        case("im2col", image, *form)
        for image in (IMAGE, IMAGE[0], IMAGE > 0)
        for form in (
            ([3, 2], [1, 1], [0, 0], [1, 1]),
            ([3, 3], [1, 1], [1, 1], [2, 1]),
            ([2, 2], [2, 3], [1, 2], [1, 2]),
            ([7, 3], [1, 1], [0, 0], [7, 3]),
            ([1, 1], [1, 1], [0, 0], [1, 1]),
            ([7, 6], [1, 1], [0, 0], [1, 1]),
        )
    ),
    *(
        folded(lead, size, *form)
        for lead in ((2,), ())
        for size, form in (
            ((6, 6), ([3, 2], [1, 1], [0, 0], [1, 1])),
            ((7, 6), ([3, 3], [1, 1], [1, 1], [2, 1])),
            ((6, 4), ([2, 2], [1, 1], [0, 0], [2, 2])),
            ((7, 7), ([2, 2], [1, 1], [0, 0], [2, 2])),
            ((8, 8), ([2, 2], [2, 2], [0, 0], [2, 2])),
            ((9, 10), ([2, 3], [1, 1], [0, 0], [4, 4])),
        )
    ),
    folded((1,), (6, 4), [2, 2], [1, 1], [0, 0], [2, 2], dtype=torch.bool),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("made", CASES, ids=str)
def test_equals_torch(made: Case, target: str) -> None:
    made.check(target)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    mode=st.sampled_from(["constant", "reflect", "replicate", "circular"]),
    whole=st.booleans(),
    data=st.data(),
)
def test_pads_of_every_kind(sizes: tuple[int, int], mode: str, whole: bool, data: st.DataObject) -> None:
    pads: list[int] = []
    for size in reversed(sizes):
        most = {"reflect": size - 1, "circular": size}.get(mode, 7)
        # torch pads circularly by whole amounts, or crops.
        pads += [data.draw(st.integers(-(size // 2) if mode == "constant" else 0, most)) for _ in range(2)]
        if size + pads[-1] + pads[-2] <= 0:
            pads[-2:] = [0, 0]
    x = floats(1, 2, *sizes)
    check_lowering("aten.pad.default", integers(1, 2, *sizes) if whole else x, pads, mode)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (case("constant_pad_nd", X, [1, 2]), ["pad"]),
        (case("constant_pad_nd", X, [0, 0]), []),
        (case("constant_pad_nd", X, [-1, -2]), ["slice_by_index"]),
        (case("reflection_pad2d", X, [1, 2, 3, 0]), ["pad"]),
        (case("replication_pad3d", VOLUME, [1, 1, 1, 1, 1, 1]), ["reshape", "pad", "reshape", "pad"]),
        (case("pad", X, [1, 2, 0, 0], "circular"), ["slice_by_index", "slice_by_index", "concat"]),
        (case("im2col", IMAGE, [3, 2], [1, 1], [0, 0], [1, 1]), ["conv", "reshape"]),
        (case("im2col", IMAGE, [7, 3], [1, 1], [0, 0], [7, 3]), ["reshape", "transpose", "reshape"]),
        (case("unfold", X, -1, 2, 2), ["reshape"]),
        (case("unfold", X, -1, 3, 1), ["sliding_windows"]),
        (case("unfold", X, -1, 6, 1), ["expand_dims"]),
    ],
    ids=str,
)
def test_smallest_form(made: Case, expected: list[str]) -> None:
    assert op_names(made.check()) == expected


def test_pads_stand_in_axis_order_for_every_axis() -> None:
    (op,) = check_lowering("aten.constant_pad_nd.default", X, [1, 2, 3, 4], 0.5).main.ops()
    assert str(op.operand("pad")) == "[0, 0, 0, 0, 3, 4, 1, 2]"
    assert op.attrs["constant_val"] == 0.5


def test_adding_windows_of_booleans_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="adds windows of floats only"):
        folded((1,), (6, 6), [3, 2], [1, 1], [0, 0], [1, 1], dtype=torch.bool).check()
