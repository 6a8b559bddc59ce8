"""Call a reference kernel with numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from anec.reference import lookup


def kernel(name: str) -> Callable[..., Any]:
    """The torch function of ``mil.<name>``."""
    found = lookup(f"mil.{name}")
    assert found is not None, name
    return found.function


def run(name: str, *args: Any, **keywords: Any) -> Any:
    """Call a kernel with numpy arrays for tensors; tensors come back as arrays."""
    given = [_tensors(arg) for arg in args]
    result = kernel(name)(*given, **{key: _tensors(value) for key, value in keywords.items()})
    return tuple(r.numpy() for r in result) if isinstance(result, tuple) else result.numpy()


def _tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, order="C"))
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [_tensors(item) for item in value]
    return value


def values(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    """Normal random numbers, or integers in [-50, 50)."""
    generator = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        return generator.integers(-50, 50, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)
