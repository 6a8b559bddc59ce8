"""The evaluator: runs a function of any dialect, on any machine.

In ``declared`` precision every op computes wide (float32 for float16 operands) and its result is
rounded to the declared dtype; ``double`` computes in float64; ``pessimistic`` rounds the insides
of reductions, norms and softmax to float16 too, since some hardware does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from anec.errors import AnecError
from anec.ir.attrs import Literal
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Effect
from anec.ir.types import DType, StateType
from anec.reference.call import DECLARED, Precision, kernel_arguments, literal_dtype
from anec.reference.sizes import bind_sizes

Observer = Callable[[Op, tuple[torch.Tensor, ...]], None]
State = MutableMapping[str, torch.Tensor]

_NARROW_INSIDE = frozenset(
    "reduce_mean reduce_sum reduce_sum_square reduce_l1_norm reduce_l2_norm reduce_log_sum reduce_log_sum_exp "
    "layer_norm instance_norm batch_norm l2_norm rms_norm group_norm softmax local_response_norm".split()
)


def evaluate(
    module: Module,
    inputs: Mapping[str, torch.Tensor],
    *,
    function: str | None = None,
    precision: Precision = DECLARED,
    state: State | None = None,
    observer: Observer | None = None,
) -> dict[str, torch.Tensor]:
    """Run one function.

    Args:
        module: what to run.
        inputs: a tensor for each input, by public name.
        function: which function; ``main`` or the only one by default.
        precision: see the module's docstring.
        state: states by name; updated in place. Absent ones start as zeros.
        observer: called with each op and its results.

    Returns:
        The outputs by public name, in order.

    Raises:
        AnecError: an input is missing, or an op has no kernel or fails in it.
    """
    graph = module.main if function is None else _function(module, function)
    return Evaluator(module, graph, precision, observer).run(inputs, state if state is not None else {})


def _function(module: Module, name: str) -> Graph:
    if name not in module.functions:
        raise AnecError(f"there is no function {name!r}", hint="known: " + ", ".join(module.functions))
    return module.functions[name]


class Evaluator:
    """Runs a graph op by op and frees each value at its last use."""

    def __init__(
        self, module: Module, graph: Graph, precision: Precision = DECLARED, observer: Observer | None = None
    ) -> None:
        self.module, self.graph, self.precision, self.observer = module, graph, precision, observer
        self.states: dict[Value, torch.Tensor] = {}
        self.sizes: dict[str, int] = {}

    def run(self, inputs: Mapping[str, torch.Tensor], state: State) -> dict[str, torch.Tensor]:
        """Run on inputs by public name; see :func:`evaluate`."""
        env: dict[Value, torch.Tensor] = {}
        names = [port.name for port in self.graph.signature.inputs] or [v.name for v in self.graph.inputs]
        for name, value in zip(names, self.graph.inputs, strict=True):
            if isinstance(value.type, StateType):
                zeros = torch.zeros(value.shape, dtype=self.precision.dtype(value.tensor.dtype))
                self.states[value] = self.hold(state.get(name, zeros), value.tensor.dtype)
                env[value] = self.states[value]
                continue
            if name not in inputs:
                raise AnecError(f"the input {name!r} is missing", hint="inputs: " + ", ".join(names))
            bind_sizes(value.tensor, tuple(inputs[name].shape), self.sizes)
            env[value] = self.hold(inputs[name], value.tensor.dtype)
        results = self.run_ops(list(self.graph.ops()), env, keep=set(self.graph.outputs))
        for name, value in zip(names, self.graph.inputs, strict=True):
            if value in self.states:
                state[name] = self.states[value]
        outputs = [port.name for port in self.graph.signature.outputs]
        outputs = outputs or [f"output{i}" for i in range(len(self.graph.outputs))]
        return {n: self.get(v, results) for n, v in zip(outputs, self.graph.outputs, strict=True)}

    def run_ops(
        self, ops: list[Op], env: dict[Value, torch.Tensor], *, keep: set[Value]
    ) -> dict[Value, torch.Tensor]:
        """Run ``ops`` in order over ``env``; values in ``keep`` outlive their last use."""
        last: dict[Value, Op] = {}
        for op in ops:
            for value in op.inputs:
                last[value] = op
        with torch.no_grad(), _default_dtype(self.precision):
            for op in ops:
                results = self.run_op(op, env)
                if self.observer is not None:
                    self.observer(op, results)
                env.update(zip(op.results, results, strict=True))
                for value in op.inputs:
                    if last[value] is op and value not in keep:
                        env.pop(value, None)
                for value in op.results:
                    if value not in last and value not in keep:
                        env.pop(value, None)
                del results  # or they would live through the next op
        return env

    def get(self, value: Value, env: Mapping[Value, torch.Tensor]) -> torch.Tensor:
        if value in env:
            return env[value]
        if value.weight is not None:
            return self.hold(value.weight.tensor(), value.tensor.dtype)
        raise AnecError(f"%{value.name} has no value here")

    def hold(self, tensor: torch.Tensor, dtype: DType) -> torch.Tensor:
        """The tensor in the dtype that values of ``dtype`` are held in."""
        wanted = self.precision.dtype(dtype)
        return tensor if tensor.dtype is wanted else tensor.to(wanted)

    def run_op(self, op: Op, env: Mapping[Value, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Run one op: widen, compute, round.

        Raises:
            AnecError: the kernel fails; the message names op and source line.
        """
        if op.defn.effects & (Effect.READ | Effect.WRITE):
            return self.run_state(op, env)
        tensors = {value: self.get(value, env) for value in op.inputs}
        wide = not self.precision.is_double and op.defn.dialect in ("mil", "nn")
        try:
            function, positional, keywords = kernel_arguments(
                op, tensors, self.precision, opset=self.module.opset, sizes=self.sizes
            )
            if wide:
                keywords = {name: _widen(argument) for name, argument in keywords.items()}
            if self.precision.name == "pessimistic" and op.defn.root in _NARROW_INSIDE and _is_half(op):
                with _RoundInside():  # type: ignore[no-untyped-call]  # as its base class is
                    results = function(*positional, **keywords)
            else:
                results = function(*positional, **keywords)
        except AnecError as error:
            error.where = error.where or op.origin.place or None
            raise
        except Exception as error:  # a kernel may fail in any of torch's ways
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise AnecError(f"{op.name} failed: {reason}", where=op.origin.place or None, window=repr(op)) from error
        if op.defn.results == 0:
            return ()
        many = results if isinstance(results, (tuple, list)) else (results,)
        if len(many) != len(op.results):
            told = f"{op.name} gave {len(many)} results, not {len(op.results)}"
            raise AnecError(told, where=op.origin.place or None, window=repr(op))
        return tuple(
            self.hold(result, value.tensor.dtype) for result, value in zip(many, op.results, strict=True)
        )

    def run_state(self, op: Op, env: Mapping[Value, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        state = op.value("state" if "state" in op.defn.by_name else "input")
        if state not in self.states:
            raise AnecError(f"%{state.name} is no state of this function", where=op.origin.place or None)
        if op.defn.effects & Effect.WRITE:
            operand = op.operand("value")
            if isinstance(operand, Value):
                written = self.get(operand, env)
            else:
                assert isinstance(operand, Literal)
                written = torch.tensor(operand.value, dtype=self.precision.dtype(literal_dtype(op, "value", operand)))
            self.states[state] = self.hold(written, state.tensor.dtype)
        return (self.states[state],) if op.results else ()


@contextmanager
def _default_dtype(precision: Precision) -> Iterator[None]:
    """What a kernel makes of Python numbers, and of integers it divides, is as wide as the rest."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision.is_double else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def evaluate_constant(value: Value, module: Module) -> torch.Tensor:
    """Compute a constant expression: what effect-free ops make of weights and literals.

    Raises:
        AnecError: the value depends on an input.
    """
    from anec.ir.facts import is_constant

    if not is_constant(value):
        raise AnecError(f"%{value.name} is not constant", where=value.origin.place or None)
    if value.weight is not None:
        return value.weight.tensor()
    needed: set[Op] = set()
    stack = [value.op]
    while stack:
        op = stack.pop()
        if op is not None and op not in needed:
            needed.add(op)
            stack.extend(operand.op for operand in op.inputs)
    ops = sorted(needed, key=lambda op: op._key)
    graph = value.graph
    assert graph is not None
    evaluator = Evaluator(module, graph)
    return evaluator.run_ops(ops, {}, keep={value})[value]


def _is_half(op: Op) -> bool:
    return any(value.tensor.dtype is DType.F16 for value in op.inputs)


def _widen(argument: Any) -> Any:
    if isinstance(argument, torch.Tensor) and argument.dtype in (torch.float16, torch.bfloat16):
        return argument.float()
    if isinstance(argument, list):
        return [_widen(item) for item in argument]
    return argument


class _RoundInside(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Rounds every float result inside a kernel to float16, and keeps computing in float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype is torch.float32:
            return result.half().float()
        return result
