"""Vision towers whose code loops over grid_thw, as transformers has them, with grid_thw bound."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
import torch

import anec
from anec.check.metrics import compare

pytest.importorskip("transformers")

PATCH = {"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_heads": 4, "depth": 2}
GLM = {**PATCH, "hidden_size": 32, "image_size": 32, "out_hidden_size": 24, "intermediate_size": 40}
# family: model, configuration, settings, shape of one patch
TOWERS: dict[str, tuple[str, str, dict[str, Any], tuple[int, ...]]] = {
    "qwen2_vl": (
        "Qwen2VisionTransformerPretrainedModel", "Qwen2VLVisionConfig",
        {**PATCH, "embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2}, (96,),
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VisionTransformerPretrainedModel", "Qwen2_5_VLVisionConfig",
        {**PATCH, "hidden_size": 32, "intermediate_size": 40, "window_size": 16, "out_hidden_size": 24, "fullatt_block_indexes": [1]},
        (96,),
    ),
    "glm4v": ("Glm4vVisionModel", "Glm4vVisionConfig", GLM, (96,)),
    "glm_ocr": ("GlmOcrVisionModel", "GlmOcrVisionConfig", GLM, (96,)),
    "paddleocr_vl": (
        "PaddleOCRVisionModel", "PaddleOCRVisionConfig",
        {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 4},
        (3, 4, 4),
    ),
}  # fmt: skip
ONE, TWO = [[1, 4, 6]], [[1, 4, 6], [1, 8, 4]]


def tower(family: str, attention: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    model, config, settings, patch = TOWERS[family]
    folder = f"transformers.models.{family}"
    try:
        configuration = getattr(importlib.import_module(f"{folder}.configuration_{family}"), config)(**settings)
        cls = getattr(importlib.import_module(f"{folder}.modeling_{family}"), model)
    except ImportError:
        pytest.skip(f"this transformers has no {family}")
    configuration._attn_implementation = attention
    made = cls(configuration).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made, patch


@pytest.mark.parametrize(
    ("family", "attention", "grid"),
    [(name, ("sdpa", "eager")[i % 2], (ONE, TWO)[i % 2]) for i, name in enumerate(TOWERS)],
)
def test_vision_tower(family: str, attention: str, grid: list[list[int]]) -> None:
    model, patch = tower(family, attention)
    count = sum(t * h * w for t, h, w in grid)
    x = torch.randn(*((1, count) if len(patch) == 3 else (count,)), *patch)
    name = list(inspect.signature(model.forward).parameters)[1]
    compiled = anec.compile(model, (x, torch.ones(1, 3, dtype=torch.int64)), bind={name: grid}, precision="fp32")
    assert len(compiled.input_names) == 1
    x = torch.randn_like(x)
    with torch.no_grad():
        wanted = {key: value for key, value in model(x, torch.tensor(grid)).items() if isinstance(value, torch.Tensor)}
    found = compiled.run({compiled.input_names[0]: x})
    assert wanted.keys() == found.keys()
    for key, tensor in wanted.items():
        metric = compare(key, torch.from_numpy(found[key]), tensor)
        assert not metric.void
        assert metric.rel < 1e-4, metric
