"""Arithmetic of two tensors or a tensor and a number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.ir.types import DType
from anec.testing import DECLARED, check_lowering
from lowering import SPECIAL, TARGETS, Case, between, bools, case, floats, integers, op_names

F, G = floats(2, 3, seed=1), floats(2, 3, seed=2)
ROW, SCALAR = floats(3, seed=3), floats(seed=4)
N, J = integers(2, 3, seed=1), integers(2, 3, seed=2)
POSITIVE = integers(2, 3, low=1, high=7)
NONZERO = torch.tensor([[1, -2, 3], [-1, 4, -5]])
B, C = bools(2, 3, seed=1), bools(2, 3, seed=2)

CASES = [
    *(
        case(f"{name}.{overload}", left, right, alpha=alpha)
        for name in ("add", "sub", "rsub")
        for overload, left, right in (
            ("Tensor", F, G),
            ("Tensor", F, ROW),
            ("Tensor", SCALAR, ROW),
            ("Tensor", N, J),
            ("Tensor", N, G),
            ("Scalar", F, 2.5),
            ("Scalar", N, 3),
            ("Scalar", N, 0.5),
        )
        for alpha in (1, 2)
    ),
    case("add.Tensor", F, 2.5, alpha=3),
    case("add.Tensor", F.half(), G.half()),
    case("add.Tensor", F.half(), G),
    case("add.Tensor", F.double(), G),
    case("add.Tensor", B, C),
    case("add.Tensor", B, N),
    case("add.Tensor", B, F, alpha=0.5),
    case("subtract.Tensor", F, G),
    case("mul.Tensor", F, G),
    case("mul.Tensor", F, ROW),
    case("mul.Tensor", N, J),
    case("mul.Tensor", B, C),
    case("mul.Tensor", B, F),
    case("mul.Scalar", N, 1.5),
    case("multiply.Scalar", F, -2),
    case("div.Tensor", F, G),
    case("div.Tensor", N, NONZERO),
    case("div.Tensor", B, NONZERO),
    case("div.Scalar", N, 3),
    case("true_divide.Scalar", F, 3.0),
    *(
        case("div.Tensor_mode", left, right, rounding_mode=mode)
        for left, right in ((F * 5, G), (N, NONZERO), (F * 5, 0.7), (N, NONZERO.float()))
        for mode in (None, "trunc", "floor")
    ),
    *(case("div.Scalar_mode", x, 2, rounding_mode=mode) for x in (N, F * 5) for mode in ("trunc", "floor")),
    case("floor_divide", N, NONZERO),
    case("floor_divide", F * 5, G),
    case("floor_divide.Scalar", N, -3),
    case("remainder.Tensor", F * 5, G),
    case("remainder.Tensor", N, NONZERO),
    case("remainder.Scalar", F * 5, -0.7),
    case("remainder.Scalar_Tensor", 5, NONZERO),
    case("fmod.Tensor", F * 5, G),
    case("fmod.Tensor", N, NONZERO),
    case("fmod.Scalar", F * 5, -0.7),
    case("fmod.Scalar", N, -3),
    *(case(name, *pair) for name in ("maximum", "minimum", "max.other", "min.other", "fmax", "fmin")
      for pair in ((F, ROW), (N, J), (B, C), (N, G))),
    case("fmax", SPECIAL, SPECIAL.flip(0)),
    case("fmin", SPECIAL, SPECIAL.flip(0)),
    case("maximum", SPECIAL, torch.zeros(10)),
    case("atan2", F, G),
    case("atan2", F, ROW),
    case("atan2", N, J),
    case("atan2", torch.tensor([0.0, 1, -1, 0, 0, 2]), torch.tensor([0.0, 0, 0, 1, -1, -2])),
    case("hypot", F, ROW),
    case("hypot", SPECIAL, SPECIAL.flip(0)),
    case("hypot", torch.tensor([math.inf, -math.inf, math.nan, 3.0]), torch.tensor(math.nan)),
    case("hypot", N, ROW),
    case("hypot", torch.tensor([3e200, 0, 1, -2e-200], dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)),
    case("hypot", torch.tensor([3e200, 0, -2e-200], dtype=torch.float64), torch.tensor([-4e200, 0, 1e-200], dtype=torch.float64)),
    case("lerp.Scalar", F, G, 0.3),
    case("lerp.Tensor", F, G, ROW),
    case("addcmul", F, G, ROW),
    case("addcmul", F, G, ROW, value=0.5),
    case("addcmul", N, J, NONZERO, value=3),
    case("addcdiv", F, G, ROW, value=-2),
    case("logaddexp", F * 50, G * 50),
    case("logaddexp2", F * 9, ROW),
    case("xlogy.Tensor", torch.tensor([0.0, 0, 2, 0]), torch.tensor([0.0, math.nan, 3, 5])),
    case("xlogy.Scalar_Other", F, 2.5),
    case("xlogy.Scalar_Other", torch.tensor([0.0, 1.0]), 0.0),
    case("xlogy.Scalar_Self", 2, F.abs()),
    case("xlogy.Scalar_Self", 0, torch.tensor([0.0, 1.0, math.nan])),
    case("special_xlog1py", F, G.abs()),
    case("copysign.Tensor", F, G),
    case("copysign.Scalar", F, -1),
    case("copysign.Scalar", N, 1),
    case("heaviside", torch.tensor([-1.0, 0.0, 2.0, math.nan]), torch.tensor([0.5])),
    case("heaviside", N, J),
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", CASES, ids=str)
def test_same_as_torch(call: Case, target: str) -> None:
    call.check(target)


SMALL = [
    case("add.Tensor", *(integers(9, low=0, high=256, seed=s, dtype=torch.uint8) for s in (1, 2))),
    case("sub.Tensor", *(integers(9, low=0, high=256, seed=s, dtype=torch.uint8) for s in (1, 2))),
    case("mul.Tensor", *(integers(9, low=-128, high=128, seed=s, dtype=torch.int8) for s in (1, 2))),
    case("rsub.Scalar", integers(9, low=0, high=256, dtype=torch.uint8), 255),
    case("neg", integers(9, low=-128, high=128, dtype=torch.int8)),
    case("square", integers(9, low=-(2**15), high=2**15, dtype=torch.int16)),
    # So does the number beside them, and an integer without axes.
    *(case(name, integers(9, low=low, high=low + 256, dtype=dtype), other)
      for dtype, low in ((torch.uint8, 0), (torch.int8, -128)) for other in (-3, 300)
      for name in ("floor_divide.Scalar", "remainder.Scalar", "fmod.Scalar")),
    *(case("div.Scalar_mode", integers(9, low=0, high=256, dtype=torch.uint8), -3, rounding_mode=mode)
      for mode in ("floor", "trunc")),
    case("div.Scalar", integers(9, low=0, high=256, dtype=torch.uint8), -3),
    *(case(name, integers(9, low=0, high=256, dtype=torch.uint8), torch.tensor(-3))
      for name in ("maximum", "remainder.Tensor")),
    case("where.self", bools(9), integers(9, low=0, high=256, dtype=torch.uint8), torch.tensor(-3)),
    case("masked_fill.Scalar", integers(9, low=0, high=256, dtype=torch.uint8), bools(9), -1),
    case("threshold", integers(9, low=0, high=256, dtype=torch.uint8), -3, 7),
    case("clamp", integers(9, low=0, high=256, dtype=torch.uint8), -100),
    case("full_like", integers(9, low=0, high=256, dtype=torch.uint8), -1),
]  # fmt: skip


@pytest.mark.parametrize("call", SMALL, ids=str)
def test_small_integers_wrap_around(call: Case) -> None:
    call.check("iOS15")


def test_one_op_where_mil_has_one() -> None:
    assert op_names(case("add.Tensor", F, G).check()) == ["add"]
    assert op_names(case("mul.Tensor", F, 2.0).check()) == ["mul"]
    assert op_names(case("div.Tensor", F, G).check()) == ["real_div"]
    assert op_names(case("sub.Tensor", F, 2.0, alpha=3).check()) == ["sub"], "alpha folds into the number"
    assert op_names(case("add.Tensor", F, G, alpha=2).check()) == ["mul", "add"]
    assert op_names(case("mul.Tensor", N, F).check()) == ["cast", "mul"]


def test_a_constant_beyond_int32_is_refused() -> None:
    from anec.errors import AnecError

    with pytest.raises(AnecError, match="does not fit int32"):
        case("add.Scalar", N, 2**40).check()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["add.Tensor", "mul.Tensor", "sub.Tensor", "maximum", "div.Tensor", "remainder.Tensor"]),
    shapes=st.sampled_from([((), ()), ((), (2, 3)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((1, 2, 3), (2, 1))]),
    dtypes=st.tuples(*[st.sampled_from(["f32", "f16", "f64", "i64", "i32", "bool"])] * 2),
    target=st.sampled_from(TARGETS),
)
def test_promotion(name: str, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[str, str], target: str) -> None:
    """Every pair of dtypes and ranks gives torch's dtype, narrowed."""
    operands = []
    for seed, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
        # The right operand is never 0: torch refuses to divide integers by it.
        x = between(1, 5, *shape, seed=seed).round() if dtype.startswith("i") or seed else floats(*shape, seed=seed)
        kinds = {"f32": torch.float32, "f16": torch.float16, "f64": torch.float64}
        operands.append(x.to({**kinds, "i64": torch.int64, "i32": torch.int32, "bool": torch.bool}[dtype]))
    if "bool" in dtypes and name == "sub.Tensor":
        return
    if dtypes == ("bool", "bool") and name == "remainder.Tensor":
        return
    module = check_lowering(f"aten.{name}", *operands, target=target)
    expected = getattr(torch, name.partition(".")[0])(*operands).dtype
    wide = {torch.float64: DType.F32, torch.float32: DType.F32, torch.float16: DType.F16, torch.bool: DType.BOOL}
    assert module.main.outputs[0].tensor.dtype is wide.get(expected, DType.I32)


@pytest.mark.parametrize("name", ["remainder.Tensor", "fmod.Tensor", "atan2", "maximum", "minimum", "div.Tensor"])
def test_special_values_in_declared_precision(name: str) -> None:
    """inf and NaN come out where torch has them; atan2 does not see the sign of -0."""
    numbers = SPECIAL if name in ("maximum", "minimum", "div.Tensor") else SPECIAL[2:7]
    left, right = torch.meshgrid(numbers, torch.tensor([1.0, -2.0, math.inf]), indexing="ij")
    check_lowering(f"aten.{name}", left.flatten(), right.flatten(), precision=DECLARED, rtol=1e-5)
