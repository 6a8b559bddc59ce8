"""Structural comparison of modules: equal or not, and where they part."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

from anec.ir.graph import Graph, Module, Value
from anec.ir.printer import print_graph
from anec.ir.signature import Port


def same(left: Module, right: Module, *, names: bool = True) -> bool:
    """True when two modules say the same; origins, metadata and the numbers in weights do not count.

    Args:
        left: one module.
        right: the other.
        names: compare the names of values too; otherwise up to renaming.
    """
    return not differences(left, right, names=names)


def differences(left: Module, right: Module, *, names: bool = True) -> list[str]:
    """What differs, as lines for a person; empty when nothing does."""
    found: list[str] = []
    if left.target != right.target:
        found.append(f"target: {left.target} became {right.target}")
    if left.dims != right.dims:
        found.append("dims differ")
    for name in sorted(left.functions.keys() | right.functions.keys()):
        a, b = left.functions.get(name), right.functions.get(name)
        if a is None or b is None:
            found.append(f"func {name}: only in the {'second' if a is None else 'first'}")
        else:
            found += [f"func {name}: {line}" for line in _graph_differences(a, b, names)]
    return found


def _graph_differences(left: Graph, right: Graph, names: bool) -> list[str]:
    a, b = _lines(left, names), _lines(right, names)
    if a == b:
        return []
    return list(difflib.unified_diff(a, b, "first", "second", lineterm="", n=2))[2:]


def _lines(graph: Graph, names: bool) -> list[str]:
    """The graph's lines without origins; with values numbered by position when names do not count."""
    if names:
        return print_graph(graph, origins=False).splitlines()
    with _numbered(graph):
        return print_graph(graph, origins=False).splitlines()


@contextmanager
def _numbered(graph: Graph) -> Iterator[None]:
    """Name every value by its position for a while."""
    values: list[Value] = [*graph.inputs, *graph.weights.values()]
    values += [value for op in graph.ops() for value in op.results]
    names = [value.name for value in values]
    signature = graph.signature
    inputs, outputs = signature.inputs, signature.outputs
    try:
        # Public names do count, those of a graph without a signature too.
        signature.inputs = inputs or [Port(value.name, value.type) for value in graph.inputs]
        signature.outputs = outputs or [Port(f"output{i}", value.type) for i, value in enumerate(graph.outputs)]
        for index, value in enumerate(values):
            value.name = f"v{index}"
        yield
    finally:
        for value, name in zip(values, names, strict=True):
            value.name = name
        signature.inputs, signature.outputs = inputs, outputs


def unified(left: Module, right: Module, *, first: str = "first", second: str = "second") -> str:
    """A unified diff of the canonical texts, origins included."""
    a, b = str(left).splitlines(), str(right).splitlines()
    return "\n".join(difflib.unified_diff(a, b, first, second, lineterm="", n=2))
