"""IR examples in docstrings: text that says ``before -> after``, made into modules and compared.

A block is a paragraph whose lines begin with ``%name``. Left of the arrow stands what the pass gets,
right of it what it makes, side by side or one below the other:

    %1 = mil.mul(%x, 1.702)
    %2 = mil.sigmoid(%1)             ->      %3 = mil.gelu(%x) {mode="SIGMOID_APPROXIMATION"}
    %3 = mil.mul(%x, %2)

Free names are inputs of type ``f32[2,8]``, unless a line says otherwise behind the op or by itself:
``%x: f32[1,3,8,8], %w: f32[8,3,1,1] weight``. Types of results are inferred. What no other line
uses is returned, unless ``return %y`` stands there. ``module target=iOS15`` sets the target,
``; pass: name{option=1}`` the pass. On the right a bare ``%x`` means that the result is that value,
``...`` among the attributes that there are more, and names may stand for anything, as long as the
same name stands for the same value. A paragraph that begins with ``; sketch`` is not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from anec.dialects import registry
from anec.ir.attrs import Attr, Literal, format_attr
from anec.ir.build import infer_types
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.parser import parse_module, parse_type
from anec.ir.types import DType, TensorType, tensor_type
from anec.ir.weights import TensorData, torch_dtype

DEFAULT_TYPE = "f32[2,8]"
SKETCH = "; sketch"
WEIGHT = "weight"
_ARROW = re.compile(r"(?<=\s)->(?=\s|$)")
_DECLARED = re.compile(r"%(\w+): ((?:state<)?\w+\[[^\]]*\]>?)((?:,? a)? weight)?")


class BadExample(Exception):
    """The example cannot be read."""


@dataclass
class Statement:
    """One op as text: results, the call, its attributes, and types if they are given."""

    results: list[str]
    call: str
    attrs: str = ""
    types: str = ""
    open: bool = False

    @property
    def text(self) -> str:
        left = ", ".join("%" + name for name in self.results)
        return (f"{left} = " if left else "") + self.call + (f" {self.attrs}" if self.attrs else "")


@dataclass
class Example:
    """One ``before -> after``."""

    before: list[Statement]
    after: list[Statement]
    returned: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    declared: dict[str, str] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    target: str = "iOS18"
    pass_name: str = ""


# -- reading ---------------------------------------------------------------------------------------


def paragraphs(doc: str) -> Iterator[list[str]]:
    """The paragraphs that hold an arrow between ops."""
    for paragraph in re.split(r"\n\s*\n", doc):
        lines = paragraph.strip("\n").splitlines()
        ops = any(re.match(r"\s*%\w+", line) for line in lines)
        if ops and any(_arrows(line) for line in lines):
            yield lines


def is_sketch(lines: list[str]) -> bool:
    return lines[0].strip().startswith(SKETCH)


def examples(lines: list[str]) -> list[Example]:
    """The examples of one paragraph.

    Raises:
        BadExample: with the line that cannot be read.
    """
    target, pass_name, kept = "iOS18", "", []
    for line in lines:
        if match := re.fullmatch(r"\s*module target=(\w+)\s*", line):
            target = match.group(1)
        elif match := re.fullmatch(r"\s*; pass: (.*)", line):
            pass_name = match.group(1).strip()
        else:
            kept.append(line)
    found = [_example(before, after) for before, after in _sides(_joined(kept))]
    for example in found:
        example.target, example.pass_name = target, pass_name
        # What a paragraph declares holds for all of its examples.
        for other in found:
            example.declared = {**other.declared, **example.declared}
            example.weights |= other.weights
    return found


def _joined(lines: list[str]) -> list[str]:
    """Lines together with those that go on: brackets are not closed, or attributes stand below."""
    joined: list[str] = []
    open_brackets = 0
    for line in lines:
        if open_brackets > 0 or (joined and line.lstrip().startswith("{")):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
        open_brackets += sum((char in "([{") - (char in ")]}") for char in line)
    return joined


def _arrows(line: str) -> bool:
    return _ARROW.search(" " + line) is not None


def _sides(lines: list[str]) -> list[tuple[list[str], list[str]]]:
    arrows = [i for i, line in enumerate(lines) if _arrows(line)]
    first = lines[arrows[0]]
    if first.strip().startswith("->"):
        if len(arrows) > 1:
            raise BadExample("put a blank line between examples that stand one below the other")
        after = [first.strip()[2:].strip(), *(line.strip() for line in lines[arrows[0] + 1 :])]
        return [([line.strip() for line in lines[: arrows[0]]], [line for line in after if line])]
    sides: list[tuple[list[str], list[str]]] = [([], [])]
    column, seen = _column(first), False
    for line in lines:
        if not _arrows(line):
            left, right = _cut(line, column)
            if seen and len(arrows) > 1 and left:
                raise BadExample(f"put a blank line before {left!r}, or its arrow on the same line")
        else:
            column = _column(line)
            left, right = line[:column].strip(), line[column + 2 :].strip()
            if seen:
                sides.append(([], []))
            seen = True
        for side, text in zip(sides[-1], (left, right), strict=True):
            if text:
                side.append(text)
    return sides


def _column(line: str) -> int:
    match = _ARROW.search(" " + line)
    assert match is not None
    return match.start() - 1


def _cut(line: str, column: int) -> tuple[str, str]:
    """The two columns of a line without an arrow."""
    if line[column - 1 : column + 2].strip():
        raise BadExample(f"no gap under the arrow: {line.strip()!r}")
    return line[:column].strip(), line[column + 2 :].strip()


def _example(before: list[str], after: list[str]) -> Example:
    example = Example([], [])
    for line in before:
        rest = _declarations(line, example)
        if rest.startswith("return "):
            example.returned = re.findall(r"%(\w+)", rest)
        elif rest:
            example.before.append(_statement(rest))
    for line in after:
        if line.startswith("return ") or re.fullmatch(r"%\w+", line):
            example.gives = re.findall(r"%(\w+)", line)
        else:
            example.after.append(_statement(line))
    if not example.before:
        raise BadExample("nothing stands left of the arrow")
    return example


def _declarations(line: str, example: Example) -> str:
    """Take ``%x: f32[2,8] weight`` out of a line; what is left is the op."""
    for name, type_, weight in _DECLARED.findall(line):
        example.declared[name] = type_
        if weight:
            example.weights.add(name)
    return re.sub(r"(?:\bwith |, )?" + _DECLARED.pattern, "", line).strip()


def _statement(line: str) -> Statement:
    if match := re.fullmatch(r'%(\w+) = weight "[^"]*" : (\S+)', line):
        return Statement([match.group(1)], WEIGHT, types=match.group(2))
    match = re.match(r"((?:%\w+(?:, )?)*)( = )?(?=\w+\.)", line)
    if match is None or bool(match.group(1)) != bool(match.group(2)):
        raise BadExample(f"not an op: {line!r}")
    start = match.end()
    if "(" not in line[start:]:
        raise BadExample(f"not an op: {line!r}")
    end = _balanced(line, line.index("(", start))
    statement = Statement(re.findall(r"%(\w+)", match.group(1)), line[start:end])
    rest = line[end:].strip()
    if rest.startswith("{"):
        end = _balanced(rest, 0)
        statement.attrs, rest = rest[:end], rest[end:].strip()
    if rest.startswith(":"):
        statement.types, rest = rest[1:].strip(), ""
    if rest:
        raise BadExample(f"{rest!r} stands behind the op in {line!r}")
    if "..." in statement.attrs:
        statement.open = True
        parts = [part.strip() for part in statement.attrs[1:-1].split(",")]
        statement.attrs = "{" + ", ".join(part for part in parts if part != "...") + "}"
    return statement


def _balanced(text: str, start: int) -> int:
    depth, quoted = 0, False
    for i in range(start, len(text)):
        if text[i] == '"':
            quoted = not quoted
        elif not quoted:
            depth += (text[i] in "([{") - (text[i] in ")]}")
            if depth == 0:
                return i + 1
    raise BadExample(f"a bracket is not closed in {text!r}")


# -- building --------------------------------------------------------------------------------------


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
        type(port)(port.name, value.type)
        for port, value in zip(graph.signature.outputs, graph.outputs, strict=True)
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


__all__ = ["BadExample", "Example", "build", "compare", "examples", "is_sketch", "paragraphs", "tensor_type"]
