"""Norm kernels. Variances are the biased ones; epsilons stand inside the root, save l2_norm's."""

from __future__ import annotations

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.common import Ints, per_channel, positive_axes, positive_axis


def _over_axes(vector: Tensor, x: Tensor, axes: Ints, name: str) -> Tensor:
    """View a weight of the shape of ``axes`` of ``x`` so that it broadcasts, in the dtype of ``x``.

    Raises:
        AnecError: it has another shape.
    """
    shape = tuple(x.shape[axis] for axis in axes)
    if tuple(vector.shape) != shape:
        raise AnecError(f"the {name} has the shape {tuple(vector.shape)}, the axes {shape}")
    return vector.to(x.dtype).reshape([x.shape[i] if i in axes else 1 for i in range(x.dim())])


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _channels(vector: Tensor | None, x: Tensor, name: str) -> Tensor | None:
    if vector is not None and tuple(vector.shape) != (x.shape[1],):
        raise AnecError(f"the {name} has the shape {tuple(vector.shape)} for {x.shape[1]} channels")
    return None if vector is None else per_channel(vector, x)


def _standardize(x: Tensor, axes: Ints, epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)


@kernel("nn.layer_norm")
def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, axes: Ints, epsilon: float = 1e-5
) -> Tensor:
    """Standardize ``x`` over ``axes``; weight and bias have the shape of those axes, ascending."""
    found = positive_axes(axes, x.dim())
    return _affine(
        _standardize(x, found, epsilon),
        None if weight is None else _over_axes(weight, x, found, "weight"),
        None if bias is None else _over_axes(bias, x, found, "bias"),
    )


@kernel("nn.rms_norm")
def rms_norm(x: Tensor, weight: Tensor | None = None, *, axes: Ints, epsilon: float = 1e-6) -> Tensor:
    """Divide by the root of the mean of squares over ``axes``."""
    found = positive_axes(axes, x.dim())
    normal = x * torch.rsqrt((x * x).mean(found, keepdim=True) + epsilon)
    return normal if weight is None else normal * _over_axes(weight, x, found, "weight")


@kernel("nn.l2_norm")
def l2_norm(x: Tensor, *, axes: Ints, epsilon: float = 1e-12) -> Tensor:
    """Divide by the Euclidean norm over ``axes``, which counts as ``epsilon`` at least."""
    norm = torch.linalg.vector_norm(x, 2, positive_axes(axes, x.dim()), keepdim=True)
    scaled: Tensor = x / norm.clamp(min=epsilon)
    return scaled


@kernel("nn.global_response_norm")
def global_response_norm(x: Tensor, *, axes: Ints, axis: int, epsilon: float = 1e-6) -> Tensor:
    """Compare Euclidean norms over ``axes`` with their mean along ``axis``; ``axes`` stay with size 1."""
    norm = torch.linalg.vector_norm(x, 2, positive_axes(axes, x.dim()), keepdim=True)
    response: Tensor = norm / (norm.mean(positive_axis(axis, x.dim()), keepdim=True) + epsilon)
    return response


@kernel("nn.group_norm")
def group_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, groups: int, epsilon: float = 1e-5
) -> Tensor:
    """Standardize each of ``groups`` groups of channels (axis 1) of each sample over all its space.

    Raises:
        AnecError: the channels do not divide into the groups.
    """
    if x.dim() < 2 or x.shape[1] % groups:
        raise AnecError(f"{groups} groups of a tensor of shape {tuple(x.shape)}", hint="groups divide axis 1")
    grouped = x.reshape(x.shape[0], groups, -1)
    normal = _standardize(grouped, (2,), epsilon).reshape(x.shape)
    return _affine(normal, _channels(weight, x, "weight"), _channels(bias, x, "bias"))


@kernel("nn.instance_norm")
def instance_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, epsilon: float = 1e-5
) -> Tensor:
    """Standardize each channel (axis 1) of each sample over its space.

    Raises:
        AnecError: there are no space axes.
    """
    if x.dim() < 3:
        raise AnecError(f"instance_norm of a tensor of shape {tuple(x.shape)}", hint="[N, C, space...]")
    normal = _standardize(x, tuple(range(2, x.dim())), epsilon)
    return _affine(normal, _channels(weight, x, "weight"), _channels(bias, x, "bias"))


@kernel("nn.batch_norm")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-5,
) -> Tensor:
    """Return weight (x - mean) / sqrt(variance + epsilon) + bias, with vectors for axis 1."""
    centre, spread = _channels(mean, x, "mean"), _channels(variance, x, "variance")
    assert centre is not None
    assert spread is not None
    normal = (x - centre) * torch.rsqrt(spread + epsilon)
    return _affine(normal, _channels(weight, x, "weight"), _channels(bias, x, "bias"))


@kernel("nn.log_softmax")
def log_softmax(x: Tensor, *, axis: int) -> Tensor:
    """Return x - log(sum(exp(x))) along ``axis``."""
    return torch.log_softmax(x, positive_axis(axis, max(x.dim(), 1)))
