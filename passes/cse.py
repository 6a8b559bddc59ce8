"""Common subexpression elimination.

    %1 = mil.exp(%x)                   %1 = mil.exp(%x)
    %2 = mil.exp(%x)           ->
    %y = mil.add(%1, %2)               %y = mil.add(%1, %1)

Ops with effects are never merged: two reads of a state may see different values, and two random
draws differ. Weights that are the same memory, or hold equal bytes, become one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from anec.ir.attrs import Literal, attr_key
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Effect, Kind, Operand
from anec.ir.weights import Weight
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register
from anec.rewrite.match import symmetric

_SAMPLES = 16


@register
@dataclass
class Cse(Pass):
    """Compute once what is computed several times, and keep equal weights once.

    Attributes:
        weight_limit: weights of at most this many bytes are compared byte by byte; larger ones are
            merged only when they are the same memory.
    """

    name = "cse"
    fidelity = EXACT

    weight_limit: int = 64 << 20

    def run(self, graph: Graph, ctx: Context) -> None:
        merge_ops(graph)

    def run_module(self, module: Module, contexts: Callable[[Graph], Context]) -> None:
        merge_weights(module, self.weight_limit)
        super().run_module(module, contexts)


def merge_ops(graph: Graph) -> None:
    """Replace each op that computes what an earlier one does; one sweep in order."""
    seen: dict[Hashable, Op] = {}
    for op in graph.ops():
        if op.defn.effects is not Effect.NONE or not op.results:
            continue
        known = seen.setdefault(_key(op), op)
        if known is not op:
            for old, new in zip(op.results, known.results, strict=True):
                graph.replace(old, new)
            graph.erase(op)


def _key(op: Op) -> Hashable:
    """Equal for ops that compute the same."""
    operands = [_operand_key(operand) for operand in op.operands]
    if symmetric(op):
        operands[:2] = sorted(operands[:2], key=str)
    lengths = tuple(len(op.slot(p.name)) for p in op.defn.operand_params if p.kind is Kind.VARIADIC)
    attrs = frozenset((name, attr_key(value)) for name, value in op.attrs.items())
    return (op.name, tuple(operands), lengths, attrs, tuple(str(result.type) for result in op.results))


def _operand_key(operand: Operand) -> tuple[str, object]:
    if isinstance(operand, Value):
        return ("value", id(operand))
    return ("literal", str(operand)) if isinstance(operand, Literal) else ("none", None)


def merge_weights(module: Module, limit: int) -> None:
    """Let every function use the first of equal weights, and forget the others."""
    kept = _first_of_equals(list(module.weights.values()), limit)
    for graph in module.functions.values():
        for value in list(graph.weights.values()):
            weight = value.weight
            if weight is None or kept[weight] is weight:
                continue
            graph.replace(value, graph.add_weight(kept[weight]))
            graph.remove_weight(value)
    for weight, first in kept.items():
        if first is not weight:
            del module.weights[weight.name]


def _first_of_equals(weights: list[Weight], limit: int) -> dict[Weight, Weight]:
    """The weight to keep for each: the first that is the same memory or holds the same bytes."""
    kept: dict[Weight, Weight] = {}
    by_memory: dict[Hashable, Weight] = {}
    by_type: dict[Hashable, list[Weight]] = {}
    for weight in weights:
        first = by_memory.setdefault((weight.identity, weight.type), weight)
        kept[weight] = first
        if first is weight and weight.data is not None and weight.type.bytes <= limit:
            by_type.setdefault(weight.type, []).append(weight)
    # A few samples tell most weights apart, so that few are read whole.
    alike = [group for same_type in by_type.values() for group in _groups(same_type, _samples)]
    for group in alike:
        for equals in _groups(group, Weight.digest):
            kept.update(dict.fromkeys(equals, equals[0]))
    return {weight: kept[first] for weight, first in kept.items()}


def _groups(weights: list[Weight], key: Callable[[Weight], Hashable]) -> list[list[Weight]]:
    """The weights that are several of one key; nothing is asked of one that is alone."""
    if len(weights) < 2:
        return []
    found: dict[Hashable, list[Weight]] = {}
    for weight in weights:
        found.setdefault(key(weight), []).append(weight)
    return [group for group in found.values() if len(group) > 1]


def _samples(weight: Weight) -> str:
    """Numbers from all over a weight, by slices: no dtype is without them, and nothing is copied."""
    tensor = weight.tensor()
    each = math.ceil(_SAMPLES ** (1 / max(1, tensor.dim())))
    return str(tensor[tuple(slice(None, None, math.ceil(length / each) or 1) for length in tensor.shape)].tolist())


__all__ = ["Cse", "merge_ops", "merge_weights"]
