"""Quantized models as they are trained and exported: arithmetic on floats, with torch's numbers."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

import anec
from anec.errors import AnecError


class Fake(nn.Module):
    """The forms of fake quantization, with zero points and bounds that are no symmetric ones."""

    scale: torch.Tensor
    zero_point: torch.Tensor
    scales: torch.Tensor
    zero_points: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([0.05]))
        self.register_buffer("zero_point", torch.tensor([4], dtype=torch.int32))
        self.register_buffer("scales", torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("zero_points", torch.tensor([1, 0, -2], dtype=torch.int32))
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        by_tensor = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, 63)
        by_number = torch.fake_quantize_per_tensor_affine(x, 0.07, 3, -8, 7)
        by_channel = torch.fake_quantize_per_channel_affine(x, self.scales, self.zero_points, 1, -8, 7)
        weight = torch.fake_quantize_per_channel_affine(self.weight, self.scales, self.zero_points, 1, -8, 7)
        return by_tensor, by_number, by_channel, torch.conv2d(x, weight)


class Exported(nn.Module):
    """What a quantizing exporter writes: int8 weights by channel, activations through int8."""

    scales: torch.Tensor
    zeros: torch.Tensor
    weight: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        ops = torch.ops.quantized_decomposed
        weight = torch.randn(4, 3, 3, 3)
        self.register_buffer("scales", weight.abs().amax((1, 2, 3)) / 127)
        self.register_buffer("zeros", torch.zeros(4, dtype=torch.int64))
        packed = ops.quantize_per_channel.default(weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        self.register_buffer("weight", packed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ops = torch.ops.quantized_decomposed
        x = ops.quantize_per_tensor.default(x, 0.03, -3, -128, 127, torch.int8)
        x = ops.dequantize_per_tensor.default(x, 0.03, -3, -128, 127, torch.int8)
        weight = ops.dequantize_per_channel.default(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        return torch.conv2d(x, weight)


@pytest.mark.parametrize("model", [Fake, Exported])
@pytest.mark.parametrize(("batch", "size"), [(1, 7), (2, 8)])
def test_it_is_arithmetic(model: type[nn.Module], batch: int, size: int) -> None:
    importlib.import_module("torch.ao.quantization.fx._decomposed")
    torch.manual_seed(size)
    made, x = model().eval(), torch.randn(batch, 3, size, size)
    compiled = anec.compile(made, (x,), passes="default,ane", precision="fp32", check="rewrites")
    with torch.no_grad():
        wanted = made(x)
    found = compiled.run({"x": x}).values()
    for got, want in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want, rtol=1e-5, atol=1e-6)


def test_weights_packed_for_torchs_kernels_are_refused_with_a_way_out() -> None:
    quantize = importlib.import_module("torch.ao.quantization").quantize_dynamic
    with pytest.warns(DeprecationWarning, match="deprecated"):
        packed = quantize(nn.Sequential(nn.Linear(4, 3)), dtype=torch.qint8)
    with pytest.raises(AnecError) as caught:
        anec.compile(packed, (torch.randn(2, 4),))
    assert "compile the float model" in str(caught.value.hint)
