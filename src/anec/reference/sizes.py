"""Sizes between the IR's dimension expressions and torch's symbolic integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import Any

import sympy  # type: ignore[import-untyped]  # it has no stubs
import torch

from anec.errors import AnecError, UnsupportedError
from anec.ir.dims import Atom, Dim, Expr, floordiv, maximum, minimum, mod, symbol
from anec.ir.types import TensorType


def size_of(dim: Dim, sizes: Mapping[str, Any]) -> Any:
    """A dimension for given sizes, which may be torch's symbolic integers.

    Raises:
        AnecError: a symbol has no size, or a divisor is 0 for these sizes.
    """
    if isinstance(dim, int):
        return dim
    total: Any = 0
    for monomial, coefficient in dim.terms:
        total = total + coefficient * prod((_atom_size(atom, sizes) for atom in monomial), start=1)
    return total


def _atom_size(atom: Atom, sizes: Mapping[str, Any]) -> Any:
    if not atom.args:
        if atom.name not in sizes:
            raise AnecError(f"the dimension symbol {atom.name} has no size")
        return sizes[atom.name]
    left, right = (size_of(arg, sizes) for arg in atom.args)
    if atom.name in ("floordiv", "mod"):
        if type(right) is int and right == 0:
            raise AnecError("a dimension is divided by 0")
        return left // right if atom.name == "floordiv" else left % right
    return torch.sym_max(left, right) if atom.name == "max" else torch.sym_min(left, right)


def repeated(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A tensor of ``shape`` that holds the numbers of another in order, over and over."""
    count, flat = torch.Size(shape).numel(), tensor.detach().reshape(-1)
    return flat.repeat(-(-count // flat.numel()))[:count].reshape(tuple(shape))


def bind_sizes(type_: TensorType, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Learn the sizes of symbols from the shape of a tensor of ``type_``."""
    for dim, size in zip(type_.shape, shape, strict=False):
        unknown = dim.symbols() - sizes.keys() if isinstance(dim, Expr) else set()
        if isinstance(dim, Expr) and len(unknown) == 1:
            name = unknown.pop()
            found = _solve(dim, name, size, sizes)
            if found is not None:
                sizes[name] = found


def _solve(dim: Expr, name: str, size: int, sizes: Mapping[str, int]) -> int | None:
    """The size of ``name`` that makes ``dim`` equal ``size``, where the dimension is linear in it."""
    try:
        start = size_of(dim, {**sizes, name: 0})
        step = size_of(dim, {**sizes, name: 1}) - start
        found = int((size - start) // step) if step else None
        return found if found is not None and size_of(dim, {**sizes, name: found}) == size else None
    except AnecError:
        return None


def expression(size: Any) -> Any:
    """The sympy expression behind a size; a plain number as it is."""
    return size.node.expr if isinstance(size, (torch.SymInt, torch.SymFloat, torch.SymBool)) else size


def dim_of(size: Any, names: Mapping[str, str]) -> Dim:
    """A size of torch's as a dimension.

    Args:
        size: an integer, torch's symbolic integer, or a sympy expression.
        names: the readable names of torch's symbols.

    Raises:
        UnsupportedError: the expression is none of +, *, //, %, max and min over integers.
    """
    expr = expression(size)
    return expr if type(expr) is int else _convert(sympy.sympify(expr), names)


def _convert(expr: Any, names: Mapping[str, str]) -> Dim:
    if expr.is_Integer:
        return int(expr)
    if isinstance(expr, sympy.Symbol):
        return symbol(names.get(str(expr), str(expr)))
    name = type(expr).__name__
    if name in _ROUNDINGS:
        numerator, denominator = sympy.fraction(sympy.together(exact(expr.args[0])))
        above, below = _convert(numerator, names), _convert(denominator, names)
        return -floordiv(-above, below) if name in ("CeilToInt", "ceiling") else floordiv(above, below)
    if expr.is_Pow and expr.args[1].is_Integer and expr.args[1] > 0:
        base = _convert(expr.args[0], names)
        return _fold([base] * int(expr.args[1]), lambda a, b: a * b)
    if expr.is_Add or expr.is_Mul:
        numerator, denominator = expr.as_numer_denom()
        if denominator != 1:
            return floordiv(_convert(numerator, names), _convert(denominator, names))
        arguments = [_convert(arg, names) for arg in expr.args]
        return _fold(arguments, (lambda a, b: a + b) if expr.is_Add else (lambda a, b: a * b))
    arguments = [_convert(arg, names) for arg in expr.args] if name in _FUNCTIONS else []
    if not arguments:
        raise UnsupportedError(f"the size {expr} cannot be written with +, *, //, %, max and min")
    return _FUNCTIONS[name](arguments)


_ROUNDINGS = frozenset({"floor", "ceiling", "FloorToInt", "CeilToInt", "TruncToInt"})
_FUNCTIONS: dict[str, Callable[[list[Dim]], Dim]] = {
    "FloorDiv": lambda a: floordiv(a[0], a[1]),
    "CleanDiv": lambda a: floordiv(a[0], a[1]),
    "CeilDiv": lambda a: -floordiv(-a[0], a[1]),
    "Mod": lambda a: mod(a[0], a[1]),
    "PythonMod": lambda a: mod(a[0], a[1]),
    "ModularIndexing": lambda a: mod(floordiv(a[0], a[1]), a[2]),
    "Max": lambda a: _fold(a, maximum),
    "Min": lambda a: _fold(a, minimum),
    "PowByNatural": lambda a: _fold([a[0]] * _exponent(a[1]), lambda x, y: x * y),
    "Identity": lambda a: a[0],
}


def _exponent(dim: Dim) -> int:
    if isinstance(dim, int) and 0 < dim < 16:
        return dim
    raise UnsupportedError(f"a size to the power of {dim}")


def _fold(items: list[Dim], step: Callable[[Dim, Dim], Dim]) -> Dim:
    total = items[0]
    for item in items[1:]:
        total = step(total, item)
    return total


def exact(expr: Any) -> Any:
    """``expr`` with torch's float functions as plain arithmetic and floats as exact fractions."""
    if isinstance(expr, sympy.Float):
        fraction = Fraction(float(expr))
        if fraction.denominator > 2**20:
            raise UnsupportedError(f"a size is scaled by {float(expr)}, which is no exact fraction")
        return sympy.Rational(fraction.numerator, fraction.denominator)
    name = type(expr).__name__
    if not expr.args:
        return expr
    arguments = [exact(arg) for arg in expr.args]
    if name in ("ToFloat", "Identity"):
        return arguments[0]
    if name in ("FloatTrueDiv", "IntTrueDiv"):
        return arguments[0] / arguments[1]
    if name == "FloatPow":
        return arguments[0] ** arguments[1]
    if expr.is_Add or expr.is_Mul or expr.is_Pow:
        return expr.func(*arguments)
    return expr
