"""Symbolic sizes: torch's sympy expressions as the IR's dimension expressions."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import sympy  # type: ignore[import-untyped]  # it has no stubs
import torch

from anec.errors import UnsupportedError
from anec.frontend.names import Key, children, is_leaf, keys_of
from anec.ir.dims import Bounds, Dim
from anec.ir.graph import Graph
from anec.reference.sizes import bind_sizes, dim_of, exact, expression

Size = int | torch.SymInt
_UNBOUNDED = 2**62


class Symbols:
    """The readable names of an exported program's symbols, and the conversion.

    Args:
        ranges: ``ExportedProgram.range_constraints``.
        taken: the symbols of the module's other functions; one of the same bounds is shared.
        decided: the sizes that are known of some symbols, by torch's names.
    """

    def __init__(
        self,
        ranges: Mapping[Any, Any],
        taken: Mapping[str, Bounds] = MappingProxyType({}),
        decided: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._taken, self._decided, self._steps = taken, decided, dict[str, int]()
        self.names: dict[str, str] = {}
        self._found: dict[str, Bounds] = {}
        self._ranges = {str(key): value for key, value in ranges.items()}

    def declare(self, size: Size, name: str, *, from_data: bool = False) -> None:
        """Name the symbols behind ``size`` that have no name yet.

        Args:
            size: the size of an axis; a symbol takes ``name``, one inside an expression too.
            name: the readable name, made unique.
            from_data: the size depends on data (``nonzero``), so that no input tells it.
        """
        expr = expression(size)
        for free in sorted(getattr(expr, "free_symbols", ()), key=str):
            if str(free) in self.names or str(free) in self._decided or (from_data and not str(free).startswith("u")):
                continue
            stem = f"{name}_" if name in ("max", "min") else name  # words of the dimension grammar
            number, candidate = 1, stem
            bounds = self._bounds(str(free), 0 if from_data else 1)
            while candidate in self.names.values() or self._taken.get(candidate, bounds) != bounds:
                candidate, number = f"{stem}_{number}", number + 1
            self.names[str(free)] = candidate
            self._found[candidate] = bounds

    def count_by(self, size: Size, step: int) -> None:
        """From here on the symbol that ``size`` is counts steps: all its sizes are multiples.

        Then ``(32 * n - 1) // 16 + 1`` and ``2 * n`` are seen to be one.
        """
        expr = expression(size)
        if getattr(expr, "is_Symbol", False):
            self._steps[str(expr)] = step

    def bounds(self, used: Container[str]) -> dict[str, Bounds]:
        """The bounds of the readable names in ``used``."""
        return {name: bounds for name, bounds in self._found.items() if name in used}

    def _bounds(self, raw: str, least: int) -> Bounds:
        """The bounds torch found; an input of Core ML has no dimension of size 0."""
        values = self._ranges.get(raw)
        lower = _integer(values.lower) if values is not None else None
        upper = _integer(values.upper) if values is not None else None
        return Bounds(max(lower or 0, least), upper)

    def dim(self, size: Any) -> Dim:
        """A size as a dimension.

        Raises:
            UnsupportedError: the expression is none of +, *, //, %, max and min over integers.
        """
        return dim_of(self._known(size), self.names)

    def _known(self, size: Any) -> Any:
        expr = expression(size)
        free = {str(symbol): symbol for symbol in getattr(expr, "free_symbols", ())}
        known = {symbol: sympy.Integer(self._decided[raw]) for raw, symbol in free.items() if raw in self._decided}
        known |= {symbol: self._steps[raw] * symbol for raw, symbol in free.items() if raw in self._steps}
        return expr.xreplace(known) if known else size

    def number(self, value: Any) -> Dim | float:
        """A symbolic number; a float when the symbols cancel.

        Raises:
            UnsupportedError: a float that depends on a symbol.
        """
        if isinstance(value, torch.SymFloat):
            plain = sympy.simplify(exact(sympy.sympify(expression(self._known(value)))))
            if not plain.is_number:
                raise UnsupportedError(f"the number {plain} depends on a dynamic size")
            return float(plain)
        return self.dim(value)


def with_defaults(
    graph: Graph, dims: Mapping[str, Bounds], examples: Mapping[str, torch.Tensor]
) -> dict[str, Bounds]:
    """The bounds with the sizes of the examples as defaults."""
    sizes: dict[str, int] = {}
    for port, value in zip(graph.signature.inputs, graph.inputs, strict=True):
        if port.name in examples:
            bind_sizes(value.tensor, tuple(examples[port.name].shape), sizes)
    return {name: replace(dims[name], default=size) for name, size in sizes.items() if name in dims}


def _integer(bound: Any) -> int | None:
    if not getattr(bound, "is_Integer", isinstance(bound, int)):
        return None
    return int(bound) if abs(int(bound)) < _UNBOUNDED else None


def has_hints(dynamic_shapes: Any) -> bool:
    """True when a size is ``Dim.AUTO`` or ``Dim.DYNAMIC``, of which torch decides the range."""
    if isinstance(dynamic_shapes, Mapping):
        return any(map(has_hints, dynamic_shapes.values()))
    if isinstance(dynamic_shapes, (tuple, list)):
        return any(map(has_hints, dynamic_shapes))
    return type(dynamic_shapes).__name__ == "_DimHint" and "STATIC" not in repr(dynamic_shapes)


def named_dims(in_spec: Any, arguments: tuple[str, ...], dynamic_shapes: Any) -> dict[int, dict[int, str]]:
    """The names of `torch.export.Dim` objects, by input leaf and axis.

    Args:
        in_spec: the pytree of ``(args, kwargs)``.
        arguments: forward's parameter names.
        dynamic_shapes: what the caller gave torch.export; forms other than dict, tuple and list are ignored.
    """
    positional, named = children(in_spec)
    specs = [*children(positional), *children(named)]
    found: dict[int, dict[int, str]] = {}
    leaf = 0
    for number, (name, spec) in enumerate(zip(arguments, specs, strict=True)):
        shapes = None
        if isinstance(dynamic_shapes, Mapping):
            shapes = dynamic_shapes.get(name)
        elif isinstance(dynamic_shapes, (tuple, list)) and number < len(dynamic_shapes):
            shapes = dynamic_shapes[number]
        leaf = _walk(spec, shapes, leaf, found)
    return found


def _walk(spec: Any, shapes: Any, leaf: int, found: dict[int, dict[int, str]]) -> int:
    if is_leaf(spec):
        axes = shapes.items() if isinstance(shapes, Mapping) else enumerate(shapes or ())
        # A derived dimension such as 2*H names the symbol of its root.
        names = {axis: str(getattr(getattr(dim, "root", dim), "__name__", "")) for axis, dim in axes}
        found[leaf] = {axis: name for axis, name in names.items() if name.isidentifier()}
        return leaf + 1
    for key, child in zip(keys_of(spec), children(spec), strict=True):
        leaf = _walk(child, shape_at(shapes, key), leaf, found)
    return leaf


def shape_at(shapes: Any, key: Key) -> Any:
    """What dynamic_shapes says of one part of what it describes; None when nothing."""
    if isinstance(shapes, Mapping):
        return shapes.get(key)
    if isinstance(shapes, (tuple, list)) and isinstance(key, int) and key < len(shapes):
        return shapes[key]
    return None
