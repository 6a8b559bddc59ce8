"""Comparisons, logic, choices, bit masks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import AnecError
from anec.testing import DECLARED, check_lowering
from lowering import SPECIAL, TARGETS, Case, bools, case, floats, integers, op_names

F, G, N, J, B, C = floats(2, 3), floats(2, 3, seed=1), integers(2, 3), integers(2, 3, seed=1), bools(2, 3), bools(3)
ONE = torch.tensor(1.0)

COMPARISONS = [
    case(f"{name}.{overload}", left, right)
    for name in ("eq", "ne", "lt", "le", "gt", "ge")
    for overload, left, right in (
        ("Tensor", F, G),
        ("Tensor", N, J),
        ("Tensor", N, floats(3).round()),
        ("Tensor", N, ONE),
        ("Tensor", B, C),
        ("Tensor", B, N),
        ("Tensor", F.half(), ONE),
        ("Scalar", F, 0.25),
        ("Scalar", N, 1),
        ("Scalar", N, 1.0),
        ("Scalar", N, 0.5),
        ("Scalar", B, True),
        ("Scalar", B, False),
        ("Scalar", B, 1),
        ("Scalar", F[0, 0], 0),
        ("Scalar", N, 2**63 - 1),
    )
]

LOGIC = [
    *(case(f"logical_{name}", a, b) for name in ("and", "or", "xor") for a, b in ((B, C), (N, C), (F.round(), N))),
    *(case("logical_not", x) for x in (B, N, F.round(), N.int())),
    case("not_equal.Scalar", N, 2),
    case("greater_equal.Tensor", F, G),
]

CHOICES = [
    case("where.self", B, F, G),
    case("where.self", C, F, G),
    case("where.self", B, F[0], G[:, :1]),
    case("where.self", B, ONE, torch.tensor(2.0)),
    case("where.self", B, floats(3), torch.tensor(2.0)),
    case("where.self", B, N, F),
    case("where.self", B, B, C),
    case("where.ScalarOther", B, F, 2),
    case("where.ScalarOther", B, N, 2.5),
    case("where.ScalarSelf", B, -math.inf, G),
    case("where.ScalarSelf", B, 1.0, floats(1)),
    *(case("where.Scalar", B, *pair) for pair in ((1.0, 0.0), (0, 1), (0.5, -math.inf), (True, False), (3, 4))),
    case("masked_fill.Scalar", F, B, -1e9),
    case("masked_fill.Scalar", F, C, 2),
    case("masked_fill.Scalar", F.half(), B, -65504.0),
    case("masked_fill.Scalar", N, B, 7),
    case("masked_fill.Scalar", C, B[:1], True),
    case("masked_fill.Tensor", F, B, ONE),
    case("masked_fill.Tensor", F[:1], B, ONE),
]

CLASSES = [case(name, x) for name in ("isnan", "isinf", "isposinf", "isneginf", "isfinite") for x in (SPECIAL, N)]

MEMBERS = [
    case("isin.Tensor_Tensor", N, torch.tensor([1, 3, -2])),
    case("isin.Tensor_Tensor", N, torch.tensor([[1, 3], [2, 0]]), invert=True),
    case("isin.Tensor_Tensor", F.round(), torch.tensor([1, 0])),
    case("isin.Tensor_Scalar", N, 3),
    case("isin.Tensor_Scalar", N, 3, invert=True),
    case("isin.Scalar_Tensor", 3, N),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", [*COMPARISONS, *LOGIC, *CHOICES, *CLASSES, *MEMBERS], ids=str)
def test_same_as_torch(call: Case, target: str) -> None:
    call.check(target)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_nan_equals_nothing(name: str) -> None:
    check_lowering(f"aten.{name}.Tensor", SPECIAL, SPECIAL.flip(0), precision=DECLARED)


BITS = [
    *(case(f"bitwise_{name}.Tensor", B, C) for name in ("and", "or", "xor")),
    case("bitwise_not", B),
    case("bitwise_not", N),
    case("bitwise_not", integers(9, low=0, high=256, dtype=torch.uint8)),
    case("__and__.Tensor", B, C),
    case("__or__.Scalar", N, 3),
    *(case("bitwise_left_shift.Tensor_Scalar", N, k) for k in (0, 3)),
    *(case("bitwise_right_shift.Tensor_Scalar", integers(20, low=-100, high=100), k) for k in (0, 1, 3)),
    case("bitwise_left_shift.Tensor", N, integers(3, low=0, high=5)),
    case("bitwise_right_shift.Tensor", N * 100, integers(3, low=0, high=5)),
    case("__lshift__.Scalar", N, 2),
    case("bitwise_left_shift.Tensor_Scalar", integers(9, low=0, high=256, dtype=torch.uint8), 3),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", BITS, ids=str)
def test_bits(call: Case, target: str) -> None:
    call.check(target)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["and", "or", "xor"]),
    mask=st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([0, -1, 1, 255, 0xFF00, ~7, -(2**31)])),
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=6),
)
def test_masks_of_bits(name: str, mask: int, numbers: list[int]) -> None:
    """Any mask on any int32; sums that leave int32 on the way wrap back."""
    check_lowering(f"aten.bitwise_{name}.Scalar", torch.tensor(numbers, dtype=torch.int32), mask)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["and", "or", "xor"]),
    left=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=4, max_size=4),
    right=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=4, max_size=4),
)
def test_bits_of_two_computed_integers(name: str, left: list[int], right: list[int]) -> None:
    x, y = torch.tensor(left, dtype=torch.int32).reshape(2, 2), torch.tensor(right, dtype=torch.int32).reshape(2, 1, 2)
    check_lowering(f"aten.bitwise_{name}.Tensor", x, y)


STRUCTURE = [
    (case("eq.Tensor", F, G), ["equal"]),
    (case("eq.Scalar", N, 1.0), ["equal"]),
    (case("eq.Scalar", B, True), []),
    (case("ne.Scalar", B, True), ["logical_not"]),
    (case("ge.Tensor", B, C), ["logical_not", "logical_or"]),
    (case("logical_not", F), ["equal"]),
    (case("masked_fill.Scalar", F, B, -1.0), ["select"]),
    (case("where.self", B, F, G), ["select"]),
    (case("where.Scalar", B, 1.0, 0.0), ["cast"]),
    (case("where.Scalar", B, 0.0, -1.0), ["fill", "select"]),
    (case("isnan", F), ["not_equal"]),
    (case("isfinite", F), ["abs", "less"]),
    (case("bitwise_and.Scalar", N, 7), ["mod"]),
]


@pytest.mark.parametrize(("call", "ops"), STRUCTURE, ids=str)
def test_the_ops_it_takes(call: Case, ops: list[str]) -> None:
    assert op_names(call.check()) == ops


def test_select_has_the_whole_shape_in_one_of_its_branches() -> None:
    """Core ML takes the result's shape from them, not from the condition."""
    for call in (
        case("where.self", B, F[0], G[:1]),
        case("where.Scalar", B, 0.5, 2.0),
        case("where.self", B, ONE, ONE),
    ):
        module = call.check()
        (select,) = (op for op in module.main.ops() if op.defn.root == "select")
        shapes = [operand.shape for operand in select.operands[1:] if hasattr(operand, "shape")]
        assert torch.broadcast_shapes(*shapes) == (2, 3)


def test_the_extremes_of_int64_are_those_of_int32() -> None:
    """What torch fills in where nothing is beyond; any other number beyond int32 is an error."""
    x, low, high = torch.tensor([3, -4]), torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    check_lowering("aten.minimum.default", x, torch.tensor([high, 2]), weights=["other"])
    check_lowering("aten.maximum.default", x, torch.tensor([2, low]), weights=["other"])
    with pytest.raises(AnecError, match="holds 4294967296, beyond int32"):
        check_lowering("aten.minimum.default", x, torch.tensor([high, 2**32]), weights=["other"])


def test_zero_to_a_negative_power() -> None:
    """Torch has 0 for it, as for every whole number but 1 and -1."""
    x, y = torch.tensor([0, 1, -1, 2, 3]), torch.tensor([-1, -2, -3, -1, 2])
    check_lowering("aten.pow.Tensor_Tensor", x, y)
