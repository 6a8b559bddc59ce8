"""Quantization taken apart into arithmetic: what training for a quantized model, and its export, leave behind.

    fake_quantize_per_tensor_affine(x, scale, zero_point, low, high)
        ->
    clamp(round(x * (1 / scale)), low - zero_point, high - zero_point) * scale

Torch has kernels for these ops, but takes none of them apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

_Number = float | torch.Tensor

_EXPORTER = "torch.ao.quantization.fx._decomposed"
# What an exported quantized model is made of: ops of a library of torch's, with functions of plain torch behind them.
_EXPORTED = {
    "quantize_per_tensor.default": "quantize_per_tensor",
    "quantize_per_tensor.tensor": "quantize_per_tensor_tensor",
    "quantize_per_tensor.tensor2": "quantize_per_tensor_tensor2",
    "dequantize_per_tensor.default": "dequantize_per_tensor",
    "dequantize_per_tensor.tensor": "dequantize_per_tensor_tensor",
    "dequantize_per_tensor.tensor2": "dequantize_per_tensor_tensor2",
    "quantize_per_channel.default": "quantize_per_channel",
    "dequantize_per_channel.default": "dequantize_per_channel",
}


def is_exported() -> bool:
    """True once the library of exported quantized models is loaded: no program has its ops before."""
    return _EXPORTER in sys.modules


def decompositions() -> Mapping[Any, Callable[..., Any]]:
    """By op: the function that takes it apart."""
    aten = torch.ops.aten
    found: dict[Any, Callable[..., Any]] = {
        aten.fake_quantize_per_tensor_affine_cachemask.default: _fake_quantize,
        aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default: _fake_quantize_where_enabled,
        aten.fake_quantize_per_channel_affine_cachemask.default: _fake_quantize_channels,
    }
    for name, function in _EXPORTED.items() if is_exported() else ():
        packet, _, overload = name.partition(".")
        op = getattr(getattr(torch.ops.quantized_decomposed, packet), overload)
        found[op] = getattr(sys.modules[_EXPORTER], function)
    return found


def _fake_quantize(
    x: torch.Tensor, scale: _Number, zero_point: _Number, low: int, high: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``x`` in steps of ``scale``, and where it lies within the bounds."""
    steps = torch.round(x * (1 / scale))
    least: Any = low - zero_point
    most: Any = high - zero_point
    return torch.clamp(steps, least, most) * scale, (steps >= least) & (steps <= most)


def _fake_quantize_where_enabled(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, enabled: torch.Tensor, low: int, high: int
) -> tuple[torch.Tensor, torch.Tensor]:
    rounded, inside = _fake_quantize(x, scale.to(x.dtype), zero_point.to(x.dtype), low, high)
    return torch.where(enabled != 0, rounded, x), inside | (enabled == 0)


def _fake_quantize_channels(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int, low: int, high: int
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = [-1 if at == axis else 1 for at in range(x.dim())]
    return _fake_quantize(x, scale.to(x.dtype).view(shape), zero_point.to(x.dtype).view(shape), low, high)
