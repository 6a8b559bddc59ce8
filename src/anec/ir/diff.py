"""Structural comparison of modules: equal or not, and where they part."""

from __future__ import annotations

import difflib
import re

from anec.ir.graph import Graph, Module
from anec.ir.printer import print_graph, print_op


def same(left: Module, right: Module, *, names: bool = True) -> bool:
    """True when two modules say the same; origins do not count.

    Args:
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
        text = print_graph(graph).splitlines()
        head = [line for line in text if line.startswith(("func", "  note")) or " = weight " in line]
        return [*head, *("  " + print_op(op, origin=False) for op in graph.ops()), text[-2]]
    numbers: dict[str, str] = {}
    for value in (*graph.inputs, *graph.weights.values()):
        numbers[value.name] = f"v{len(numbers)}"
    for op in graph.ops():
        for value in op.results:
            numbers[value.name] = f"v{len(numbers)}"
    return [_renumber(line, numbers) for line in _lines(graph, names=True)[1:]]


def _renumber(line: str, numbers: dict[str, str]) -> str:
    return re.sub(r"%([A-Za-z_]\w*)", lambda m: "%" + numbers.get(m.group(1), m.group(1)), line)


def unified(left: Module, right: Module, *, first: str = "first", second: str = "second") -> str:
    """A unified diff of the canonical texts, origins included."""
    a, b = str(left).splitlines(), str(right).splitlines()
    return "\n".join(difflib.unified_diff(a, b, first, second, lineterm="", n=2))
