"""Kernels of adaptive pools: torch's own."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel
from anec.reference.mil.common import Ints

_Pool = Callable[[Tensor, list[int]], Tensor]
_AVERAGE: tuple[_Pool, ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)  # type: ignore[assignment]  # torch types sizes as tuples
_MAXIMUM: tuple[_Pool, ...] = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)


def _check(x: Tensor, size: Ints) -> int:
    if not 1 <= len(size) <= 3 or x.dim() not in (len(size) + 1, len(size) + 2):
        raise AnecError(f"adaptive pool of a tensor of shape {tuple(x.shape)} to {tuple(size)}")
    return len(size) - 1


@kernel("nn.adaptive_avg_pool")
def adaptive_avg_pool(x: Tensor, *, size: Ints) -> Tensor:
    """Average over windows that split each space axis into ``size`` overlapping parts."""
    return _AVERAGE[_check(x, size)](x, list(size))


@kernel("nn.adaptive_max_pool")
def adaptive_max_pool(x: Tensor, *, size: Ints) -> Tensor:
    """Take the maximum of windows that split each space axis into ``size`` overlapping parts."""
    return _MAXIMUM[_check(x, size)](x, list(size))
