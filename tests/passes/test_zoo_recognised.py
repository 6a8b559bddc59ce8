"""What `default` recognises in whole architectures: every norm, attention and activation, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from anec.api.compiling import compile_source
from anec.frontend import Source
from zoo.registry import build

# Architectures that differ in how they spell their norms: modules of torch, functions, arithmetic in any dtype.
EXPECTED: dict[str, dict[str, int]] = {
    "audio_spectrogram_transformer": {"layer_norm": 5, "attention": 2, "gelu": 2},
    "bit": {"group_norm": 13},
    "clip_text": {"layer_norm": 5, "attention": 2, "gelu": 2},
    "dinov2": {"layer_norm": 5, "attention": 2, "gelu": 2},
    "esm": {"layer_norm": 5, "attention": 2, "gelu": 2},
    "fnet": {"layer_norm": 5, "gelu": 2},
    "helium": {"rms_norm": 5, "attention": 2, "silu": 2},
    "ijepa": {"layer_norm": 5, "attention": 2, "gelu": 2},
    "lfm2": {"rms_norm": 7, "attention": 1, "silu": 2},
    "nemotron": {"layer_norm": 5, "attention": 2},
    "olmo": {"layer_norm": 5, "attention": 2, "silu": 2},
    "openai_gpt": {"layer_norm": 4, "attention": 2, "gelu": 2},
    "opt": {"layer_norm": 5, "attention": 2},
    "poolformer": {"group_norm": 8, "gelu": 4},
    "regnet": {"batch_norm": 20},
    "resnet": {"batch_norm": 19},
    "siglip_vision": {"layer_norm": 6, "attention": 3, "gelu": 3},
    "squeezebert": {"layer_norm": 5, "attention": 2, "gelu": 2},
    "stablelm": {"layer_norm": 5, "attention": 2, "silu": 2},
    "t5_encoder": {"rms_norm": 5, "attention": 2},
    "vit": {"layer_norm": 5, "attention": 2, "gelu": 2},
}
NORMS = frozenset("layer_norm rms_norm group_norm batch_norm instance_norm l2_norm".split())
# What is left of a norm, an attention or an activation that is not found.
LEFT = frozenset("mean var var_mean std rsqrt pow softmax bmm erf exp".split())


def norms_called(model: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> int:
    """How often modules that are norms, by the names of their classes, are called."""
    calls = 0

    def called(*_: object) -> None:
        nonlocal calls
        calls += 1

    named = [module for module in model.modules() if "Norm" in type(module).__name__]
    inner = {child for module in named for child in module.modules() if child is not module}
    handles = [module.register_forward_hook(called) for module in named if module not in inner]
    with torch.no_grad():
        model(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return calls


@pytest.mark.parametrize("name", EXPECTED)
def test_all_norms_and_attentions_are_found(name: str) -> None:
    model, args, kwargs = build(name, batch=1)
    module = compile_source(Source(model, args, kwargs), finish=False).module
    found = Counter(op.defn.root for op in module.main if op.defn.dialect == "nn")
    assert {kind: count for kind, count in found.items() if kind in EXPECTED[name] or kind in NORMS} == EXPECTED[name]
    assert norms_called(model, args, kwargs) == sum(found[kind] for kind in NORMS)
    assert found["attention"] == EXPECTED[name].get("attention", 0)
    assert not [op.name for op in module.main if op.defn.root in LEFT and not op.is_constant]
