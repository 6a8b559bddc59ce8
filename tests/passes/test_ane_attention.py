"""ane-attention: the split form computes what attention does, in every variant that torch has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anec.dialects import aten, nn
from anec.errors import UsageError
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module
from anec.ir.types import DType, TensorType
from anec.passes.ane_attention import AneAttention
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from anec.testing import run_pass

DTYPES = {torch.float32: DType.F32, torch.float64: DType.F32, torch.bool: DType.BOOL}


def attention_module(tensors: dict[str, torch.Tensor], **attrs: Any) -> Module:
    """One attention whose operands are the function's inputs."""
    module, graph = Module(), Graph()
    module.functions["main"] = graph
    values = {
        name: graph.add_input(name, TensorType(DTYPES[tensor.dtype], tuple(tensor.shape)))
        for name, tensor in tensors.items()
    }
    builder = Builder(graph)
    with builder.active():
        graph.outputs = [nn.attention(*values.values(), **attrs)]
    return module


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def operands(batch: int, heads: int, groups: int, queries: int, keys: int, width: int = 5) -> dict[str, torch.Tensor]:
    return {
        "query": drawn(batch, heads, queries, 6),
        "key": drawn(batch, groups, keys, 6, seed=1),
        "value": drawn(batch, groups, keys, width, seed=2),
    }


def masked(batch: int, heads: int, queries: int, keys: int) -> torch.Tensor:
    """A bool mask in which one query of the last row sees nothing."""
    mask = torch.rand(batch, heads, queries, keys, generator=torch.Generator().manual_seed(3)) < 0.6
    mask[..., 0] = True
    mask[-1, :, 1] = False
    return mask


CASES: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {
    "plain": (operands(2, 3, 3, 4, 7), {}),
    "one head": (operands(1, 1, 1, 4, 7), {}),
    "groups": (operands(2, 6, 2, 3, 5), {"scale": 0.3}),
    "causal": (operands(2, 2, 2, 6, 6), {"causal": True}),
    "causal, more keys": (operands(1, 2, 1, 4, 6), {"causal": True}),
    "causal, more queries": (operands(1, 2, 2, 6, 4), {"causal": True}),
    "softcap": (operands(1, 2, 2, 4, 6), {"softcap": 2.0, "scale": 1.0}),
    "rank 3": ({name: tensor[:, 0] for name, tensor in operands(3, 1, 1, 4, 6).items()}, {}),
    "bool mask": (operands(2, 3, 3, 4, 7) | {"mask": masked(2, 1, 4, 7)}, {}),
    "mask of one row": (operands(2, 3, 3, 4, 7) | {"mask": masked(2, 1, 4, 7)[:, :, :1]}, {}),
    "mask of rank 2": (operands(2, 3, 3, 4, 7) | {"mask": masked(1, 1, 4, 7)[0, 0]}, {}),
    "float mask a head": (operands(2, 3, 3, 4, 7) | {"mask": drawn(1, 3, 4, 7, seed=4)}, {}),
    "infinite mask": (
        operands(2, 3, 3, 4, 7)
        | {"mask": torch.zeros(2, 1, 4, 7).double().masked_fill(~masked(2, 1, 4, 7), -torch.inf)},
        {},
    ),
    "mask of the lowest number": (
        operands(2, 3, 3, 4, 7)
        | {"mask": torch.zeros(2, 1, 4, 7).double().masked_fill(~masked(2, 1, 4, 7), torch.finfo(torch.float32).min)},
        {},
    ),
    "lowest number, a head": (
        operands(2, 3, 3, 4, 7)
        | {"mask": torch.zeros(2, 3, 4, 7).double().masked_fill(~masked(2, 3, 4, 7), torch.finfo(torch.float32).min)},
        {},
    ),
    "mask and causal": (operands(1, 2, 2, 5, 5) | {"mask": masked(1, 1, 5, 5) | torch.eye(5).bool()}, {"causal": True}),
}


@pytest.mark.parametrize("options", [{}, {"heads": 1}, {"heads": 2}, {"chunk": 3}], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_same_numbers(name: str, options: dict[str, int]) -> None:
    tensors, attrs = CASES[name]
    module = attention_module(tensors, **attrs)
    inputs = dict(tensors)
    wanted = evaluate(module, inputs, precision=DOUBLE)
    run_pass(module, AneAttention(**options))
    assert not [op for op in module.main if op.name == "nn.attention"]
    found = evaluate(module, inputs, precision=DOUBLE)
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key], rtol=1e-10, atol=1e-12)


def counts(module: Module) -> dict[str, int]:
    names = [op.name.removeprefix("mil.") for op in module.main if not op.is_constant]
    return {name: names.count(name) for name in set(names)}


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (1, 3, 4, 1), (2, 1, 4, 1), (2, 3, 1, 1), (2, 3, 4, 6)], ids=str)
@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_a_factor_of_queries_and_heads_is_one_of_scores(shape: tuple[int, ...], softcap: float) -> None:
    tensors = operands(2, 3, 3, 4, 7) | {"mask": masked(2, 1, 4, 7)}
    module = attention_module(tensors, softcap=softcap)
    gate = module.main.add_input("gate", TensorType(DType.F32, shape))
    (op,) = module.main.ops()
    with Builder(module.main, before=op).active():
        op.set_operand(0, aten.mul.Tensor(op.value("query"), gate))
    tensors["gate"] = drawn(*shape, seed=5)
    wanted = evaluate(module, tensors, precision=DOUBLE)
    run_pass(module, AneAttention())
    scored = shape[1] > 1 and shape[-1] == 1 and not softcap
    assert any(op.name == "aten.mul.Tensor" for op in module.main) != scored
    found = evaluate(module, tensors, precision=DOUBLE)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-10, atol=1e-12)


def test_each_head_is_two_products_in_the_one_equation() -> None:
    module = attention_module(operands(1, 4, 2, 8, 8))
    run_pass(module, AneAttention())
    einsums = [op for op in module.main if op.name == "mil.einsum"]
    assert len(einsums) == 8
    assert {op.attr("equation") for op in einsums} == {"nchw,nwhu->nchu"}
    softmaxes = [op for op in module.main if op.name == "mil.softmax"]
    assert [op.attr("axis") for op in softmaxes] == [1]
    # Keys of a group serve its queries' heads as they are.
    assert "tile" not in counts(module)


def test_a_softmax_for_each_head_where_asked_for() -> None:
    module = attention_module(operands(1, 4, 4, 8, 8))
    run_pass(module, AneAttention(heads=1))
    assert counts(module)["softmax"] == 4
    assert counts(module)["concat"] == 1


def test_heads_share_a_softmax_as_far_as_the_working_set_goes() -> None:
    # 2 bytes * 512 keys * 512 queries are a quarter of 2 MiB: four heads a softmax.
    module = attention_module(operands(1, 8, 8, 512, 512))
    run_pass(module, AneAttention())
    assert counts(module)["softmax"] == 2


def test_the_working_set_is_that_of_the_generation() -> None:
    # An M5 holds 4.72 MB: nine such heads.
    module = attention_module(operands(1, 8, 8, 512, 512))
    run_pass(module, AneAttention(generation="M5"))
    assert counts(module)["softmax"] == 1
    module = attention_module(operands(1, 8, 8, 512, 512))
    run_pass(module, AneAttention(generation="A15"))
    assert counts(module)["softmax"] == 2


@pytest.mark.parametrize("option", ["heads", "chunk"])
def test_numbers_begin_at_1(option: str) -> None:
    assert AneAttention(**{option: 0}) == AneAttention(**{option: "auto"}) == AneAttention()
    assert AneAttention(**{option: 3}).spec() == f"ane-attention{{{option}=3}}"
    with pytest.raises(UsageError, match=f"ane-attention{{{option}=-1}}: it is auto, or at least 1"):
        AneAttention(**{option: -1})


def test_an_unknown_generation() -> None:
    with pytest.raises(UsageError, match="unknown generation 'M9'"):
        AneAttention(generation="M9")


@pytest.mark.parametrize("shapes", [((2, 2, 2, 4, 6), (2, 2, 2, 5, 6)), ((4, 6), (5, 6))], ids=["rank 5", "rank 2"])
def test_other_ranks_are_left_to_lowering(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    query, key = shapes
    module = attention_module({"query": drawn(*query), "key": drawn(*key), "value": drawn(*key)})
    before = str(module)
    run_pass(module, AneAttention())
    assert str(module) == before
