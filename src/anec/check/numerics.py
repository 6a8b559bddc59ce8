"""Level 2: whole programs on the same inputs, and the first value where they part."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from anec.check.metrics import Metric, compare
from anec.ir.graph import Module, Op
from anec.reference.evaluate import evaluate


def compare_in_order(after: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor]) -> list[Metric]:
    """Outputs by position. Legalised boundaries hold rank 0 as (1,): the same numbers in another shape."""
    metrics = []
    for (name, a), b in zip(after.items(), before.values(), strict=True):
        metrics.append(compare(name, a.reshape(b.shape) if a.numel() == b.numel() else a, b))
    return metrics


def at_boundary(module: Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The example inputs in the shapes of the function's boundary (rank 0 becomes (1,))."""
    graph = module.main
    shaped = {}
    for port, value in zip(graph.signature.inputs, graph.inputs, strict=True):
        if port.name not in inputs:
            continue
        tensor = inputs[port.name]
        if value.tensor.is_static and tuple(tensor.shape) != value.shape and tensor.numel() == value.tensor.size:
            tensor = tensor.reshape(value.shape)
        shaped[port.name] = tensor
    return shaped


def first_difference(
    before: Module, after: Module, inputs: Mapping[str, torch.Tensor], rel: float
) -> tuple[Op, Metric] | None:
    """The first op of ``after`` whose value, found in ``before`` under the same name, is off by more than ``rel``.

    Raises:
        AnecError: one of the programs cannot run.
    """
    known: dict[str, torch.Tensor] = {}

    def remember(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        for value, result in zip(op.results, results, strict=True):
            known[value.name] = result

    found: list[tuple[Op, Metric]] = []

    def judge(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        for value, result in zip(op.results, results, strict=True):
            other = known.get(value.name)
            if found or other is None or other.shape != result.shape:
                continue
            metric = compare(value.name, result, other)
            if metric.rel > rel and not metric.void:
                found.append((op, metric))

    evaluate(before, at_boundary(before, inputs), observer=remember)
    evaluate(after, at_boundary(after, inputs), observer=judge)
    return found[0] if found else None


__all__ = ["at_boundary", "compare_in_order", "first_difference"]
