"""Sizes that look as if data decided them, and that constants do: what a constant mask picks.

A program that torch.export made elsewhere has a symbol for the size of ``x[mask]``, for its trace knows no
number of any tensor, a constant's neither. A model itself is traced again instead, with real constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from anec.frontend.export import sized_by_data
from anec.reference.sizes import expression


def decided_sizes(program: ExportedProgram) -> dict[str, int]:
    """The sizes that constants decide, by torch's names of their symbols."""
    if not sized_by_data(program):
        return {}
    return _Constants(program).sizes()


class _Constants:
    """The nodes of a program that depend on no input, computed as they are asked for."""

    def __init__(self, program: ExportedProgram) -> None:
        self._nodes = list(program.graph.nodes)
        self._values: dict[Node, Any] = {}
        written = {given for node in self._nodes if _is_mutable(node) for given in node.all_input_nodes}
        mutated = set(program.graph_signature.buffers_to_mutate.values())
        stored: Mapping[str, Any] = {**program.state_dict, **program.constants}
        specs = {getattr(spec.arg, "name", ""): spec for spec in program.graph_signature.input_specs}
        for node in self._nodes:
            spec = specs.get(node.name) if node.op == "placeholder" else None
            tensor = stored.get(str(spec.target)) if spec is not None else None
            if spec is None or spec.kind is InputKind.USER_INPUT or spec.target in mutated or node in written:
                continue
            if isinstance(tensor, torch.Tensor):
                self._values[node] = tensor.detach()
        self._known = set(self._values)
        for node in self._nodes:
            if node not in written and _is_function(node) and self._known.issuperset(node.all_input_nodes):
                self._known.add(node)

    def sizes(self) -> dict[str, int]:
        """What the symbols stand for, in the order of the program."""
        found: dict[str, int] = {}
        for node in self._nodes:
            symbols = [str(name) for name in _free_sizes(node)]
            if not symbols or found.keys() >= set(symbols):
                continue
            if node in self._known:
                actual = self._value(node)
            # The indices decide how many elements there are, not the elements.
            elif node.target is torch.ops.aten.index.Tensor and self._known.issuperset(node.all_input_nodes[1:]):
                actual = self._picked(node)
            else:
                continue
            for size, number in zip(node.meta["val"].shape, getattr(actual, "shape", ()), strict=False):
                if getattr(expression(size), "is_Symbol", False):
                    found.setdefault(str(expression(size)), int(number))
        return found

    def _picked(self, node: Node) -> torch.Tensor | None:
        """What such a call picks from a tensor of zeros."""
        given = node.all_input_nodes[0]
        like = given.meta["val"]
        if node.args[0] is not given or any(isinstance(size, torch.SymInt) for size in like.shape):
            return None
        zeros = torch.zeros((), dtype=like.dtype).expand(like.shape)
        picked: torch.Tensor = self._run(node, {given: zeros})
        return picked

    def _value(self, node: Node) -> Any:
        pending = [node]
        while pending:
            missing = [given for given in pending[-1].all_input_nodes if given not in self._values]
            if missing:
                pending += missing
                continue
            last = pending.pop()
            if last not in self._values:
                self._values[last] = self._run(last, {})
        return self._values[node]

    def _run(self, node: Node, given: Mapping[Node, Any]) -> Any:
        for other in node.all_input_nodes:
            if other not in given:
                self._value(other)
        args, kwargs = torch.fx.map_arg(
            (node.args, node.kwargs), lambda other: given[other] if other in given else self._values[other]
        )
        assert callable(node.target)
        with torch.no_grad():
            return node.target(*args, **kwargs)


def _free_sizes(node: Node) -> Iterator[Any]:
    """The symbols for sizes that data decides, of what a node gives: torch calls them u0, u1, ..."""
    val = node.meta.get("val")
    for size in val.shape if isinstance(val, torch.Tensor) else ():
        yield from (s for s in getattr(expression(size), "free_symbols", ()) if str(s).startswith("u"))


def _is_function(node: Node) -> bool:
    """Whether a call gives the same for the same arguments, and does nothing else."""
    if node.op != "call_function" or isinstance(node.target, torch._ops.HigherOrderOperator) or _is_mutable(node):
        return False
    return torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ())


def _is_mutable(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
