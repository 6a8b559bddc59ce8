"""Arguments of an fx call as operands and attributes, by the op's schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from anec.errors import UnsupportedError
from anec.frontend.dims import Symbols
from anec.frontend.origins import origin_of
from anec.frontend.weights import dtype_of
from anec.ir.attrs import Attr, Literal
from anec.ir.graph import Value
from anec.ir.opdef import Kind, OpDef

_READS = ("aten::_local_scalar_dense", "aten::item")


class Arguments:
    """Turns the arguments of fx calls into those of IR ops.

    Args:
        symbols: names the sizes.
        value_of: the IR value of a node that holds a tensor.
        complex_of: the IR value of a complex number in a tensor's place; the IR has no such literal.
    """

    def __init__(
        self, symbols: Symbols, value_of: Callable[[Node], Value], complex_of: Callable[[complex], Value]
    ) -> None:
        self._symbols, self._value_of, self._complex_of = symbols, value_of, complex_of

    def bind(self, node: Node, target: torch._ops.OpOverload, defn: OpDef) -> dict[str, object]:
        """The arguments of ``node`` by parameter name.

        Tensors become operands, numbers in their place literals, all others attributes. Attributes
        that equal their default are left out, and so is what only says where a tensor lies.

        Raises:
            UnsupportedError: an argument that is no plain value, or a number read out of a tensor.
        """
        schema = target._schema.arguments
        given = {argument.name: value for argument, value in zip(schema, node.args, strict=False)}
        given.update(node.kwargs)
        defaults = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        bound: dict[str, object] = {}
        for name, value in given.items():
            param = defn.by_name.get(name)
            if param is None:
                continue
            if param.kind is not Kind.ATTR:
                bound[name] = self._operand(value)
            elif not (name in defaults and _same(value, defaults[name])):
                bound[name] = self._attr(value)
        return bound

    def _operand(self, value: Any) -> object:
        if isinstance(value, (tuple, list)):
            return [self._operand(item) for item in value]
        if isinstance(value, Node) and isinstance(value.meta.get("val"), torch.Tensor):
            return self._value_of(value)
        if isinstance(value, complex):
            return self._complex_of(value)
        attr = self._attr(value)
        return None if attr is None else Literal(attr)

    def _attr(self, value: Any) -> Attr:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, Node):
            return self._number(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._attr(item) for item in value)
        if isinstance(value, torch.dtype):
            return dtype_of(value)
        if isinstance(value, (torch.SymInt, torch.SymFloat)):
            return self._symbols.number(value)
        if isinstance(value, (torch.device, torch.layout, torch.memory_format)):
            return None
        hint = "make a tensor of it: torch.tensor(1j)" if isinstance(value, complex) else None
        raise UnsupportedError(f"an argument is the {type(value).__name__} {value!r}", hint=hint)

    def _number(self, node: Node) -> Attr:
        """The value of a node that computes a size."""
        val = node.meta.get("val")
        if isinstance(val, (bool, int, float)):
            return val
        if isinstance(val, (torch.SymInt, torch.SymFloat)):
            _refuse_data(node)
            return self._symbols.number(val)
        raise UnsupportedError(f"{node.name} is a {type(val).__name__}, no number", where=origin_of(node).place or None)


def _same(value: object, default: object) -> bool:
    return type(value) is type(default) and value == default


def _refuse_data(node: Node) -> None:
    """Refuse a number that was read out of a tensor."""
    waiting, seen = [node], {node}
    while waiting:
        at = waiting.pop()
        if isinstance(at.target, torch._ops.OpOverload) and at.target._schema.name in _READS:
            raise UnsupportedError(
                "a number is read out of a tensor and used as a size or setting",
                where=origin_of(at).place or None,
                hint="bind the input that decides it to a constant (--bind NAME=VALUE)",
            )
        fresh = [n for n in at.all_input_nodes if n not in seen and not isinstance(n.meta.get("val"), torch.Tensor)]
        seen.update(fresh)
        waiting += fresh
