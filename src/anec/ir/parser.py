"""The parser of IR text: a hand-written recursive descent over one line at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from anec.errors import AnecError
from anec.ir.attrs import Attr, Literal, format_attr
from anec.ir.dims import Bounds
from anec.ir.graph import Graph, Module, Op, Origin, Value
from anec.ir.opdef import Kind, OpDef, Operand
from anec.ir.printer import MAGIC
from anec.ir.reading import LineReader, parse_type
from anec.ir.signature import Port, PortKind
from anec.ir.types import DTYPES, DType, TensorType, Type, tensor_type
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


class _Parser(LineReader):
    def __init__(self, text: str, registry: Registry, folder: Path | None, source: str) -> None:
        super().__init__(text, source)
        self.registry, self.folder = registry, folder

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
                self.end()
            elif word == "dims":
                self.dims(module)
            elif word == "meta":
                key = self.string()
                self.expect("=")
                module.meta[key] = self.string()
                self.end()
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
            match = re.fullmatch(r"\s*([A-Za-z_]\w*) in (\d+)\.\.(\d*)(?: default (\d+))?(?: only ([\d|]+))?\s*", part)
            if match is None:
                raise self.error(f"cannot read {part.strip()!r}", "write `dims S in 1..512`")
            name, lower, upper, default, only = match.groups()
            if upper and int(upper) < int(lower):
                raise self.error(f"{name} has no size in {lower}..{upper}")
            if default and not int(lower) <= int(default) <= int(upper or default):
                raise self.error(f"the default {default} of {name} is not in {lower}..{upper}")
            module.dims[name] = Bounds(
                int(lower),
                int(upper) if upper else None,
                int(default) if default else None,
                tuple(int(size) for size in (only or "").split("|") if size),
            )

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
        self.position += match.end()
        self.end()
        if name in module.weights:
            raise self.error(f"the weight {name!r} is declared twice")
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
            graph.signature.inputs.append(self.make_port(name, type_, extras))
            if not self.accept(","):
                break
        self.expect(")")
        self.expect("->")
        self.expect("(")
        outputs: list[tuple[str, Type]] = []
        while self.peek() != ")":
            name, type_, extras = self.port()
            outputs.append((name, type_))
            graph.signature.outputs.append(self.make_port(name, type_, extras))
            if not self.accept(","):
                break
        self.expect(")")
        self.expect("{")
        self.end()
        while self.next_line():
            if self.peek() == "return":
                self.returns(graph, len(outputs))
                return graph
            if self.peek() == "}":
                break
            self.statement(module, graph)
        raise self.error(f"the function {graph.name} has no return")

    def returns(self, graph: Graph, declared: int) -> None:
        """The line of the outputs, and the brace behind it."""
        self.take()
        while self.peek().startswith("%"):
            graph.outputs.append(self.use(graph))
            if not self.accept(","):
                break
        self.end()
        if len(graph.outputs) != declared:
            raise self.error(f"{declared} outputs are declared, {len(graph.outputs)} returned")
        if not self.next_line() or self.line.strip() != "}":
            raise self.error("expected '}' behind return")

    def port(self) -> tuple[str, Type, dict[str, Attr]]:
        name = self.value_name()
        self.expect(":")
        type_ = self.type()
        return name, type_, self.attributes() if self.peek() == "{" else {}

    def statement(self, module: Module, graph: Graph) -> None:
        if self.peek() == "note":
            self.take()
            graph.signature.notes.append(self.string())
            self.end()
            return
        names: list[str] = []
        if self.peek().startswith("%"):
            names.append(self.value_name())
            while self.accept(","):
                names.append(self.value_name())
            self.expect("=")
        for index, name in enumerate(names):
            if name in graph.values or name in names[:index]:
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
        if key in graph.weights:
            raise self.error(f"the weight {key!r} is %{graph.weights[key].name} already")
        graph.add_weight(weight, name)
        self.end()

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

    def make_port(self, name: str, type_: Type, extras: dict[str, Attr]) -> Port:
        """The port of an input or output from what stands in braces behind its type."""
        unknown = sorted(extras.keys() - _PORT_WORDS)
        if unknown:
            raise self.error(f"a port has no {unknown[0]!r}", "known: " + ", ".join(sorted(_PORT_WORDS)))
        boundary, scale, bias = extras.get("boundary"), extras.get("scale", 1.0), extras.get("bias", ())
        kind, declared = extras.get("kind", PortKind.TENSOR.value), extras.get("type")
        if kind not in [known.value for known in PortKind]:
            raise self.error(f"unknown kind {format_attr(kind)}", "known: tensor, image, state")
        if boundary is not None and not isinstance(boundary, DType):
            raise self.error(f"the boundary {format_attr(boundary)} is no dtype")
        if not _is_number(scale) or not isinstance(bias, tuple) or not all(map(_is_number, bias)):
            raise self.error("scale is a number and bias a list of numbers")
        try:
            inner = parse_type(declared) if isinstance(declared, str) else type_
        except AnecError as error:
            raise self.error(error.message, error.hint) from None
        return Port(
            str(extras.get("name", name)),
            inner,
            str(extras.get("path", "")),
            boundary,
            PortKind(kind),
            float(scale),  # type: ignore[arg-type]  # checked above
            tuple(float(number) for number in bias),  # type: ignore[arg-type]  # checked above
            self.shapes(extras.get("shapes", ()), type_),
        )

    def shapes(self, given: Attr, type_: Type) -> tuple[tuple[int, ...], ...]:
        """The shapes listed for a port."""
        found = tuple(
            tuple(size for size in shape if isinstance(size, int) and not isinstance(size, bool))
            for shape in (given if isinstance(given, tuple) else (given,))
            if isinstance(shape, tuple)
        )
        if found != given or any(len(shape) != len(tensor_type(type_).shape) for shape in found):
            raise self.error(f"{format_attr(given)} are no shapes of {type_}", "write shapes=[[1, 3, 480, 640], ...]")
        return found


_PORT_WORDS = frozenset({"name", "path", "type", "boundary", "kind", "scale", "bias", "shapes"})


def _is_number(value: Attr) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


__all__ = ["Registry", "parse_module", "parse_type"]
