"""What tests of kernels share: running one by name, drawing data, comparing tightly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anec import reference

DTYPE = torch.float64


def run(op: str, *args: Any, **kwargs: Any) -> Any:
    found = reference.lookup(f"mil.{op}")
    assert found is not None
    with torch.no_grad():
        return found.function(*args, **kwargs)


def close(got: Tensor, wanted: Tensor, atol: float = 1e-10) -> None:
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=atol)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape) + 1000 * len(shape))
    return torch.randn(shape, generator=generator, dtype=DTYPE)
