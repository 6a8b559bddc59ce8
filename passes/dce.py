"""Dead code elimination.

    %1 = mil.exp(%x)
    %y = mil.relu(%x)      ->      %y = mil.relu(%x)
    return %y                      return %y

An unused op goes unless it writes a state. Reading a state or drawing random numbers for nobody is
no effect that anyone could see; assertions (ops without results) do not exist in Core ML. Unused
weights go too; inputs stay, they are the function's boundary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anec.ir.graph import Graph, Module
from anec.ir.opdef import Effect
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register


@register
@dataclass
class Dce(Pass):
    """Remove ops and weights that nothing uses."""

    name = "dce"
    fidelity = EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        remove_dead_ops(graph)
        remove_dead_weights(graph)

    def run_module(self, module: Module, contexts: Callable[[Graph], Context]) -> None:
        super().run_module(module, contexts)
        used = {name for graph in module.functions.values() for name in graph.weights}
        for name in [name for name in module.weights if name not in used]:
            del module.weights[name]


def remove_dead_ops(graph: Graph) -> None:
    """Erase every op whose results nobody needs, in one sweep from the end."""
    outputs = set(graph.outputs)
    for op in graph.reversed_ops():
        if op.defn.effects & Effect.WRITE:
            continue
        if not any(result.uses or result in outputs for result in op.results):
            graph.erase(op)


def remove_dead_weights(graph: Graph) -> None:
    """Forget the weights this function does not use; the module may hold them for another."""
    outputs = set(graph.outputs)
    for value in list(graph.weights.values()):
        if not value.uses and value not in outputs:
            graph.remove_weight(value)
