"""How a model of the zoo is made: from a library's constructor, or from a configuration class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from zoo.weights import perturb

Case = tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]
Factory = Callable[[int, int], Case]
Inputs = Callable[[int], dict[str, Any]]

VOCABULARY = 200


class Only(torch.nn.Module):
    """A model of transformers that returns the named outputs only.

    Caches and intermediate states beside the answer are objects that `torch.export` refuses, or
    that no caller of a Core ML model wants.
    """

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, **inputs: Any) -> tuple[torch.Tensor, ...]:
        outputs = self.model(**inputs)
        return tuple(outputs[name] for name in self.names)


def hugging_face(
    model: str,
    inputs: Inputs,
    *,
    config: str = "",
    only: str = "",
    attention: str = "",
    **settings: Any,
) -> Factory:
    """A model of transformers from a small configuration.

    Args:
        model: the model's class.
        inputs: keyword arguments for a batch size.
        config: the configuration's class; by default the model's own.
        only: outputs to keep, by name; by default all.
        attention: the attention implementation; by default the library's choice.
        settings: what the configuration is made of.
    """

    def make(batch: int, seed: int) -> Case:
        import transformers

        torch.manual_seed(seed)
        model_class = getattr(transformers, model)
        config_class = getattr(transformers, config) if config else model_class.config_class
        configuration = config_class(**settings)
        if attention:
            configuration._attn_implementation = attention
        module = perturb(model_class(configuration), seed + 1)
        if only:
            module = Only(module, tuple(only.split())).eval()
        return module, (), inputs(batch)

    return make


def image(*shape: int, name: str = "pixel_values") -> Inputs:
    """One float input, without its batch axis."""
    return lambda batch: {name: torch.randn(batch, *shape)}


def tokens(length: int, name: str = "input_ids", vocabulary: int = VOCABULARY) -> Inputs:
    return lambda batch: {name: torch.randint(3, vocabulary, (batch, length))}


def padded(length: int, name: str = "attention_mask") -> Inputs:
    """A mask that pads the second half of the second row."""

    def make(batch: int) -> dict[str, Any]:
        mask = torch.ones(batch, length, dtype=torch.int64)
        mask[1:2, (length + 1) // 2 :] = 0
        return {name: mask}

    return make


def together(*parts: Inputs) -> Inputs:
    return lambda batch: {name: value for part in parts for name, value in part(batch).items()}


def masked(length: int) -> Inputs:
    """Tokens and their padding mask."""
    return together(tokens(length), padded(length))
