"""anec: a graph-rewriting compiler pass framework from PyTorch to Core ML, for the Neural Engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anec._version import VERSION
from anec.dialects import aten, mil, nn
from anec.errors import AnecError
from anec.ir.graph import Graph, Module, Op, Value
from anec.pipeline.base import EXACT, Close, Context, Lossy, Pass
from anec.pipeline.registry import register, register_lowering, register_op
from anec.rewrite import any_of, constant, optional, reject, rest, rewrite, var

if TYPE_CHECKING:
    from anec.api import CompiledModel, compile, load, opt, read  # noqa: A004  # as in torch.compile
    from anec.frontend import Source

__version__ = VERSION

# What needs torch loads on first use, so that patterns, `anec passes` and `anec --help` need none.
_LAZY = {
    "CompiledModel": "anec.api",
    "Source": "anec.frontend",
    "compile": "anec.api",
    "load": "anec.api",
    "opt": "anec.api",
    "read": "anec.api",
}

__all__ = [
    "EXACT",
    "AnecError",
    "Close",
    "CompiledModel",
    "Context",
    "Graph",
    "Lossy",
    "Module",
    "Op",
    "Pass",
    "Source",
    "Value",
    "any_of",
    "aten",
    "compile",
    "constant",
    "load",
    "mil",
    "nn",
    "opt",
    "optional",
    "read",
    "register",
    "register_lowering",
    "register_op",
    "reject",
    "rest",
    "rewrite",
    "var",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'anec' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
