"""Determinants, inverses and linear systems of matrices up to 4 x 4, by cofactors.

    %d, %lu, %p = aten._linalg_det.default(%a)     %a: f32[2,2]
        ->
    %1 = mil.reverse(%a) {axes=[0, 1]}
    %2 = mil.mul(%1, [[1.0, -1.0], [-1.0, 1.0]])
    %3 = mil.slice_by_index(%a, [0, 0], [1, 0]) {begin_mask=[true, true], end_mask=[false, true]}
    %4 = mil.slice_by_index(%2, [0, 0], [1, 0]) {begin_mask=[true, true], end_mask=[false, true]}
    %5 = mil.mul(%3, %4)
    %d = mil.reduce_sum(%5) {axes=[0, 1], keep_dims=false}

At most 40 ops, and the only divisions are by the determinant and by the largest entry: a matrix is not
factorized, so there are no pivots to choose. Torch refuses singular matrices when it runs; here their
inverse is infinite or NaN. In float32 an inverse is as near as torch's up to a condition of 1e4.

A larger matrix must be constant: its inverse is computed before emission.
"""

from __future__ import annotations

from itertools import combinations, permutations

from anec.dialects import aten, mil
from anec.ir.attrs import Literal
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.matmul import product, swapped
from anec.passes.lower_to_mil.movement import sliced
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, with_rank
from anec.passes.lower_to_mil.typing import cast, result_type, value
from anec.rewrite import Rule, reject, rewrite

_LARGEST = 4
_PAIRS = tuple(combinations(range(4), 2))


def _square(op: Op, *, inverted: bool) -> tuple[Value, int]:
    """A matrix, or a batch of them, and the number of its rows; a constant is inverted at any size."""
    a = value(op.operand(op.defn.params[0].name), result_type(op).dtype)
    size = a.tensor.shape[-1]
    if not isinstance(size, int) or size < 1:
        reject(f"the size of {a.tensor} is not fixed")
    if size > _LARGEST and not (inverted and is_constant(a)):
        reject(
            f"a matrix of {size} x {size} is factorized step by step: compute it outside of the model; "
            f"up to {_LARGEST} x {_LARGEST} it is written out"
        )
    return a, size


def _alone(op: Op, first: int = 1) -> None:
    """Only the results in front may be used: cofactors give no factorization, and no index of a zero pivot."""
    if any(result.uses or result.is_output for result in op.results[first:]):
        reject("its factors or its report of errors are used")


def _rest(op: Op, first: int = 1) -> list[Value]:
    """Stand-ins for results that nothing uses."""
    kinds = [result_type(op, index) for index in range(first, len(op.results))]
    return [mil.fill(shape=kind.static_shape, value=0.0 if kind.dtype.is_float else 0) for kind in kinds]


def _rows(a: Value, first: int, count: int) -> Value:
    """Some rows of each matrix."""
    return sliced(a, a.rank - 2, first or None, first + count)


def _block(doubled: Value, row: int, column: int) -> Value:
    """Three rows and columns of matrices of six."""
    rank = doubled.rank
    begin = [*[0] * (rank - 2), row, column]
    end = [*[0] * (rank - 2), row + 3, column + 3]
    whole = (*[True] * (rank - 2), False, False)
    return mil.slice_by_index(doubled, begin, end, begin_mask=whole, end_mask=whole)


def _cofactors(a: Value, size: int) -> Value:
    """What each entry is multiplied by in the determinant."""
    ends = (a.rank - 2, a.rank - 1)
    if size == 2:
        return mil.mul(mil.reverse(a, axes=ends), Literal(((1.0, -1.0), (-1.0, 1.0))))
    if size == 3:
        # Rows and columns count on from the start: what is left of them is in order, and all signs are plus.
        tall = mil.concat([a, a], axis=ends[0])
        twice = mil.concat([tall, tall], axis=ends[1])
        down, up = ((_block(twice, 1, c), _block(twice, 2, 3 - c)) for c in (1, 2))
        return mil.sub(mil.mul(*down), mil.mul(*up))
    # Laplace: minors of two rows, and what they are multiplied by in the cofactors of the other two.
    upper, lower = _rows(a, 0, 2), _rows(a, 2, 2)
    turns = Literal(((1.0,), (-1.0,)))
    halves = [
        mil.matmul(mil.mul(mil.reverse(mine, axes=(ends[0],)), turns), _dual(_minors(other)))
        for mine, other in ((upper, lower), (lower, upper))
    ]
    return mil.concat(halves, axis=ends[0])


def _minors(two: Value) -> Value:
    """The determinants of two rows for each pair of their four columns: [..., 6]."""
    last = two.rank - 1
    left, right = (mil.gather(two, Literal(columns), axis=last) for columns in zip(*_PAIRS, strict=True))
    products = mil.mul(left, mil.reverse(right, axes=(last - 1,)))
    return mil.squeeze(mil.sub(_rows(products, 0, 1), _rows(products, 1, 1)), axes=(last - 1,))


def _dual(minors: Value) -> Value:
    """Antisymmetric matrices of the minors, each where neither of its columns is: [..., 4, 4]."""
    places = [[0] * 4 for _ in range(4)]
    signs = [[0.0] * 4 for _ in range(4)]
    for row, column, *pair in permutations(range(4)):
        if tuple(pair) in _PAIRS:
            places[row][column] = _PAIRS.index((pair[0], pair[1]))
            order = (column, row, *pair)
            signs[row][column] = -1.0 if sum(a > b for a, b in combinations(order, 2)) % 2 else 1.0
    spread = mil.gather(minors, Literal(tuple(map(tuple, places))), axis=minors.rank - 1)
    return mil.mul(spread, Literal(tuple(map(tuple, signs))))


def _determinant(a: Value, cofactors: Value, *, keep: bool) -> Value:
    """Along the first row."""
    terms = mil.mul(_rows(a, 0, 1), _rows(cofactors, 0, 1))
    return mil.reduce_sum(terms, axes=(a.rank - 2, a.rank - 1), keep_dims=keep)


def _inverse(a: Value, size: int) -> Value:
    """The transposed cofactors over the determinant, of the matrix divided by its largest entry.

    So the fourth power of an entry stays within the range of the dtype. A step of Newton's brings
    the result to where a factorization would be: a minor cancels as the square of the condition.
    """
    if is_constant(a):
        found: Value = aten.linalg_inv.default(a)
        return found
    if size == 1:
        return mil.real_div(1.0, a)
    largest = mil.reduce_max(mil.abs(a), axes=(a.rank - 2, a.rank - 1), keep_dims=True)
    scaled = mil.real_div(a, largest)
    cofactors = _cofactors(scaled, size)
    inverse = mil.real_div(swapped(cofactors), _determinant(scaled, cofactors, keep=True))
    if size > 2:
        one = Literal(tuple(tuple(float(row == column) for column in range(size)) for row in range(size)))
        residual = mil.sub(one, mil.matmul(scaled, inverse))
        inverse = mil.add(inverse, mil.matmul(inverse, residual))
    return mil.real_div(inverse, largest)


def _small_determinant(op: Op) -> Value:
    a, size = _square(op, inverted=False)
    if size == 1:
        return mil.squeeze(a, axes=(a.rank - 2, a.rank - 1))
    return _determinant(a, _cofactors(a, size), keep=False)


@rewrite(each("_linalg_det", "linalg_det", "det"))
def determinant(op: Op) -> list[Value]:
    """The first row times its cofactors."""
    _alone(op)
    return [_small_determinant(op), *_rest(op)]


@rewrite(each("_linalg_slogdet", "linalg_slogdet", "slogdet"), edges=False)
def log_determinant(op: Op) -> list[Value]:
    """Its sign, and the logarithm of its size."""
    _alone(op, 2)
    found = _small_determinant(op)
    return [mil.sign(found), mil.log(mil.abs(found), epsilon=0.0), *_rest(op, 2)]


@rewrite(each("linalg_inv_ex", "linalg_inv", "inverse"), edges=False)
def inverse(op: Op) -> list[Value]:
    """Of torch's several spellings all become this one."""
    _alone(op)
    a, size = _square(op, inverted=True)
    if is_constant(a):
        reject("the inverse of a constant is computed before emission")
    return [_inverse(a, size), *_rest(op)]


@rewrite(each("_linalg_solve_ex", "linalg_solve"), edges=False)
def solution(op: Op) -> list[Value]:
    """The inverse times the right sides; a vector where these have one axis less, as torch decides it."""
    _alone(op)
    a, size = _square(op, inverted=True)
    b = as_value(cast(op.operand("B"), a.tensor.dtype))
    vector = b.rank == 1 or (a.rank - 1 == b.rank and b.tensor.shape == a.tensor.shape[:-1])
    right = with_rank(b, b.rank + 1) if vector else b
    left = bool(op.attr("left"))
    inverted = _inverse(a, size)
    found = product(inverted, right) if left else product(right, inverted)
    return [mil.squeeze(found, axes=(found.rank - 1,)) if vector else found, *_rest(op)]


RULES: list[Rule] = [determinant, log_determinant, inverse, solution]
