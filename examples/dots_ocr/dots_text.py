"""The text model of dots.ocr, a Qwen2 in its published dimensions, with random weights.

    anec compile examples/dots_ocr/dots_text.py:tiny -o text.mlpackage
    anec compile examples/dots_ocr/dots_text.py:full -o text.mlpackage

Needs transformers: pip install "transformers>=5"
"""

from __future__ import annotations

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

import anec


class Text(torch.nn.Module):
    """The text model over embeddings, into which the vision tower's tokens were put."""

    def __init__(self, settings: Qwen2Config) -> None:
        super().__init__()
        self.model = Qwen2ForCausalLM(settings)

    def forward(self, inputs_embeds: torch.Tensor) -> torch.Tensor:
        return self.model(inputs_embeds=inputs_embeds, use_cache=False).logits


def config(**changes: int) -> Qwen2Config:
    """The Qwen2 configuration of the text model, 1,777,088,000 parameters."""
    published = {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    }
    return Qwen2Config(**{**published, **changes})


def source(settings: Qwen2Config, length: int) -> anec.Source:
    """The text model over a sequence of embeddings."""
    torch.manual_seed(0)
    return anec.Source(Text(settings).eval(), (torch.randn(1, length, settings.hidden_size),), output_names=["logits"])


def tiny() -> anec.Source:
    """Two layers of width 32, for 16 embeddings."""
    small = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return source(config(**small, num_attention_heads=4), 16)


def full() -> anec.Source:
    """All 28 layers, 7 GB in float32, for 512 embeddings."""
    return source(config(), 512)
