"""What tests of lifting share: modules, and the names of a lifted program's ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from anec.frontend import Lifted

Lift = Callable[..., Lifted]


def inputs_of(found: Lifted) -> list[str]:
    return [port.name for port in found.module.main.signature.inputs]


def outputs_of(found: Lifted) -> list[str]:
    return [port.name for port in found.module.main.signature.outputs]


class Call(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


class Returns(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x + 1)


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList([nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.encoder.layers:
            x = layer(x) + x
        return x
