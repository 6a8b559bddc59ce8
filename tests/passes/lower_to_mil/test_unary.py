"""Functions of one tensor, powers, bounds, activations."""

from __future__ import annotations

import math

import pytest
import torch

from anec.testing import DECLARED, check_lowering
from lowering import SPECIAL, TARGETS, Case, between, bools, case, floats, integers, op_names

X, N, B = floats(2, 5) * 2, integers(2, 5), bools(2, 5)
UNIT, POSITIVE, ABOVE_ONE = between(-0.95, 0.95, 2, 5), between(0.1, 5, 2, 5), between(1.1, 5, 2, 5)
HALVES = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.0])

DOMAINS = {
    "acos": UNIT,
    "asin": UNIT,
    "atanh": UNIT,
    "acosh": ABOVE_ONE,
    "log": POSITIVE,
    "log10": POSITIVE,
    "log2": POSITIVE,
    "log1p": POSITIVE,
    "special_log1p": POSITIVE,
    "sqrt": POSITIVE,
    "rsqrt": POSITIVE,
    "logit": between(0.05, 0.95, 2, 5),
    "special_logit": between(0.05, 0.95, 2, 5),
    "special_entr": torch.tensor([0.5, 0.0, 2.0, -1.0, math.nan]),
}
ON_FLOATS = (
    "acos acosh asin asinh atan atanh cos cosh deg2rad erf erfc exp exp2 expm1 log log10 log1p log2 rad2deg reciprocal "
    "rsqrt sigmoid sin sinc sinh sqrt tan tanh special_entr special_erf special_erfc special_exp2 special_expit "
    "special_expm1 special_log1p special_ndtr special_sinc logit special_logit"
).split()
EVERYWHERE = "abs absolute sign sgn ceil floor round trunc fix square neg negative frac".split()

UNARY = [
    *(case(name, DOMAINS.get(name, X)) for name in ON_FLOATS),
    *(case(name, DOMAINS.get(name, X)[0, 0] if DOMAINS.get(name, X).dim() > 1 else X[0, 0]) for name in ON_FLOATS[:5]),
    *(case(name, POSITIVE.ceil().long()) for name in ("sqrt", "log", "exp", "sin", "reciprocal", "sigmoid", "exp2")),
    *(case(name, X) for name in EVERYWHERE),
    *(case(name, N) for name in EVERYWHERE if name != "frac"),
    *(case(name, X) for name in ("_neg_view", "_neg_view_copy")),
    case("sigmoid", B),
    case("sign", B),
    case("sinc", torch.tensor([0.0, 0.5, -1.0])),
    case("round", HALVES),
    case("trunc", HALVES),
    case("frac", HALVES),
    *(case("round.decimals", X * 100, decimals=d) for d in (0, 2, -1)),
    case("special_round", X * 10, decimals=1),
    case("logit", torch.tensor([0.0, 0.2, 1.0]), 0.1),
    case("signbit", X),
    case("signbit", N),
    case("signbit", B),
]

POWERS = [
    *(case("pow.Tensor_Scalar", x, e) for x in (X, N) for e in (0, 1, 2, 3, 4, 5, 7, 10)),
    *(case("pow.Tensor_Scalar", POSITIVE, e) for e in (-3, -2, -1, -1.5, -0.5, 0.5, 1.5, 2.5, 0.3, -0.7, 100, 64, 65)),
    *(case("pow.Tensor_Scalar", X, e) for e in (-1, -3, 101, 100, 2.0, 3.0)),
    case("pow.Tensor_Scalar", N, 2.0),
    case("pow.Tensor_Scalar", N, 0.5),
    case("pow.Tensor_Scalar", X[0, 0], 3),
    case("pow.Tensor_Scalar", B, 2),
    case("pow.Tensor_Tensor", POSITIVE, X),
    case("pow.Tensor_Tensor", POSITIVE, X[0]),
    case("pow.Tensor_Tensor", X, N),
    case("pow.Tensor_Tensor", N, N.abs()),
    case("pow.Tensor_Tensor", X, torch.tensor(3)),
    *(case("pow.Scalar", base, X) for base in (2, 10, math.e, 0.5, 1, 2.0)),
    case("pow.Scalar", 2.5, N),
    case("pow.Scalar", 3, N.abs()),
    case("pow.Scalar", 0, torch.tensor([0.0, 1.0, 2.0])),
    case("float_power.Tensor_Scalar", X, 2),
    case("float_power.Scalar", 3, X),
    case("float_power.Tensor_Tensor", POSITIVE, X),
]

SLOPES = between(-0.5, 0.5, 3)
IMAGE = floats(2, 3, 4, 5)
PIECES = [
    *(case("clamp", x, low, high) for x in (X, N) for low, high in
      ((-1, 1), (0, None), (None, 0), (0, 6), (-1, None), (2, -2), (1, 1), (-math.inf, 1), (None, math.inf))),
    case("clamp", N, -0.5, 1.5),
    case("clamp", X[0, 0], -0.5, 0.5),
    case("clamp", torch.tensor([math.nan, 1, -5]), -1, 1),
    case("clip", X, -0.5, 0.5),
    case("clamp_min", X, 0.5),
    case("clamp_min", N, 2),
    case("clamp_max", X, 0.5),
    case("clamp.Tensor", X, floats(5), floats(2, 1)),
    case("clamp.Tensor", N, None, integers(5)),
    case("clamp.Tensor", N, floats(5), None),
    case("clamp_min.Tensor", X, floats(5)),
    case("clamp_max.Tensor", X, floats(5)),
    *(case(f"clamp_{name}.Tensor", B, bools(5, seed=1)) for name in ("min", "max")),
    case("hardtanh", X),
    case("hardtanh", X, -0.3, 2),
    case("hardtanh", N, -1, 2),
    case("relu", X),
    case("relu", N),
    case("relu6", X * 5),
    case("threshold", X, 0.5, -3),
    case("threshold", X, 0.5, 0.5),
    case("threshold", N, 0, 0),
    case("leaky_relu", X),
    case("leaky_relu", X, 0.3),
    case("elu", X),
    case("elu", X, 0.7, 1.3, 1),
    case("elu", X, 0.7, 1.3, 0.4),
    case("elu", X, 0.7, 1.3, -0.4),
    case("selu", X),
    case("celu", X, 0.6),
    case("hardshrink", X),
    case("hardshrink", X, 1.2),
    case("softshrink", X),
    case("softshrink", X, 0),
    *(case("prelu", x, w, weights=names) for names in ((), ("weight",)) for x, w in
      ((IMAGE, SLOPES), (IMAGE, SLOPES[:1]), (IMAGE[0], SLOPES), (IMAGE[0, 0], SLOPES[:1]), (IMAGE[..., 0], SLOPES))
      if not (x.dim() == 3 and x.shape[1] != 3 and w.numel() > 1)),
    *(case("_prelu_kernel", IMAGE, SLOPES.reshape(1, 3, 1, 1), weights=names) for names in ((), ("weight",))),
    case("_prelu_kernel", X, SLOPES[:1].reshape(1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", [*UNARY, *POWERS, *PIECES], ids=str)
def test_same_as_torch(call: Case, target: str) -> None:
    call.check(target)


AT_THE_EDGES = (
    "log rsqrt reciprocal sqrt exp tanh sigmoid abs floor trunc relu relu6 log1p erf square neg ceil round log2 "
    "softshrink hardshrink elu leaky_relu hardtanh"
).split()


@pytest.mark.parametrize("name", AT_THE_EDGES)
def test_special_values_in_declared_precision(name: str) -> None:
    """rsqrt adds an epsilon of 0, and -0 + 0 is 0."""
    numbers = SPECIAL[SPECIAL.ne(0)] if name == "rsqrt" else SPECIAL
    check_lowering(f"aten.{name}", numbers, precision=DECLARED, rtol=1e-5)


@pytest.mark.parametrize("numbers", [{}, {"nan": 1.5, "posinf": 7.0}, {"neginf": -2.0}], ids=str)
def test_nan_to_num(numbers: dict[str, float]) -> None:
    check_lowering("aten.nan_to_num", SPECIAL, **numbers, precision=DECLARED, rtol=1e-6)
    check_lowering("aten.nan_to_num", SPECIAL.half(), **numbers, precision=DECLARED, rtol=1e-6)


def test_powers_that_overflow_or_vanish() -> None:
    """0, inf and negative bases at constant exponents."""
    for exponent in (0, 1, 2, 3, -1, -2, 5):
        check_lowering("aten.pow.Tensor_Scalar", SPECIAL, exponent, precision=DECLARED, rtol=1e-5)
    check_lowering("aten.pow.Scalar", 2, SPECIAL[:-1], precision=DECLARED, rtol=1e-5)


STRUCTURE = [
    (case("pow.Tensor_Scalar", X, 2), ["square"]),
    (case("pow.Tensor_Scalar", X, 3), ["square", "mul"]),
    (case("pow.Tensor_Scalar", X, 0.5), ["sqrt"]),
    (case("pow.Tensor_Scalar", X, -1), ["real_div"]),
    (case("pow.Scalar", 2, X), ["exp2"]),
    (case("pow.Scalar", math.e, X), ["exp"]),
    (case("log1p", X), ["log"]),
    (case("clamp", X, 0, 6), ["relu6"]),
    (case("clamp", X, 0, None), ["relu"]),
    (case("clamp", X, -1, 1), ["clip"]),
    (case("clamp", X, -1, None), ["maximum"]),
    (case("clamp", X, 1, 1), ["maximum", "minimum"]),
    (case("clamp", N, -1, 1), ["maximum", "minimum"]),
    (case("elu", X), ["elu"]),
    (case("selu", X), ["elu", "mul"]),
    (case("floor", N), []),
    (case("prelu", IMAGE, SLOPES, weights=("weight",)), ["prelu"]),
    (case("prelu", IMAGE, SLOPES[:1], weights=("weight",)), ["leaky_relu"]),
]


@pytest.mark.parametrize(("call", "ops"), STRUCTURE, ids=str)
def test_the_ops_it_takes(call: Case, ops: list[str]) -> None:
    assert op_names(call.check()) == ops


def test_a_power_is_a_few_products() -> None:
    for exponent in range(2, 65):
        names = op_names(case("pow.Tensor_Scalar", UNIT, exponent).check())
        assert set(names) <= {"square", "mul"}
        assert len(names) <= 2 * math.log2(exponent)
