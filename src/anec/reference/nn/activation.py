"""Activation kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anec.reference import kernel
from anec.reference.mil.common import choice


@kernel("nn.gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return x Phi(x), exactly, by torch's tanh form, or as x sigmoid(1.702 x).

    Raises:
        AnecError: ``approximate`` is none of the three.
    """
    choice("nn.gelu: approximate", approximate, ("none", "tanh", "sigmoid"))
    if approximate == "sigmoid":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate=approximate)


@kernel("nn.silu")
def silu(x: Tensor) -> Tensor:
    """Return x sigmoid(x)."""
    return F.silu(x)


@kernel("nn.mish")
def mish(x: Tensor) -> Tensor:
    """Return x tanh(softplus(x))."""
    return F.mish(x)


@kernel("nn.hard_swish")
def hard_swish(x: Tensor) -> Tensor:
    """Return x relu6(x + 3) / 6."""
    return F.hardswish(x)


@kernel("nn.hard_sigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 1 / 6, beta: float = 0.5) -> Tensor:
    """Return alpha x + beta, kept between 0 and 1."""
    if (alpha, beta) == (1 / 6, 0.5):
        return F.hardsigmoid(x)  # rounds as torch does
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


@kernel("nn.softplus")
def softplus(x: Tensor, *, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    return F.softplus(x, beta=beta, threshold=threshold)


@kernel("nn.log_sigmoid")
def log_sigmoid(x: Tensor) -> Tensor:
    """Return log(sigmoid(x)), stable for large |x|."""
    return F.logsigmoid(x)


@kernel("nn.softsign")
def softsign(x: Tensor) -> Tensor:
    """Return x / (1 + |x|)."""
    return F.softsign(x)


@kernel("nn.glu")
def glu(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return the first half of ``x`` along ``axis`` times the sigmoid of the second."""
    return F.glu(x, axis)
