"""Views, permutations, repetitions, shuffles."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.dialects import aten
from anec.errors import UnsupportedError
from anec.testing import check_lowering, check_module_lowering, module_of
from lowering import TARGETS, Case, bools, case, floats, integers, op_names

X, N, B = floats(2, 3, 4), integers(2, 3, 4), bools(2, 3, 4)
IMAGE = floats(2, 12, 4, 6)
CASES = [
    *(
        case(name, x, *args)
        for x in (X, N, B)
        for name, args in (
            ("view", ([6, 4],)),
            ("view", ([2, -1],)),
            ("reshape", ([-1],)),
            ("permute", ([2, 0, 1],)),
            ("permute", ([-1, 0, -2],)),
            ("transpose.int", (0, -1)),
            ("unsqueeze", (-1,)),
            ("unsqueeze", (1,)),
            ("flatten.using_ints", (1,)),
            ("unflatten.int", (2, [2, -1])),
            ("repeat", ([2, 1, 3],)),
            ("repeat", ([2, 1, 1, 3],)),
            ("repeat_interleave.self_int", (2, 1)),
            ("repeat_interleave.self_int", (3,)),
            ("flip", ([0, -1],)),
            ("roll", ([1], [1])),
        )
    ),
    case("view", X, [2, 3, 4]),
    case("view", X, [1, 2, 3, 1, 4, 1][:5]),
    case("view", floats(), [1, 1]),
    case("view", floats(1, 1), []),
    case("_unsafe_view", X, [4, 6]),
    case("view_as", X, floats(6, 4)),
    case("reshape_as", X, floats(6, 4)),
    case("ravel", X),
    case("flatten.using_ints", X),
    case("flatten.using_ints", floats()),
    case("flatten.using_ints", X, 0, 1),
    case("squeeze", floats(1, 3, 1, 4)),
    case("squeeze", floats(1, 1)),
    case("squeeze", X),
    case("squeeze.dim", floats(1, 3, 1, 4), -2),
    case("squeeze.dim", X, 0),
    case("squeeze.dims", floats(1, 3, 1, 4), [0, 1, 2]),
    case("squeeze.dims", floats(1, 1), [0, 1]),
    case("squeeze.dim", floats(), 0),
    case("unsqueeze", floats(), 0),
    case("atleast_1d", floats()),
    case("atleast_2d", floats(3)),
    case("atleast_3d", floats(3)),
    case("atleast_3d", floats(3, 4)),
    case("permute", X, [0, 1, 2]),
    case("permute", floats(), []),
    case("t", floats(3, 4)),
    case("t", floats(3)),
    case("numpy_T", X),
    case("mT", X),
    case("adjoint", X),
    case("swapaxes", X, 0, 2),
    case("swapdims", X, 1, -1),
    case("movedim.int", X, 0, -1),
    case("movedim.intlist", X, [0, 1], [-1, 0]),
    case("moveaxis.int", X, -1, 0),
    case("expand", floats(3, 1), [3, 4]),
    case("expand", floats(3, 1), [2, -1, 4]),
    case("expand", floats(3, 1), [1, 3, 1]),
    case("expand", floats(), [2, 3]),
    case("expand", floats(3), [3]),
    case("expand", bools(1, 3), [2, 3]),
    case("expand", integers(1, 3), [2, 3]),
    case("expand_as", floats(3, 1), floats(2, 3, 4)),
    case("broadcast_to", floats(3, 1), [2, 3, 4]),
    case("broadcast_tensors", [floats(3, 1), floats(1, 4), floats()]),
    case("repeat", floats(), [2, 3]),
    case("repeat", X, [1, 1, 1]),
    case("tile", X, [2]),
    case("tile", X, [2, 1, 1, 1]),
    case("repeat_interleave.self_int", X, 1, 0),
    case("repeat_interleave.self_int", floats(2, 3, 4, 2, 2), 2, 2),
    case("repeat_interleave.self_int", X, 3, -1),
    case("roll", X, [-1, 5], [0, -1]),
    case("roll", X, [5]),
    case("roll", X, [3], [1]),
    case("roll", floats(5), [7], [0]),
    case("flip", X, []),
    case("flip", floats(), []),
    case("fliplr", X),
    case("flipud", X),
    *(case("rot90", X, k, dims) for k in (-1, 0, 1, 2, 3, 5) for dims in ([0, 1], [2, 1], [-1, 0])),
    *(
        case(name, x, 2)
        for x in (IMAGE, IMAGE[0], IMAGE[None], IMAGE.long(), IMAGE > 0)
        for name in ("pixel_shuffle", "pixel_unshuffle")
    ),
    case("pixel_shuffle", floats(1, 9, 5, 3), 3),
    case("pixel_unshuffle", floats(1, 2, 9, 6), 3),
    case("channel_shuffle", IMAGE, 3),
    case("channel_shuffle", floats(2, 6, 5), 2),
    case("channel_shuffle", floats(2, 6, 2, 3, 4), 3),
    case("native_channel_shuffle", IMAGE, 4),
    case("dropout", X, 0.5, False),
    case("dropout", X, 0.0, True),
    case("native_dropout", X, 0.5, False),
    case("alpha_dropout", X, 0.5, False),
    case("feature_dropout", X, 0.5, False),
    case("as_strided", floats(24), [2, 3, 4], [12, 4, 1]),
    case("as_strided", X, [4, 2, 3], [1, 12, 4]),
    case("as_strided", X, [3, 4], [4, 1], 12),
    case("as_strided", floats(3, 4), [3, 2, 4], [4, 0, 1]),
    case("as_strided", floats(3, 4), [], [], 5),
    case("meshgrid", [floats(3), floats(4), floats(2)]),
    case("meshgrid", [floats(3), floats()]),
    case("meshgrid.indexing", [floats(3), floats(4), floats(2)], indexing="xy"),
    case("meshgrid.indexing", [floats(3), floats(4)], indexing="ij"),
    case("meshgrid.indexing", [floats(3)], indexing="xy"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("made", CASES, ids=str)
def test_equals_torch(made: Case, target: str) -> None:
    made.check(target)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (case("view", X, [2, 3, 4]), []),
        (case("view", X, [2, 1, 3, 4]), ["expand_dims"]),
        (case("view", floats(2, 1, 3), [2, 3]), ["squeeze"]),
        (case("view", X, [6, 4]), ["reshape"]),
        (case("permute", X, [0, 1, 2]), []),
        (case("squeeze.dim", X, 0), []),
        (case("expand", floats(1, 3), [1, 3]), []),
        (case("expand", floats(3), [1, 3]), ["expand_dims"]),
        (case("expand", floats(1, 3), [2, 3]), ["tile"]),
        (case("repeat", X, [1, 1, 1]), []),
        (case("roll", X, [1], [1]), ["split", "concat"]),
        (case("roll", X, [6], [1]), []),
        (case("rot90", X, 2, [0, 1]), ["reverse"]),
        (case("rot90", X, 1, [0, 1]), ["reverse", "transpose"]),
        (case("pixel_shuffle", IMAGE, 2), ["pixel_shuffle"]),
        (case("pixel_unshuffle", IMAGE, 2), ["pixel_unshuffle"]),
        (case("channel_shuffle", IMAGE, 3), ["reshape", "transpose", "reshape"]),
        (case("dropout", X, 0.5, False), []),
    ],
    ids=str,
)
def test_smallest_form(made: Case, expected: list[str]) -> None:
    assert op_names(made.check()) == expected


def test_pixel_unshuffle_before_ios16_is_taken_apart() -> None:
    assert op_names(case("pixel_unshuffle", IMAGE, 2).check("iOS15")) == ["reshape", "transpose", "reshape"]


def test_training_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="training mode"):
        check_lowering("aten.dropout.default", X, 0.5, True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_chains_of_views_and_permutes(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5))
    order = data.draw(st.permutations(range(len(sizes))))
    x = torch.arange(torch.Size(sizes).numel(), dtype=torch.float32).reshape(sizes)
    module, inputs = module_of(lambda x: aten.flatten.using_ints(aten.permute.default(x, tuple(order))), x)
    check_module_lowering(module, inputs)
