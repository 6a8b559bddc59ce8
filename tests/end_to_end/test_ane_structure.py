"""Stock transformers under `default,ane`: the structure that Apple writes by hand, and the same numbers."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

import anec
from zoo.weights import perturb

LAYERS, HEADS = 2, 4


def distilbert() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(1)
    config = DistilBertConfig(vocab_size=200, dim=64, n_layers=LAYERS, n_heads=HEADS, hidden_dim=128)
    model = perturb(DistilBertForSequenceClassification(config), seed=2)
    mask = torch.ones(1, 32, dtype=torch.int64)
    mask[0, 20:] = 0
    return model, {"input_ids": torch.randint(3, 200, (1, 32)), "attention_mask": mask}


def bert() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=128
    )
    model = perturb(BertForSequenceClassification(config), seed=2)
    mask = torch.ones(1, 32, dtype=torch.int64)
    mask[0, 20:] = 0
    return model, {"input_ids": torch.randint(3, 200, (1, 32)), "attention_mask": mask}


@pytest.mark.parametrize("make", [distilbert, bert])
def test_the_structure_of_the_hand_written_model(make: type) -> None:
    model, kwargs = make()
    with torch.no_grad():
        wanted = model(**kwargs).logits
    compiled = anec.compile(model, (), kwargs, passes="default,ane", precision="fp32")
    ops = [op for op in compiled.module.main if not op.is_constant]
    count = Counter(op.name.removeprefix("mil.") for op in ops)
    assert not count["linear"] + count["matmul"]
    assert count["conv"] == 6 * LAYERS + 2
    assert all(op.value("weight").shape[2:] == (1, 1) for op in ops if op.name == "mil.conv")
    # One at the entry, and one for the keys of each layer.
    assert count["transpose"] <= LAYERS + 1
    assert count["einsum"] == 2 * LAYERS * HEADS
    assert {op.attr("equation") for op in ops if op.name == "mil.einsum"} == {"nchw,nwhu->nchu"}
    assert all(op.attr("axis") == 1 for op in ops if op.name == "mil.softmax")
    assert all(op.attr("axes") == (1,) for op in ops if op.name == "mil.layer_norm")
    found = compiled.run(kwargs)["logits"]
    torch.testing.assert_close(torch.as_tensor(found), wanted, rtol=1e-5, atol=1e-5)
    half = anec.compile(model, (), kwargs, passes="default,ane").run(kwargs)["logits"]
    error = torch.as_tensor(half) - wanted
    assert 20 * torch.log10(wanted.abs().max() / error.square().mean().sqrt()) > 55
