"""Models that commands name: good, unsupported, and wrong ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import anec


class Tiny(nn.Module):
    """A layer and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.fc(x)) * 2


def tiny():
    torch.manual_seed(0)
    return Tiny().eval(), (torch.randn(2, 4),)


class TwoInputs(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


def one_name():
    return anec.Source(TwoInputs(), (torch.ones(2), torch.ones(2)), input_names=["a", "a"])


def raises():
    raise RuntimeError("the weights are elsewhere")


def number():
    return 3


def no_arguments():
    return Tiny()


class Unsupported(nn.Module):
    """Two ops without a lowering, others with one between them, and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.gru(x)[0]
        z = torch.special.bessel_j0(y) + 2
        return torch.linalg.svdvals(x[0]), z


def unsupported():
    torch.manual_seed(0)
    return Unsupported().eval(), (torch.randn(1, 40, 4),)


class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


def short_gru():
    return Gru().eval(), (torch.randn(1, 4, 4),)


def long_gru():
    return Gru().eval(), (torch.randn(1, 40, 4),)


class Convex(nn.Module):
    """Upsampling by weights for a window of each pixel: products and a softmax between views of rank 7."""

    def forward(self, flow: Tensor, mask: Tensor) -> Tensor:
        batch, _, height, width = flow.shape
        weights = torch.softmax(mask.view(batch, 1, 9, 2, 2, height, width), dim=2)
        windows = nn.functional.unfold(flow, [3, 3], padding=1).view(batch, 2, 9, 1, 1, height, width)
        pixels = torch.sum(weights * windows, dim=2).permute(0, 1, 4, 2, 5, 3)
        return pixels.reshape(batch, 2, 2 * height, 2 * width)


def convex():
    return Convex().eval(), (torch.randn(1, 2, 4, 5), torch.randn(1, 36, 4, 5))


class Scaled(nn.Module):
    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def not_a_number():
    return Scaled(torch.tensor([1.0, float("nan")])), (torch.ones(2),)


def wide_buffer():
    return Scaled(torch.tensor([1, 2**40])), (torch.ones(2, dtype=torch.int64),)


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + 2**40)


def wide_constant():
    return Wide(), (torch.arange(3),)


class Index(nn.Module):
    def forward(self, table: Tensor, index: Tensor) -> Tensor:
        return table[index]


def index():
    return Index(), (torch.randn(5, 3), torch.tensor([0, 4]))


class Mobile(nn.Module):
    """Depthwise convolutions, squeeze and excitation, hard activations, as mobile networks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.stem(x))
        x = x * self.squeeze(x)
        return self.head(x.mean((2, 3)))


def mobile():
    torch.manual_seed(0)
    return Mobile().eval(), (torch.randn(1, 3, 16, 16),)
