"""Whole architectures: compiled, saved, reloaded from disk, run, and compared with eager PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import anec
from anec.check.metrics import compare
from end_to_end.zoo import MODELS
from zoo.registry import build

# Of benchmarks/zoo: quick ones, and different in kind.
ZOO = (
    "clip",  # two towers, contrastive logits
    "deberta",  # disentangled attention
    "gpt2",  # fused projections as conv1d, causal and padded
    "mixtral",  # experts, picked by the token
    "modernbert",  # rotary, local and global attention in turn
    "segformer",  # overlapping patches, a decoder that resizes
    "t5_encoder",  # relative position buckets
    "wav2vec2_ctc",  # strided convolutions over a wave
    "whisper_encoder",  # a spectrogram
    "timm/mobilevit_xxs",  # convolutions and attention over unfolded patches
)


def eager(
    model: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]
) -> list[torch.Tensor]:
    with torch.no_grad():
        result = model(*args, **kwargs)
    if isinstance(result, torch.Tensor):
        return [result]
    values = result if isinstance(result, tuple) else result.values()
    return [value for value in values if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_agrees_with_eager(name: str, batch: int, tmp_path: Path) -> None:
    assert_agreement(*MODELS[name](batch), tmp_path)


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str, tmp_path: Path) -> None:
    assert_agreement(*build(name, batch=2), tmp_path)


@pytest.mark.parametrize("globals_at", [[], [0, 9]])
def test_longformer(globals_at: list[int], tmp_path: Path) -> None:
    # It branches on its masks, cuts overlapping chunks by strides, and writes to no place where nothing is global.
    model, _, given = build("longformer", batch=2)
    ids = given["input_ids"]
    bind = {"attention_mask": torch.ones_like(ids), "global_attention_mask": torch.zeros_like(ids)}
    bind["global_attention_mask"][:, globals_at] = 1
    compiled = anec.compile(model, (), {"input_ids": ids, **bind}, bind=bind, passes="default,ane", precision="fp32")
    compiled.save(tmp_path / "longformer.mlpackage")
    outputs = anec.load(tmp_path / "longformer.mlpackage").run({"input_ids": ids})
    for (name, found), wanted in zip(outputs.items(), eager(model, (), {"input_ids": ids, **bind}), strict=True):
        metric = compare(name, torch.from_numpy(found), wanted)
        assert not metric.void
        assert metric.rel < 1e-5, metric


def assert_agreement(
    model: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor], folder: Path
) -> None:
    expected = eager(model, args, kwargs)
    program = torch.export.export(model, args, kwargs, strict=False)
    for precision in ("fp32", "fp16"):
        path = folder / f"{precision}.mlpackage"
        compiled = anec.compile(program, passes="default,ane", precision=precision)
        compiled.save(path)
        outputs = anec.load(path).run(compiled.example_inputs)
        assert len(outputs) == len(expected)
        for (output, array), wanted in zip(outputs.items(), expected, strict=True):
            metric = compare(output, torch.from_numpy(array), wanted)
            assert not metric.void, metric
            if precision == "fp32":
                assert metric.rel < 1e-4, metric
            else:
                assert metric.psnr > 45, metric
