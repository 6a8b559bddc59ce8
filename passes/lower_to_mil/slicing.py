"""Taking tensors apart: slices, picks, splits, diagonals.

    %y = aten.slice.Tensor(%x) {dim=1, start=-3, end=9223372036854775807}
        ->
    %y = mil.slice_by_index(%x, [0, 5], [0, 0]) {begin_mask=[true, false], end_mask=[true, true]}

    %y = aten.select.int(%x) {dim=1, index=-1}
        ->
    %y = mil.slice_by_index(%x, [0, 7], [0, 8]) {squeeze_mask=[false, true], ...}

What covers a whole axis builds nothing.
"""

from __future__ import annotations

from itertools import accumulate

from anec.dialects import aten, mil
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.dims import Dim, Expr
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.movement import gathered, moved, permutation_to_end, reshaped, sliced, source
from anec.passes.lower_to_mil.padding import padded
from anec.passes.lower_to_mil.permutation import Movement, volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.symbolic import counted, part, scalar
from anec.passes.lower_to_mil.typing import END, INT32_MAX, axis, result_type
from anec.rewrite import Rule, reject, rewrite


@rewrite(each("slice.Tensor", "slice_copy.Tensor"))
def slice_(op: Op) -> Value:
    """Bounds are counted from the front and clamped, as torch has it, where the size is known."""
    x = source(op)
    if x.rank == 0:
        reject("a slice of a tensor without axes")
    at = axis(op.attr("dim"), x.rank)
    size = x.tensor.shape[at]
    start, end, step = op.attr("start"), op.attr("end"), op.attr("step")
    wanted = result_type(op).shape[at]
    if wanted == 0:
        reject("the slice is empty, and Core ML has no empty tensors")
    begin, stop = _bound(start, size), _bound(end, size)
    if begin == 0:
        begin = None
    if stop is not None and stop == size:
        stop = None
    if not isinstance(step, int):
        reject(f"the step {step} is symbolic")
    if begin is None and stop is None and step == 1:
        return x
    if isinstance(begin, Expr) or isinstance(stop, Expr):
        return _symbolic_slice(x, at, begin, step, wanted)
    return sliced(x, at, begin, stop, step)


def _bound(given: Attr, size: Dim) -> Dim | None:
    """A slice's bound, counted from the end where only that is known; None when it is open.

    torch writes "to the end" as the largest int64.
    """
    if given is None or (isinstance(given, int) and given >= END):
        return None
    assert isinstance(given, (int, Expr))
    if isinstance(given, int) and isinstance(size, int):
        return min(max(given + size if given < 0 else given, 0), size)
    if isinstance(given, int):
        return max(-INT32_MAX, min(given, INT32_MAX))
    from_end = given - size
    if isinstance(from_end, int):
        return from_end if from_end < 0 else None
    return given


def _symbolic_slice(x: Value, at: int, begin: Dim | None, step: int, wanted: Dim) -> Value:
    """A slice that starts or ends at a symbolic size; with steps its entries are gathered."""
    start = begin or 0
    if isinstance(start, int) and start < 0:
        start = x.tensor.shape[at] + start
    if step == 1:
        return part(x, at, start, wanted)
    places = mil.mul(counted(wanted), step)
    return gathered(x, mil.add(places, scalar(start)) if start != 0 else places, at)


@rewrite(each("select.int", "select_copy.int"))
def select(op: Op) -> Value:
    """A pick drops its axis; from an axis of size 1 it is a squeeze."""
    x = source(op)
    at, index = axis(op.attr("dim"), x.rank), op.attr("index")
    size = x.tensor.shape[at]
    if size == 1:
        return reshaped(x, result_type(op).shape)
    if isinstance(index, Expr):
        from_end = index - size
        if not isinstance(from_end, int):
            return reshaped(part(x, at, index, 1), result_type(op).shape)
        index = from_end
    assert isinstance(index, int)
    return sliced(x, at, index + size if index < 0 and isinstance(size, int) else index, squeeze=True)


@rewrite(each("narrow", "narrow_copy"))
def narrow(op: Op) -> Value:
    """``x[start:start + length]``."""
    x, start = source(op), op.attr("start")
    at = axis(op.attr("dim"), x.rank)
    size, length = x.tensor.shape[at], op.attr("length")
    if not isinstance(start, int) or not isinstance(length, int) or not isinstance(size, int):
        assert isinstance(start, (int, Expr))
        assert isinstance(length, (int, Expr))
        return x if length == size else _symbolic_slice(x, at, start, 1, length)
    begin = start + size if start < 0 else start
    if (begin, length) == (0, size):
        return x
    return sliced(x, at, begin or None, begin + length if begin + length < size else None)


# -- splits: the recorded shapes say where to cut ------------------------------------------------

_SPLITS = (
    "split.Tensor split.sizes split_copy.Tensor split_with_sizes split_with_sizes_copy unsafe_split.Tensor "
    "unsafe_split_with_sizes chunk unsafe_chunk tensor_split.sections tensor_split.indices"
).split()
_SPLITS_ALONG = {"vsplit": 0, "hsplit": 1, "dsplit": 2}


@rewrite(each(*_SPLITS))
def split(op: Op) -> list[Value]:
    """One split, whatever rule torch cuts by."""
    return _pieces(op, op.attr("dim"))


@rewrite(each(*(f"{name}.{form}" for name in _SPLITS_ALONG for form in ("int", "array"))))
def split_along(op: Op) -> list[Value]:
    """Splits along an axis that their name says; hsplit cuts vectors along their only one."""
    rank = op.value("self").rank
    return _pieces(op, min(_SPLITS_ALONG[op.defn.root], rank - 1))


def _pieces(op: Op, dim: Attr) -> list[Value]:
    """Cut along ``dim`` into the sizes of the results; an empty piece must be unused."""
    x = source(op)
    at = axis(dim, x.rank)
    sizes = [result.tensor.shape[at] for result in op.results]
    if len(sizes) == 1:
        return [x]
    for result, size in zip(op.results, sizes, strict=True):
        if size == 0 and (result.uses or result.is_output):
            raise UnsupportedError(
                f"{op.name} gives an empty piece, %{result.name}, and Core ML has no empty tensors",
                where=op.origin.place,
            )
    if not all(isinstance(size, int) for size in sizes):
        begins = list(accumulate(sizes, initial=0))
        return [part(x, at, begin, size) for begin, size in zip(begins[:-1], sizes, strict=True)]
    full = [size for size in sizes if size != 0]
    cut = [x] if len(full) == 1 else list(mil.split.many(x, split_sizes=tuple(full), axis=at))
    whole = iter(cut)
    return [next(whole) if size else cut[0] for size in sizes]


@rewrite(each("unbind.int", "unbind_copy.int"))
def unbind(op: Op) -> list[Value]:
    """One pick for each result; picks that nothing uses vanish."""
    x = source(op)
    at = axis(op.attr("dim"), x.rank)
    if len(op.results) == 1:
        return [reshaped(x, op.results[0].tensor.shape)]
    return [sliced(x, at, index, squeeze=True) for index in range(len(op.results))]


# -- diagonals -----------------------------------------------------------------------------------


def diagonal_of(x: Value, first: int, second: int, offset: int, count: Dim) -> Value:
    """The ``count`` entries of a diagonal, on a new last axis.

    With both axes joined they are every (columns + 1)-th entry.
    """
    columns = x.tensor.shape[second]
    if not isinstance(columns, int) or not isinstance(count, int) or count == 0:
        reject("a diagonal that is empty, or of symbolic size")
    order = permutation_to_end((first, second), x.rank)
    shape = [x.tensor.shape[index] for index in order]
    lead = tuple(shape[:-2])
    flat = moved(x, Movement.of(x.tensor.shape).permuted(order), (*lead, volume(shape[-2:])))
    begin = offset if offset >= 0 else -offset * columns
    return sliced(flat, len(lead), begin or None, begin + (count - 1) * (columns + 1) + 1, columns + 1)


@rewrite(each("diagonal", "diagonal_copy"))
def diagonal(op: Op) -> Value:
    """A strided slice of both axes joined."""
    x = source(op)
    first, second = (axis(op.attr(name), x.rank) for name in ("dim1", "dim2"))
    return diagonal_of(x, first, second, _offset(op, "offset"), result_type(op).shape[-1])


def _offset(op: Op, name: str) -> int:
    offset = op.attr(name)
    assert isinstance(offset, int)
    return offset


def _diagonal_matrix(x: Value, offset: int) -> Value:
    """Each entry followed by ``size`` zeros falls on the diagonal when cut into rows of ``size``."""
    *lead, count = x.shape
    size = count + abs(offset)
    column = reshaped(x, (*lead, count, 1))
    spaced = padded(column, [(0, 0)] * (len(lead) + 1) + [(0, size)], 0)
    flat = reshaped(spaced, (*lead, count * (size + 1)))
    begin = offset if offset >= 0 else -offset * size
    length = size * size
    # The last row may stick out beyond the square, which only zeros do.
    kept = min(count * (size + 1), length - begin)
    if kept < count * (size + 1):
        flat = sliced(flat, len(lead), None, kept)
    whole = padded(flat, [(0, 0)] * len(lead) + [(begin, length - begin - kept)], 0)
    return reshaped(whole, (*lead, size, size))


@rewrite(aten.diag_embed.default)
def diag_embed(op: Op) -> Value:
    """The matrices come last, and are then moved to where they belong."""
    x, offset = source(op), _offset(op, "offset")
    rank = result_type(op).rank
    first, second = (axis(op.attr(name), rank) for name in ("dim1", "dim2"))
    if 0 in x.tensor.shape or not x.tensor.is_static:
        reject(f"diagonals of {x.type}")
    if first > second:
        first, second, offset = second, first, -offset
    square = _diagonal_matrix(x, offset)
    order = permutation_to_end((first, second), rank)
    back = tuple(order.index(index) for index in range(rank))
    return moved(square, Movement.of(square.shape).permuted(back), result_type(op).shape)


@rewrite(aten.diag.default)
def diag(op: Op) -> Value:
    """A vector becomes a matrix, a matrix its diagonal."""
    x, offset = source(op), _offset(op, "diagonal")
    return _diagonal_matrix(x, offset) if x.rank == 1 else diagonal_of(x, 0, 1, offset, result_type(op).shape[-1])


@rewrite(aten.diagflat.default)
def diagflat(op: Op) -> Value:
    """A matrix with the flattened tensor on a diagonal."""
    x = source(op)
    return _diagonal_matrix(reshaped(x, (x.tensor.size,)), _offset(op, "offset"))


RULES: list[Rule] = [slice_, select, narrow, split, split_along, unbind, diagonal, diag_embed, diag, diagflat]
