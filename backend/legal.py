"""What Core ML takes on a target: checks on the IR, so that errors name the user's source line."""

from __future__ import annotations

from collections import Counter

from anec.errors import UnsupportedError
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.legality import MAX_RANK, problems
from anec.ir.opdef import Version
from anec.ir.printer import window
from anec.ir.types import DType, StateType, TensorType, Type

_NAMED = 5


def refuse(op: Op, message: str, hint: str | None = None) -> UnsupportedError:
    """An error at ``op``, with the ops around it and the user's source line."""
    return UnsupportedError(message, where=op.origin.place or None, window=window(op), hint=hint)


def check_dialect(module: Module) -> None:
    """Refuse a module that holds ops of another dialect.

    Raises:
        UnsupportedError: names the ops, how many there are, and where the first comes from.
    """
    foreign = [op for op in module.ops() if op.defn.dialect != "mil"]
    if not foreign:
        return
    counts = Counter(op.name for op in foreign)
    shown = ", ".join(f"{name} ({count})" for name, count in counts.most_common(_NAMED))
    more = f" and {len(counts) - _NAMED} more" if len(counts) > _NAMED else ""
    raise refuse(
        foreign[0],
        f"{len(foreign)} ops are not Core ML's: {shown}{more}",
        "run the pass lower-to-mil; what it cannot lower, it reports with the nearest rule",
    )


def check_op(op: Op, opset: int) -> Version:
    """Check one op against its version on the target.

    Returns:
        The version of the op on the target.

    Raises:
        UnsupportedError: an op, parameter, dtype, rank or einsum equation the target does not have.
    """
    for problem in problems(op, opset):
        raise refuse(op, problem.message, problem.hint or None)
    return op.defn.version(opset)


def check_boundary(graph: Graph, opset: int, constants: set[Value]) -> None:
    """Check inputs and outputs of a function.

    Raises:
        UnsupportedError: a dtype or rank Core ML has no array for, a state before iOS18, an output
            that is no result of an op or is given twice.
    """
    for value in graph.inputs:
        if isinstance(value.type, StateType):
            _check_state(graph, value, opset)
        else:
            _check_port(f"the input %{value.name} of {graph.name}", value.type, opset)
    seen: set[Value] = set()
    for value in graph.outputs:
        what = f"the output %{value.name} of {graph.name}"
        hint = "run the pass legalize-io"
        if value.op is None or value in constants:
            kind = "a constant" if value in constants else "an input"
            raise UnsupportedError(f"{what} is {kind}, not the result of an op", hint=hint)
        if value in seen:
            raise UnsupportedError(f"{what} is given twice", where=value.origin.place or None, hint=hint)
        seen.add(value)
        _check_port(what, value.type, opset, value.origin.place)
    if not graph.outputs:
        raise UnsupportedError(f"the function {graph.name} has no outputs")


def _check_state(graph: Graph, value: Value, opset: int) -> None:
    what = f"the state %{value.name} of {graph.name}"
    if opset < 18:
        raise UnsupportedError(f"{what} needs iOS18", hint="compile with --target iOS18")
    if value.tensor.dtype is not DType.F16:
        raise UnsupportedError(f"{what} is {value.tensor.dtype}; Core ML's states are f16")
    if not value.tensor.is_static or not 1 <= value.rank <= MAX_RANK:
        raise UnsupportedError(f"{what} is {value.tensor}; Core ML's states have a fixed shape of rank 1 to 5")


def _check_port(what: str, type_: Type, opset: int, where: str = "") -> None:
    """Arrays at the boundary are f32, i32 and, from iOS16, f16, of rank 1 to 5."""
    hint = "run the pass legalize-io"
    place = where or None
    if not isinstance(type_, TensorType):
        raise UnsupportedError(f"{what} is {type_}, not a tensor", where=place)
    if type_.dtype is DType.F16 and opset < 16:
        raise UnsupportedError(f"{what} is f16, which needs iOS16", where=place, hint=hint)
    if type_.dtype not in (DType.F16, DType.F32, DType.I32):
        raise UnsupportedError(f"{what} is {type_.dtype}; Core ML passes f32, f16 and i32", where=place, hint=hint)
    if not 1 <= type_.rank <= MAX_RANK:
        raise UnsupportedError(f"{what} has rank {type_.rank}; Core ML passes rank 1 to 5", where=place, hint=hint)
