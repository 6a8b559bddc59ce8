"""Values of bound inputs: brought to the dtype of the example they replace, and told as text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from anec.errors import UsageError
from anec.frontend.names import join

# More numbers than these are told by their digest.
_SHOWN = 64


def like(example: Any, given: Any, name: str) -> Any:
    """What was given, in the dtype and structure of the example.

    Raises:
        UsageError: it does not fit.
    """
    if isinstance(example, torch.Tensor):
        return as_tensor(given, example.dtype, name)
    if isinstance(example, dict) and isinstance(given, Mapping) and example.keys() == given.keys():
        return {key: like(part, given[key], join([name, key])) for key, part in example.items()}
    if isinstance(example, (list, tuple)):
        if not isinstance(given, (list, tuple)) or len(given) != len(example):
            raise UsageError(f"{name} is bound to {describe(given)}; the example has {len(example)} parts")
        parts = [like(part, value, f"{name}_{i}") for i, (part, value) in enumerate(zip(example, given, strict=True))]
        return type(example)(*parts) if hasattr(example, "_fields") else type(example)(parts)
    if given is None or isinstance(given, (bool, int, float, str)):
        return given
    return as_tensor(given, None, name)


def as_tensor(given: Any, dtype: torch.dtype | None, name: str) -> torch.Tensor:
    """A tensor of the given numbers; plain whole numbers are int64, others float32, unless a dtype says more.

    Raises:
        UsageError: they are no numbers of one shape, or the dtype does not hold them.
    """
    tensor = given.detach().cpu().clone() if isinstance(given, torch.Tensor) else _from_numbers(given, name)
    if dtype is None or tensor.dtype is dtype:
        return tensor
    converted = tensor.to(dtype)
    if not dtype.is_floating_point and not torch.equal(converted.double(), tensor.double()):
        raise UsageError(f"{name} is bound to {describe(tensor)}, but the example is {dtype}")
    return converted


def _from_numbers(given: Any, name: str) -> torch.Tensor:
    try:
        array = np.array(given)
        is_plain = not isinstance(given, (np.ndarray, np.generic))
        return torch.from_numpy(array.astype(np.float32) if is_plain and array.dtype == np.float64 else array)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} is bound to {describe(given)}, which are no numbers of one shape") from error


def describe(value: Any) -> str:
    """A bound value as text: its numbers, or dtype, shape and digest of many.

    >>> describe(torch.tensor([[1, 28, 28]]))
    '[[1, 28, 28]]'
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            return f"an array of {value.dtype}"
        value = torch.from_numpy(value)
    if not isinstance(value, torch.Tensor):
        return repr(value) if len(repr(value)) <= 400 else f"a {type(value).__name__} of {len(value)}"
    if value.numel() <= _SHOWN:
        return str(value.tolist())
    digest = hashlib.blake2b(value.contiguous().reshape(-1).view(torch.uint8).numpy().data, digest_size=8).hexdigest()
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)} {digest}"
