"""Reading products of matrices in whatever way they are spelled: matmul, bmm, mm, baddbmm, einsum.

Every one of them is ``left @ right^T`` over the last two axes of two tensors, for some order of the
axes of the tensors and of the result. Nothing here builds an op before it is asked to.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import aten
from anec.errors import AnecError
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.canonicalize.views import permutation
from anec.passes.lower_to_mil.einsum import parse

PERMUTES = frozenset(("aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.numpy_T.default"))
_PLAIN = frozenset(("aten.matmul.default", "aten.bmm.default", "aten.mm.default"))
_ADDED = frozenset(("aten.baddbmm.default", "aten.addmm.default"))
PRODUCTS = tuple(
    aten.resolve(name.removeprefix("aten.")) for name in (*sorted(_PLAIN), *sorted(_ADDED), "aten.einsum.default")
)


def permuted(value: Value, order: tuple[int, ...]) -> Value:
    """``value`` with its axes in ``order``, without permutes that undo each other."""
    at, wanted = value, order
    while wanted != tuple(range(len(wanted))):
        op = at.op
        if op is None or op.name not in PERMUTES:
            return aten.permute.default(at, wanted)
        inner = permutation(op)
        at, wanted = op.value("self"), tuple(inner[axis] for axis in wanted)
    return at


@dataclass(frozen=True, slots=True)
class Matrix:
    """A tensor read as ``[*, rows, columns]``: its axis i is the axis ``order[i]`` of ``value``."""

    value: Value
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[Dim, ...]:
        return tuple(self.value.tensor.shape[axis] for axis in self.order)

    @property
    def turned(self) -> Matrix:
        """Rows and columns in each other's place."""
        return Matrix(self.value, (*self.order[:-2], self.order[-1], self.order[-2]))

    def build(self) -> Value:
        return permuted(self.value, self.order)


@dataclass(frozen=True, slots=True)
class Product:
    """``scale * left @ right^T + beta * addend``.

    Args:
        left: ``[*, M, K]``.
        right: ``[*, N, K]``; the leading axes broadcast.
        order: axis i of the result is axis ``order[i]`` of ``[*, M, N]``.
        scale: a number in front.
        addend: what is added, if anything, and the number in front of it.
    """

    left: Matrix
    right: Matrix
    order: tuple[int, ...]
    scale: float = 1.0
    addend: tuple[Value, float] | None = None


def product(value: Value) -> Product | None:
    """``value`` as a product of two matrices; None when it is something else."""
    op = value.op
    if op is None:
        return None
    if op.name in _PLAIN:
        return _by_rows(op.value("self"), op.value("mat2" if op.defn.root != "matmul" else "other"), value.rank)
    if op.name in _ADDED:
        names = ("batch1", "batch2") if op.defn.root == "baddbmm" else ("mat1", "mat2")
        plain = _by_rows(op.value(names[0]), op.value(names[1]), value.rank)
        alpha, beta, addend = op.attr("alpha"), op.attr("beta"), op.value("self")
        if plain is None or not isinstance(alpha, (int, float)) or not isinstance(beta, (int, float)):
            return None
        return Product(plain.left, plain.right, plain.order, float(alpha), (addend, float(beta)) if beta else None)
    return _einsum(op) if op.name == "aten.einsum.default" else None


def _by_rows(left: Value, right: Value, rank: int) -> Product | None:
    if left.rank < 2 or right.rank < 2:
        return None
    first, second = (Matrix(value, tuple(range(value.rank))) for value in (left, right))
    return Product(first, second.turned, tuple(range(rank)))


def _einsum(op: Op) -> Product | None:
    """An einsum of two tensors with one axis summed over, and one of each operand alone."""
    operands, equation = op.variadic("tensors"), op.attr("equation")
    values = [operand for operand in operands if isinstance(operand, Value)]
    if len(values) != 2 or not isinstance(equation, str):
        return None
    try:
        (left, right), result = parse(equation, [value.rank for value in values])
    except AnecError:
        return None
    if any(len(set(labels)) != len(labels) for labels in (left, right, result)):
        return None
    batch = [label for label in result if label in left and label in right]
    rows, columns = (
        [label for label in mine if label not in other and label in result]
        for mine, other in ((left, right), (right, left))
    )
    summed = [label for label in left if label not in result]
    if len(rows) != 1 or len(columns) != 1 or len(summed) != 1 or {*right} != {*batch, *columns, *summed}:
        return None
    canonical = [*batch, *rows, *columns]
    return Product(
        Matrix(values[0], tuple(left.index(label) for label in (*batch, *rows, *summed))),
        Matrix(values[1], tuple(right.index(label) for label in (*batch, *columns, *summed))),
        tuple(canonical.index(label) for label in result),
    )
