"""IR examples of docstrings as modules, and modules compared with what an example says; see ``docstring_ir``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from anec.dialects import registry
from anec.ir.attrs import Attr, Literal, format_attr
from anec.ir.build import infer_types
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.parser import parse_module, parse_type
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, torch_dtype
from docstring_ir import DEFAULT_TYPE, WEIGHT, BadExample, Example, Statement


def legal(name: str) -> str:
    """``%1`` is no name in IR text."""
    return f"_{name}" if name[0].isdigit() else name


def _legal_text(text: str) -> str:
    return re.sub(r"%(\d\w*)", r"%_\1", text)


def build(example: Example) -> Module:
    """The module of the left side, every weight with numbers."""
    lines: list[str] = []
    defined: set[str] = set()
    free: dict[str, None] = {}
    for statement in example.before:
        if statement.open:
            raise BadExample("`...` stands left of the arrow; write the attributes out")
        for name in re.findall(r"%(\w+)", statement.call):
            if name not in defined:
                free[name] = None
        defined.update(statement.results)
    module = Module()
    for count, statement in enumerate(example.before):
        types = statement.types or ", ".join(["f32[]"] * len(statement.results))
        line = f"{statement.text} : {types}" if statement.results else statement.text
        module = _parse(example, free, [*lines, line], _returned(example, count + 1))
        if not statement.types and statement.results:
            op = module.main.last
            assert op is not None
            line = f"{statement.text} : {', '.join(map(str, infer_types(op)))}"
            module = _parse(example, free, [*lines, line], _returned(example, count + 1))
        lines.append(line)
    generator = torch.Generator().manual_seed(0)
    for weight in module.weights.values():
        weight.data = TensorData(_numbers(weight.type, generator))
    return module


def _returned(example: Example, count: int) -> list[str]:
    statements = example.before[:count]
    if example.returned and count == len(example.before):
        return example.returned
    used = {name for statement in statements for name in re.findall(r"%(\w+)", statement.call)}
    results = [name for statement in statements for name in statement.results]
    # Of several results the first is what an op is for: a norm's mean, a pool's indices stay unused.
    extra = {name for statement in statements for name in statement.results[1:]}
    return [name for name in results if name not in used and name not in extra] or results[-1:]


def _parse(example: Example, free: dict[str, None], lines: list[str], returned: list[str]) -> Module:
    def declared(name: str) -> str:
        return example.declared.get(name, DEFAULT_TYPE)

    inputs = ", ".join(f"%{name}: {declared(name)}" for name in free if name not in example.weights)
    weights = [f'%{name} = weight "{name}" : {declared(name)}' for name in free if name in example.weights]
    # Output types are not checked by the parser; what counts is the value behind each.
    outputs = ", ".join(f"%output_{i}: f32[]" for i in range(len(returned)))
    body = [*weights, *lines, "return " + ", ".join("%" + name for name in returned)]
    head = f"anec 1\nmodule target={example.target}\n\nfunc main({inputs}) -> ({outputs}) {{\n"
    module = parse_module(_legal_text(head + "\n".join(body) + "\n}\n"), registry, source="docstring")
    graph = module.main
    graph.signature.outputs = [
        type(port)(port.name, value.type) for port, value in zip(graph.signature.outputs, graph.outputs, strict=True)
    ]
    return module


def _numbers(type_: TensorType, generator: torch.Generator) -> torch.Tensor:
    dtype, shape = torch_dtype(type_.dtype), type_.static_shape
    if type_.dtype is DType.BOOL:
        return torch.rand(shape, generator=generator) < 0.5
    if type_.dtype.is_integer:
        return torch.randint(0, 2, shape, generator=generator).to(dtype)
    return (torch.rand(shape, generator=generator) + 0.5).to(dtype)


# -- comparing -------------------------------------------------------------------------------------


class _Comparison:
    """What each name on the right stands for, found on the way."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.bound: dict[str, Value] = {}

    def name(self, name: str, value: Value, *, result: bool = False) -> str:
        known = self.bound.get(name)
        if known is None and not result:
            found = self.graph.values.get(legal(name))
            known = found if found is not None and found.op is None else None
        if known is not None and known is not value:
            return f"%{name} is %{value.name} here and %{known.name} elsewhere"
        self.bound[name] = value
        return ""

    def statement(self, wanted: Statement, op: Op) -> str:
        call_name = wanted.call.partition("(")[0]
        if op.name != call_name:
            return f"{call_name} is wanted, {op.name} is there"
        if len(wanted.results) > len(op.results):
            return f"{op.name} has {len(op.results)} results"
        problem = self.operands(wanted, op) or self.attrs(wanted, op)
        for name, value in zip(wanted.results, op.results, strict=False):
            problem = problem or self.name(name, value, result=True)
        if wanted.types and not problem:
            found = [value.type for value in op.results]
            wanted_types = [parse_type(text) for text in re.split(r", (?=\w)", wanted.types)]
            if found != wanted_types:
                return f"{op.name} gives {found}, wanted {wanted.types}"
        return problem

    def operands(self, wanted: Statement, op: Op) -> str:
        texts = re.findall(r"%\w+|none|\[[^%\[\]]*(?:\[[^%\]]*\][^%\[\]]*)*\]|[^\s,()\[\]]+",
                           wanted.call[wanted.call.index("(") + 1 : -1])  # fmt: skip
        found = [operand for operand in op.operands if operand is not None]
        texts = [text for text in texts if text != "none"]
        if len(texts) != len(found):
            return f"{op.name} has the operands {[str(o) for o in found]}"
        for text, operand in zip(texts, found, strict=True):
            if text.startswith("%"):
                if not isinstance(operand, Value):
                    return f"{text} is {operand} in {op.name}"
                problem = self.name(text[1:], operand)
                if problem:
                    return problem
            elif not isinstance(operand, Literal) or not _same_text(format_attr(operand.value), text):
                return f"{text} is {operand} in {op.name}"
        return ""

    def attrs(self, wanted: Statement, op: Op) -> str:
        pairs = dict(_pairs(wanted.attrs))
        found = {name: format_attr(value) for name, value in op.attrs.items() if not _is_default(op, name, value)}
        given = {name: format_attr(value) for name, value in op.attrs.items()}
        for name, text in pairs.items():
            if name not in given or not _same_text(given[name], text):
                return f"{op.name}: {name} is {given.get(name, 'absent')}, not {text}"
        if not wanted.open and set(found) - set(pairs):
            extra = ", ".join(f"{name}={found[name]}" for name in found if name not in pairs)
            return f"{op.name} also has {extra}"
        return ""


def _is_default(op: Op, name: str, value: Attr) -> bool:
    return format_attr(op.defn.by_name[name].default) == format_attr(value)


def _pairs(attrs: str) -> Iterator[tuple[str, str]]:
    depth, quoted, start = 0, False, 0
    inner = attrs[1:-1]
    for i, char in enumerate(inner + ","):
        quoted ^= char == '"'
        depth += 0 if quoted else (char in "[(") - (char in "])")
        if char == "," and depth == 0 and not quoted:
            name, _, text = inner[start:i].partition("=")
            if name.strip():
                yield name.strip(), text.strip()
            start = i + 1


def _same_text(left: str, right: str) -> bool:
    """Equal but for spaces and for how a number is written (1e-05 and 0.00001, 2 and 2.0)."""
    if re.sub(r"\s", "", left) == re.sub(r"\s", "", right):
        return True
    try:
        return abs(float(left) - float(right)) <= 1e-4 * abs(float(left))
    except ValueError:
        return False


def compare(example: Example, after: Module) -> str:
    """Where the right side and the module part, or the empty string."""
    graph = after.main
    ops = list(graph.ops())
    comparison = _Comparison(graph)
    shown = "\n".join(f"    {op!r}" for op in ops) + f"\n    return {graph.outputs}"
    folded = {statement.results[0]: statement for statement in example.after if statement.call == WEIGHT}
    wanted_ops = [statement for statement in example.after if statement.call != WEIGHT]
    if len(ops) != len(wanted_ops):
        return f"{len(wanted_ops)} ops are wanted, {len(ops)} are there:\n{shown}"
    for wanted, op in zip(wanted_ops, ops, strict=True):
        problem = comparison.statement(wanted, op)
        if problem:
            return f"{problem}:\n{shown}"
    gives = example.gives or ([] if wanted_ops else list(folded)[-1:])
    for name, value in zip(gives, graph.outputs, strict=False):
        problem = comparison.name(name, value)
        if problem:
            return f"returned: {problem}:\n{shown}"
    for name, statement in folded.items():
        found = comparison.bound.get(name)
        if found is None or found.weight is None or str(found.type) != statement.types:
            return f"%{name} is {found}, not a weight of {statement.types}:\n{shown}"
    return ""

__all__ = ["build", "compare"]
