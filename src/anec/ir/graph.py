"""The graph: ops in a linked list that may be edited while iterated; and the module of graphs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from anec.errors import AnecError
from anec.ir.attrs import Literal
from anec.ir.dims import Bounds
from anec.ir.op import NOWHERE, Op, Origin, Value
from anec.ir.signature import Signature
from anec.ir.types import Type
from anec.ir.weights import Weight


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
        base = identifier(base)
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


RESERVED_NAMES = frozenset(
    "any bool program func tensor list dict tuple true false string state bf16 fp16 fp32 fp64 "
    "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
)
"""Words of MIL's text form, which Core ML compiles to; from coremltools' ``NameSanitizer``."""


def identifier(text: str) -> str:
    """``text`` with other characters than letters, digits and ``_`` as ``_``, and no digit first."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return name if name and not name[0].isdigit() else f"_{name}"


def legal_name(text: str) -> str:
    """``text`` as a name that Core ML takes: an identifier, and a reserved word gets a ``_`` behind.

    >>> legal_name("layers.0.attn"), legal_name("state")
    ('layers_0_attn', 'state_')
    """
    name = identifier(text)
    return f"{name}_" if name in RESERVED_NAMES else name


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
