"""Normalization kernels. Every variance is the biased one, every epsilon inside the root."""

from __future__ import annotations

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel

from .common import Ints, per_channel, positive_axes
from .window import pad_spatial


def _affine(normal: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    if gamma is not None:
        normal = normal * gamma
    return normal if beta is None else normal + beta


def _standardize(x: Tensor, axes: Ints, epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)


def _rank_between(op: str, x: Tensor, least: int, most: int) -> None:
    if not least <= x.dim() <= most:
        raise AnecError(f"{op} of a tensor of rank {x.dim()}", hint=f"rank {least} to {most}")


@kernel("mil.batch_norm")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    epsilon: float = 1e-5,
) -> Tensor:
    """Return gamma (x - mean) / sqrt(variance + epsilon) + beta with ``[C]`` vectors for axis 1.

    Raises:
        AnecError: x has a rank outside 3 to 5.
    """
    _rank_between("batch_norm", x, 3, 5)
    normal = (x - per_channel(mean, x)) * torch.rsqrt(per_channel(variance, x) + epsilon)
    return _affine(
        normal,
        None if gamma is None else per_channel(gamma, x),
        None if beta is None else per_channel(beta, x),
    )


@kernel("mil.instance_norm")
def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, *, epsilon: float = 1e-5
) -> Tensor:
    """Standardize each channel of each sample over its spatial axes; ``[C]`` gamma and beta.

    Raises:
        AnecError: x has a rank outside 3 to 4.
    """
    _rank_between("instance_norm", x, 3, 4)
    return _affine(
        _standardize(x, tuple(range(2, x.dim())), epsilon),
        None if gamma is None else per_channel(gamma, x),
        None if beta is None else per_channel(beta, x),
    )


@kernel("mil.layer_norm")
def layer_norm(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    axes: Ints | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Standardize over ``axes`` (all by default); gamma and beta have the shape of those axes of x.

    Their axes ascend, whatever order ``axes`` has.

    Raises:
        AnecError: gamma or beta has another shape.
    """
    found = positive_axes(axes, x.dim())
    shape = tuple(x.shape[axis] for axis in found)
    broadcast = [x.shape[axis] if axis in found else 1 for axis in range(x.dim())]
    for name, vector in (("gamma", gamma), ("beta", beta)):
        if vector is not None and tuple(vector.shape) != shape:
            raise AnecError(
                f"layer_norm has a {name} of shape {tuple(vector.shape)}",
                hint=f"x {tuple(x.shape)} over axes {found} wants {shape}",
            )
    return _affine(
        _standardize(x, found, epsilon) if found else torch.zeros_like(x),
        None if gamma is None else gamma.to(x.dtype).reshape(broadcast),
        None if beta is None else beta.to(x.dtype).reshape(broadcast),
    )


@kernel("mil.l2_norm")
def l2_norm(x: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """Divide by sqrt(sum of squares + epsilon) over the last three axes together.

    Raises:
        AnecError: x has rank < 3.
    """
    if x.dim() < 3:
        raise AnecError(f"l2_norm of a tensor of rank {x.dim()}", hint="rank 3 or more")
    return x * torch.rsqrt((x * x).sum((-3, -2, -1), keepdim=True) + epsilon)


@kernel("mil.local_response_norm")
def local_response_norm(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Return x / (k + alpha / size * sum of squares of ``size`` neighbours)^beta.

    The neighbours are on axis -3, at rank 3 too: a test of Apple's own holds that, although its
    docstring speaks of channels. At rank 5, which the docstring excludes and the tests include, no
    expected value tells the axis. Of an even size, the extra neighbour is before.

    Raises:
        AnecError: x has a rank outside 3 to 5, or size < 1.
    """
    _rank_between("local_response_norm", x, 3, 5)
    if size < 1:
        raise AnecError(f"local_response_norm has size {size}", hint="1 or more")
    count = x.shape[-3]
    squares = pad_spatial(x * x, ((size // 2, (size - 1) // 2), (0, 0), (0, 0)))
    total = squares.narrow(-3, 0, count)
    for offset in range(1, size):
        total = total + squares.narrow(-3, offset, count)
    return x / torch.pow(k + alpha / size * total, beta)
