"""The graph: values with use lists, ops in a linked list that may be edited while iterated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from anec.errors import AnecError
from anec.ir.attrs import Attr, Literal, is_symbolic
from anec.ir.dims import Bounds
from anec.ir.opdef import Effect, Kind, OpDef, Operand
from anec.ir.signature import Signature
from anec.ir.types import TensorType, Type, tensor_type
from anec.ir.weights import Weight


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an op comes from.

    Args:
        path: the module path in the torch model, ``layers.0.attn``.
        line: the user's ``file.py:21``.
        rules: the rules that made it, oldest first.
    """

    path: str = ""
    line: str = ""
    rules: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [self.path, self.line, f"<{','.join(self.rules)}>" if self.rules else ""]
        return "  ".join(part for part in parts if part)

    @property
    def place(self) -> str:
        """The user's source line, else the module path, else the empty string."""
        return f"{self.line} ({self.path})" if self.line and self.path else self.line or self.path

    def by(self, rule: str) -> Origin:
        return self if rule in self.rules else replace(self, rules=(*self.rules, rule))


NOWHERE = Origin()


class Value:
    """An SSA value: a result of an op, a graph input, or a weight.

    ``uses`` maps (op, operand index) to None in the order the uses were made.
    """

    __slots__ = ("graph", "index", "name", "op", "type", "uses", "weight")

    def __init__(
        self, name: str, type_: Type, *, op: Op | None = None, index: int = 0, weight: Weight | None = None
    ) -> None:
        self.name = name
        self.type = type_
        self.op = op
        self.index = index
        self.weight = weight
        self.graph: Graph | None = None
        self.uses: dict[tuple[Op, int], None] = {}

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"

    @property
    def tensor(self) -> TensorType:
        """The tensor type, looking through a state."""
        return tensor_type(self.type)

    @property
    def shape(self) -> tuple[int, ...]:
        """The static shape.

        Raises:
            AnecError: a dimension is symbolic.
        """
        return self.tensor.static_shape

    @property
    def rank(self) -> int:
        return len(self.tensor.shape)

    @property
    def users(self) -> list[Op]:
        """The distinct ops that use the value, in order of first use."""
        return list(dict.fromkeys(op for op, _ in self.uses))

    @property
    def is_constant(self) -> bool:
        """True for weights and for what effect-free ops compute from weights and literals alone."""
        return self.weight is not None or (self.op is not None and self.op.is_constant)

    @property
    def is_output(self) -> bool:
        return self.graph is not None and any(output is self for output in self.graph.outputs)

    @property
    def origin(self) -> Origin:
        return self.op.origin if self.op is not None else NOWHERE


class Op:
    """One operation: a definition, operands, attributes, results and an origin."""

    __slots__ = (
        "_key",
        "_operands",
        "_slots",
        "attrs",
        "defn",
        "graph",
        "is_constant",
        "next",
        "origin",
        "prev",
        "results",
    )

    def __init__(self, defn: OpDef, arguments: Mapping[str, object], attrs: dict[str, Attr], origin: Origin) -> None:
        self.defn = defn
        self.attrs = attrs
        self.origin = origin
        self.results: list[Value] = []
        self.graph: Graph | None = None
        self.prev: Op | None = None
        self.next: Op | None = None
        self._key = 0
        self._operands: list[Operand] = []
        self._slots: dict[str, int | tuple[int, int]] = {}
        for param in defn.operand_params:
            start = len(self._operands)
            given = arguments.get(param.name)
            if param.kind is Kind.VARIADIC:
                items = given if isinstance(given, (tuple, list)) else () if given is None else (given,)
                self._operands.extend(items)
                self._slots[param.name] = (start, len(self._operands))
            else:
                self._operands.append(given)  # type: ignore[arg-type]  # Builder.create checked it
                self._slots[param.name] = start
        for index, operand in enumerate(self._operands):
            if isinstance(operand, Value):
                operand.uses[self, index] = None
        # Kept true by every change, so that asking costs nothing in a deep graph.
        self.is_constant = self._computes_constant()

    def __repr__(self) -> str:
        from anec.ir.printer import print_op

        return print_op(self)

    @property
    def name(self) -> str:
        """The full name of the op's definition, ``"mil.conv"``."""
        return self.defn.name

    @property
    def operands(self) -> Sequence[Operand]:
        """All operands, flat; absent optional ones are None."""
        return self._operands

    @property
    def inputs(self) -> list[Value]:
        """The operands that are values, with repetitions."""
        return [operand for operand in self._operands if isinstance(operand, Value)]

    @property
    def result(self) -> Value:
        """The only result.

        Raises:
            AnecError: the op has several results, or none.
        """
        if len(self.results) != 1:
            raise AnecError(f"{self.name} has {len(self.results)} results, not one")
        return self.results[0]

    def operand(self, name: str) -> Operand:
        """The operand of the parameter ``name``, None when absent."""
        slot = self._slot(name)
        if isinstance(slot, tuple):
            raise AnecError(f"{self.name}: {name} is a list of operands; use op.variadic({name!r})")
        return self._operands[slot]

    def value(self, name: str) -> Value:
        """The operand of the parameter ``name``, which must be a value."""
        operand = self.operand(name)
        if not isinstance(operand, Value):
            raise AnecError(f"{self.name}: the operand {name} is {operand}, not a value")
        return operand

    def variadic(self, name: str) -> list[Operand]:
        """The operands of the list parameter ``name``."""
        slot = self._slot(name)
        if not isinstance(slot, tuple):
            raise AnecError(f"{self.name}: {name} is one operand, not a list")
        return self._operands[slot[0] : slot[1]]

    def _slot(self, name: str) -> int | tuple[int, int]:
        if name not in self._slots:
            raise AnecError(f"{self.name} has no operand {name!r}")
        return self._slots[name]

    def slot(self, name: str) -> range:
        """The flat indices of the operands of the parameter ``name``."""
        found = self._slot(name)
        return range(*found) if isinstance(found, tuple) else range(found, found + 1)

    def param_of(self, index: int) -> str:
        """The name of the parameter that the flat operand ``index`` belongs to."""
        for name, slot in self._slots.items():
            if slot == index or (isinstance(slot, tuple) and slot[0] <= index < slot[1]):
                return name
        raise IndexError(index)

    def arguments(self) -> dict[str, Operand | list[Operand]]:
        """Operands by parameter name, in order; lists for list parameters."""
        return {
            name: self._operands[slot[0] : slot[1]] if isinstance(slot, tuple) else self._operands[slot]
            for name, slot in self._slots.items()
        }

    def attr(self, name: str) -> Attr:
        """The attribute ``name``, or its default when it was not given."""
        if name in self.attrs:
            return self.attrs[name]
        param = self.defn.by_name.get(name)
        if param is None:
            raise AnecError(f"{self.name} has no attribute {name!r}")
        return param.default

    def set_operand(self, index: int, operand: Operand) -> None:
        """Replace one operand and keep the use lists true."""
        old = self._operands[index]
        if isinstance(old, Value):
            old.uses.pop((self, index), None)
        self._operands[index] = operand
        if isinstance(operand, Value):
            operand.uses[self, index] = None
        self._settle_constness()
        if self.graph is not None:
            self.graph.notify("op_changed", self)

    def _computes_constant(self) -> bool:
        """True when the op has no effect and all it reads is known before the program runs."""
        if self.defn.effects is not Effect.NONE or any(map(is_symbolic, self.attrs.values())):
            return False
        for operand in self._operands:
            if isinstance(operand, Value):
                if not operand.is_constant:
                    return False
            elif operand is not None and is_symbolic(operand):
                return False
        return True

    def _settle_constness(self) -> None:
        """Recompute whether the op is constant, and tell its users when that changed."""
        stack = [self]
        while stack:
            op = stack.pop()
            constant = op._computes_constant()
            if constant is not op.is_constant:
                op.is_constant = constant
                stack.extend(user for result in op.results for user in result.users)

    def set_attr(self, name: str, value: Attr) -> None:
        self.attrs[name] = value
        self._settle_constness()
        if self.graph is not None:
            self.graph.notify("op_changed", self)

    def drop_attr(self, name: str) -> None:
        """Let the attribute ``name`` have its default again."""
        if name in self.attrs:
            del self.attrs[name]
            self._settle_constness()
            if self.graph is not None:
                self.graph.notify("op_changed", self)

    def is_before(self, other: Op) -> bool:
        """True when the op stands earlier in the graph than ``other``."""
        return self._key < other._key

    def drop_uses(self) -> None:
        for index, operand in enumerate(self._operands):
            if isinstance(operand, Value):
                operand.uses.pop((self, index), None)


class Listener(Protocol):
    """Hears of every change to a graph; the driver, facts and traces are listeners."""

    def op_inserted(self, op: Op) -> None: ...
    def op_erased(self, op: Op) -> None: ...
    def op_changed(self, op: Op) -> None: ...


_STEP = 1 << 32


class Graph:
    """A function: inputs, weights it uses, ops in order, outputs."""

    __slots__ = (
        "_taken",
        "first",
        "inputs",
        "last",
        "listeners",
        "name",
        "op_count",
        "outputs",
        "signature",
        "values",
        "weights",
    )

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.weights: dict[str, Value] = {}
        self.outputs: list[Value] = []
        self.values: dict[str, Value] = {}
        self.signature = Signature()
        self.listeners: list[Listener] = []
        self.first: Op | None = None
        self.last: Op | None = None
        self.op_count = 0
        # By base: all numbers below are taken. Only saves counting; names never depend on the past.
        self._taken: dict[str, int] = {}

    def __iter__(self) -> Iterator[Op]:
        return self.ops()

    def __len__(self) -> int:
        return self.op_count

    def ops(self) -> Iterator[Op]:
        """All ops in order. Ops may be inserted and erased meanwhile; erased ones are not visited."""
        op = self.first
        while op is not None:
            following = op.next
            yield op
            # `following` may have been erased by the caller, `op` too; a live link decides.
            if op.graph is self:
                op = op.next
            else:
                while following is not None and following.graph is not self:
                    following = following.next
                op = following

    def reversed_ops(self) -> Iterator[Op]:
        """All ops, last first; the op at hand may be erased."""
        op = self.last
        while op is not None:
            previous = op.prev
            yield op
            op = previous

    # -- names -----------------------------------------------------------------------------------

    def unique_name(self, base: str) -> str:
        """``base`` if it is free, else ``base_1``, ``base_2``... (the smallest that is free)."""
        base = legal_name(base)
        if base not in self.values:
            return base
        number = self._taken.get(base, 1)
        while f"{base}_{number}" in self.values:
            number += 1
        self._taken[base] = number
        return f"{base}_{number}"

    def rename(self, value: Value, name: str) -> None:
        """Give ``value`` the name ``name``, made unique."""
        self._release(value)
        value.name = self.unique_name(name)
        self.values[value.name] = value

    def _release(self, value: Value) -> None:
        """Let the name of ``value`` be free again."""
        if self.values.get(value.name) is not value:
            return
        del self.values[value.name]
        base, _, number = value.name.rpartition("_")
        if number.isdecimal() and base in self._taken:
            self._taken[base] = min(self._taken[base], max(1, int(number)))

    def _adopt(self, value: Value) -> Value:
        value.name = self.unique_name(value.name)
        value.graph = self
        self.values[value.name] = value
        return value

    # -- building --------------------------------------------------------------------------------

    def add_input(self, name: str, type_: Type) -> Value:
        value = self._adopt(Value(name, type_))
        self.inputs.append(value)
        return value

    def add_weight(self, weight: Weight, name: str | None = None) -> Value:
        """The value of ``weight`` in this graph, made on first use."""
        found = self.weights.get(weight.name)
        if found is not None:
            return found
        value = self._adopt(Value(name or weight.name, weight.type, weight=weight))
        self.weights[weight.name] = value
        return value

    def remove_weight(self, value: Value) -> None:
        if value.uses or value.is_output or value.weight is None:
            raise AnecError(f"%{value.name} is still used")
        del self.weights[value.weight.name]
        self._release(value)
        value.graph = None

    def remove_input(self, value: Value) -> None:
        if value.uses or value.is_output:
            raise AnecError(f"%{value.name} is still used")
        self.inputs = [v for v in self.inputs if v is not value]
        self._release(value)
        value.graph = None

    def insert(self, op: Op, *, before: Op | None = None) -> Op:
        """Put ``op`` in front of ``before``, or at the end."""
        after = self.last if before is None else before.prev
        op.graph, op.prev, op.next = self, after, before
        if after is None:
            self.first = op
        else:
            after.next = op
        if before is None:
            self.last = op
            op._key = (after._key if after else 0) + _STEP
        else:
            before.prev = op
            low = after._key if after else before._key - 2 * _STEP
            op._key = (low + before._key) // 2
            if op._key in (low, before._key):
                self._renumber()
        self.op_count += 1
        for result in op.results:
            self._adopt(result)
        self.notify("op_inserted", op)
        return op

    def _renumber(self) -> None:
        for number, op in enumerate(self.ops(), 1):
            op._key = number * _STEP

    # -- editing ---------------------------------------------------------------------------------

    def erase(self, op: Op) -> None:
        """Take ``op`` out.

        Raises:
            AnecError: a result is still used.
        """
        for result in op.results:
            if result.uses or result.is_output:
                raise AnecError(f"cannot erase {op.name}: %{result.name} is still used", where=op.origin.place)
        op.drop_uses()
        if op.prev is None:
            self.first = op.next
        else:
            op.prev.next = op.next
        if op.next is None:
            self.last = op.prev
        else:
            op.next.prev = op.prev
        for result in op.results:
            self._release(result)
            result.graph = None
        op.graph = None
        self.op_count -= 1
        self.notify("op_erased", op)

    def replace(self, old: Value, new: Value) -> None:
        """Let every use of ``old``, outputs included, use ``new``."""
        if old is new:
            return
        for op, index in list(old.uses):
            op.set_operand(index, new)
        self.outputs = [new if output is old else output for output in self.outputs]

    def notify(self, event: str, op: Op) -> None:
        for listener in self.listeners:
            getattr(listener, event)(op)

    def states(self) -> list[Value]:
        """The inputs that are states."""
        from anec.ir.types import StateType

        return [value for value in self.inputs if isinstance(value.type, StateType)]


def legal_name(text: str) -> str:
    """``text`` as an identifier: other characters become ``_``.

    >>> legal_name("layers.0.attn")
    'layers_0_attn'
    """
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return name if name and not name[0].isdigit() else f"_{name}"


@dataclass(eq=False, slots=True)
class Module:
    """Named functions that share weights.

    Args:
        functions: graphs by name; a single one is called ``main``.
        weights: weights by name, shared by the functions.
        dims: the bounds of each dimension symbol.
        target: the Core ML target, ``"iOS18"``.
        meta: what passes and the frontend want to tell, as text by key.
    """

    functions: dict[str, Graph] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)
    dims: dict[str, Bounds] = field(default_factory=dict)
    target: str = "iOS18"
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def main(self) -> Graph:
        """The function ``main``, or the only one.

        Raises:
            AnecError: there are several and none is called main.
        """
        if "main" in self.functions:
            return self.functions["main"]
        if len(self.functions) == 1:
            return next(iter(self.functions.values()))
        raise AnecError("which function?", hint="known: " + ", ".join(self.functions))

    @property
    def opset(self) -> int:
        """The iOS number of the target."""
        return int(self.target.removeprefix("iOS"))

    def add_weight(self, weight: Weight) -> Weight:
        """Add a weight under a name made unique; the same memory under the same name is added once."""
        found = self.weights.get(weight.name)
        if found is not None:
            if found.identity == weight.identity and found.type == weight.type:
                return found
            number = 1
            while f"{weight.name}_{number}" in self.weights:
                number += 1
            weight.name = f"{weight.name}_{number}"
        self.weights[weight.name] = weight
        return weight

    def ops(self) -> Iterator[Op]:
        for graph in self.functions.values():
            yield from graph.ops()

    def __str__(self) -> str:
        from anec.ir.printer import print_module

        return print_module(self)


__all__ = ["NOWHERE", "Graph", "Listener", "Literal", "Module", "Op", "Origin", "Value", "legal_name"]
