"""What a rule looks at: one op with its sizes, or a function as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from anec.ane.limits import Limits
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Bounds, Expr, evaluate
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.legality import is_folded
from anec.ir.opdef import Kind, Operand
from anec.ir.types import DType

_POSITIONS = frozenset({"indices", "begin", "end", "size", "shape", "reps", "pad"})
# Constants up to this many bytes are looked into.
_SMALL = 16 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """An op that runs, on a generation.

    Args:
        op: of the dialect ``mil``.
        limits: those of the generation.
        sizes: what dimension symbols stand for: the default shape, of several.
        ranged: whether symbols may take any size of a range.
    """

    op: Op
    limits: Limits
    sizes: Mapping[str, int]
    ranged: bool = False

    @property
    def root(self) -> str:
        """The op's name without its dialect."""
        return self.op.defn.root

    def shape(self, value: Value) -> tuple[int, ...]:
        """The sizes of a value; those of the default shape where they vary."""
        return tuple(evaluate(dim, self.sizes) for dim in value.tensor.shape)

    def bytes(self, value: Value) -> int:
        """What a value takes, packed."""
        return (math.prod(self.shape(value)) * value.tensor.dtype.bits + 7) // 8

    def padding(self, value: Value) -> int:
        """The bytes that rows are padded with, so that each begins at a multiple of 64."""
        shape = self.shape(value)
        row = shape[-1] * value.tensor.dtype.bits // 8 if shape else 0
        return self.bytes(value) // row * (-row % 64) if row and value.tensor.dtype in COMPUTED else 0

    @property
    def inputs(self) -> list[Value]:
        """The operands that are computed while the program runs, each once."""
        return [value for value in dict.fromkeys(self.op.inputs) if not is_stored(value)]

    @property
    def constants(self) -> list[Value]:
        """The operands that are stored with the program, each once."""
        return [value for value in dict.fromkeys(self.op.inputs) if is_stored(value)]

    @property
    def values(self) -> list[Value]:
        """What flows through the op: operands that are computed, and results."""
        return [*self.inputs, *self.op.results]

    @property
    def data(self) -> list[Value]:
        """What is computed with: values but those that only say where or how much."""
        where = {value for index, value in enumerate(self.op.operands) if self.op.param_of(index) in _POSITIONS}
        return [value for value in self.values if value not in where]

    @property
    def result(self) -> tuple[int, ...]:
        """The sizes of the first result."""
        return self.shape(self.op.results[0]) if self.op.results else ()

    def operand(self, name: str) -> Operand:
        """An operand, None where the op has none of that name."""
        param = self.op.defn.by_name.get(name)
        return self.op.operand(name) if param is not None and param.kind is Kind.OPERAND else None

    def size(self, name: str) -> tuple[int, ...]:
        """The sizes of an operand; those of a scalar for a literal or an absent one."""
        found = self.operand(name)
        return self.shape(found) if isinstance(found, Value) else ()

    def runs(self, name: str) -> bool:
        """Whether an operand is computed while the program runs."""
        found = self.operand(name)
        return isinstance(found, Value) and not is_stored(found)

    def ints(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """An attribute or a constant operand as integers."""
        found = numbers(self.given(name))
        return tuple(int(number) for number in found) if found else tuple(default)

    def given(self, name: str) -> Attr | Operand:
        """An attribute, its default, or an operand; None where the op has neither."""
        if name not in self.op.defn.by_name:
            return None
        operand = self.operand(name)
        if operand is not None:
            return operand
        return self.op.attrs.get(name, self.op.defn.by_name[name].default)

    def axis(self, name: str = "axis", default: int = -1) -> int:
        """An axis, counted from the last: -1 is the width."""
        found = self.ints(name, [default])
        rank = len(self.result) or 1
        return found[0] if found[0] < 0 else found[0] - rank


def is_stored(value: Value) -> bool:
    """True for what the package holds: weights, what is folded, and compressed weights."""
    return value.is_constant or (value.op is not None and value.op.defn.root.startswith("constexpr_"))


def is_run(op: Op) -> bool:
    """True for an op that a device runs; constants and compressed weights are not counted as ops."""
    return not is_folded(op) and not op.defn.root.startswith("constexpr_")


def numbers(given: Attr | Operand) -> tuple[float, ...]:
    """What is known of a constant as flat numbers; nothing for what is computed, or large."""
    if isinstance(given, Literal):
        return numbers(given.value)
    if isinstance(given, tuple):
        return tuple(number for item in given for number in numbers(item))
    if isinstance(given, (bool, int, float)):
        return (given,)
    weight = given.weight if isinstance(given, Value) else None
    if weight is None or weight.data is None or weight.type.size > 64:
        return ()
    return tuple(weight.tensor().reshape(-1).tolist())


def span(operand: Operand) -> tuple[float, float] | None:
    """The least and the largest number of a constant; None when it is not known."""
    found = numbers(operand)
    if found:
        return min(found), max(found)
    # A constant is often a chain: a weight, then the cast that rounds it.
    while isinstance(operand, Value) and operand.weight is None:
        moved = operand.op if operand.op is not None and operand.op.defn.root in _MOVES else None
        operand = next(iter(moved.inputs), None) if moved is not None else None
    weight = operand.weight if isinstance(operand, Value) else None
    if weight is None or weight.data is None or not 0 < weight.type.bytes <= _SMALL or not weight.type.dtype.is_float:
        return None
    return weight.extent()


_MOVES = frozenset({"cast", "reshape", "transpose", "expand_dims", "squeeze", "identity"})


class Program:
    """A function of a module on a generation, for the rules that look at the whole.

    Args:
        module: has the target and the bounds of symbols.
        graph: the function.
        limits: those of the generation.
    """

    def __init__(self, module: Module, graph: Graph, limits: Limits) -> None:
        self.module, self.graph, self.limits = module, graph, limits
        listed = {port.name: port.shapes for port in graph.signature.inputs if port.shapes}
        self.listed = max((len(shapes) for shapes in listed.values()), default=0)
        self.sizes = _sizes(module.dims) | _listed_sizes(graph)
        free = {
            name for value in graph.inputs for dim in value.tensor.shape if isinstance(dim, Expr)
            for name in dim.symbols()
        }  # fmt: skip
        self.ranged = bool(free) and not self.listed
        self.sites = [Site(op, limits, self.sizes, self.ranged) for op in graph.ops() if is_run(op)]

    @cached_property
    def weight_bytes(self) -> int:
        """What the package holds for this function: what ops read, compressed weights as they are stored."""
        seen: dict[Value, None] = {}
        stack = [value for site in self.sites for value in site.constants]
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen[value] = None
            if value.op is not None and value.op.defn.root.startswith("constexpr_"):
                stack += value.op.inputs
        stored = (v for v in seen if v.op is None or not v.op.defn.root.startswith("constexpr_"))
        return sum(value.tensor.bytes for value in stored if value.tensor.is_static)


def _sizes(dims: Mapping[str, Bounds]) -> dict[str, int]:
    return {name: bounds.default or bounds.upper or bounds.lower for name, bounds in dims.items()}


def _listed_sizes(graph: Graph) -> dict[str, int]:
    """The symbols at the first of the listed shapes, which is the default."""
    found: dict[str, int] = {}
    for port, value in zip(graph.signature.inputs, graph.inputs, strict=False):
        if port.shapes:
            from anec.reference.sizes import bind_sizes

            bind_sizes(value.tensor, port.shapes[0], found)
    return found


# What the hardware computes with; everything else is a reason to leave it.
COMPUTED = frozenset({DType.F16, DType.I8, DType.U8, DType.I16})
