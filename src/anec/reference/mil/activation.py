"""Activation kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel

from .common import choice, per_channel, positive_axis

_GELU_MODES = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")


def _per_channel_input(op: str, x: Tensor, vector: Tensor) -> Tensor:
    if vector.dim() != 1 or x.shape[1] != vector.shape[0]:
        raise AnecError(
            f"{op} has a vector of shape {tuple(vector.shape)} for an x of shape {tuple(x.shape)}",
            hint="its length is the size of axis 1 of x",
        )
    return per_channel(vector, x)


@kernel("mil.relu")
def relu(x: Tensor) -> Tensor:
    """Return max(x, 0)."""
    return torch.relu(x)


@kernel("mil.relu6")
def relu6(x: Tensor) -> Tensor:
    """Return min(max(x, 0), 6)."""
    return torch.clamp(x, 0, 6)


@kernel("mil.sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


@kernel("mil.silu")
def silu(x: Tensor) -> Tensor:
    """Return x sigmoid(x)."""
    return F.silu(x)


@kernel("mil.softsign")
def softsign(x: Tensor) -> Tensor:
    """Return x / (1 + |x|)."""
    return x / (1 + torch.abs(x))


@kernel("mil.softplus")
def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), without torch's switch to x above a threshold."""
    return torch.log1p(torch.exp(-torch.abs(x))) + torch.relu(x)


@kernel("mil.softplus_parametric")
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Return alpha_c log(1 + exp(beta_c x)) with a vector for axis 1 each.

    Raises:
        AnecError: x has rank < 3, or a vector does not fit axis 1.
    """
    if x.dim() < 3:
        raise AnecError(f"softplus_parametric has an x of rank {x.dim()}", hint="rank 3 or more")
    scale = _per_channel_input("softplus_parametric", x, alpha)
    return scale * softplus(x * _per_channel_input("softplus_parametric", x, beta))


@kernel("mil.prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """Return x where x > 0, else alpha_c x, with a slope for each entry of axis 1.

    Core ML wants equal slopes at rank 3 and 5; their values are not looked at here.

    Raises:
        AnecError: x has a rank other than 3, 4, 5, or alpha does not fit axis 1.
    """
    if x.dim() not in (3, 4, 5):
        raise AnecError(f"prelu has an x of rank {x.dim()}", hint="rank 3, 4 or 5")
    return torch.where(x > 0, x, x * _per_channel_input("prelu", x, alpha))


@kernel("mil.leaky_relu")
def leaky_relu(x: Tensor, *, alpha: float) -> Tensor:
    """Return x where x >= 0, else alpha x."""
    return torch.where(x >= 0, x, x * alpha)


@kernel("mil.clamped_relu")
def clamped_relu(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Return min(beta, x where x >= 0, else alpha x): bounded above only."""
    return torch.clamp(torch.where(x >= 0, x, x * alpha), max=beta)


@kernel("mil.thresholded_relu")
def thresholded_relu(x: Tensor, *, alpha: float) -> Tensor:
    """Return x where x >= alpha, else 0."""
    return torch.where(x < alpha, torch.zeros_like(x), x)


@kernel("mil.elu")
def elu(x: Tensor, *, alpha: float) -> Tensor:
    """Return x where x > 0, else alpha (exp(x) - 1)."""
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@kernel("mil.linear_activation")
def linear_activation(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Return alpha x + beta."""
    return x * alpha + beta


@kernel("mil.scaled_tanh")
def scaled_tanh(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Return alpha tanh(beta x)."""
    return alpha * torch.tanh(x * beta)


@kernel("mil.sigmoid_hard")
def sigmoid_hard(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Return min(max(alpha x + beta, 0), 1): alpha is the slope, beta the offset."""
    return torch.clamp(x * alpha + beta, 0, 1)


@kernel("mil.gelu")
def gelu(x: Tensor, *, mode: str = "EXACT") -> Tensor:
    """Return x Phi(x), exactly or by the tanh or sigmoid approximation.

    Raises:
        AnecError: ``mode`` is none of MIL's three.
    """
    choice("gelu's mode", mode, _GELU_MODES)
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@kernel("mil.softmax")
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return exp(x) / sum(exp(x)) along ``axis``."""
    return torch.softmax(x, positive_axis(axis, x.dim()))
