"""Example inputs at other sizes: a flexible program is judged at its bounds and in between.

The numbers of an example are repeated, or cut, in row-major order: indices and masks stay legal.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from anec.check.numerics import inputs_of, of_function
from anec.ir.dims import Bounds, Expr
from anec.ir.graph import Graph, Module
from anec.reference.sizes import bind_sizes, repeated

Inputs = dict[str, torch.Tensor]


def other_sizes(module: Module, inputs: Mapping[str, torch.Tensor]) -> list[tuple[str, Inputs]]:
    """The inputs at the least sizes, the largest, and some between; or at every listed shape.

    Args:
        module: its dimension symbols and listed shapes decide.
        inputs: example inputs by public name.

    Returns:
        What to call each, ``S=2``, and the inputs; nothing for a module of fixed sizes, nor for the
        example's own sizes.
    """
    ports = [port for graph in module.functions.values() for port in graph.signature.inputs]
    listed = max((len(port.shapes) for port in ports), default=0)
    found: dict[str, Inputs] = {}
    for index in range(listed or 3):
        resized: Inputs = {}
        label: dict[str, int] = {}
        for name, graph in module.functions.items():
            given = inputs_of(module, name, inputs)
            sizes = _listed(graph, index) if listed else _sizes(module, graph, index)
            label |= sizes
            resized |= of_function(module, name, _resized(graph, given, sizes))
        if label and any(tensor.shape != inputs[name].shape for name, tensor in resized.items() if name in inputs):
            found[", ".join(f"{name}={size}" for name, size in label.items())] = resized
    return list(found.items())


def _listed(graph: Graph, index: int) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for port, value in zip(graph.signature.inputs, graph.inputs, strict=True):
        if port.shapes:
            bind_sizes(value.tensor, port.shapes[index], sizes)
    return sizes


def _sizes(module: Module, graph: Graph, index: int) -> dict[str, int]:
    names = dict.fromkeys(
        name
        for value in graph.inputs
        for dim in value.tensor.shape
        if isinstance(dim, Expr)
        for name in sorted(dim.symbols())
    )
    return {name: _size(module.dims[name], index, number) for number, name in enumerate(names) if name in module.dims}


def _size(bounds: Bounds, index: int, number: int) -> int:
    """The least, the largest, or one between that differs from symbol to symbol."""
    upper = bounds.upper if bounds.upper is not None else 2 * (bounds.default or bounds.lower)
    return (bounds.lower, upper, bounds.lower + (upper - bounds.lower) * (number + 2) // (2 * number + 5))[index]


def _resized(graph: Graph, inputs: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> Inputs:
    found: Inputs = {}
    for port, value in zip(graph.signature.inputs, graph.inputs, strict=True):
        if port.name not in inputs:
            continue
        tensor, type_ = inputs[port.name], value.tensor
        known = all(dim.symbols() <= sizes.keys() for dim in type_.shape if isinstance(dim, Expr))
        shape = type_.at(sizes).static_shape if known and not type_.is_static else tuple(tensor.shape)
        if shape != tuple(tensor.shape) and tensor.numel():
            tensor = repeated(tensor, shape)
        found[port.name] = tensor
    return found
