"""Level 2: whole programs on the same inputs, and the first value where they part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from anec.check.metrics import Metric, compare
from anec.ir.graph import Graph, Module, Op
from anec.reference.call import DECLARED, Precision
from anec.reference.evaluate import evaluate


def compare_in_order(after: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor]) -> list[Metric]:
    """Outputs by position. Legalised boundaries hold rank 0 as (1,): the same numbers in another shape."""
    metrics = []
    for (name, a), b in zip(after.items(), before.values(), strict=True):
        metrics.append(compare(name, a.reshape(b.shape) if a.numel() == b.numel() else a, b))
    return metrics


def inputs_of(module: Module, function: str, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The example inputs that one function has.

    Of several, each has inputs called ``function/name``; a bare ``name`` is for all that have such an input.
    """
    graph = module.functions[function]
    names = [port.name for port in graph.signature.inputs] or [value.name for value in graph.inputs]
    found = {name: inputs.get(f"{function}/{name}", inputs.get(name)) for name in names}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def of_function(module: Module, function: str, named: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inputs or outputs of one function as the module's: ``function/name`` when there are several."""
    return dict(named) if len(module.functions) == 1 else {f"{function}/{name}": t for name, t in named.items()}


def run_functions(
    module: Module, inputs: Mapping[str, torch.Tensor], precision: Precision = DECLARED
) -> dict[str, torch.Tensor]:
    """Run every function on its example inputs; the outputs by :func:`of_function`'s names.

    Raises:
        AnecError: an input is missing, or an op fails.
    """
    outputs: dict[str, torch.Tensor] = {}
    for name, graph in module.functions.items():
        given = at_boundary(graph, inputs_of(module, name, inputs))
        outputs |= of_function(module, name, evaluate(module, given, function=name, precision=precision))
    return outputs


def at_boundary(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The example inputs in the shapes of the function's boundary (rank 0 becomes (1,))."""
    shaped = {}
    for port, value in zip(graph.signature.inputs, graph.inputs, strict=True):
        if port.name not in inputs:
            continue
        tensor = inputs[port.name]
        if value.tensor.is_static and tuple(tensor.shape) != value.shape and tensor.numel() == value.tensor.size:
            tensor = tensor.reshape(value.shape)
        shaped[port.name] = tensor
    return shaped


class Difference(NamedTuple):
    """A value that two programs made from one source compute differently.

    Args:
        op: the op that gives it.
        metric: how far it is off.
        place: the user's source line, from the program that knows it: packages do not.
        largest: the largest finite magnitude that it should have.
    """

    op: Op
    metric: Metric
    place: str
    largest: float


def first_difference(
    before: Module, after: Module, inputs: Mapping[str, torch.Tensor], keeps: Callable[[Metric], bool]
) -> Difference | None:
    """The first op of ``after`` whose value, found in ``before`` under the same name, ``keeps`` does not accept.

    Outputs are found by their places.

    Raises:
        AnecError: one of the programs cannot run.
    """
    single = len(before.functions) == len(after.functions) == 1
    for name in after.functions:
        other = next(iter(before.functions)) if single else name
        found = _first_in_function((before, other), (after, name), inputs, keeps) if other in before.functions else None
        if found is not None:
            return found
    return None


def _first_in_function(
    before: tuple[Module, str],
    after: tuple[Module, str],
    inputs: Mapping[str, torch.Tensor],
    keeps: Callable[[Metric], bool],
) -> Difference | None:
    old, new = (module.functions[name] for module, name in (before, after))
    names = {value.name: value.name for op in new.ops() for value in op.results}
    # A boundary has names of its own.
    names |= {value.name: there.name for value, there in zip(new.outputs, old.outputs, strict=False)}
    wanted = set(names.values())
    known: dict[str, tuple[torch.Tensor, str]] = {}

    def remember(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        for value, result in zip(op.results, results, strict=True):
            if value.name in wanted:
                known[value.name] = (result, op.origin.place)

    found: list[Difference] = []

    def judge(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        for value, result in zip(op.results, results, strict=True):
            other, place = known.get(names[value.name], (None, ""))
            if found or other is None or other.shape != result.shape:
                continue
            metric = compare(value.name, result, other)
            if not metric.void and not keeps(metric):
                largest = float(torch.nan_to_num(other.abs().to(torch.float64), posinf=0.0).max())
                own = op.origin.place if op.origin.line or not place else place
                found.append(Difference(op, metric, own, largest))

    for (module, function), observer in ((before, remember), (after, judge)):
        given = at_boundary(module.functions[function], inputs_of(module, function, inputs))
        evaluate(module, given, function=function, observer=observer)
    return found[0] if found else None


__all__ = ["Difference", "compare_in_order", "first_difference", "inputs_of", "of_function", "run_functions"]
