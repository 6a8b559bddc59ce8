"""Reductions, norms, moments, softmax."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.ir.types import DType
from anec.testing import DECLARED, check_lowering
from lowering import TARGETS, Case, between, bools, case, floats, integers, op_names

F, N, B = floats(2, 3, 4), integers(2, 3, 4), bools(2, 3, 4)
SCALAR, ONE = torch.tensor(-1.5), torch.tensor(3)
DIMS: tuple[Any, ...] = ([1], [-1], [0, 2], [-1, 0], [], None)

SUMS = [
    *(case(name, x) for name in ("sum", "prod", "max", "min", "amax", "amin") for x in (F, N, B, SCALAR, ONE)),
    *(case("sum.dim_IntList", x, dim, keep) for x in (F, N, B) for dim in DIMS for keep in (False, True)),
    *(case("mean.dim", F, dim, keep) for dim in DIMS for keep in (False, True)),
    *(case(f"{name}", x, dim, keep) for name in ("amax", "amin") for x in (F, N, B) for dim in DIMS[:5]
      for keep in (False, True)),
    *(case("prod.dim_int", x, dim, keep) for x in (F, N) for dim in (0, -1) for keep in (False, True)),
    case("mean", F),
    case("mean", SCALAR),
    case("mean", N, dtype=DType.F32),
    case("mean.dim", F.half(), [1], dtype=DType.F32),
    case("sum", N, dtype=DType.F32),
    case("sum.dim_IntList", F, [1], dtype=DType.F64),
    case("sum.dim_IntList", SCALAR, []),
    case("sum.dim_IntList", SCALAR, [0]),
    case("nansum", torch.tensor([[1.0, math.nan], [2.0, 3.0]]), [1]),
    case("nansum", N, None),
    case("trace", floats(3, 4)),
    case("trace", integers(4, 3)),
    case("count_nonzero", N),
    case("count_nonzero", F.round(), 1),
    case("count_nonzero.dim_IntList", N, [0, -1]),
]  # fmt: skip

TESTS = [
    *(case(name, x) for name in ("any", "all")
      for x in (B, N, F, torch.tensor(True), integers(3, low=0, high=2).byte())),
    *(case(f"{name}.dim", x, dim, keep) for name in ("any", "all") for x in (B, N) for dim in (0, -1)
      for keep in (False, True)),
    *(case(f"{name}.dims", B, dim, keep) for name in ("any", "all") for dim in ([0, 1], [-1], [], None)
      for keep in (False, True)),
    case("_is_any_true", B),
    case("_is_all_true", B),
]  # fmt: skip

# Distinct numbers: which of two equal floats is found is not promised; of whole numbers it is the first.
DISTINCT = torch.randperm(24, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 4)
PLACES = [
    *(case(f"{name}.dim", x, dim, keep) for name in ("max", "min") for x in (F, DISTINCT) for dim in (0, 1, -1)
      for keep in (False, True)),
    case("max.dim", SCALAR, 0),
    case("max.dim", torch.tensor([[True, False], [False, True]]), 1),
    *(case(name, N % 2, dim) for name in ("argmax", "argmin", "max.dim", "min.dim") for dim in (0, -1)),
    *(case(name, B, dim) for name in ("max.dim", "min.dim") for dim in (0, -1)),
    case("argmax", N % 2, None, True),
    *(case(name, x, dim, keep) for name in ("argmax", "argmin") for x in (F, DISTINCT) for dim in (None, 0, -1)
      for keep in (False, True)),
    *(case("argmax", x) for x in (SCALAR, F[0, 0])),
    case("argmax", F[0, 0], None, True),
    case("aminmax", F),
    case("aminmax", F, dim=1),
    case("aminmax", N, dim=-1, keepdim=True),
    case("aminmax", SCALAR),
    case("_aminmax.dim", F, 1),
]  # fmt: skip

NORMS = [
    *(case("linalg_vector_norm", F, order, dim, keep) for order in (0, 1, 2, 3, 0.5, -1.5, math.inf, -math.inf)
      for dim, keep in ((None, False), ([1], True), ([0, -1], False))),
    case("linalg_vector_norm", SCALAR, 2),
    case("linalg_vector_norm", F.half(), 2, [1], dtype=DType.F32),
    case("norm.Scalar", F),
    case("norm.Scalar", F, 1),
    case("norm.ScalarOpt_dim", F, None, [1]),
    case("norm.ScalarOpt_dim", F, 3, [1, 2], True),
    case("norm.ScalarOpt_dtype", F.half(), 2, dtype=DType.F32),
    case("frobenius_norm.dim", F, [1, 2]),
    *(case(name, floats(2, 5, 3), floats(2, 4, 3, seed=1), p, None)
      for name in ("cdist", "_cdist_forward") for p in (0.0, 1.0, 2.0, 3.5, math.inf)),
    case("cdist", floats(5, 3), floats(2, 4, 3)),
    *(case("logsumexp", F * 50, dim, keep) for dim in ([1], [-1, 0]) for keep in (False, True)),
    case("logsumexp", SCALAR, [0]),
    case("logsumexp", N, [1]),
]  # fmt: skip

MOMENTS = [
    *(case(f"{name}.correction", F, dim, correction=correction, keepdim=keep)
      for name in ("var", "std", "var_mean", "std_mean") for dim in (None, [1], [0, -1])
      for correction in (None, 0, 2) for keep in (False, True)),
    *(case(f"{name}.dim", F, [1], unbiased) for name in ("var", "std", "var_mean") for unbiased in (False, True)),
    *(case(name, F, unbiased) for name in ("var", "std", "std_mean") for unbiased in (False, True)),
    case("var.correction", F[:, :1], [1], correction=1),
    case("var.correction", F[:, :1], [1], correction=0),
    case("var.correction", F[:, :2], [1], correction=5),
    case("var.correction", SCALAR, None, correction=0),
]  # fmt: skip

SOFTMAX = [
    *(case(name, F * 9, dim) for name in ("softmax.int", "log_softmax.int", "_safe_softmax") for dim in (0, 1, -1)),
    *(case(name, x, 1, False) for name in ("_softmax", "_log_softmax") for x in (F, F * 100, F[0])),
    case("softmax.int", N, 1, DType.F32),
    case("log_softmax.int", F.half(), 1, DType.F32),
    *(case(name, SCALAR, 0) for name in ("softmax.int", "log_softmax.int", "_safe_softmax")),
    case("_safe_softmax", torch.tensor([[0.5, -math.inf], [-math.inf, -math.inf]]), -1),
    case("special_softmax", F, 1),
    case("special_log_softmax", F, 1),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", [*SUMS, *TESTS, *PLACES, *NORMS, *MOMENTS, *SOFTMAX], ids=str)
def test_same_as_torch(call: Case, target: str) -> None:
    call.check(target)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logsumexp_of_infinities(dtype: torch.dtype) -> None:
    x = torch.tensor([[-math.inf, -math.inf], [-math.inf, 1.0], [math.inf, 2.0], [100.0, 101.0]], dtype=dtype)
    tolerance = 1e-6 if dtype is torch.float32 else 2e-3
    check_lowering("aten.logsumexp.default", x, [1], precision=DECLARED, rtol=tolerance)


def test_log_softmax_does_not_overflow_in_half_precision() -> None:
    x = torch.tensor([[0.0, 60000.0], [-60000.0, -59999.0]], dtype=torch.float16)
    check_lowering("aten._log_softmax.default", x, 1, False, precision=DECLARED, rtol=2e-3)


STRUCTURE = [
    (case("sum.dim_IntList", F, [1]), ["reduce_sum"]),
    (case("mean.dim", F, [1], True), ["reduce_mean"]),
    (case("amax", F, [1]), ["reduce_max"]),
    (case("max.dim", F, 1), ["reduce_max", "reduce_argmax"]),
    (case("argmax", F, 1), ["reduce_argmax"]),
    (case("argmax", N, 1), ["reduce_max", "range_1d", "reshape", "equal", "fill", "select", "reduce_min"]),
    (case("any.dim", B, 1), ["cast", "reduce_max", "cast"]),
    (case("linalg_vector_norm", F, 2, [1]), ["reduce_l2_norm"]),
    (case("_softmax", F, 1, False), ["softmax"]),
    (case("_log_softmax", F, 1, False), ["reduce_max", "sub", "reduce_log_sum_exp", "sub"]),
    (case("var.correction", F, [1], correction=0), ["reduce_mean", "sub", "square", "reduce_mean"]),
    (case("var.correction", F, [1], correction=1), ["reduce_mean", "sub", "square", "reduce_mean", "mul"]),
]


@pytest.mark.parametrize(("call", "ops"), STRUCTURE, ids=str)
def test_the_ops_it_takes(call: Case, ops: list[str]) -> None:
    assert op_names(call.check()) == ops


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["sum.dim_IntList", "mean.dim", "amax", "logsumexp", "var.dim", "linalg_vector_norm"]),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    data=st.data(),
)
def test_any_axes_of_any_rank(name: str, sizes: list[int], data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=len(sizes), unique=True))
    negative = [axis - len(sizes) if data.draw(st.booleans()) else axis for axis in axes]
    keep = data.draw(st.booleans())
    x = between(-3, 3, *sizes)
    if name == "var.dim":
        check_lowering("aten.var.dim", x, negative, False, keep)
    elif name == "linalg_vector_norm":
        check_lowering("aten.linalg_vector_norm.default", x, 2, negative, keep)
    else:
        full = name if "." in name else f"{name}.default"
        check_lowering(f"aten.{full}", x, negative, keep)
