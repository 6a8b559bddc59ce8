"""Numbers that a program reads out of tensors: they stay tensors, of rank 0.

    position = where.item()                               %1 = aten.reshape.default(%where) {shape=[]}
    cache[:, position : position + 2] = new        ->     %2 = aten.arange.start_step() {start=0, end=2}
                                                          %3 = aten.add.Tensor(%2, %1)
                                                          %4 = aten.index_copy.default(%cache, %3, %new) {dim=1}

Such a number may tell where a slice starts, or be computed with. It cannot be a size: Core ML has
no shapes that depend on values.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils._sympy.value_ranges import bound_sympy

from anec.dialects import registry
from anec.errors import UnsupportedError
from anec.frontend.origins import origin_of
from anec.ir.build import Builder
from anec.ir.graph import Value
from anec.ir.types import DType

READS = frozenset(("aten::_local_scalar_dense", "aten::item"))
_ARITHMETIC: Mapping[object, str] = {
    operator.add: "add.Tensor",
    operator.sub: "sub.Tensor",
    operator.mul: "mul.Tensor",
    operator.floordiv: "floor_divide.default",
    operator.mod: "remainder.Tensor",
    operator.neg: "neg.default",
}
# Ops that take a number for a place along an axis: the parameter, and the one behind the last place.
_PLACES = {
    "aten::select": ("index", ""),
    "aten::select_scatter": ("index", ""),
    "aten::slice": ("start", "end"),
    "aten::slice_scatter": ("start", "end"),
    "aten::narrow": ("start", "length"),
}
Arguments = dict[str, Any]


class Reads:
    """The numbers a program reads, as values.

    Args:
        program: tells the bounds of its numbers.
        builder: writes into the function's graph.
        value_of: the IR value of a node that holds a tensor.
    """

    def __init__(self, program: ExportedProgram, builder: Builder, value_of: Callable[[Node], Value]) -> None:
        self._ranges = program.range_constraints
        self._builder, self._value_of = builder, value_of
        self._numbers: dict[Node, Value] = {}
        self._read: dict[Node, bool] = {}

    def lift(self, node: Node, target: torch._ops.OpOverload) -> Value | None:
        """The result of a call that is given such a number; None for any other call.

        Raises:
            UnsupportedError: the number is computed in a way that tensors are not.
        """
        names = [argument.name for argument in target._schema.arguments]
        given: Arguments = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        read = {name for name, argument in given.items() if self.is_read(argument)}
        val = node.meta.get("val")
        if not read or not isinstance(val, torch.Tensor):
            return None
        name, stem = target._schema.name, self._builder.name
        self._builder.name, before = node.name, self._builder.origin
        self._builder.origin = origin_of(node)
        try:
            with self._builder.active():
                if name in _PLACES and read <= {*_PLACES[name]}:
                    return self._at_place(name, given, val)
                return self._elementwise(target, given, read)
        finally:
            self._builder.name, self._builder.origin = stem, before

    def is_read(self, argument: Any) -> bool:
        """True for a node that computes a number from one that was read out of a tensor."""
        if not isinstance(argument, Node) or isinstance(argument.meta.get("val"), torch.Tensor):
            return False
        if argument not in self._read:
            target = argument.target
            reads = isinstance(target, torch._ops.OpOverload) and target._schema.name in READS
            self._read[argument] = reads or any(self.is_read(other) for other in argument.all_input_nodes)
        return self._read[argument]

    def _at_place(self, name: str, given: Arguments, val: torch.Tensor) -> Value | None:
        """Slices whose start is computed: their places are a list of indices."""
        x, dim = self._value_of(given["self"]), given.get("dim", 0)
        at = dim + x.rank if dim < 0 else dim
        single, writes = name.startswith("aten::select"), name.endswith("scatter")
        start = given[_PLACES[name][0]]
        size = x.tensor.shape[at]
        part = given["src"].meta["val"] if writes else val
        length = 1 if single else part.shape[at]
        if not isinstance(length, int) or not isinstance(size, int) or given.get("step", 1) != 1 or start is None:
            return None
        index = self._places(start, length, size, wraps=single)
        if writes:
            source = self._value_of(given["src"])
            source = _build("unsqueeze.default", source, at) if single else source
            return _build("index_copy.default", x, at, index, source)
        found = _build("index_select.default", x, at, index)
        return _build("squeeze.dim", found, at) if single else found

    def _places(self, start: Any, length: int, size: int, *, wraps: bool) -> Value:
        number = self._number(start)
        if wraps and isinstance(start, Node) and self._lowest(start) < 0:
            number = _build("remainder.Scalar", number, size)
        if length == 1:
            return _build("reshape.default", number, [1])
        return _build("add.Tensor", _build("arange.start_step", 0, length, 1, dtype=DType.I64), number)

    def _lowest(self, node: Node) -> float:
        val = node.meta["val"]
        if not isinstance(val, torch.SymInt):
            return float(val)
        return float(bound_sympy(val.node.expr, self._ranges).lower)

    def _elementwise(self, target: torch._ops.OpOverload, given: Arguments, read: set[str]) -> Value | None:
        """An op of a tensor and a number is one of two tensors."""
        packet, overload = target._schema.name.partition("::")[2], target._overloadname.replace("Scalar", "Tensor")
        if read != {"other"} or not hasattr(getattr(torch.ops.aten, packet, None), overload):
            return None
        others = {key: value for key, value in given.items() if key not in ("self", "other")}
        x = self._value_of(given["self"])
        return _build(f"{packet}.{overload}", x, self._number(given["other"]), **others)

    def _number(self, given: Any) -> Value:
        """The value of a number, of rank 0."""
        if not isinstance(given, Node):
            return _build("full.default", [], given, dtype=DType.I64)
        if given not in self._numbers:
            self._numbers[given] = self._computed(given)
        return self._numbers[given]

    def _computed(self, node: Node) -> Value:
        target = node.target
        if isinstance(target, torch._ops.OpOverload) and target._schema.name in READS:
            held = self._value_of(node.all_input_nodes[0])
            return held if held.rank == 0 else _build("reshape.default", held, [])
        name = _ARITHMETIC.get(target)
        val = node.meta.get("val")
        if name is None or not isinstance(val, (int, torch.SymInt)):
            raise UnsupportedError(
                f"a number is read out of a tensor and goes through {target}",
                where=origin_of(node).place or None,
                hint="compute with the tensor, or bind the input that decides it to a constant (--bind NAME=VALUE)",
            )
        return _build(name, *(self._number(argument) for argument in node.args))


def _build(name: str, *args: Any, **kwargs: Any) -> Value:
    found: Value = registry.resolve(f"aten.{name}")(*args, **kwargs)
    return found
