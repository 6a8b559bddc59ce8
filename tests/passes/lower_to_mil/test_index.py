"""Reading and writing by index, slice and mask."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import UnsupportedError
from anec.testing import check_lowering
from lowering import TARGETS, Case, bools, case, floats, integers, op_names

F, N, B = floats(3, 4, 5), integers(3, 4, 5), bools(3, 4, 5)
TABLE = floats(7, 3)
AT = torch.tensor([2, 0, 1, 2])
NEGATIVE = torch.tensor([-1, 0, -3, 2])
GRID = torch.tensor([[0, 2], [1, -1]])
SCALAR = torch.tensor(2.5)

READS = [
    case("embedding", TABLE, integers(2, 5, low=0, high=7)),
    case("embedding", TABLE, torch.tensor(3)),
    case("embedding", TABLE, integers(4, low=0, high=7).int(), weights=("weight",)),
    *(case("index_select", x, dim, AT) for x in (F, N, B) for dim in (0, -1)),
    case("index_select", F, 1, torch.tensor(2)),
    case("index_select", SCALAR, 0, torch.tensor([0])),
    *(case("gather", x, dim, integers(*x.shape, low=0, high=3)) for x in (F, N, B) for dim in (0, -1)),
    case("gather", F, 1, integers(2, 6, 3, low=0, high=4)),
    case("gather", SCALAR, 0, torch.tensor([0, 0])),
    case("gather", floats(3), 0, torch.tensor(1)),
    case("take_along_dim", F, integers(3, 2, 1, low=0, high=4), 1),
    case("take_along_dim", F, integers(5, low=0, high=60)),
    case("take", F, torch.tensor([[0, 7], [-1, 59]])),
    case("take", SCALAR, torch.tensor([0, 0])),
    case("one_hot", integers(2, 3, low=0, high=4), 5),
    case("one_hot", torch.tensor(2), 3),
    *(case("index.Tensor", x, list(indices)) for x in (F, N, B) for indices in (
        (AT,),
        (NEGATIVE,),
        (None, NEGATIVE),
        (None, None, GRID),
        (GRID,),
        (AT, AT),
        (None, AT, NEGATIVE),
        (AT, None, NEGATIVE),
        (GRID, GRID[:1]),
        (GRID[:, :1], None, GRID),
        (AT, NEGATIVE, AT),
        (torch.tensor(1),),
        (None, torch.tensor(-1), AT),
        (torch.tensor(1), None, torch.tensor(2)),
    )),
]  # fmt: skip

WRITES = [
    *(case("index_put", x, list(indices), values.to(x.dtype), accumulate) for accumulate in (False, True)
      for x in (F, N, B) for indices, values in (
        ((torch.tensor([2, 0]),), floats(2, 4, 5)),
        ((torch.tensor([-1, 0]),), floats(5)),
        ((None, torch.tensor([3, -2, 0])), floats(3, 3, 5)),
        ((None, torch.tensor([3, -2, 0])), floats(3, 1)),
        ((torch.tensor([0, 2]), None, torch.tensor([1, -1])), floats(2, 4)),
        ((torch.tensor([[0], [2]]), torch.tensor([3, 1])), floats(2, 2, 5)),
        ((torch.tensor(1), torch.tensor(-1)), floats(5)),
        ((torch.tensor(1),), torch.tensor(3.0)),
    ) if not (accumulate and x is B)),
    case("index_put", F, [torch.tensor([0, 0, 2, 0])], floats(4, 4, 5), True),
    *(case("index_put", F, list(indices), values, accumulate) for accumulate in (False, True) for indices, values in (
        ((B,), torch.tensor(7.0)),
        ((B,), floats(1)),
        ((bools(3),), floats(4, 5)),
        ((bools(3, 4),), floats(5)),
        ((None, bools(4)), floats(5)),
        ((None, bools(4)), floats(3, 1, 5)),
        ((None, bools(4, 5)), floats(3, 1)),
    )),
    case("index_put", B, [B], torch.tensor(False)),
    *(case("slice_scatter", x, part, dim, *rest) for x, part, dim, rest in (
        (F, floats(3, 4, 5), 0, ()),
        (F, floats(2, 4, 5), 0, (1,)),
        (F, floats(3, 2, 5), 1, (1, 3)),
        (F, floats(3, 2, 5), -2, (-3, -1)),
        (F, floats(3, 4, 3), 2, (0, 5, 2)),
        (F, floats(3, 4, 2), 2, (1, 2**63 - 1, 2)),
        (N, integers(3, 4, 2), 2, (1, 3)),
        (B, bools(3, 4, 3), 2, (0, 5, 2)),
        (B, bools(3, 4, 3), 2, (2,)),
        (F, floats(3, 0, 5), 1, (4, 9)),
    )),
    *(case("select_scatter", x, part, dim, at) for x, part, dim, at in (
        (F, floats(4, 5), 0, 1), (F, floats(3, 4), -1, -1), (N, integers(3, 5), 1, 0), (floats(3), SCALAR, 0, 2),
    )),
    *(case(name, F, 1, torch.tensor([3, 0]), floats(3, 2, 5)) for name in ("index_add", "index_copy")),
    case("index_add", F, 0, torch.tensor([0, 2, 0]), floats(3, 4, 5), alpha=0.5),
    case("index_add", N, -1, torch.tensor([0, 2]), integers(3, 4, 2), alpha=3),
    case("index_copy", B, 0, torch.tensor([1]), bools(1, 4, 5)),
    case("index_add", SCALAR, 0, torch.tensor(0), torch.tensor(1.5)),
    case("index_fill.int_Scalar", F, 1, torch.tensor([-1, 0]), 7.5),
    case("index_fill.int_Tensor", F, 2, torch.tensor([1]), SCALAR),
    case("index_fill.int_Scalar", B, 0, torch.tensor([1]), True),
    *(case("put", x, torch.tensor([[0, 7], [-1, 20]]), x[0, :2, :2].contiguous(), accumulate)
      for x in (F, N) for accumulate in (False, True)),
    *(case("index_reduce", F, 1, torch.tensor([0, 2, 0]), floats(3, 3, 5, seed=2), reduce, include_self=include)
      for reduce in ("prod", "mean", "amax", "amin") for include in (False, True)),
]  # fmt: skip

# The places of one column differ: which of two writes to one place stays is not promised.
PLACES = torch.stack([torch.randperm(4, generator=torch.Generator().manual_seed(s)) for s in range(15)], 1).reshape(
    4, 3, 5
)
PLACES = PLACES.transpose(0, 1).contiguous()
SMALLER = PLACES[:2, :3, :4].contiguous()
SCATTERS = [
    *(case("scatter.src", x, 1, index, x.flip(0)) for x in (F, N, B) for index in (PLACES, SMALLER)),
    case("scatter.src", F, 0, PLACES[:1, :, :] % 3, F.flip(0)),
    case("scatter.value", F, 1, SMALLER, 2.5),
    case("scatter.value", N, 1, PLACES, 2),
    case("scatter.src", SCALAR, 0, torch.tensor(0), torch.tensor(1.0)),
    case("scatter.src", floats(3), 0, torch.tensor([], dtype=torch.int64), floats(0)),
    *(case("scatter.reduce", F, 1, index, F.flip(0), reduce=r)
      for r in ("add", "multiply") for index in (PLACES, SMALLER)),
    *(case("scatter.value_reduce", F, 1, PLACES // 2, 1.5, reduce=r) for r in ("add", "multiply")),
    *(case("scatter_add", x, dim, integers(*x.shape, low=0, high=3), x.flip(0)) for x in (F, N) for dim in (0, -1)),
    *(case("scatter_reduce.two", x, dim, integers(*shape, low=0, high=3), x.flip(0), reduce, include_self=include)
      for x in (F, N) for reduce in ("sum", "prod", "mean", "amax", "amin") for include in (False, True)
      for dim, shape in ((1, (3, 4, 5)), (0, (2, 3, 5)))),
]  # fmt: skip

MASK = bools(3, 4)
MASKED = [
    case("masked_scatter", F, B, floats(60, seed=3)),
    case("masked_scatter", F, B, floats(9, 7, seed=3)),
    case("masked_scatter", F, bools(5), floats(60, seed=3)),
    case("masked_scatter", F, MASK.unsqueeze(-1), floats(60, seed=3)),
    case("masked_scatter", N, B, integers(60)),
    case("masked_scatter", F, torch.zeros_like(B), floats(60)),
    *(case("index_put", F, list(indices), floats(*shape, seed=3), accumulate)
      for accumulate in (False, True) for indices, shape in (
        ([B], (int(B.sum()),)), ([MASK], (int(MASK.sum()), 5)), ([None, MASK[0]], (3, int(MASK[0].sum()), 5)),
        ([None, MASK[0]], (int(MASK[0].sum()), 1)), ([None, None, bools(5)], (3, 4, int(bools(5).sum()))),
      )),
    case("index_put", N, [B], integers(int(B.sum()))),
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", [*READS, *WRITES, *SCATTERS, *MASKED], ids=str)
def test_same_as_torch(call: Case, target: str) -> None:
    call.check(target)


KNOWN = {"weights": ("indices",)}
CONSTANT = [
    case("index.Tensor", F, [AT, None, NEGATIVE], **KNOWN),
    case("index_put", F, [NEGATIVE[:3]], floats(3, 4, 5), **KNOWN),
    case("index_put", F, [None, torch.tensor([1, 2])], floats(2, 5), **KNOWN),
    case("index_put", F, [None, torch.tensor([-4, -2])], floats(2, 5), **KNOWN),
    case("index_put", F, [MASK], floats(int(MASK.sum()), 5), **KNOWN),
    case("index_put", F, [None, MASK[0]], floats(3, int(MASK[0].sum()), 5), **KNOWN),
]


@pytest.mark.parametrize("call", CONSTANT, ids=str)
@pytest.mark.parametrize("target", TARGETS)
def test_constant_indices(call: Case, target: str) -> None:
    call.check(target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("before", "mask"), [(0, bools(3, 4)), (1, bools(4)), (0, bools(3)), (1, bools(4, 5))])
def test_a_constant_mask_reads_what_it_selects(before: int, mask: torch.Tensor, target: str) -> None:
    """torch.export sees its size, for the mask is real while it traces; inference here does not."""
    from anec.dialects import resolve
    from anec.ir.build import Builder
    from anec.ir.signature import Port
    from anec.ir.types import DType, TensorType
    from anec.ir.weights import TensorData, Weight
    from anec.passes.lower_to_mil import LowerToMil
    from anec.pipeline.base import Context
    from anec.reference.evaluate import evaluate
    from anec.testing import assert_legal, single_op

    expected = F[(slice(None),) * before + (mask,)]
    module, inputs = single_op("aten.relu.default", F, target=target)
    graph = module.main
    weight = graph.add_weight(
        module.add_weight(Weight("mask", TensorType(DType.BOOL, tuple(mask.shape)), TensorData(mask)))
    )
    relu = graph.first
    builder = Builder(graph, before=relu, name="picked")
    op = builder.create(
        resolve("aten.index.Tensor"),
        {"self": graph.inputs[0], "indices": [None] * before + [weight]},
        types=(TensorType(DType.F32, tuple(expected.shape)),),
    )
    graph.outputs = [op.results[0]]
    graph.signature.outputs = [Port("picked", op.results[0].type)]
    graph.erase(relu)
    LowerToMil().run_module(module, lambda g: Context(module, g))
    assert_legal(module)
    torch.testing.assert_close(evaluate(module, inputs)["picked"], expected)


def test_computed_masks_have_no_known_size() -> None:
    with pytest.raises(UnsupportedError, match="index_put") as info:
        case("index_put", F, [MASK[0, :3], torch.tensor(1)], floats(int(MASK[0, :3].sum()), 5)).check()
    assert "computed mask" in str(info.value)


def test_negative_indices_cost_nothing_before_ios17_or_when_known() -> None:
    assert op_names(case("index.Tensor", F, [AT]).check("iOS15")) == ["gather"]
    assert op_names(case("index.Tensor", F, [AT]).check("iOS17")) == ["greater_equal", "add", "select", "gather"]
    assert op_names(case("index.Tensor", F, [AT], weights=("indices",)).check("iOS17")) == ["cast", "gather"]
    assert op_names(case("embedding", TABLE, AT).check("iOS17")) == ["gather"]


def test_slices_are_updated_without_scatter() -> None:
    call = case("slice_scatter", F, floats(3, 2, 5), 1, 1, 3)
    assert op_names(call.check("iOS18")) == ["slice_update"]
    assert op_names(call.check("iOS17")) == ["slice_by_index", "slice_by_index", "concat"]
    put = case("index_put", F, [None, torch.tensor([1, 2])], floats(2, 5), weights=("indices",))
    assert "scatter" not in op_names(put.check("iOS15"))


def test_a_mask_by_rows_gathers_rows() -> None:
    """The mask of image tokens is repeated over the features; a row is taken at a time."""
    module = check_lowering("aten.masked_scatter.default", floats(2, 6, 8), bools(2, 6, 1), floats(96))
    (cumsum,) = (op for op in module.main.ops() if op.defn.root == "cumsum")
    assert cumsum.result.shape == (12,)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    target=st.sampled_from(TARGETS),
    write=st.booleans(),
    data=st.data(),
)
def test_index_lists_of_any_form(sizes: list[int], target: str, write: bool, data: st.DataObject) -> None:
    """None and tensors in any order, shapes that broadcast, negative positions."""
    x = floats(*sizes)
    shape = data.draw(st.lists(st.integers(1, 3), max_size=2))
    indices: list[torch.Tensor | None] = []
    for size in sizes[: data.draw(st.integers(1, len(sizes)))]:
        if data.draw(st.booleans()):
            own = [1 if data.draw(st.booleans()) else n for n in shape]
            seed = data.draw(st.integers(0, 5))
            indices.append(integers(*own, low=-size, high=size, seed=seed))
        else:
            indices.append(None)
    if all(index is None for index in indices):
        indices[0] = torch.tensor(0)
    picked = x[tuple(slice(None) if index is None else index for index in indices)]
    if picked.dim() > 5:
        return
    if write:
        check_lowering("aten.index_put.default", x, indices, floats(*picked.shape, seed=9), True, target=target)
    else:
        check_lowering("aten.index.Tensor", x, indices, target=target)


def test_infinite_values_in_writes() -> None:
    check_lowering("aten.index_put.default", F, [torch.tensor([1])], torch.tensor(-math.inf))
    check_lowering("aten.index_put.default", F, [B], torch.tensor(-math.inf))
