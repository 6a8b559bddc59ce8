"""Whole models: each is lifted, printed, read back and equals eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
import transformers

from anec.frontend import Lifted, from_torch

Lift = Callable[..., Lifted]
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_torchvision(lifted: Lift, name: str) -> None:
    model = getattr(torchvision.models, name)(weights=None, num_classes=7)
    found = lifted(model, torch.randn(2, 3, 64, 64))
    graph = found.module.main
    assert [port.name for port in graph.signature.inputs] == ["x"]
    assert [port.name for port in graph.signature.outputs] == ["output"]
    assert {op.name.split(".")[0] for op in graph} == {"aten"}
    assert all(op.origin.path for op in graph if op.defn.root == "convolution")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bert(lifted: Lift, attention: str) -> None:
    config = transformers.BertConfig(**SMALL, attn_implementation=attention)
    ids = torch.randint(0, 50, (1, 8))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]])
    found = lifted(transformers.BertModel(config), (), {"input_ids": ids, "attention_mask": mask})
    assert [port.name for port in found.module.main.signature.outputs] == ["last_hidden_state", "pooler_output"]
    assert "encoder.layer.1.attention.self.query" in {op.origin.path for op in found.module.main}


def test_llama(lifted: Lift) -> None:
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2)
    kwargs: dict[str, Any] = {"input_ids": torch.randint(0, 50, (2, 6)), "use_cache": False}
    found = lifted(transformers.LlamaForCausalLM(config), (), kwargs)
    assert [port.name for port in found.module.main.signature.outputs] == ["logits"]
    assert "use_cache=False is fixed" in found.module.main.signature.notes
    assert sum(op.defn.root == "scaled_dot_product_attention" for op in found.module.main) == 2


def test_lifting_twice_gives_the_same_text() -> None:
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=3)
    args = torch.randn(1, 3, 32, 32)
    assert str(from_torch(model, args).module) == str(from_torch(model, args).module)
