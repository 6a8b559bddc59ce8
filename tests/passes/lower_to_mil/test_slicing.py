"""Slices, picks, splits, diagonals; and putting tensors together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.dialects import aten
from anec.errors import UnsupportedError
from anec.testing import check_lowering, check_module_lowering, module_of
from lowering import TARGETS, Case, bools, case, floats, integers, op_names

END = 2**63 - 1
X, N, B = floats(4, 6, 5), integers(4, 6, 5), bools(4, 6, 5)
SQUARE = floats(2, 4, 5, 3)
CASES = [
    *(
        case(name, x, *args)
        for x in (X, N, B)
        for name, args in (
            ("slice.Tensor", (1, 1, 4)),
            ("slice.Tensor", (-1, -3, END)),
            ("select.int", (1, -1)),
            ("narrow", (0, 1, 2)),
            ("split.Tensor", (2, 1)),
            ("unbind.int", (0,)),
            ("diagonal", (0, 0, 1)),
        )
    ),
    *(
        case("slice.Tensor", X, dim, start, end, step)
        for dim in (0, -2)
        for start, end in (
            (None, None),
            (0, END),
            (2, END),
            (-2, END),
            (None, 3),
            (None, -1),
            (1, 100),
            (-100, 3),
            (-100, 100),
        )
        for step in (1, 2, 7)
    ),
    case("slice.Tensor", X, 1, 0, 6),
    *(case("select.int", X, dim, index) for dim in (0, 1, -1) for index in (0, 2, -1, -3)),
    case("select.int", floats(5), 0, 3),
    case("select.int", floats(1, 5), 0, 0),
    case("narrow", X, 1, -4, 3),
    case("narrow", X, 1, 0, 6),
    case("narrow", X, -1, 2, 3),
    case("split.Tensor", X, 4, 1),
    case("split.Tensor", X, 6, 1),
    case("split_with_sizes", X, [1, 2, 3], 1),
    case("split_with_sizes", X, [6], -2),
    case("split.sizes", X, [2, 3], -1),
    case("unsafe_split.Tensor", X, 3, -1),
    case("chunk", X, 4, 1),
    case("chunk", X, 3, -1),
    case("unsafe_chunk", X, 2),
    case("tensor_split.sections", X, 4, 1),
    case("tensor_split.indices", X, [2, 3], 2),
    case("hsplit.int", X, 3),
    case("hsplit.array", floats(6), [2, 5]),
    case("vsplit.int", X, 2),
    case("dsplit.array", X, [1, 4]),
    case("unbind.int", X, -1),
    case("unbind.int", floats(1, 3)),
    *(case("diagonal", SQUARE, offset, *dims) for offset in (-3, -1, 0, 1, 3) for dims in ((1, 2), (2, 1))),
    *(case("diagonal", SQUARE, offset, *dims) for offset in (-1, 0, 1) for dims in ((0, 2), (-1, 1))),
    *(case("diag_embed", floats(2, 3), offset) for offset in (-2, -1, 0, 1, 3)),
    *(case("diag_embed", floats(2, 3, 4), offset, *dims) for offset in (-1, 0, 2) for dims in ((0, 2), (2, 1))),
    case("diag_embed", integers(2, 3), 1),
    case("diag_embed", bools(2, 3), -1),
    *(case("diag", floats(*shape), offset) for shape in ((4,), (4, 4), (3, 5)) for offset in (-1, 0, 2)),
    *(case("diagflat", floats(2, 3), offset) for offset in (-1, 0, 1)),
    *(case("cat", [floats(2, 3), floats(2, 4)], dim) for dim in (1, -1)),
    case("cat", [floats(2, 3), integers(1, 3), bools(3, 3)]),
    case("cat", [integers(2, 3), bools(3, 3)]),
    case("cat", [bools(2, 3), bools(3, 3)]),
    case("cat", [floats(2, 3).half(), floats(2, 3)]),
    case("cat", [torch.zeros(0), floats(2, 3), floats(2, 3)], 1),
    case("cat", [floats(2, 0, 3), floats(2, 4, 3)], 1),
    case("cat", [floats(2, 3)]),
    case("concat", [floats(2), floats(3)]),
    case("concatenate", [floats(2, 3), floats(2, 3)], -2),
    *(case("stack", [floats(2, 3), floats(2, 3, seed=1)], dim) for dim in (0, 1, 2, -1)),
    case("stack", [floats(), floats(seed=1), floats(seed=2)]),
    case("stack", [floats(2, 3)], 1),
    case("stack", [integers(2), floats(2)]),
    case("hstack", [floats(2, 3), floats(2, 4)]),
    case("hstack", [floats(2), floats(3)]),
    case("hstack", [floats(), floats()]),
    case("vstack", [floats(3), floats(3)]),
    case("vstack", [floats(), floats()]),
    case("row_stack", [floats(2, 3), floats(1, 3)]),
    case("dstack", [floats(3), floats(3)]),
    case("dstack", [floats(), floats()]),
    case("dstack", [floats(2, 3), floats(2, 3)]),
    case("dstack", [floats(2, 3, 1), floats(2, 3, 4)]),
    case("column_stack", [floats(3), floats(3, 2), floats(3)]),
    case("column_stack", [floats(), floats()]),
    case("block_diag", [floats(2, 3), floats(4), floats(), floats(3, 1)]),
    case("block_diag", [integers(2, 3), integers(2, 2)]),
    case("cartesian_prod", [floats(2), floats(3), floats(4)]),
    case("cartesian_prod", [floats(2)]),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("made", CASES, ids=str)
def test_equals_torch(made: Case, target: str) -> None:
    made.check(target)


@settings(max_examples=80, deadline=None)
@given(
    start=st.one_of(st.none(), st.integers(-9, 9)),
    end=st.one_of(st.none(), st.integers(-9, 9), st.just(END)),
    step=st.integers(1, 8),
)
def test_slices_of_every_kind(start: int | None, end: int | None, step: int) -> None:
    x = floats(7)
    if x[start:end:step].numel():
        check_lowering("aten.slice.Tensor", x, 0, start, end, step)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (case("slice.Tensor", X, 1, 0, END), []),
        (case("slice.Tensor", X, 1, -100, 100), []),
        (case("slice.Tensor", X, 1, 1, END), ["slice_by_index"]),
        (case("select.int", floats(1, 5), 0, 0), ["squeeze"]),
        (case("split.Tensor", X, 6, 1), []),
        (case("split.Tensor", X, 2, 1), ["split"]),
        (case("unbind.int", X, 0), ["slice_by_index"] * 4),
        (case("diagonal", floats(4, 4)), ["reshape", "slice_by_index"]),
        (case("cat", [floats(2, 3)]), []),
        (case("cat", [torch.zeros(0), floats(2, 3)], 1), []),
        (case("stack", [floats(2, 3)], 1), ["expand_dims"]),
    ],
    ids=str,
)
def test_smallest_form(made: Case, expected: list[str]) -> None:
    assert op_names(made.check()) == expected


def test_open_ends_are_masks() -> None:
    (op,) = check_lowering("aten.slice.Tensor", floats(2, 8), 1, -3, END).main.ops()
    assert str(op.operand("begin")) == "[0, 5]"
    assert (op.attrs["begin_mask"], op.attrs["end_mask"]) == ((True, False), (True, True))
    assert "stride" not in op.attrs


def test_picks_nobody_uses_vanish() -> None:
    def pick_one(x: object) -> object:
        return aten.unbind.int.many(x, 0)[2]

    module, inputs = module_of(pick_one, floats(4, 3))  # type: ignore[arg-type]
    assert op_names(check_module_lowering(module, inputs)) == ["slice_by_index"]


def test_an_empty_piece_must_be_unused() -> None:
    def pieces(used: slice) -> object:
        return lambda x: aten.split_with_sizes.default.many(x, (2, 0, 3), 0)[used]

    module, inputs = module_of(pieces(slice(0, 3, 2)), floats(5, 3))  # type: ignore[arg-type]
    assert op_names(check_module_lowering(module, inputs)) == ["split"]
    module, inputs = module_of(pieces(slice(0, 3)), floats(5, 3))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="empty piece"):
        check_module_lowering(module, inputs)


def test_an_empty_slice_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no empty tensors"):
        check_lowering("aten.slice.Tensor", X, 0, 3, 3)
