"""IR text: one op a line. Printing never raises, on a broken graph either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anec.ir.attrs import Literal, format_attr, format_text
from anec.ir.dims import Bounds
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Kind
from anec.ir.signature import Port, PortKind
from anec.ir.types import Type

MAGIC = "anec 1"
_ORIGIN_COLUMN = 100


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a weight's bytes are: a file (relative to the text), an offset, a SHA-256."""

    path: str
    offset: int
    digest: str


def print_module(module: Module, references: Mapping[str, Reference] | None = None) -> str:
    """The canonical text of a module.

    Args:
        module: what to print; broken graphs print too.
        references: where each weight's bytes are, for texts that must stand by themselves.
    """
    head = [MAGIC, f"module target={module.target}"]
    if module.dims:
        head.append("dims " + ", ".join(_dim(name, bounds) for name, bounds in module.dims.items()))
    head += [f"meta {format_text(key)} = {format_text(value)}" for key, value in module.meta.items()]
    for name, reference in (references or {}).items():
        weight = module.weights.get(name)
        if weight is not None:
            place = f"{format_text(reference.path)} +{reference.offset} sha256:{reference.digest}"
            head.append(f"weight {format_text(name)} : {weight.type} @ {place}")
    blocks = ["\n".join(head), *(print_graph(graph) for graph in module.functions.values())]
    return "\n\n".join(blocks) + "\n"


def _dim(name: str, bounds: Bounds) -> str:
    default = "" if bounds.default is None else f" default {bounds.default}"
    only = " only " + "|".join(map(str, bounds.only)) if bounds.only else ""
    return f"{name} in {bounds}{default}{only}"


def print_graph(graph: Graph, *, origins: bool = True) -> str:
    """The text of one function."""
    signature = graph.signature
    inputs = [
        _port(value.name, value.type, signature.inputs[i] if i < len(signature.inputs) else None, value.name)
        for i, value in enumerate(graph.inputs)
    ]
    outputs = []
    for i, value in enumerate(graph.outputs):
        port = signature.outputs[i] if i < len(signature.outputs) else None
        outputs.append(_port(port.name if port else f"output{i}", value.type, port, None))
    lines = [f"func {graph.name}({', '.join(inputs)}) -> ({', '.join(outputs)}) {{"]
    lines += [f"  note {format_text(note)}" for note in signature.notes]
    for value in graph.weights.values():
        name = value.weight.name if value.weight is not None else "?"
        lines.append(f"  %{value.name} = weight {format_text(name)} : {value.type}")
    lines += ["  " + print_op(op, origin=origins) for op in graph.ops()]
    lines.append(f"  return {', '.join(f'%{value.name}' for value in graph.outputs)}".rstrip())
    lines.append("}")
    return "\n".join(lines)


def _port(name: str, type_: Type, port: Port | None, value_name: str | None) -> str:
    text = f"%{name}: {type_}"
    if port is None:
        return text
    extras = []
    if value_name is not None and port.name != value_name:
        extras.append(f"name={format_text(port.name)}")
    if port.path:
        extras.append(f"path={format_text(port.path)}")
    if port.type != type_:
        extras.append(f"type={format_text(str(port.type))}")
    if port.boundary is not None:
        extras.append(f"boundary={port.boundary}")
    if port.kind is not PortKind.TENSOR:
        extras.append(f"kind={format_text(port.kind.value)}")
    if port.scale != 1.0:
        extras.append(f"scale={port.scale!r}")
    if port.bias:
        extras.append(f"bias={format_attr(port.bias)}")
    if port.shapes:
        extras.append(f"shapes={format_attr(port.shapes)}")
    return text + (f" {{{', '.join(extras)}}}" if extras else "")


def print_op(op: Op, *, origin: bool = True) -> str:
    """The line of one op."""
    results = ", ".join(f"%{value.name}" for value in op.results)
    text = f"{results} = " if results else ""
    text += f"{op.name}({', '.join(_operands(op))})"
    if op.attrs:
        order = {param.name: i for i, param in enumerate(op.defn.params)}
        pairs = sorted(op.attrs.items(), key=lambda item: order.get(item[0], len(order)))
        text += " {" + ", ".join(f"{name}={format_attr(value)}" for name, value in pairs) + "}"
    if op.results:
        text += " : " + ", ".join(str(value.type) for value in op.results)
    comment = str(op.origin) if origin else ""
    return f"{text.ljust(_ORIGIN_COLUMN)}  ; {comment}" if comment else text


def _operands(op: Op) -> list[str]:
    texts: list[str] = []
    needed = 0
    for param in op.defn.operand_params:
        operands = [op.operands[i] for i in op.slot(param.name)]
        items = [_operand(operand) for operand in operands]
        texts.append("[" + ", ".join(items) + "]" if param.kind is Kind.VARIADIC else items[0])
        variadic = param.kind is Kind.VARIADIC
        if (operands or param.required) if variadic else operands[0] is not None:
            needed = len(texts)
    return texts[:needed]


def _operand(operand: Value | Literal | None) -> str:
    if operand is None:
        return "none"
    return f"%{operand.name}" if isinstance(operand, Value) else str(operand)


def window(op: Op, radius: int = 3) -> str:
    """The lines around ``op``, an arrow at it; what error messages show."""
    first, last = op, op
    for _ in range(radius):
        first = first.prev or first
        last = last.next or last
    lines = []
    at: Op | None = first
    while at is not None:
        lines.append(("> " if at is op else "  ") + print_op(at))
        if at is last:
            break
        at = at.next
    return "\n".join(lines)
