"""The families of lowering rules, in the order they are tried."""

from __future__ import annotations

import importlib
from functools import cache

from anec.rewrite import Rule

FAMILIES = (
    "high_rank",
    "shape",
    "slicing",
    "joining",
    "padding",
    "windows",
    "conv",
    "matmul",
    "einsum",
    "pool",
    "adaptive_pool",
    "elementwise",
    "unary",
    "power",
    "piecewise",
    "compare",
    "bitwise",
    "cast",
    "create",
    "reduce",
    "softmax",
    "scan",
    "order",
    "index",
    "scatter",
    "norm",
    "activation",
    "attention",
    "resize",
    "recurrent",
    "state",
)


@cache
def rules() -> tuple[Rule, ...]:
    """All built-in lowering rules."""
    modules = (importlib.import_module(f"anec.passes.lower_to_mil.{name}") for name in FAMILIES)
    return tuple(rule for module in modules for rule in module.RULES)
