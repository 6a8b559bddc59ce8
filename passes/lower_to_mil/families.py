"""The families of lowering rules, in the order they are tried."""

from __future__ import annotations

import importlib
from functools import cache

from anec.rewrite import Rule

FAMILIES = (
    "high_rank",
    "high_rank_products",
    "high_rank_ops",
    "shape",
    "strided",
    "slicing",
    "joining",
    "padding",
    "windows",
    "conv",
    "matmul",
    "small_matrices",
    "experts",
    "einsum",
    "pool",
    "pool_indices",
    "adaptive_pool",
    "elementwise",
    "unary",
    "special",
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
    "bags",
    "masked_writes",
    "scatter",
    "norm",
    "norm_statistics",
    "length_norm",
    "activation",
    "attention",
    "resize",
    "grid_sample",
    "regions",
    "recurrent",
    "state",
)


@cache
def rules() -> tuple[Rule, ...]:
    """All built-in lowering rules."""
    modules = (importlib.import_module(f"anec.passes.lower_to_mil.{name}") for name in FAMILIES)
    return tuple(rule for module in modules for rule in module.RULES)
