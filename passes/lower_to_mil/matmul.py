"""Matrix products: linear, mm, bmm, matmul of every pair of ranks, and the products that add.

    %y = aten.addmm.default(%bias, %x, %w)     %w: f32[8,16] weight, %bias: f32[16] weight
        ->
    %1 = mil.transpose(%w) {perm=[1, 0]}
    %y = mil.linear(%x, %1, %bias)

The transpose of a weight is computed before emission.

A transpose of the last two axes in front of a product becomes its ``transpose_y``.
"""

from __future__ import annotations

import functools

from anec.dialects import aten, mil
from anec.ir.attrs import Attr, Literal
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.movement import reshaped, source
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.typing import axis, number, result_type, value
from anec.rewrite import Rule, reject, rewrite

# mil.linear takes x of rank 1 to 3 (coremltools, linear).
_LINEAR_RANK = 3


def product(x: Value, y: Value, bias: Value | None = None, *, transpose_y: bool = False) -> Value:
    """``x @ y + bias``, of rank 2 at least; a constant matrix on the right makes it a linear layer.

    Args:
        x: the left operand.
        y: the right operand.
        bias: a vector added to each row, or None.
        transpose_y: the last two axes of y are swapped first.
    """
    if y.rank == 2 and x.rank <= _LINEAR_RANK and is_constant(y):
        weight = y if transpose_y else swapped(y)
        if bias is None or is_constant(bias):
            return mil.linear(x, weight, bias) if bias is not None else mil.linear(x, weight)
        return mil.add(mil.linear(x, weight), bias)
    left, right = _unswapped(x, False), _unswapped(y, transpose_y)
    attrs: dict[str, Attr] = {}
    if left[1]:
        attrs["transpose_x"] = True
    if right[1]:
        attrs["transpose_y"] = True
    result = mil.matmul(left[0], right[0], **attrs)
    return result if bias is None else mil.add(result, bias)


def swapped(x: Value) -> Value:
    """``x`` with its last two axes swapped; a swap that made it is undone instead."""
    before, swaps = _through(x, True)
    return before if not swaps else mil.transpose(x, perm=(*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _through(x: Value, swaps: bool) -> tuple[Value, bool]:
    """Look through a transpose of the last two axes; whether they still have to be swapped."""
    op = x.op
    if op is not None and op.name == "mil.transpose" and x.rank >= 2:
        perm, rank = op.attr("perm"), x.rank
        assert isinstance(perm, tuple)
        order = [item % rank for item in perm if isinstance(item, int)]
        if order == [*range(rank - 2), rank - 1, rank - 2]:
            return op.value("x"), not swaps
    return x, swaps


def _unswapped(x: Value, swaps: bool) -> tuple[Value, bool]:
    """Let the product swap the axes; what is constant is better swapped before emission."""
    found = _through(x, swaps)
    return found if found[0] is not x and not is_constant(x) else (x, swaps)


def _row(x: Value) -> Value:
    return reshaped(x, (1, *x.tensor.shape)) if x.rank == 1 else x


def _column(x: Value) -> Value:
    return reshaped(x, (*x.tensor.shape, 1)) if x.rank == 1 else x


def multiplied(x: Value, y: Value) -> Value:
    """``x @ y`` for any ranks from 1 on, as numpy and torch have it."""
    result = product(_row(x), _column(y))
    shape = list(result.tensor.shape)
    if x.rank == 1:
        del shape[-2]
    if y.rank == 1:
        del shape[-1]
    return reshaped(result, shape)


def scaled(x: Value, factor: Attr) -> Value:
    """``x * factor``; nothing for a factor of 1."""
    return x if factor == 1 else mil.mul(x, Literal(number(factor, x.tensor.dtype)))


def dotted(x: Value, y: Value, at: Attr = -1) -> Value:
    """The sum of ``x * y`` along one axis."""
    products = mil.mul(x, y)
    return mil.reduce_sum(products, axes=(axis(at, products.rank),), keep_dims=False)


def plus(added: Value, beta: Attr, found: Value, alpha: Attr) -> Value:
    """``beta * added + alpha * found``; with beta 0 what is added does not count, NaN or not."""
    found = scaled(found, alpha)
    if beta == 0:
        return found
    return mil.add(scaled(added, beta), found)


def _two(op: Op, first: str, second: str) -> tuple[Value, Value]:
    return source(op, first), source(op, second)


def _is_row(bias: Value, width: object) -> bool:
    return all(size == 1 for size in bias.tensor.shape[:-1]) and bias.rank > 0 and bias.tensor.shape[-1] == width


@rewrite(aten.linear.default)
def linear(op: Op) -> Value:
    """The weight is [out, in], as mil.linear has it; a vector as weight gives one number a row."""
    x, weight = _two(op, "input", "weight")
    bias = source(op, "bias") if op.operand("bias") is not None else None
    if weight.rank == 1:
        result = multiplied(x, weight)
        return result if bias is None else mil.add(result, bias)
    result = product(_row(x), weight, bias, transpose_y=True)
    return reshaped(result, result_type(op).shape) if x.rank == 1 else result


_RIGHT = {"mm": "mat2", "bmm": "mat2", "mv": "vec", "matmul": "other", "linalg_matmul": "other"}


@rewrite(each(*_RIGHT))
def matmul(op: Op) -> Value:
    """Every product of two, whatever the ranks."""
    return multiplied(*_two(op, "self", _RIGHT[op.defn.root]))


@rewrite(aten._int_mm.default)
def int_mm(op: Op) -> Value:
    """Integers are held in int32 all along, as the result is."""
    return product(*_two(op, "self", "mat2"))


_FACTORS = {"addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2"), "addmv": ("mat", "vec")}


@rewrite(each(*_FACTORS))
def added_product(op: Op) -> Value:
    """``beta * self + alpha * (x @ y)``; a row that is added is the bias of a linear layer."""
    x, y = _two(op, *_FACTORS[op.defn.root])
    beta, alpha, added = op.attr("beta"), op.attr("alpha"), source(op)
    width = y.tensor.shape[-1]
    if beta == alpha == 1 and x.rank == y.rank == 2 and is_constant(y) and _is_row(added, width):
        return product(x, y, reshaped(added, (width,)))
    return plus(added, beta, multiplied(x, y), alpha)


@rewrite(aten.addbmm.default)
def addbmm(op: Op) -> Value:
    """The products of a batch are summed."""
    batch = multiplied(*_two(op, "batch1", "batch2"))
    total = mil.reduce_sum(batch, axes=(0,), keep_dims=False)
    return plus(source(op), op.attr("beta"), total, op.attr("alpha"))


@rewrite(aten.addr.default)
def addr(op: Op) -> Value:
    """The outer product of two vectors is added; of booleans, or-ed."""
    found, beta, alpha = _outer(*_two(op, "vec1", "vec2")), op.attr("beta"), op.attr("alpha")
    if result_type(op).dtype is not DType.BOOL:
        return plus(source(op), beta, found, alpha)
    if not alpha:
        reject("nothing of the outer product is taken")
    return mil.logical_or(source(op), found) if beta else found


@rewrite(each("outer", "ger"))
def outer(op: Op) -> Value:
    """A column times a row, entry by entry."""
    return _outer(*_two(op, "self", "vec2"))


def _outer(first: Value, second: Value) -> Value:
    times = mil.logical_and if first.tensor.dtype is DType.BOOL else mil.mul
    return times(_column(first), _row(second))


_DOTS = {"dot": ("self", "tensor"), "vdot": ("self", "other"), "linalg_vecdot": ("x", "y")}


@rewrite(each(*_DOTS))
def dot(op: Op) -> Value:
    """A product entry by entry, summed: no matrix is worth it."""
    dim = op.attr("dim") if "dim" in op.defn.by_name else -1
    return dotted(*_two(op, *_DOTS[op.defn.root]), dim)


@rewrite(aten.inner.default)
def inner(op: Op) -> Value:
    """Over the last axes of both; every other axis of one meets every other of the other."""
    x, y = _two(op, "self", "other")
    if not x.rank or not y.rank:
        return mil.mul(x, y)
    if x.rank == y.rank == 1:
        return dotted(x, y)
    rows = reshaped(y, (volume(y.tensor.shape[:-1]), y.tensor.shape[-1]))
    return reshaped(product(_row(x), rows, transpose_y=True), result_type(op).shape)


@rewrite(each("chain_matmul", "linalg_multi_dot"))
def multi_dot(op: Op) -> Value:
    """Matrices multiplied from the left; torch looks for the cheapest order."""
    dtype = result_type(op).dtype
    matrices = [value(operand, dtype) for operand in op.variadic(op.defn.params[0].name)]
    return functools.reduce(multiplied, matrices)


RULES: list[Rule] = [linear, matmul, int_mm, added_product, addbmm, addr, dot, outer, inner, multi_dot]
