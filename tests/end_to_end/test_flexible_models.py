"""Whole models of free sizes: one package, saved and loaded, is right at every size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import anec


class UNet(nn.Module):
    """Down twice, and up to the sizes of what was on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.third, self.up, self.last = nn.Conv2d(12, 12, 3, 2, 1), nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(16, 2, 1)
        self.norm = nn.GroupNorm(4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(self.first(x))
        b = F.silu(self.norm(self.second(a)))
        c = F.max_pool2d(F.relu(self.third(b)), 3, 1, 1)
        up = self.up(torch.cat([F.interpolate(c, size=b.shape[-2:], mode="bilinear", align_corners=False), b], 1))
        up = F.interpolate(up, size=a.shape[-2:], mode="bilinear", align_corners=False)
        return self.last(torch.cat([up, a], 1))


class Classifier(nn.Module):
    """Convolutions and a fixed head, as torchvision's have it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3, 2, 1))
        self.head = nn.Linear(8 * 9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.adaptive_avg_pool2d(self.body(x), 3).flatten(1))


class Boxes(nn.Module):
    """A detector's head: the decoding is written into slices, and a grid is made of the sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2 * 7, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        batch, _, rows, columns = y.shape
        y = y.view(batch, 2, 7, rows, columns).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
        down, right = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        y[..., 0:2] = (y[..., 0:2] * 2 - 0.5 + torch.stack((right, down), 2)) * 8
        y[..., 2:4] = (y[..., 2:4] * 2) ** 2 * 10
        return y.view(batch, -1, 7)


class Pyramid(nn.Module):
    """Halves of halves, each added to what is doubled again: the sizes are one for multiples of 4 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(a, 6, 3, 2, 1) for a in (3, 6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.first(x)
        b = F.relu(self.second(a))
        c = F.interpolate(F.relu(self.third(b)), scale_factor=2.0) + b
        return F.interpolate(c, scale_factor=2.0) + a


def images(*sizes: tuple[int, int, int]) -> list[dict[str, torch.Tensor]]:
    return [{"x": torch.randn(batch, 3, height, width)} for batch, height, width in sizes]


def assert_right(
    tmp_path: Path, model: nn.Module, shapes: dict[str, Any], given: list[dict[str, torch.Tensor]], target: str
) -> None:
    """Compile for the first inputs, save and load, and compare at all of them."""
    compiled = anec.compile(model.eval(), (), given[0], shapes=shapes, precision="fp32", target=target)
    compiled.save(tmp_path / "m.mlpackage")
    found = anec.load(tmp_path / "m.mlpackage")
    for inputs in given:
        with torch.no_grad():
            wanted = model(**inputs)
        got = next(iter(found.run(inputs).values()))
        wanted = wanted if isinstance(wanted, torch.Tensor) else wanted[0]
        rel = float((torch.from_numpy(got) - wanted).abs().max() / wanted.abs().max())
        assert rel < 1e-4, {name: tuple(tensor.shape) for name, tensor in inputs.items()}


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize("model", [UNet, Classifier, Boxes])
def test_images_of_any_size(model: type[nn.Module], target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = images((2, 40, 48), (1, 32, 32), (3, 61, 47), (4, 64, 96))
    assert_right(tmp_path, model(), {"x": "1..4x3x32..64x32..96"}, given, target)


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_listed_sizes_that_are_multiples(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = images((2, 32, 48), (2, 64, 32), (2, 16, 80))
    assert_right(tmp_path, Pyramid(), {"x": "2x3x32x48,2x3x64x32,2x3x16x80"}, given, target)


def tokens(batch: int, length: int) -> dict[str, torch.Tensor]:
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, length - length // 3 :] = 0
    return {"input_ids": torch.randint(0, 90, (batch, length)), "attention_mask": mask}


def test_a_masked_encoder_of_any_length(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    shapes = dict.fromkeys(("input_ids", "attention_mask"), "B:1..4xS:2..32")
    given = [tokens(2, 8), tokens(1, 2), tokens(3, 17), tokens(4, 32)]
    assert_right(tmp_path, transformers.BertModel(config), shapes, given, "iOS17")


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, use_cache=False).logits


class AnyInputs(nn.Module):
    """Inputs without names of their own, of which torch checks sizes under a name that is not defined."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**inputs, use_cache=False).logits


def test_a_decoder_of_any_prompt_length(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    given = [{"input_ids": torch.randint(0, 90, (1, length))} for length in (8, 2, 17, 32)]
    model = Logits(transformers.LlamaForCausalLM(config))
    assert_right(tmp_path, model, {"input_ids": "1x2..32"}, given, "iOS18")


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_a_mixture_of_experts_of_any_prompt_length(target: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", minversion="5.0")
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=32, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    given = [tokens(2, length) for length in (8, 2, 17, 32)]
    shapes = dict.fromkeys(("input_ids", "attention_mask"), "2xS:2..32")
    assert_right(tmp_path, AnyInputs(transformers.MixtralForCausalLM(config)), shapes, given, target)
