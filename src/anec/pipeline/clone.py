"""A copy of a module that shares its weights."""

from __future__ import annotations

import dataclasses

from anec.dialects import registry
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.ir.printer import print_module
from anec.ir.weights import Weight


def clone(module: Module) -> Module:
    """A module that prints the same and refers to the same weights, by way of its text."""
    copy = parse_module(print_module(module), registry, source="copy")
    used = copy.weights
    # In the order of the original, which the header of a dump follows.
    copy.weights = {name: used.get(name, Weight(name, weight.type)) for name, weight in module.weights.items()}
    for name, weight in module.weights.items():
        for field in dataclasses.fields(Weight):
            setattr(copy.weights[name], field.name, getattr(weight, field.name))
    return copy
