"""The evaluator against an executor that is not ours: ONNX Runtime on torch's ONNX export of the same module."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

import anec
from anec.check.metrics import compare
from end_to_end.zoo import MODELS, perturb


class Recogniser(torch.nn.Module):
    """A text recogniser in small: convolutions, a bidirectional LSTM, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
        )
        self.sequence = torch.nn.LSTM(8 * 8, 12, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(24, 11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x).permute(0, 3, 1, 2).flatten(2)
        return self.head(self.sequence(x)[0])


class Detector(torch.nn.Module):
    """A text detector in small: down, up by bilinear interpolation, concatenate."""

    def __init__(self) -> None:
        super().__init__()
        self.down = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.up = torch.nn.Conv2d(11, 2, 3, padding=2, dilation=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.relu(self.norm(self.down(x)), inplace=True)
        y = torch.nn.functional.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)
        return self.up(torch.cat([x, y], 1)).permute(0, 2, 3, 1)


def small(name: str, batch: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(3)
    if name == "recogniser":
        return perturb(Recogniser(), 4), (torch.randn(batch, 1, 16, 37),)
    if name == "detector":
        return perturb(Detector(), 4), (torch.randn(batch, 3, 33, 46),)
    model, args, kwargs = MODELS[name](batch)
    assert not kwargs
    return model, args


def onnxruntime_outputs(model: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    import onnxruntime

    buffer = io.BytesIO()
    program = torch.onnx.export(model, args, dynamo=True, verbose=False)
    assert program is not None
    program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    feeds = {port.name: arg.numpy() for port, arg in zip(session.get_inputs(), args, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, feeds)]


@pytest.mark.parametrize("name", ["recogniser", "detector", "resnet18", "mobilenet_v3_small", "convnext_tiny"])
def test_agrees_with_onnxruntime(name: str, tmp_path: Path) -> None:
    model, args = small(name, batch=2)
    expected = onnxruntime_outputs(model, args)
    path = tmp_path / "model.mlpackage"
    anec.compile(model, args, passes="default,ane", precision="fp32").save(path)
    loaded = anec.load(path)
    outputs = loaded.run(dict(zip(loaded.input_names, args, strict=True)))
    for (output, array), wanted in zip(outputs.items(), expected, strict=True):
        metric = compare(output, torch.from_numpy(array), wanted)
        assert metric.rel < 1e-4, metric
        assert not metric.void, metric
