"""Kernels that resize and sample images, and move pixels between space and channels: torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.common import Ints, choice

_aten = torch.ops.aten
# Mode and number of space axes to torch's op; True where the op takes align_corners.
_OPS: dict[tuple[str, int], tuple[Callable[..., Any], bool]] = {
    ("nearest", 1): (_aten.upsample_nearest1d.default, False),
    ("nearest", 2): (_aten.upsample_nearest2d.default, False),
    ("nearest", 3): (_aten.upsample_nearest3d.default, False),
    ("nearest-exact", 1): (_aten._upsample_nearest_exact1d.default, False),
    ("nearest-exact", 2): (_aten._upsample_nearest_exact2d.default, False),
    ("nearest-exact", 3): (_aten._upsample_nearest_exact3d.default, False),
    ("linear", 1): (_aten.upsample_linear1d.default, True),
    ("bilinear", 2): (_aten.upsample_bilinear2d.default, True),
    ("trilinear", 3): (_aten.upsample_trilinear3d.default, True),
    ("bicubic", 2): (_aten.upsample_bicubic2d.default, True),
}
_ANTIALIASED = {"bilinear": "_upsample_bilinear2d_aa", "bicubic": "_upsample_bicubic2d_aa"}


@kernel("nn.interpolate")
def interpolate(
    x: Tensor,
    *,
    size: Ints,
    mode: str = "nearest",
    align_corners: bool = False,
    antialias: bool = False,
    scales: tuple[float | None, ...] | None = None,
) -> Tensor:
    """Resize the space axes of ``[N, C, space...]`` to ``size``.

    Where ``scales`` has an entry for an axis, 1 / scale is the step of its grid instead of the ratio
    of sizes, as with torch's ``scale_factor`` (unless ``align_corners``).

    Raises:
        AnecError: the mode does not fit the number of space axes.
    """
    space = x.dim() - 2
    if (mode, space) not in _OPS or len(size) != space:
        raise AnecError(f"interpolate {mode} of a tensor of shape {tuple(x.shape)} to {tuple(size)}")
    steps = scales if scales is not None else (None,) * space
    if antialias:
        choice("nn.interpolate: the antialiased mode", mode, tuple(_ANTIALIASED))
        function, aligned = getattr(_aten, _ANTIALIASED[mode]).default, True
    else:
        function, aligned = _OPS[mode, space]
    result = function(x, list(size), *((align_corners,) if aligned else ()), *steps)
    assert isinstance(result, Tensor)
    return result


@kernel("nn.grid_sample")
def grid_sample(
    x: Tensor, grid: Tensor, *, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool = False
) -> Tensor:
    """Sample images at points in [-1, 1], given as (x, y) or (x, y, z)."""
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


@kernel("nn.pixel_shuffle")
def pixel_shuffle(x: Tensor, *, factor: int) -> Tensor:
    """Move channels to space: ``[*, C f f, H, W]`` to ``[*, C, H f, W f]``, channel-major."""
    return F.pixel_shuffle(x, factor)


@kernel("nn.pixel_unshuffle")
def pixel_unshuffle(x: Tensor, *, factor: int) -> Tensor:
    """Move space to channels: ``[*, C, H f, W f]`` to ``[*, C f f, H, W]``, channel-major."""
    return F.pixel_unshuffle(x, factor)


@kernel("nn.channel_shuffle")
def channel_shuffle(x: Tensor, *, groups: int) -> Tensor:
    """Take the channels (axis 1) of the groups in turn."""
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return grouped.transpose(1, 2).reshape(x.shape)
