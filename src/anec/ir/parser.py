"""The parser of IR text: a hand-written recursive descent over one line at a time."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Protocol

from anec.errors import AnecError
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Bounds, parse_dim
from anec.ir.graph import Graph, Module, Op, Origin, Value
from anec.ir.opdef import Kind, OpDef, Operand
from anec.ir.printer import MAGIC
from anec.ir.signature import Port, PortKind
from anec.ir.types import DTYPES, StateType, TensorType, Type
from anec.ir.weights import FileData, Weight


class Registry(Protocol):
    """What the parser is handed to find ops by name."""

    def resolve(self, name: str) -> OpDef: ...


def parse_module(text: str, registry: Registry, *, folder: Path | None = None, source: str = "text") -> Module:
    """Read a module.

    Args:
        text: IR text.
        registry: resolves op names.
        folder: where weight files lie; without it references are left without data.
        source: how errors call the text.

    Raises:
        AnecError: with the line, and what was expected there.
    """
    return _Parser(text, registry, folder, source).module()


def parse_type(text: str) -> Type:
    """Parse ``"f16[1,S]"`` or ``"state<f16[1]>"``.

    Raises:
        AnecError: the text is not a type.
    """
    text = text.strip()
    if text.startswith("state<") and text.endswith(">"):
        inner = parse_type(text[6:-1])
        if isinstance(inner, TensorType):
            return StateType(inner)
    match = re.fullmatch(r"([a-z]\w*)\[(.*)\]", text)
    if match is None or match.group(1) not in DTYPES:
        raise AnecError(f"{text!r} is not a type", hint="write f32[1,2] or state<f16[1,2]>")
    return TensorType(DTYPES[match.group(1)], tuple(parse_dim(dim) for dim in _split_dims(match.group(2))))


def _split_dims(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]] if text.strip() else []


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<value>%[A-Za-z_]\w*) | (?P<string>"(?:[^"\\]|\\.)*") |
        (?P<number>-?(?:\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+|\.\d+|\d+)) | (?P<minus>-(?=inf|nan)) |
        (?P<word>[A-Za-z_][\w.]*) | (?P<arrow>->) | (?P<mark>[\[\](){},=:@+;<>|])
    )""",
    re.VERBOSE,
)


class _Parser:
    def __init__(self, text: str, registry: Registry, folder: Path | None, source: str) -> None:
        self.lines = text.splitlines()
        self.registry, self.folder, self.source = registry, folder, source
        self.number = 0
        self.line = ""
        self.position = 0

    # -- lines and tokens --------------------------------------------------------------------------

    def error(self, message: str, hint: str | None = None) -> AnecError:
        low, high = max(0, self.number - 3), self.number + 2
        shown = [f"{'>' if i + 1 == self.number else ' '} {line}" for i, line in enumerate(self.lines)]
        return AnecError(
            message, where=f"{self.source}:{self.number}", window="\n".join(shown[low:high]) or None, hint=hint
        )

    def next_line(self) -> bool:
        """Go to the next line that holds something."""
        while self.number < len(self.lines):
            self.line, self.position = self.lines[self.number], 0
            self.number += 1
            stripped = self.line.strip()
            if stripped and not stripped.startswith(";"):
                return True
        return False

    def peek(self) -> str:
        match = _TOKEN.match(self.line, self.position)
        return match.group(match.lastgroup or 0) if match else ""

    def take(self) -> str:
        match = _TOKEN.match(self.line, self.position)
        if match is None:
            rest = self.line[self.position :].strip()
            raise self.error(f"unexpected {rest[:20]!r}" if rest else "the line ends too early")
        self.position = match.end()
        return match.group(match.lastgroup or 0)

    def expect(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            raise self.error(f"expected {wanted!r}, found {found or 'the end of the line'!r}")
        self.take()

    def accept(self, wanted: str) -> bool:
        if self.peek() == wanted:
            self.take()
            return True
        return False

    def value_name(self) -> str:
        token = self.take()
        if not token.startswith("%"):
            raise self.error(f"expected a value such as %x, found {token!r}")
        return token[1:]

    def string(self) -> str:
        token = self.take()
        if not token.startswith('"'):
            raise self.error(f"expected a string, found {token!r}")
        return str(json.loads(token))

    # -- grammar -----------------------------------------------------------------------------------

    def module(self) -> Module:
        if not self.next_line() or self.line.strip() != MAGIC:
            raise self.error(f"this is not IR text: the first line must be {MAGIC!r}")
        module = Module()
        while self.next_line():
            word = self.take()
            if word == "module":
                self.expect("target")
                self.expect("=")
                module.target = self.take()
                if not re.fullmatch(r"iOS\d+", module.target):
                    raise self.error(f"unknown target {module.target!r}")
            elif word == "dims":
                self.dims(module)
            elif word == "meta":
                key = self.string()
                self.expect("=")
                module.meta[key] = self.string()
            elif word == "weight":
                self.reference(module)
            elif word == "func":
                graph = self.function(module)
                if graph.name in module.functions:
                    raise self.error(f"two functions are called {graph.name}")
                module.functions[graph.name] = graph
            else:
                raise self.error(f"unexpected {word!r}", "expected dims, meta, weight or func")
        if not module.functions:
            raise self.error("the module has no function")
        return module

    def dims(self, module: Module) -> None:
        for part in self.line.strip().removeprefix("dims").split(","):
            match = re.fullmatch(r"\s*([A-Za-z_]\w*) in (\d+)\.\.(\d*)\s*", part)
            if match is None:
                raise self.error(f"cannot read {part.strip()!r}", "write `dims S in 1..512`")
            name, lower, upper = match.groups()
            module.dims[name] = Bounds(int(lower), int(upper) if upper else None)

    def reference(self, module: Module) -> None:
        name = self.string()
        self.expect(":")
        type_ = self.type()
        if not isinstance(type_, TensorType):
            raise self.error("a weight is a tensor")
        self.expect("@")
        path = self.string()
        match = re.match(r"\s*\+(\d+)\s+sha256:([0-9a-f]+)", self.line[self.position :])
        if match is None:
            raise self.error("expected `+offset sha256:digest`")
        data = None
        if self.folder is not None:
            data = FileData((self.folder / path).resolve(), int(match.group(1)), type_)
        module.weights[name] = Weight(name, type_, data, match.group(2))

    def function(self, module: Module) -> Graph:
        graph = Graph(self.take())
        self.expect("(")
        while self.peek() != ")":
            name, type_, extras = self.port()
            value = graph.add_input(name, type_)
            if value.name != name:
                raise self.error(f"two inputs are called %{name}")
            graph.signature.inputs.append(_make_port(name, type_, extras))
            if not self.accept(","):
                break
        self.expect(")")
        self.expect("->")
        self.expect("(")
        outputs: list[tuple[str, Type]] = []
        while self.peek() != ")":
            name, type_, extras = self.port()
            outputs.append((name, type_))
            graph.signature.outputs.append(_make_port(name, type_, extras))
            if not self.accept(","):
                break
        self.expect(")")
        self.expect("{")
        while self.next_line():
            if self.peek() == "return":
                self.take()
                while self.peek().startswith("%"):
                    graph.outputs.append(self.use(graph))
                    if not self.accept(","):
                        break
                if len(graph.outputs) != len(outputs):
                    raise self.error(f"{len(outputs)} outputs are declared, {len(graph.outputs)} returned")
                if not self.next_line() or self.line.strip() != "}":
                    raise self.error("expected '}' behind return")
                return graph
            self.statement(module, graph)
        raise self.error(f"the function {graph.name} has no return")

    def port(self) -> tuple[str, Type, dict[str, Attr]]:
        name = self.value_name()
        self.expect(":")
        type_ = self.type()
        return name, type_, self.attributes() if self.peek() == "{" else {}

    def statement(self, module: Module, graph: Graph) -> None:
        if self.peek() == "note":
            self.take()
            graph.signature.notes.append(self.string())
            return
        names: list[str] = []
        if self.peek().startswith("%"):
            names.append(self.value_name())
            while self.accept(","):
                names.append(self.value_name())
            self.expect("=")
        for name in names:
            if name in graph.values:
                raise self.error(f"%{name} is defined twice")
        if self.peek() == "weight" and len(names) == 1:
            self.weight(module, graph, names[0])
            return
        try:
            defn = self.registry.resolve(self.take())
            op = self.op(graph, defn)
        except AnecError as error:
            if error.where is None:
                raise self.error(error.message, error.hint) from error
            raise
        types: list[Type] = []
        if names:
            self.expect(":")
            types = [self.type()]
            while self.accept(","):
                types.append(self.type())
            if len(types) != len(names):
                raise self.error(f"{len(names)} results, {len(types)} types")
        op.results = [Value(n, t, op=op, index=i) for i, (n, t) in enumerate(zip(names, types, strict=True))]
        op.origin = self.origin()
        graph.insert(op)

    def weight(self, module: Module, graph: Graph, name: str) -> None:
        self.take()
        key = self.string()
        self.expect(":")
        type_ = self.type()
        if not isinstance(type_, TensorType):
            raise self.error("a weight is a tensor")
        weight = module.weights.setdefault(key, Weight(key, type_))
        if weight.type != type_:
            raise self.error(f"the weight {key!r} is {weight.type} elsewhere")
        graph.add_weight(weight, name)

    def op(self, graph: Graph, defn: OpDef) -> Op:
        self.expect("(")
        operands: dict[str, object] = {}
        for param in defn.operand_params:
            if self.peek() == ")":
                break
            if operands:
                self.expect(",")
            if param.kind is Kind.VARIADIC:
                self.expect("[")
                items: list[Operand] = []
                while self.peek() != "]":
                    items.append(self.operand(graph))
                    if not self.accept(","):
                        break
                self.expect("]")
                operands[param.name] = items
            else:
                operands[param.name] = self.operand(graph)
        self.expect(")")
        attrs = self.attributes() if self.peek() == "{" else {}
        for name in attrs:
            found = defn.by_name.get(name)
            if found is None or found.kind is not Kind.ATTR:
                known = ", ".join(p.name for p in defn.params if p.kind is Kind.ATTR)
                raise self.error(f"{defn.name} has no attribute {name!r}", f"known: {known}")
        for param in defn.params:
            if param.required and param.name not in (attrs if param.kind is Kind.ATTR else operands):
                raise self.error(f"{defn.name} needs {param.name!r}")
        return Op(defn, operands, attrs, Origin())

    def operand(self, graph: Graph) -> Operand:
        if self.peek().startswith("%"):
            return self.use(graph)
        value = self.attribute()
        if value is None:
            return None
        dtype = None
        if self.accept(":"):
            name = self.take()
            if name not in DTYPES:
                raise self.error(f"unknown dtype {name!r}")
            dtype = DTYPES[name]
        return Literal(value, dtype)

    def use(self, graph: Graph) -> Value:
        name = self.value_name()
        if name not in graph.values:
            raise self.error(f"%{name} is used before it is defined")
        return graph.values[name]

    def attributes(self) -> dict[str, Attr]:
        self.expect("{")
        attrs: dict[str, Attr] = {}
        while self.peek() != "}":
            name = self.take()
            self.expect("=")
            attrs[name] = self.attribute()
            if not self.accept(","):
                break
        self.expect("}")
        return attrs

    def attribute(self) -> Attr:
        token = self.peek()
        if token == "[":
            self.take()
            items: list[Attr] = []
            while self.peek() != "]":
                items.append(self.attribute())
                if not self.accept(","):
                    break
            self.expect("]")
            return tuple(items)
        if token == "(":
            return parse_dim(self.balanced())
        if token.startswith('"'):
            return self.string()
        self.take()
        if token == "-":
            return -float(self.take())
        words: dict[str, Attr] = {"none": None, "true": True, "false": False, "inf": math.inf, "nan": math.nan}
        if token in words:
            return words[token]
        if token in DTYPES:
            return DTYPES[token]
        if re.fullmatch(r"-?\d+", token):
            return int(token)
        try:
            return float(token)
        except ValueError:
            raise self.error(f"cannot read the attribute {token!r}") from None

    def balanced(self) -> str:
        """The text between the parentheses that start here."""
        start = self.line.index("(", self.position)
        depth = 0
        for i in range(start, len(self.line)):
            depth += (self.line[i] == "(") - (self.line[i] == ")")
            if depth == 0:
                self.position = i + 1
                return self.line[start + 1 : i]
        raise self.error("a parenthesis is not closed")

    def type(self) -> Type:
        match = re.match(r"\s*(state<\w+\[[^\]]*\]>|\w+\[[^\]]*\])", self.line[self.position :])
        if match is None:
            raise self.error(f"expected a type at {self.line[self.position :].strip()[:20]!r}")
        self.position += match.end()
        try:
            return parse_type(match.group(1))
        except AnecError as error:
            raise self.error(error.message, error.hint) from None

    def origin(self) -> Origin:
        rest = self.line[self.position :].strip()
        if not rest:
            return Origin()
        if not rest.startswith(";"):
            raise self.error(f"unexpected {rest[:20]!r} behind the op")
        path, line, rules = "", "", ()
        for part in re.split(r"\s{2,}", rest[1:].strip()):
            if re.fullmatch(r"<.*>", part):
                rules = tuple(part[1:-1].split(","))
            elif re.search(r":\d+$", part):
                line = part
            else:
                path = part
        return Origin(path, line, rules)


def _make_port(name: str, type_: Type, extras: dict[str, Attr]) -> Port:
    bias = extras.get("bias", ())
    declared = extras.get("type")
    boundary = extras.get("boundary")
    scale = extras.get("scale", 1.0)
    return Port(
        str(extras.get("name", name)),
        parse_type(declared) if isinstance(declared, str) else type_,
        str(extras.get("path", "")),
        DTYPES[str(boundary)] if boundary is not None else None,
        PortKind(extras.get("kind", "tensor")),
        float(scale) if isinstance(scale, (int, float)) else 1.0,
        tuple(float(b) for b in bias if isinstance(b, (int, float))) if isinstance(bias, tuple) else (),
    )


__all__ = ["Registry", "parse_module", "parse_type"]
