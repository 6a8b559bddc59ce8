"""Values with use lists, ops, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.errors import AnecError
from anec.ir.attrs import Attr, is_symbolic
from anec.ir.opdef import Effect, Kind, OpDef, Operand
from anec.ir.types import TensorType, Type, tensor_type
from anec.ir.weights import Weight

if TYPE_CHECKING:
    from anec.ir.graph import Graph


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
        """The same place, with one more rule."""
        return self if rule in self.rules else Origin(self.path, self.line, (*self.rules, rule))


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


__all__ = ["NOWHERE", "Op", "Origin", "Value"]
