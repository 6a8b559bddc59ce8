"""All architectures of the zoo, by name.

A factory takes a batch size and a seed, and returns a module in eval mode with example arguments.
Weights and inputs are random, configurations small; nothing is downloaded.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from zoo import audio, decoders, encoder_decoders, encoders, multimodal, timm_models, torchvision_models, vision
from zoo.building import Case, Factory

MODELS: dict[str, Factory] = {
    **encoders.MODELS,
    **decoders.MODELS,
    **encoder_decoders.MODELS,
    **audio.MODELS,
    **vision.MODELS,
    **multimodal.MODELS,
    **torchvision_models.MODELS,
    **timm_models.MODELS,
}


def build(name: str, batch: int = 2, seed: int = 1) -> Case:
    """The module and its example arguments."""
    return MODELS[name](batch, seed)


def matching(pattern: str) -> list[str]:
    """Names that match one of the globs in ``pattern``, which commas separate."""
    return [name for name in MODELS if any(fnmatchcase(name, glob) for glob in pattern.split(","))]
