"""Norms as models spell them, and the one op each means."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
CHANNELS = 6


def paddle_layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).pow(2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * w + b


def annotated_layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Unbiased, and the weight in front; the epsilon inside."""
    return w * (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + 1e-6) + b


def fast_layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """The variance as the mean of squares without the square of the mean."""
    mean = x.mean(-1, keepdim=True)
    variance = (x * x).mean(-1, keepdim=True) - mean**2
    return (x - mean) * torch.rsqrt(variance + 1e-5) * w + b


def var_mean_layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, -1, keepdim=True, unbiased=False)
    return (x - mean) * (variance + 1e-5) ** -0.5 * w + b


def rms_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def gemma_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6) * (1.0 + w.float())).type_as(x)


def sum_rms_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return x / (torch.sum(x * x, -1) / x.shape[-1] + 1e-5).sqrt().unsqueeze(-1) * w


def reciprocal_rms_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return x * (1.0 / torch.sqrt(torch.mean(x**2, -1, keepdim=True) + 1e-5)) * w


def length_rms_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """lucidrains' form: it is an L2 norm with a scale."""
    return x / (x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5).clamp(min=1e-8) * w


def scale_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * w


def dynamic_tanh(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Instead of a norm, not one."""
    return torch.tanh(0.5 * x) * w + b


def twice_over_length(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Over the square of the length: one root makes the norm, the other stays."""
    length = x.norm(dim=-1, keepdim=True)
    return x / (length * length)


def twice_over_rms(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    inverse = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
    return x * (inverse * inverse)


TWICE: dict[str, tuple[Function, str]] = {"length": (twice_over_length, ""), "rms": (twice_over_rms, "")}


# On [batch, sequence, channels].
SEQUENCES: dict[str, tuple[Function, str]] = {
    "paddle": (paddle_layer_norm, "nn.layer_norm"),
    "annotated": (annotated_layer_norm, "nn.layer_norm"),
    "fast": (fast_layer_norm, "nn.layer_norm"),
    "var_mean": (var_mean_layer_norm, "nn.layer_norm"),
    "rms": (rms_norm, "nn.rms_norm"),
    "gemma": (gemma_norm, "nn.rms_norm"),
    "sum": (sum_rms_norm, "nn.rms_norm"),
    "reciprocal": (reciprocal_rms_norm, "nn.rms_norm"),
    "length": (length_rms_norm, "nn.l2_norm"),
    "scale": (scale_norm, "nn.l2_norm"),
    "dynamic_tanh": (dynamic_tanh, ""),
}


def channels_first(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return w[:, None, None] * ((x - mean) / torch.sqrt(variance + 1e-6)) + b[:, None, None]


def permuted(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.layer_norm(x.permute(0, 2, 3, 1), (CHANNELS,), w, b, 1e-6).permute(0, 3, 1, 2)


def grouped(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    groups = x.view(x.shape[0], 3, -1)
    variance, mean = torch.var_mean(groups, dim=2, unbiased=False, keepdim=True)
    normal = ((groups - mean) / (variance + 1e-5).sqrt()).view(x.shape)
    return normal * w.view(1, -1, 1, 1) + b.view(1, -1, 1, 1)


def instance(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    deviation = (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    return (x - mean) / deviation * w.view(1, -1, 1, 1) + b.view(1, -1, 1, 1)


def whole(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Of everything but the batch, as in speech separation."""
    mean = x.mean((1, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((1, 2, 3), keepdim=True)
    return w.view(-1, 1, 1) * (x - mean) / torch.pow(variance + 1e-8, 0.5) + b.view(-1, 1, 1)


def filter_response(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    square = torch.mean(x**2, dim=(2, 3), keepdim=True)
    return torch.max(w.view(1, -1, 1, 1) * (x * torch.rsqrt(square + 1e-6)) + b.view(1, -1, 1, 1), x)


def response(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    length = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
    return x + x * (length / (length.mean(dim=1, keepdim=True) + 1e-6)) * w.view(-1, 1, 1)


def batch_statistics(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """A batch norm in training: over the batch too."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def pixel(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


# On [batch, channels, height, width].
IMAGES: dict[str, tuple[Function, str]] = {
    "channels_first": (channels_first, "nn.layer_norm"),
    "permuted": (permuted, "nn.layer_norm"),
    "grouped": (grouped, "nn.group_norm"),
    "instance": (instance, "nn.instance_norm"),
    "whole": (whole, "nn.group_norm"),
    "filter_response": (filter_response, "nn.rms_norm"),
    "response": (response, "nn.global_response_norm"),
    "pixel": (pixel, "nn.rms_norm"),
    "batch_statistics": (batch_statistics, ""),
}


class Norms(nn.Module):
    """Several norms of one input, each with weights of its own; an output a norm."""

    def __init__(self, functions: dict[str, tuple[Function, str]]) -> None:
        super().__init__()
        self.functions = {name: function for name, (function, _) in functions.items()}
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.rand(CHANNELS) + 0.5) for name in functions})
        self.biases = nn.ParameterDict({name: nn.Parameter(torch.randn(CHANNELS)) for name in functions})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {n: function(x, self.weights[n], self.biases[n]) for n, function in self.functions.items()}
