"""Running sums and extrema, sorting, looking up."""

from __future__ import annotations

import math

import pytest
import torch

from anec.dialects import aten
from anec.errors import UnsupportedError
from anec.testing import check_lowering, check_module_lowering, module_of, single_op
from lowering import TARGETS, Case, between, bools, case, floats, integers, op_names

F, N, B = floats(2, 3, 4), integers(2, 3, 4), bools(2, 3, 4)
SCALAR = torch.tensor(1.5)
# Core ML does not promise the order of equal elements.
DISTINCT = torch.randperm(24, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 4)

RUNNING = [
    *(case("cumsum", x, dim) for x in (F, N, B) for dim in (0, 1, -1, -3)),
    case("cumsum", SCALAR, 0),
    case("cumsum", floats(1), -1),
    *(case("cumprod", x, dim) for x in (F, N, torch.tensor([2.0, 0.0, -3.0])) for dim in (0, -1)),
    case("cumprod", SCALAR, 0),
    *(
        case(name, x, dim)
        for name in ("cummax", "cummin")
        for x in (F, N, torch.tensor([1, 3, 3, 2, 5, 5]))
        for dim in (0, -1)
    ),
    case("cummax", SCALAR, 0),
    *(case("logcumsumexp", x, dim) for x in (F, F * 100) for dim in (0, 1, -1)),
]

ORDER = [
    *(case("topk", x, k, dim, largest) for x in (F, DISTINCT) for k, dim in ((1, -1), (2, 1), (4, 2))
      for largest in (True, False)),
    case("topk", SCALAR, 1),
    case("topk", F.half(), 2),
    *(case("sort", x, dim, down) for x in (F, DISTINCT) for dim in (0, -1) for down in (False, True)),
    *(case("sort.stable", F, stable=True, dim=dim, descending=down) for dim in (1, -1) for down in (False, True)),
    case("sort", SCALAR),
    case("msort", F),
    *(case("argsort", x, dim, down) for x in (F, DISTINCT) for dim in (0, -1) for down in (False, True)),
    case("argsort.stable", F, stable=True, dim=0),
    case("argsort", SCALAR),
    *(case("kthvalue", x, k, dim, keep) for x in (F, DISTINCT) for k, dim in ((1, -1), (3, 1), (4, -1))
      for keep in (False, True)),
    *(case("median.dim", x, dim, keep) for x in (F, DISTINCT) for dim in (0, 1, -1) for keep in (False, True)),
    case("median", F),
    case("median", DISTINCT),
    case("median", SCALAR),
]  # fmt: skip

ROW = torch.tensor([-1.0, 0.0, 0.5, 0.5, 2.0])
LOOKED_UP = torch.tensor([[-2.0, -1.0, 0.25], [0.5, 2.0, 3.0]])
PLACES = [
    *(case("bucketize.Tensor", LOOKED_UP, ROW, right=right) for right in (False, True)),
    case("bucketize.Tensor", torch.tensor(0.5), ROW),
    case("bucketize.Scalar", 0.5, ROW, right=True),
    case("bucketize.Tensor", N, torch.tensor([-1, 0, 2])),
    case("bucketize.Tensor", N, ROW, out_int32=True),
    *(case("searchsorted.Tensor", ROW, LOOKED_UP, right=right) for right in (False, True)),
    case("searchsorted.Tensor", ROW, LOOKED_UP, side="right"),
    case("searchsorted.Tensor", torch.stack([ROW, ROW + 1]), LOOKED_UP),
    case("searchsorted.Scalar", ROW, 0.5),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", [*RUNNING, *ORDER, *PLACES], ids=str)
def test_same_as_torch(call: Case, target: str) -> None:
    call.check(target)


def test_bools_are_sorted_and_extremes_taken() -> None:
    x = torch.tensor([[True, False, True]])
    module = check_lowering("aten.msort.default", x)
    assert op_names(module) == ["cast", "topk", "cast"]
    check_lowering("aten.cummax.default", torch.tensor([False, True, False]), 0)


def test_equal_elements_sort_to_equal_values() -> None:
    x = integers(5, 7, low=0, high=3)
    check_lowering("aten.msort.default", x)


def test_running_along_a_long_axis_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="cumprod") as info:
        check_lowering("aten.cumprod.default", between(0.9, 1.1, 5000), 0)
    assert "too much memory" in str(info.value)
    check_lowering("aten.cumsum.default", between(0.9, 1.1, 5000), 0)


STRUCTURE = [
    (case("cumsum", F, 1), ["cumsum"]),
    (case("topk", F, 2), ["topk"]),
    (case("sort", F), ["topk"]),
    (case("argsort", F), ["argsort"]),
    (case("median.dim", F, 1), ["topk", "slice_by_index", "slice_by_index", "squeeze", "squeeze"]),
    (case("bucketize.Tensor", LOOKED_UP, ROW), ["expand_dims", "less", "cast", "reduce_sum"]),
]


@pytest.mark.parametrize(("call", "ops"), STRUCTURE, ids=str)
def test_the_ops_it_takes(call: Case, ops: list[str]) -> None:
    assert op_names(call.check()) == ops


def test_the_number_of_ops_does_not_grow_with_the_axis() -> None:
    counts = {len(op_names(case("cumprod", between(0.5, 1.5, n), 0).check())) for n in (2, 17, 100)}
    assert len(counts) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_nanmedian(target: str) -> None:
    x = floats(4, 5, 3)
    x[0, :3, 0] = x[1, :, 1] = x[2, 0] = torch.nan
    for dim in (0, 1, -1):
        for keepdim in (False, True):
            module, inputs = single_op("aten.nanmedian.dim", x, dim, keepdim, target=target)
            # Which of several NaN is found where there is nothing else is not promised.
            module.main.outputs = module.main.outputs[:1]
            module.main.signature.outputs = module.main.signature.outputs[:1]
            check_module_lowering(module, inputs)
    check_lowering("aten.nanmedian.dim", floats(4, 5), 1, target=target)
    check_lowering("aten.nanmedian.default", x, target=target)
    check_lowering("aten.nanmedian.default", integers(7), target=target)


def test_the_place_of_a_median_that_is_infinite() -> None:
    nan, inf = math.nan, math.inf
    x = torch.tensor([[nan, inf, nan, inf], [nan, nan, -inf, inf], [inf, nan, 2, inf], [3, nan, 1, 2]])
    # Where the median stands twice, either place is right: read what stands there.
    module, inputs = module_of(lambda x: aten.gather.default(x, 1, aten.nanmedian.dim.many(x, 1, True)[1]), x)
    check_module_lowering(module, inputs)
    check_lowering("aten.nanmedian.dim", x[1:], 1)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("made", [integers(4, 7), integers(4, 7).float(), bools(3, 5)], ids=["i64", "f32", "bool"])
def test_mode(made: torch.Tensor, target: str) -> None:
    for dim in (0, -1):
        for keepdim in (False, True):
            values, places = torch.mode(made, dim, keepdim=True)
            assert torch.equal(made.gather(dim, places), values)
            module, inputs = single_op("aten.mode.default", made, dim, keepdim, target=target)
            module.main.outputs = module.main.outputs[:1]
            module.main.signature.outputs = module.main.signature.outputs[:1]
            check_module_lowering(module, inputs)
