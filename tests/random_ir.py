"""Hypothesis strategies for the IR: dimensions, types, attributes, whole modules.

The modules keep the laws of the text form, not those of the ops: operands are of any type.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from anec.dialects import resolve
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Bounds, Dim, floordiv, maximum, minimum, mod, symbol
from anec.ir.graph import Graph, Module, Op, Origin, Value
from anec.ir.opdef import Kind, OpDef, Operand
from anec.ir.signature import Port, PortKind
from anec.ir.types import DType, StateType, TensorType, Type
from anec.ir.weights import Weight

SYMBOLS = ("S", "T", "height")
# Variadic, optional, required and absent operands; no result, one, several; every kind of attribute.
OPS = (
    "mil.add", "mil.concat", "mil.conv", "mil.split", "mil.topk", "mil.layer_norm", "mil.reshape", "mil.cast",
    "mil.slice_by_index", "mil.select", "mil.clip", "mil.read_state", "nn.attention", "nn.write_state", "nn.lstm",
    "aten.add.Tensor", "aten.index.Tensor", "aten.clamp.default", "aten.full.default", "aten.relu.default",
)  # fmt: skip

identifiers = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,6}", fullmatch=True)
# Quotes, comment signs, line ends of every kind, other scripts, lone surrogates.
texts = st.text(max_size=12) | st.sampled_from(
    ['a "b"; %c', "x // y\n", "\u2028\x85\r\x1c", "日本 \U0001f600", "\ud800", "\\", ""]
)
floats = st.floats(width=64) | st.sampled_from([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-45, 1.702])
numbers = st.booleans() | st.integers(-(2**63), 2**63 - 1) | floats
dtypes = st.sampled_from(list(DType))


def dims(positive_divisors: bool = True) -> st.SearchStrategy[Dim]:
    """Dimension expressions over :data:`SYMBOLS`; divisors are constants, or symbols plus 1."""
    leaves: st.SearchStrategy[Dim] = st.integers(-4, 9) | st.sampled_from([symbol(name) for name in SYMBOLS])
    divisors: st.SearchStrategy[Dim] = st.integers(1, 5) | st.sampled_from([symbol("S") + 1, symbol("T") * 2 + 1])
    if not positive_divisors:
        divisors |= st.integers(-5, -1)

    def grow(inner: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
        pairs = st.tuples(inner, inner)
        return (
            pairs.map(lambda p: p[0] + p[1])
            | pairs.map(lambda p: p[0] - p[1])
            | pairs.map(lambda p: p[0] * p[1])
            | pairs.map(lambda p: maximum(*p))
            | pairs.map(lambda p: minimum(*p))
            | st.tuples(inner, divisors).map(lambda p: floordiv(*p))
            | st.tuples(inner, divisors).map(lambda p: mod(*p))
        )

    return st.recursive(leaves, grow, max_leaves=5)


tensor_types = st.builds(TensorType, dtypes, st.lists(dims(), max_size=4).map(tuple))
types: st.SearchStrategy[Type] = tensor_types | st.builds(StateType, tensor_types)
attrs: st.SearchStrategy[Attr] = st.recursive(
    st.none() | numbers | texts | dtypes | dims(), lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5
)
literal_values = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
literals = st.builds(Literal, literal_values, st.none() | dtypes)
origins = st.builds(
    Origin,
    st.just("") | st.from_regex(r"[a-z_][a-z_0-9.]{0,10}", fullmatch=True),
    st.just("") | st.from_regex(r"[a-z_/ ]{0,6}[a-z]\.py:[0-9]{1,3}", fullmatch=True).map(str.strip),
    st.lists(st.from_regex(r"[a-z_][a-z_0-9.-]{0,8}", fullmatch=True), max_size=3, unique=True).map(tuple),
)


@st.composite
def ports(draw: st.DrawFn, name: str, type_: Type) -> Port:
    """A port of a value; its public name is ``name``."""
    return Port(
        name,
        draw(st.just(type_) | types),
        draw(st.just("") | texts),
        draw(st.none() | dtypes),
        draw(st.sampled_from(list(PortKind))),
        draw(st.just(1.0) | st.floats(allow_nan=False)),
        tuple(draw(st.lists(st.floats(allow_nan=False), max_size=3))),
    )


def _fill(draw: st.DrawFn, graph: Graph, module: Module) -> None:
    for name in draw(st.lists(identifiers, max_size=3, unique=True)):
        graph.add_input(name, draw(types))
    for weight in draw(
        st.lists(st.sampled_from(list(module.weights.values())), unique=True) if module.weights else st.just([])
    ):
        graph.add_weight(weight, draw(st.none() | identifiers))
    for _ in range(draw(st.integers(0, 5))):
        _append(draw, graph, resolve(draw(st.sampled_from(OPS))))
    values = list(graph.values.values())
    graph.outputs = [draw(st.sampled_from(values)) for _ in range(draw(st.integers(0, 3)) if values else 0)]
    if draw(st.booleans()):
        names = draw(st.lists(identifiers, min_size=3, max_size=3, unique=True))
        graph.signature.inputs = [
            draw(ports(v.name if draw(st.booleans()) else v.name + "_", v.type)) for v in graph.inputs
        ]
        graph.signature.outputs = [draw(ports(n, v.type)) for n, v in zip(names, graph.outputs, strict=False)]
    graph.signature.notes = draw(st.lists(texts, max_size=2))


def _append(draw: st.DrawFn, graph: Graph, defn: OpDef) -> None:
    values = list(graph.values.values())

    def operand(optional: bool) -> Operand:
        choices: list[st.SearchStrategy[Any]] = [literals]
        if values:
            choices += [st.sampled_from(values)] * 3
        if optional:
            choices.append(st.none())
        return draw(st.one_of(choices))

    arguments: dict[str, Any] = {}
    given: dict[str, Attr] = {}
    for param in defn.params:
        if param.kind is Kind.ATTR:
            if param.required or draw(st.booleans()):
                given[param.name] = draw(attrs)
        elif param.kind is Kind.VARIADIC:
            arguments[param.name] = [operand(True) for _ in range(draw(st.integers(0, 3)))]
        elif param.required or draw(st.booleans()):
            arguments[param.name] = operand(not param.required)
    op = Op(defn, arguments, given, draw(origins))
    count = draw(st.integers(1, 3)) if defn.results is None else defn.results
    op.results = [Value(draw(identifiers), draw(types), op=op, index=index) for index in range(count)]
    graph.insert(op)


@st.composite
def modules(draw: st.DrawFn) -> Module:
    """Modules with everything the text form has, apart from weight files."""
    module = Module(target=draw(st.sampled_from(["iOS15", "iOS18", "iOS26"])))
    for name in SYMBOLS:
        lower = draw(st.integers(0, 9))
        module.dims[name] = Bounds(lower, draw(st.none() | st.integers(lower, 512)))
    for name in draw(st.lists(texts, max_size=3, unique=True)):
        module.add_weight(
            Weight(name, draw(st.builds(TensorType, dtypes, st.lists(st.integers(0, 4), max_size=3).map(tuple))))
        )
    module.meta = draw(st.dictionaries(texts, texts, max_size=2))
    for name in draw(st.lists(identifiers, min_size=1, max_size=2, unique=True)):
        graph = module.functions[name] = Graph(name)
        _fill(draw, graph, module)
    return module
