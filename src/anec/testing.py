"""Helpers for testing passes: modules of one op, running passes, comparing numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from anec.dialects import resolve
from anec.ir.build import Builder
from anec.ir.facts import is_constant
from anec.ir.graph import Module, Value
from anec.ir.legality import problems
from anec.ir.opdef import Kind
from anec.ir.signature import Port
from anec.ir.verify import verify
from anec.ir.weights import TensorData, Weight
from anec.pipeline.base import Context, Pass
from anec.reference.call import DECLARED, DOUBLE, Precision
from anec.reference.evaluate import evaluate
from anec.reference.infer import type_of


def single_op(
    name: str, *args: Any, weights: Sequence[str] = (), target: str = "iOS18", **kwargs: Any
) -> tuple[Module, dict[str, torch.Tensor]]:
    """A module of one op, and the inputs to run it with.

    Args:
        name: full op name, ``"aten.add.Tensor"``.
        args: arguments by position; tensors become inputs, named after their parameter.
        weights: parameters whose tensors become weights instead of inputs.
        target: the module's target.
        kwargs: arguments by name.
    """
    defn = resolve(name)
    module = Module(target=target)
    graph = module.functions["main"] = _graph()
    inputs: dict[str, torch.Tensor] = {}

    def enter(param: str, given: Any) -> Any:
        if not isinstance(given, torch.Tensor):
            return given
        if param in weights:
            weight = module.add_weight(Weight(param, type_of(given), TensorData(given)))
            return graph.add_weight(weight)
        value = graph.add_input(param, type_of(given))
        graph.signature.inputs.append(Port(value.name, value.type))
        inputs[value.name] = given
        return value

    bound: dict[str, Any] = {}
    for param, given in defn.bind(args, kwargs).items():
        if defn.by_name[param].kind is Kind.VARIADIC and isinstance(given, (list, tuple)):
            bound[param] = [enter(param, item) for item in given]
        else:
            bound[param] = enter(param, given)
    builder = Builder(graph, name="y")
    op = builder.create(defn, bound)
    _return(module, op.results)
    return module, inputs


def _graph() -> Any:
    from anec.ir.graph import Graph

    return Graph("main")


def _return(module: Module, results: Sequence[Value]) -> None:
    graph = module.main
    graph.outputs = list(results)
    graph.signature.outputs = [Port(value.name, value.type) for value in results]


def run_pass(module: Module, pass_: Pass) -> Context:
    """Run one pass on a module, with verification before and after; returns the context of the last function."""
    contexts: list[Context] = []

    def context(graph: Any) -> Context:
        contexts.append(Context(module, graph))
        return contexts[-1]

    verify(module)
    pass_.run_module(module, context)
    verify(module)
    return contexts[-1]


def assert_same_numbers(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], *, rtol: float, atol: float = 0.0
) -> None:
    """Compare outputs position by position; NaN equals NaN.

    Raises:
        AssertionError: naming the first output that differs.
    """
    assert len(before) == len(after), f"{len(before)} outputs became {len(after)}"
    for (name, a), b in zip(before.items(), after.values(), strict=True):
        left, right = a.to(torch.float64), b.to(torch.float64)
        assert left.shape == right.shape, f"{name}: {tuple(left.shape)} became {tuple(right.shape)}"
        torch.testing.assert_close(right, left, rtol=rtol, atol=atol, equal_nan=True, msg=lambda m: f"{name}: {m}")  # noqa: B023  # called at once


def assert_legal(module: Module) -> None:
    """Check that every op is one Core ML has on the module's target, with parameters and dtypes it takes.

    Constant expressions are computed before emission, so their ops and dtypes are free.

    Raises:
        AssertionError: naming the op and what the target lacks.
    """
    for op in module.ops():
        assert op.defn.dialect == "mil", f"{op} is not of the mil dialect"
        # A constant output is given an op of its own by legalize-io, so it is free here too.
        if not all(is_constant(result) for result in op.results) or not op.results:
            assert not (found := list(problems(op, module.opset))), f"{op}: {'; '.join(map(str, found))}"


def check_lowering(
    name: str,
    *args: Any,
    weights: Sequence[str] = (),
    target: str = "iOS18",
    rtol: float = 1e-10,
    atol: float = 1e-12,
    precision: Precision = DOUBLE,
    **kwargs: Any,
) -> Module:
    """Lower a module of one op and compare it with torch, in float64; returns the lowered module."""
    module, inputs = single_op(name, *args, weights=weights, target=target, **kwargs)
    return check_module_lowering(module, inputs, rtol=rtol, atol=atol, precision=precision)


def check_module_lowering(
    module: Module,
    inputs: Mapping[str, torch.Tensor],
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    precision: Precision = DOUBLE,
) -> Module:
    """Lower a module and compare it with what it was before, in float64; returns it, lowered."""
    from anec.passes.lower_to_mil import LowerToMil

    before = evaluate(module, inputs, precision=precision)
    run_pass(module, LowerToMil())
    assert_legal(module)
    after = evaluate(module, inputs, precision=precision)
    assert_same_numbers(before, after, rtol=rtol, atol=atol)
    return module


def module_of(
    function: Callable[..., Value | Sequence[Value]],
    *tensors: torch.Tensor,
    weights: Sequence[int] = (),
    target: str = "iOS18",
) -> tuple[Module, dict[str, torch.Tensor]]:
    """A module of the ops that ``function`` calls on values, and the inputs to run it with.

    Args:
        function: called with a value for each tensor; returns the outputs.
        tensors: the inputs ``x0``, ``x1``...
        weights: positions of tensors that become weights instead of inputs.
        target: the module's target.
    """
    module = Module(target=target)
    graph = module.functions["main"] = _graph()
    inputs: dict[str, torch.Tensor] = {}
    values: list[Value] = []
    for index, tensor in enumerate(tensors):
        if index in weights:
            weight = module.add_weight(Weight(f"w{index}", type_of(tensor), TensorData(tensor)))
            values.append(graph.add_weight(weight))
            continue
        values.append(graph.add_input(f"x{index}", type_of(tensor)))
        graph.signature.inputs.append(Port(f"x{index}", type_of(tensor)))
        inputs[f"x{index}"] = tensor
    with Builder(graph).active():
        outputs = function(*values)
    _return(module, [outputs] if isinstance(outputs, Value) else list(outputs))
    return module, inputs


__all__ = [
    "DECLARED",
    "DOUBLE",
    "assert_legal",
    "assert_same_numbers",
    "check_lowering",
    "check_module_lowering",
    "module_of",
    "run_pass",
    "single_op",
]
