"""Shapes of flexible inputs: symbols for coremltools, ranges for the model's description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from anec.backend.quiet import quiet
from anec.errors import UnsupportedError
from anec.ir.dims import Bounds, Dim, Expr, evaluate

with quiet():
    from coremltools.converters.mil.mil import get_new_symbol


@dataclass(frozen=True, slots=True)
class Extent:
    """The sizes a dimension may have, and the one a caller sees first."""

    lower: int
    upper: int
    default: int

    @property
    def is_fixed(self) -> bool:
        return self.lower == self.upper


def mil_shape(shape: tuple[Dim, ...], symbols: dict[str, Any]) -> tuple[Any, ...]:
    """The shape with a coremltools symbol for each expression; equal expressions share one.

    Args:
        shape: the IR's shape.
        symbols: the symbols made so far, by the expression's text.
    """
    found: list[Any] = []
    for dim in shape:
        if isinstance(dim, Expr):
            text = str(dim)
            if text not in symbols:
                symbols[text] = get_new_symbol()
            found.append(symbols[text])
        else:
            found.append(dim)
    return tuple(found)


def extent(dim: Dim, dims: Mapping[str, Bounds], what: str) -> Extent:
    """The range of a dimension over the bounds of its symbols.

    Its default is that of its symbols, else the least. An expression is taken at the corners of its
    symbols' ranges, which holds its extremes when it is monotone in each of them, as sums, products
    and quotients of sizes are.

    Raises:
        UnsupportedError: a symbol is not declared, or has no upper bound.
    """
    if isinstance(dim, int):
        return Extent(dim, dim, dim)
    names = sorted(dim.symbols())
    for name in names:
        bounds = dims.get(name)
        if bounds is None or bounds.upper is None:
            raise UnsupportedError(
                f"{what}: the dimension {name} has no upper bound",
                hint=f"write torch.export.Dim({name!r}, max=...), or shapes= with lower..upper: Core ML needs one",
            )
    ranges = [(dims[name].lower, dims[name].upper or 0) for name in names]
    corners = [evaluate(dim, dict(zip(names, corner, strict=True))) for corner in product(*ranges)]
    default = evaluate(dim, {name: dims[name].default or dims[name].lower for name in names})
    return Extent(min(corners), max(corners), default)
