"""Symbolic sizes: computed from the shapes of the function's inputs.

    %y = aten.arange.start_step() {start=0, end=(S+1)}            %x: f32[B,S]
        ->
    %1 = mil.shape(%x)
    %2 = mil.slice_by_index(%1, [1], [2])                         [S]
    %3 = mil.add(%2, 1)
    %4 = mil.squeeze(%3) {axes=[0]}
    %y = mil.range_1d(%4, 0, 1)

Types see through such arithmetic (``anec.ir.known_sizes``), so a shape that is computed has a type
as any other. ``cse`` merges what several ops compute.
"""

from __future__ import annotations

from collections.abc import Sequence

from anec.dialects import mil
from anec.ir.build import Builder
from anec.ir.dims import Atom, Dim, Expr, evaluate, symbol
from anec.ir.graph import Value
from anec.ir.types import DType, TensorType
from anec.rewrite import reject

_HELD = (DType.F16, DType.F32, DType.I32, DType.BOOL)
_FUNCTIONS = {"floordiv": mil.floor_div, "mod": mil.mod, "max": mil.maximum, "min": mil.minimum}
Number = int | Value
"""A size, or an int32 vector of one entry that holds it."""


def computed(size: Dim) -> Number:
    """The size; a symbolic one as an int32 vector of one entry.

    Raises:
        Reject: no input of the function tells it.
    """
    if isinstance(size, int):
        return size
    inputs = _inputs()
    for value in inputs:
        if size in value.tensor.shape:
            return _axis(value, value.tensor.shape.index(size))
    total: Number = 0
    for monomial, coefficient in size.terms:
        product: Number = coefficient
        for atom in monomial:
            product = times(product, _atom(atom, inputs))
        total = plus(total, product)
    return total


def scalar(size: Dim) -> Number:
    """The size; a symbolic one as an int32 value of rank 0, see :func:`computed`."""
    found = computed(size)
    return mil.squeeze(found, axes=(0,)) if isinstance(found, Value) else found


def vector(sizes: Sequence[Dim]) -> Value | tuple[int, ...]:
    """The sizes of a shape, as ops take them; see :func:`computed`."""
    parts: list[Value | tuple[int, ...]] = []
    for size in sizes:
        found = computed(size)
        if isinstance(found, Value):
            parts.append(found)
        elif parts and isinstance(parts[-1], tuple):
            parts[-1] = (*parts[-1], found)
        else:
            parts.append((found,))
    return parts[0] if len(parts) == 1 else mil.concat(parts, axis=0) if parts else ()


def counted(size: Dim) -> Value:
    """The int32 vector 0, 1, 2... of ``size`` entries, see :func:`computed`."""
    return mil.range_1d(end=scalar(size), start=0, step=1)


def part(x: Value, at: int, begin: Dim, length: Dim) -> Value:
    """``length`` entries of ``x`` from ``begin`` on along the axis ``at``, see :func:`computed`."""
    starts: list[Dim] = [0] * x.rank
    sizes: list[Dim] = [-1 if isinstance(size, Expr) else size for size in x.tensor.shape]
    starts[at], sizes[at] = begin, length
    return mil.slice_by_size(x, vector(starts), vector(sizes))


def plus(left: Number, right: Number) -> Number:
    """The sum of two computed sizes."""
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return right if left == 0 else left if right == 0 else mil.add(left, right)


def times(left: Number, right: Number) -> Number:
    """The product of two computed sizes."""
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    if isinstance(left, int):
        left, right = right, left
    return left if right == 1 else mil.mul(left, right)


def _atom(atom: Atom, inputs: list[Value]) -> Number:
    if atom.args:
        left, right = (computed(arg) for arg in atom.args)
        return _FUNCTIONS[atom.name](left, right)
    for value in inputs:
        for at, dim in enumerate(value.tensor.shape):
            found = _solved(dim, atom.name)
            if found is not None:
                step, offset = found
                rest = plus(_axis(value, at), -offset)
                return rest if step == 1 or isinstance(rest, int) else mil.floor_div(rest, step)
    return reject(f"no input of the function tells the symbolic size {atom.name}")


def _solved(dim: Dim, name: str) -> tuple[int, int] | None:
    """Step and offset of a dimension ``step * name + offset``; None for one of another form."""
    if isinstance(dim, int) or dim.symbols() != {name}:
        return None
    offset = evaluate(dim, {name: 0}) if len(dim.terms) <= 2 else 0
    step = dim - offset
    factor = step.terms[0][1] if isinstance(step, Expr) else 0
    return (factor, offset) if factor > 0 and step == symbol(name) * factor else None


def _axis(value: Value, at: int) -> Value:
    return mil.slice_by_index(mil.shape(value), (at,), (at + 1,))


def _inputs() -> list[Value]:
    graph = Builder.current("a symbolic size").graph
    return [v for v in graph.inputs if isinstance(v.type, TensorType) and v.tensor.dtype in _HELD]
