"""Make states what Core ML accepts: float16, of rank 1 to 5, from iOS18.

    %old = mil.read_state(%s) : f32[2]                  %1 = mil.read_state(%s) : f16[2]
    %new = mil.add(%old, %x) : f32[2]                   %old = mil.cast(%1) {dtype="fp32"}
    %2 = mil.coreml_update_state(%s, %new)      ->      %new = mil.add(%old, %x) : f32[2]
                                                        %3 = mil.cast(%new) {dtype="fp16"}
                                                        %2 = mil.coreml_update_state(%s, %3)

A state of rank 0 is (1,). float16 holds integers up to 2048 only, so a state of int32 holds three
digits of base 2048 in a new first axis; zeros are 0 there too. A state of integers on which nothing
depends, as a counter of batches, is dropped. Source: coremltools' StateType takes float16 only.

A float16 state is updated right behind what computes its new value, and who uses that value reads
it from the state: so Core ML can update in place instead of keeping both.
"""

from __future__ import annotations

from collections.abc import Mapping

from anec.dialects import mil
from anec.errors import AnecError
from anec.ir.attrs import Literal
from anec.ir.graph import Graph, Op, Value
from anec.ir.opdef import Effect
from anec.ir.signature import Port
from anec.ir.types import DType, StateType, TensorType, tensor_type
from anec.passes.dce import remove_dead_ops
from anec.passes.lower_to_mil.typing import MIL_NAMES
from anec.pipeline.base import Context

_BASE = 2048
_DIGITS = 3


def legalize_states(graph: Graph, ctx: Context) -> None:
    """Bring the states to types that Core ML has.

    Raises:
        AnecError: the target has no states, or a state is of rank 6 and more or complex.
    """
    ports = {value: port for port, value in zip(graph.signature.inputs, graph.inputs, strict=False)}
    observed = _observed(graph)
    _drop([state for state in graph.states() if state not in observed], graph, ctx, ports)
    for state in graph.states():
        _legalize(graph, ctx, state, ports.get(state))


def _observed(graph: Graph) -> set[Value]:
    """The states of numbers with a fraction, and those that an output or another such state depends on."""
    found = {state for state in graph.states() if state.tensor.dtype.is_float or state.tensor.dtype.is_complex}
    if len(found) == len(graph.states()):
        return found
    pending = list(graph.outputs)
    for state in found:
        pending += _written(state)
    seen: set[Value] = set()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.op is not None:
            pending += value.op.inputs
        elif isinstance(value.type, StateType) and value not in found:
            found.add(value)
            pending += _written(value)
    return found


def _written(state: Value) -> list[Value]:
    """The values that are written into a state."""
    writes = [op for op in state.users if op.defn.effects & Effect.WRITE]
    return [value for op in writes for value in op.inputs if value is not state]


def _drop(states: list[Value], graph: Graph, ctx: Context, ports: Mapping[Value, Port]) -> None:
    """Remove states with all that only computes them."""
    for op in [user for state in states for user in state.users]:
        if op.defn.effects & Effect.WRITE:
            for result in op.results:
                graph.replace(result, op.value("value"))
            graph.erase(op)
    if states:
        remove_dead_ops(graph)
    for state in states:
        ctx.note(f"the state {state.name} only counts, and nothing depends on it: it was dropped")
        if state in ports:
            graph.signature.inputs.remove(ports[state])
        graph.remove_input(state)


def _legalize(graph: Graph, ctx: Context, state: Value, port: Port | None) -> None:
    users = state.users
    if ctx.module.opset < 18:
        place = next((op.origin.place for op in users if op.origin.place), None)
        raise AnecError(
            f"the mutated buffer {state.name!r} needs a state, which Core ML has from iOS18",
            where=place,
            hint="compile with --target iOS18, or make the buffer an input and an output",
        )
    inner = state.tensor
    digits = _needs_digits(inner, port)
    outer = _held(inner, digits, state.name)
    if outer != inner:
        state.type = StateType(outer)
        for op in users:
            _retype(ctx, op, inner, outer, digits)
        if digits:
            ctx.note(f"the state {state.name} holds integers: {_DIGITS} digits of base {_BASE} in its first axis")
    _update_early(ctx, graph, state)


def _needs_digits(inner: TensorType, port: Port | None) -> bool:
    """True for integers beyond what float16 holds; torch's own dtype is the port's."""
    torch_dtype = inner.dtype if port is None else tensor_type(port.type).dtype
    return inner.dtype.is_integer and torch_dtype not in (DType.I8, DType.U8)


def _held(inner: TensorType, digits: bool, name: str) -> TensorType:
    """The type of the state in Core ML for a value of type ``inner``."""
    if inner.dtype.is_complex:
        raise AnecError(f"the state {name!r} is {inner.dtype}; Core ML has no complex numbers")
    shape = (_DIGITS, *inner.shape) if digits else inner.shape or (1,)
    if len(shape) > 5:
        raise AnecError(f"the state {name!r} has rank {len(shape)}; Core ML takes ranks 1 to 5")
    return TensorType(DType.F16, shape)


def _retype(ctx: Context, op: Op, inner: TensorType, outer: TensorType, digits: bool) -> None:
    """Let an op read or write the state as it is held, with the conversions around it."""
    if op.defn.effects & Effect.WRITE:
        with ctx.builder(before=op):
            op.set_operand(op.slot("value")[0], _encoded(op.value("value"), outer, digits))
    for result in op.results:
        uses = list(result.uses)
        result.type = outer
        if not uses:
            continue
        with ctx.builder(before=op.next, like=op):
            decoded = _decoded(result, inner, digits)
        for user, index in uses:
            user.set_operand(index, decoded)


def _encoded(value: Value, outer: TensorType, digits: bool) -> Value:
    if value.rank < outer.rank:
        value = mil.expand_dims(value, axes=(0,))
    if digits:
        # The quotients by 1, B and B * B, each without what the next one holds.
        first = mil.floor_div(value, _column((1, _BASE, _BASE**2), outer))
        above = mil.mul(mil.floor_div(value, _column((_BASE, _BASE**2, 1), outer)), _column((_BASE, _BASE, 0), outer))
        value = mil.sub(first, above)
    return value if value.tensor.dtype is outer.dtype else mil.cast(value, dtype="fp16")


def _decoded(value: Value, inner: TensorType, digits: bool) -> Value:
    if inner.dtype is not DType.F16:
        value = mil.cast(value, dtype=MIL_NAMES[inner.dtype])
    if digits:
        held = value.tensor
        return mil.reduce_sum(mil.mul(value, _column((1, _BASE, _BASE**2), held)), axes=(0,), keep_dims=False)
    return mil.squeeze(value, axes=(0,)) if value.rank > inner.rank else value


def _column(numbers: tuple[int, ...], like: TensorType) -> Literal:
    """The numbers along the first axis of a tensor of this rank."""
    column: tuple[object, ...] = numbers
    for _ in range(like.rank - 1):
        column = tuple((item,) for item in column)
    return Literal(column)  # type: ignore[arg-type]  # nested tuples of integers


def _update_early(ctx: Context, graph: Graph, state: Value) -> None:
    """Update where the new value is known, and let its later users take it from the state."""
    updates = [op for op in state.users if op.name == "mil.coreml_update_state"]
    others = [op for op in state.users if op not in updates]
    if len(updates) != 1 or any(op.name != "mil.read_state" for op in others):
        return
    (update,) = updates
    value = update.value("value")
    if value.op is None or update.result.uses or update.result.is_output:
        return
    # Behind the reads in front of it: an earlier write would change what they read.
    latest = value.op
    for read in others:
        latest = read if latest.is_before(read) and read.is_before(update) else latest
    with ctx.builder(before=latest.next, like=update):
        held = mil.coreml_update_state(state, value)
    graph.erase(update)
    for user, index in list(value.uses):
        if held.op is not None and held.op.is_before(user):
            user.set_operand(index, held)
