"""The kernels that define what every op computes, written in torch.

A kernel is registered under an op's full name. The family modules load on first use, so that
importing :mod:`anec` loads neither torch nor them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Kernel:
    """One reference kernel: a torch function and what the evaluator must know of it."""

    name: str
    function: Callable[..., Any]
    data_dependent: bool = False
    takes_opset: bool = False


_KERNELS: dict[str, Kernel] = {}
_LOADED: set[str] = set()


def kernel(*names: str, data_dependent: bool = False) -> Callable[[F], F]:
    """Register a torch function as the kernel of the ops ``names``.

    Args:
        names: full op names, ``"mil.conv"``.
        data_dependent: the result's shape depends on values, so inference cannot run it.
    """

    def register(function: F) -> F:
        code = function.__code__
        takes_opset = "opset" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for name in names:
            if name in _KERNELS:
                raise ValueError(f"two kernels for {name}")
            _KERNELS[name] = Kernel(name, function, data_dependent, takes_opset)
        return function

    return register


def _load(dialect: str) -> None:
    if dialect in _LOADED:
        return
    _LOADED.add(dialect)
    if dialect not in ("mil", "nn"):
        return
    package = importlib.import_module(f"{__name__}.{dialect}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def lookup(name: str) -> Kernel | None:
    """Return the kernel of the op ``name``, or None when it has none."""
    found = _KERNELS.get(name)
    if found is None:
        _load(name.partition(".")[0])
        found = _KERNELS.get(name)
    return found


def names(dialect: str) -> list[str]:
    """Every op of ``dialect`` that has a kernel, sorted."""
    _load(dialect)
    return sorted(name for name in _KERNELS if name.startswith(dialect + "."))


def register_kernel(name: str, function: Callable[..., Any], *, replace: bool = False) -> None:
    """Register a kernel from a plugin (``anec.register_op``).

    Raises:
        ValueError: the op has a kernel already and ``replace`` is false.
    """
    if replace:
        _KERNELS.pop(name, None)
    kernel(name)(function)
