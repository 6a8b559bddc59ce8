"""The verifier: the laws every graph keeps, and an error that shows the ops around the fault."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from anec.errors import AnecError, VerifyError
from anec.ir.attrs import Literal
from anec.ir.build import assuming, infer_types
from anec.ir.dims import Bounds, Dim, Expr, evaluate
from anec.ir.facts import is_constant
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Kind, Operand, Param
from anec.ir.printer import print_op, window
from anec.ir.types import TensorType, Type, tensor_type

Selects = Callable[[Op], bool]


def verify(module: Module, *, dialects: Collection[str] | None = None, types: bool | Selects = True) -> None:
    """Check every law of the IR.

    Args:
        module: what to check.
        dialects: the dialects whose ops may appear; None allows all.
        types: also compare each recorded type with the inferred one; a function chooses the ops.

    Raises:
        VerifyError: the first broken law, with the ops around it and the user's source line.
    """
    for graph in module.functions.values():
        verify_graph(module, graph, dialects=dialects, types=types)


def verify_graph(
    module: Module, graph: Graph, *, dialects: Collection[str] | None = None, types: bool | Selects = True
) -> None:
    """Check one function; see :func:`verify`."""
    _verify_order(graph)
    _verify_entries(module, graph)
    seen: set[int] = {id(value) for value in (*graph.inputs, *graph.weights.values())}
    with assuming(module.dims):
        for op in graph.ops():
            _verify_op(graph, op, seen, dialects)
            if types is True or (types is not False and types(op)):
                _verify_types(op, module.dims)
            seen.update(id(result) for result in op.results)
    for output in graph.outputs:
        if id(output) not in seen:
            raise _fail_at(graph, output, f"the output %{output.name} of {graph.name} is not defined in it")
    for value in graph.values.values():
        _verify_uses(graph, value)
        _verify_symbols(module, graph, value)
    _verify_signature(graph)


def _fail(op: Op, message: str) -> VerifyError:
    return VerifyError(message, where=op.origin.place or None, window=window(op))


def _fail_at(graph: Graph, value: Value | None, message: str) -> VerifyError:
    """An error about a value or the boundary: the ops around its definition or use, else the last ones."""
    op = value.op if value is not None else None
    if op is None and value is not None:
        op = next(iter(value.users), None)
    op = op or graph.last
    shown = window(op) if op is not None else f"func {graph.name} without ops"
    return VerifyError(message, where=(op.origin.place if op is not None else "") or None, window=shown)


def _verify_order(graph: Graph) -> None:
    """The list of ops is linked both ways, in the order of its keys, and counted."""
    count, previous, op = 0, None, graph.first
    while op is not None:
        if op.graph is not graph:
            raise _fail(op, f"{op.name} does not know its graph")
        if op.prev is not previous:
            raise _fail(op, f"{op.name} does not know the op in front of it")
        if previous is not None and not previous.is_before(op):
            raise _fail(op, f"{op.name} has no place behind {previous.name}")
        count, previous, op = count + 1, op, op.next
    if graph.last is not previous or count != len(graph):
        raise _fail_at(graph, None, f"{graph.name} holds {count} ops and counts {len(graph)}")


def _verify_entries(module: Module, graph: Graph) -> None:
    """Inputs and weights are registered; weights are the module's."""
    for value in (*graph.inputs, *graph.weights.values()):
        if graph.values.get(value.name) is not value:
            raise _fail_at(graph, value, f"%{value.name} is not registered in {graph.name}")
    for key, value in graph.weights.items():
        if value.weight is None or module.weights.get(key) is not value.weight:
            message = f"%{value.name} refers to the weight {key!r}, which the module does not hold"
            raise _fail_at(graph, value, message)
        if value.type != value.weight.type:
            raise _fail_at(graph, value, f"%{value.name} is {value.type}, its weight is {value.weight.type}")


def _verify_op(graph: Graph, op: Op, seen: set[int], dialects: Collection[str] | None) -> None:
    if dialects is not None and op.defn.dialect not in dialects:
        raise _fail(op, f"{op.name} is not of the dialects {', '.join(sorted(dialects))}")
    for index, operand in enumerate(op.operands):
        if isinstance(operand, Value):
            if id(operand) not in seen:
                raise _fail(op, f"{op.name} uses %{operand.name} before it is defined")
            if (op, index) not in operand.uses:
                raise _fail(op, f"%{operand.name} does not know its use by {op.name}")
    for param in op.defn.params:
        _verify_param(op, param)
    unknown = set(op.attrs) - {param.name for param in op.defn.params if param.kind is Kind.ATTR}
    if unknown:
        raise _fail(op, f"{op.name} has no attribute {sorted(unknown)[0]!r}")
    _verify_domains(op)
    _verify_results(graph, op)
    if op.defn.verify is not None:
        _guard(op, op.defn.verify)


def _verify_param(op: Op, param: Param) -> None:
    """A required parameter is there, and its dtype is one it takes."""
    if param.kind is Kind.ATTR:
        if param.required and param.name not in op.attrs:
            raise _fail(op, f"{op.name} lacks the attribute {param.name!r}")
        return
    operands = [op.operands[i] for i in op.slot(param.name)]
    if param.required and param.kind is not Kind.VARIADIC and operands[0] is None:
        raise _fail(op, f"{op.name} lacks the operand {param.name!r}")
    for operand in operands if param.dtypes else ():
        dtype = operand.tensor.dtype if isinstance(operand, Value) else None
        if isinstance(operand, Literal):
            dtype = operand.dtype
        if dtype is not None and dtype not in param.dtypes and not _folds(operand):
            allowed = ", ".join(map(str, param.dtypes))
            raise _fail(op, f"{op.name}: {param.name} is {dtype}; it takes {allowed}")


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


def _verify_results(graph: Graph, op: Op) -> None:
    for index, result in enumerate(op.results):
        if result.op is not op or result.index != index or graph.values.get(result.name) is not result:
            raise _fail(op, f"the result %{result.name} is not registered")
    if op.defn.results is not None and len(op.results) != op.defn.results:
        raise _fail(op, f"{op.name} has {op.defn.results} results, not {len(op.results)}")


def _guard(op: Op, check: Callable[[Op], None]) -> None:
    try:
        check(op)
    except AnecError as error:
        raise _fail(op, error.message) from error


def _verify_types(op: Op, bounds: Mapping[str, Bounds]) -> None:
    try:
        inferred = infer_types(op)
    except AnecError as error:
        raise _fail(op, f"{op.name} does not type: {error.message}") from error
    recorded = tuple(result.type for result in op.results)
    if len(inferred) != len(recorded) or not all(agree(a, b, bounds) for a, b in zip(inferred, recorded, strict=True)):
        wanted = ", ".join(map(str, inferred))
        raise _fail(op, f"{op.name} gives {wanted}, recorded is {', '.join(map(str, recorded))}")


def agree(inferred: Type, recorded: Type, bounds: Mapping[str, Bounds]) -> bool:
    """True when two types are the same for sizes all over the symbols' bounds, however they are spelled."""
    if inferred == recorded:
        return True
    if not isinstance(inferred, TensorType) or not isinstance(recorded, TensorType):
        return False
    if inferred.dtype is not recorded.dtype or inferred.rank != recorded.rank:
        return False
    return all(same_size(a, b, bounds) for a, b in zip(inferred.shape, recorded.shape, strict=True))


def same_size(left: Dim, right: Dim, bounds: Mapping[str, Bounds]) -> bool:
    """Equal for sizes all over the symbols' bounds: two spellings of one dimension may have two normal forms."""
    symbols = _symbols(left, right)
    if left == right or not symbols:
        return left == right
    return all(name in bounds for name in symbols) and sizes_apart(left, right, bounds) is None


def sizes_apart(left: Dim, right: Dim, bounds: Mapping[str, Bounds]) -> dict[str, int] | None:
    """Sizes of the symbols at which two dimensions differ, or one has no value; None where none was found."""
    symbols = _symbols(left, right)
    for sizes in _samples(symbols, bounds) if all(name in bounds for name in symbols) else ():
        try:
            if evaluate(left, sizes) != evaluate(right, sizes):
                return sizes
        except AnecError:
            return sizes
    return None


def _symbols(*dims: Dim) -> list[str]:
    return sorted({name for dim in dims if isinstance(dim, Expr) for name in dim.symbols()})


def _samples(symbols: list[str], bounds: Mapping[str, Bounds]) -> Iterator[dict[str, int]]:
    """Some sizes within the bounds: both ends, and steps that differ from symbol to symbol."""
    for step in range(24):
        sizes = {}
        for number, name in enumerate(symbols):
            lower, upper, only = bounds[name].lower, bounds[name].upper, bounds[name].only
            span = 997 if upper is None else upper - lower
            offsets = (0, span, ((step - 2) * (number + 1) + number) % (span + 1))
            sizes[name] = only[(step + number) % len(only)] if only else lower + offsets[min(step, 2)]
        yield sizes


def _verify_uses(graph: Graph, value: Value) -> None:
    for op, index in value.uses:
        if op.graph is not graph or index >= len(op.operands) or op.operands[index] is not value:
            message = f"%{value.name} lists a use by {op.name} that is gone"
            error = _fail_at(graph, value if value.op is not None else None, message)
            error.window = f"{error.window}\n? {print_op(op)}"
            raise error


def _verify_symbols(module: Module, graph: Graph, value: Value) -> None:
    for dim in tensor_type(value.type).shape:
        unknown = sorted(dim.symbols() - module.dims.keys()) if isinstance(dim, Expr) else []
        if unknown:
            raise _fail_at(graph, value, f"%{value.name} is {value.type}; the module does not declare {unknown[0]}")


def _verify_signature(graph: Graph) -> None:
    signature = graph.signature
    for what, ports, values in (
        ("inputs", signature.inputs, graph.inputs),
        ("outputs", signature.outputs, graph.outputs),
    ):
        if ports and len(ports) != len(values):
            raise _fail_at(graph, None, f"{graph.name} has {len(values)} {what}, its signature {len(ports)}")
        names = [port.name for port in ports]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise _fail_at(graph, None, f"two {what} of {graph.name} are called {twice!r}")
    if len({len(port.shapes) for port in signature.inputs if port.shapes}) > 1:
        raise _fail_at(graph, None, f"the inputs of {graph.name} list different numbers of shapes")
