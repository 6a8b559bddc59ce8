"""A copy of a module that shares its weights."""

from __future__ import annotations

from anec.dialects import registry
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.ir.printer import print_module


def clone(module: Module) -> Module:
    """A module that prints the same and refers to the same weights, by way of its text."""
    copy = parse_module(print_module(module), registry, source="copy")
    for name, weight in module.weights.items():
        if name in copy.weights:
            copy.weights[name].data = weight.data
            copy.weights[name]._digest = weight._digest
        else:
            copy.weights[name] = weight
    return copy
