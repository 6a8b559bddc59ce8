"""Real architectures with random weights that tell a right answer from a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from zoo.weights import perturb

Case = tuple[torch.nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor]]


def vision(name: str) -> Callable[[int], Case]:
    def make(batch: int) -> Case:
        import torchvision

        torch.manual_seed(1)
        model = perturb(getattr(torchvision.models, name)(weights=None), seed=2)
        return model, (torch.randn(batch, 3, 224, 224),), {}

    return make


def _tokens(batch: int, length: int, vocabulary: int) -> torch.Tensor:
    return torch.randint(3, vocabulary, (batch, length))


def _padded(batch: int, length: int) -> torch.Tensor:
    """A mask that pads the second half of the second row."""
    mask = torch.ones(batch, length, dtype=torch.int64)
    if batch > 1:
        mask[1, length // 2 :] = 0
    return mask


def bert(batch: int) -> Case:
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=200, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96
    )
    model = perturb(BertModel(config), seed=2)
    return model, (), {"input_ids": _tokens(batch, 17, 200), "attention_mask": _padded(batch, 17)}


def distilbert(batch: int) -> Case:
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(1)
    config = DistilBertConfig(vocab_size=200, dim=48, n_layers=3, n_heads=4, hidden_dim=96)
    model = perturb(DistilBertModel(config), seed=2)
    return model, (), {"input_ids": _tokens(batch, 16, 200), "attention_mask": _padded(batch, 16)}


def llama(batch: int) -> Case:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=200, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, use_cache=False,
    )  # fmt: skip
    model = perturb(LlamaForCausalLM(config), seed=2)
    return model, (), {"input_ids": _tokens(batch, 15, 200)}


MODELS: dict[str, Callable[[int], Case]] = {
    **{
        name: vision(name)
        for name in ("resnet18", "mobilenet_v3_small", "densenet121", "vit_b_16", "swin_t", "convnext_tiny")
    },
    "bert": bert,
    "distilbert": distilbert,
    "llama": llama,
}


def named_inputs(args: tuple[Any, ...], kwargs: dict[str, Any], names: list[str]) -> dict[str, torch.Tensor]:
    """The inputs by public name, in order."""
    return dict(zip(names, (*args, *kwargs.values()), strict=True))
