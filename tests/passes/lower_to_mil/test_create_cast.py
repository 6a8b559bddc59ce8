"""Casts, copies, fills, ranges, triangles."""

from __future__ import annotations

import pytest
import torch

from anec.dialects import mil
from anec.errors import UnsupportedError
from anec.ir.types import DType
from anec.testing import check_lowering
from lowering import TARGETS, Case, bools, case, floats, integers, op_names

F, N, B = floats(2, 3) * 3, integers(2, 3), bools(2, 3)

CASTS = [
    *(case("_to_copy", x, dtype=dtype) for x in (F, N, B, F.half(), F.double(), N.int())
      for dtype in (DType.F32, DType.F16, DType.F64, DType.I64, DType.I32, DType.BOOL)),
    *(case("_to_copy", integers(9, low=-70000, high=70000), dtype=dtype)
      for dtype in (DType.U8, DType.I8, DType.I16, DType.U16)),
    case("_to_copy", F.abs() * 20, dtype=DType.U8),
    case("_to_copy", B, dtype=DType.U8),
    case("_to_copy", F),
    case("to.dtype", F, DType.I64),
    case("to.other", N, F),
    case("type_as", N, F),
    case("_cast_Float", N),
    *(case(name, x) for name in ("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "positive", "real")
      for x in (F, N)),
    case("clone", B),
    case("copy", F, floats(3)),
    case("copy", floats(2, 0), floats(1)),
    case("copy", F, N),
    case("copy", B, torch.tensor(True)),
    case("copy", integers(2, 3, dtype=torch.uint8, low=0), integers(3, low=-300, high=300)),
    case("fill.Tensor", F, torch.tensor(2.5)),
    case("view.dtype", F, DType.F32),
]  # fmt: skip

CREATED = [
    case("full", [2, 3], 0.1),
    case("full", [2, 3], 3),
    case("full", [2, 3], True),
    case("full", [], 0.1),
    case("full", [2], 3, dtype=DType.F32),
    case("full", [2], 0.1, dtype=DType.F16),
    case("full_like", F, 0.1),
    case("full", [2], -3, dtype=DType.U8),
    case("arange.start_step", 2, 4, 0.5, dtype=DType.I64),
    case("full_like", N, 7),
    case("full_like", F, 1, dtype=DType.BOOL),
    case("new_full", F, [4], 2),
    case("fill.Scalar", F, 0.3),
    *(case(name, [2, 3]) for name in ("zeros", "ones")),
    *(case(name, x) for name in ("zeros_like", "ones_like") for x in (F, N, B)),
    *(case(name, F, [4, 1]) for name in ("new_zeros", "new_ones")),
    case("zeros", [2, 2], dtype=DType.I64),
    case("zero", F),
    case("scalar_tensor", 0.1),
    case("scalar_tensor", 3, dtype=DType.I64),
    case("scalar_tensor", 2, dtype=DType.F16),
    case("arange", 7),
    case("arange", 0),
    case("arange", 5.5),
    case("arange.start", 2, 7),
    case("arange.start", 2.0, 7),
    case("arange.start_step", 2, -7, -3),
    case("arange.start_step", 0, 1, 0.1),
    case("arange.start_step", 0.5, 4, 0.25),
    case("arange.start_step", 0, 10, 3, dtype=DType.F32),
    case("arange", 5, dtype=DType.F16),
    case("linspace", 0, 1, 7),
    case("linspace", -1.0, 2.5, 1),
    case("linspace", 0.5, 0.5, 3),
    case("linspace", 3.0, -2.0, 4),
    *(case("linspace.Tensor_Tensor", torch.tensor(-2.3), torch.tensor(5), size) for size in (0, 1, 2, 7)),
    case("linspace.Scalar_Tensor", 1, torch.tensor(-2.5), 4, dtype=DType.F16),
    # Of 2^n steps, or without a whole number between the ends: there torch's float64 is exact.
    *(case(f"linspace.{name}", *ends, size, dtype=DType.I64) for size in (1, 2, 5, 33)
      for name, ends in (("Tensor_Scalar", (torch.tensor(-3), 11)), ("Scalar_Tensor", (7, torch.tensor(-8))),
                         ("Tensor_Tensor", (torch.tensor(2**31 - 1), torch.tensor(2**30))),
                         ("Tensor_Tensor", (torch.tensor(-40.9), torch.tensor(-3.9))))),
    case("linspace.Tensor_Scalar", torch.tensor(-3), 8, 8, dtype=DType.I32),
    case("linspace.Tensor_Tensor", torch.tensor(3), torch.tensor(250), 9, dtype=DType.U8),
    *(case(f"logspace.{name}", *ends, size, 2.5, dtype=dtype)
      for size in (0, 1, 5) for dtype in (DType.F32, DType.I64)
      for name, ends in (("Tensor_Scalar", (torch.tensor(-1.7), 3.2)), ("Scalar_Tensor", (7, torch.tensor(-8))))),
    # Powers that are whole numbers.
    case("logspace.Tensor_Tensor", torch.tensor(0), torch.tensor(20), 2, 2.0, dtype=DType.I32),
    *(case("logspace.Tensor_Tensor", torch.tensor(4.3), torch.tensor(1.2), size, base, dtype=DType.I64)
      for base in (2.0, 3.0, 5.0, 10.0) for size in (1, 4)),
    case("eye", 3),
    case("eye.m", 3, 5),
    case("eye.m", 3, 2, dtype=DType.I64),
    *(case(name, x, k) for name in ("tril", "triu")
      for x in (floats(3, 5), floats(2, 4, 3), bools(4, 4), integers(3, 3))
      for k in (-6, -2, -1, 0, 1, 2, 6)),
    *(case(name, 3, 4, k) for name in ("tril_indices", "triu_indices") for k in (-1, 0, 1)),
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", [*CASTS, *CREATED], ids=str)
def test_same_as_torch(call: Case, target: str) -> None:
    call.check(target)


@pytest.mark.parametrize("name", ["empty_like", "empty.memory_format", "new_empty", "empty_strided"])
def test_what_torch_leaves_uninitialised_is_zeros(name: str) -> None:
    from anec.passes.lower_to_mil import LowerToMil
    from anec.reference.evaluate import evaluate
    from anec.testing import run_pass, single_op

    arguments = {"empty_like": (F,), "new_empty": (F, [2, 3]), "empty_strided": ([2, 3], [3, 1])}
    module, inputs = single_op(f"aten.{name}", *arguments.get(name, ([2, 3],)))
    run_pass(module, LowerToMil())
    assert torch.equal(evaluate(module, inputs)["y"], torch.zeros(2, 3))


def test_integers_are_spaced_within_int32() -> None:
    with pytest.raises(UnsupportedError, match="up to 46341"):
        case("linspace.Tensor_Scalar", torch.tensor(3), 9, 46342, dtype=DType.I32).check()


def test_copies_are_nothing() -> None:
    for name in ("clone", "alias", "detach", "lift_fresh_copy"):
        module = case(name, F).check()
        assert op_names(module) == []
        assert module.main.outputs == module.main.inputs
    assert op_names(case("_to_copy", F, dtype=DType.F64).check()) == [], "both are float32 in Core ML"
    assert op_names(case("_to_copy", B, dtype=DType.U8).check()) == ["cast"], "0 and 1 need no wrapping"


def test_triangles_are_one_op() -> None:
    square = floats(4, 4)
    for name, diagonal in (("tril", 0), ("tril", 2), ("triu", 0), ("triu", -1)):
        assert op_names(case(name, square, diagonal).check()) == ["band_part"]
    names = op_names(case("triu", square, 1).check())
    assert names == ["fill", "band_part", "select"], "a constant mask and one select"


def test_infinities_stay_inside_a_triangle() -> None:
    check_lowering("aten.triu.default", torch.full((4, 4), float("-inf")), 1)
    check_lowering("aten.tril.default", torch.full((4, 4), float("nan")), -1)


@pytest.mark.parametrize("name", ["rand", "randn"])
def test_random_numbers_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="random"):
        case(name, [2, 3]).check()


def test_reinterpreting_bits_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="reinterprets"):
        case("view.dtype", F, DType.I32).check()


def test_creation_is_constant() -> None:
    from anec.ir.facts import is_constant

    for call in (case("full", [2, 3], 0.1), case("arange.start_step", 0, 1, 0.1), case("eye", 3), case("ones_like", F)):
        module = call.check()
        assert all(map(is_constant, module.main.outputs))
    assert mil.fill.since == 15
