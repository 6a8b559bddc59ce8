"""The verifier: the laws every graph keeps, and an error that shows the ops around the fault."""

from __future__ import annotations

from collections.abc import Callable, Collection

from anec.errors import AnecError, VerifyError
from anec.ir.attrs import Literal
from anec.ir.build import infer_types
from anec.ir.facts import is_constant
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Kind, Operand
from anec.ir.printer import window
from anec.ir.types import TensorType, Type


def verify(module: Module, *, dialects: Collection[str] | None = None, types: bool = True) -> None:
    """Check every law of the IR.

    Args:
        module: what to check.
        dialects: the dialects whose ops may appear; None allows all.
        types: also compare each recorded type with the inferred one.

    Raises:
        VerifyError: the first broken law, with the ops around it and the user's source line.
    """
    for graph in module.functions.values():
        verify_graph(module, graph, dialects=dialects, types=types)


def verify_graph(
    module: Module, graph: Graph, *, dialects: Collection[str] | None = None, types: bool = True
) -> None:
    """Check one function; see :func:`verify`."""
    seen: set[int] = {id(value) for value in graph.inputs}
    for key, value in graph.weights.items():
        seen.add(id(value))
        if value.weight is None or module.weights.get(key) is not value.weight:
            raise VerifyError(f"%{value.name} refers to the weight {key!r}, which the module does not hold")
        if value.type != value.weight.type:
            raise VerifyError(f"%{value.name} is {value.type}, its weight is {value.weight.type}")
    for op in graph.ops():
        _verify_op(graph, op, seen, dialects, types)
        seen.update(id(result) for result in op.results)
    for output in graph.outputs:
        if id(output) not in seen:
            raise VerifyError(f"the output %{output.name} of {graph.name} is not defined in it")
    _verify_uses(graph)
    _verify_signature(graph)


def _fail(op: Op, message: str) -> VerifyError:
    return VerifyError(message, where=op.origin.place or None, window=window(op))


def _verify_op(graph: Graph, op: Op, seen: set[int], dialects: Collection[str] | None, types: bool) -> None:
    if op.graph is not graph:
        raise _fail(op, f"{op.name} does not know its graph")
    if dialects is not None and op.defn.dialect not in dialects:
        raise _fail(op, f"{op.name} is not of the dialects {', '.join(sorted(dialects))}")
    for index, operand in enumerate(op.operands):
        if isinstance(operand, Value):
            if id(operand) not in seen:
                raise _fail(op, f"{op.name} uses %{operand.name} before it is defined")
            if (op, index) not in operand.uses:
                raise _fail(op, f"%{operand.name} does not know its use by {op.name}")
    for param in op.defn.params:
        if param.kind is Kind.ATTR:
            if param.required and param.name not in op.attrs:
                raise _fail(op, f"{op.name} lacks the attribute {param.name!r}")
            continue
        operands = [op.operands[i] for i in op.slot(param.name)]
        if param.required and (not operands or operands[0] is None) and param.kind is not Kind.VARIADIC:
            raise _fail(op, f"{op.name} lacks the operand {param.name!r}")
        if param.dtypes:
            for operand in operands:
                dtype = operand.tensor.dtype if isinstance(operand, Value) else None
                if isinstance(operand, Literal):
                    dtype = operand.dtype
                if dtype is not None and dtype not in param.dtypes and not _folds(operand):
                    allowed = ", ".join(map(str, param.dtypes))
                    raise _fail(op, f"{op.name}: {param.name} is {dtype}; it takes {allowed}")
    unknown = set(op.attrs) - set(op.defn.by_name)
    if unknown:
        raise _fail(op, f"{op.name} has no attribute {sorted(unknown)[0]!r}")
    _verify_domains(op)
    for index, result in enumerate(op.results):
        if result.op is not op or result.index != index or graph.values.get(result.name) is not result:
            raise _fail(op, f"the result %{result.name} is not registered")
    if op.defn.results is not None and len(op.results) != op.defn.results:
        raise _fail(op, f"{op.name} has {op.defn.results} results, not {len(op.results)}")
    if op.defn.verify is not None:
        _guard(op, op.defn.verify)
    if types:
        _verify_types(op)


def _folds(operand: Operand) -> bool:
    """Constants are computed before emission, so Core ML never sees the dtypes they go through."""
    return isinstance(operand, Value) and is_constant(operand)


def _verify_domains(op: Op) -> None:
    """Operands of one type domain share a dtype."""
    domains: dict[str, tuple[str, object]] = {}
    for param in op.defn.operand_params:
        if param.domain is None:
            continue
        for index in op.slot(param.name):
            operand = op.operands[index]
            if not isinstance(operand, Value):
                continue
            dtype = operand.tensor.dtype
            name, wanted = domains.setdefault(param.domain, (param.name, dtype))
            if dtype is not wanted:
                raise _fail(op, f"{op.name}: {param.name} is {dtype}, but {name} is {wanted}")


def _guard(op: Op, check: Callable[[Op], None]) -> None:
    try:
        check(op)
    except AnecError as error:
        raise _fail(op, error.message) from error


def _verify_types(op: Op) -> None:
    try:
        inferred = infer_types(op)
    except AnecError as error:
        raise _fail(op, f"{op.name} does not type: {error.message}") from error
    recorded = tuple(result.type for result in op.results)
    if len(inferred) != len(recorded) or not all(map(_agree, inferred, recorded)):
        wanted = ", ".join(map(str, inferred))
        raise _fail(op, f"{op.name} gives {wanted}, recorded is {', '.join(map(str, recorded))}")


def _agree(inferred: Type, recorded: Type) -> bool:
    if inferred == recorded:
        return True
    if isinstance(inferred, TensorType) and isinstance(recorded, TensorType):
        # Two spellings of one symbolic dimension cannot always be brought to the same normal form.
        return inferred.dtype is recorded.dtype and len(inferred.shape) == len(recorded.shape) and all(
            a == b or not (isinstance(a, int) and isinstance(b, int))
            for a, b in zip(inferred.shape, recorded.shape, strict=True)
        )
    return False


def _verify_uses(graph: Graph) -> None:
    for value in graph.values.values():
        for op, index in value.uses:
            if op.graph is not graph or op.operands[index] is not value:
                raise VerifyError(f"%{value.name} lists a use by {op.name} that is gone")


def _verify_signature(graph: Graph) -> None:
    signature = graph.signature
    for what, ports, values in (
        ("inputs", signature.inputs, graph.inputs),
        ("outputs", signature.outputs, graph.outputs),
    ):
        if ports and len(ports) != len(values):
            raise VerifyError(f"{graph.name} has {len(values)} {what}, its signature {len(ports)}")
        names = [port.name for port in ports]
        for name in names:
            if names.count(name) > 1:
                raise VerifyError(f"two {what} of {graph.name} are called {name!r}")
