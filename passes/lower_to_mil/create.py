"""Tensors made from nothing: fills, ranges, triangles.

    %y = aten.full.default() {size=[2, 3], fill_value=0.5}     ->     %y = mil.fill([2, 3]) {value=0.5}
    %y = aten.tril.default(%x) {diagonal=-1}                   ->     %1 = mil.fill([2, 8]) {value=true}
                                                                      %2 = mil.band_part(%1) {lower=0, upper=-1}
                                                                      %y = mil.select(%2, 0.0, %x)

These are constants mostly, so they are computed before emission and their ops cost nothing. A
tensor that torch leaves uninitialised is zeros.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Expr
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType
from anec.passes.lower_to_mil.elementwise import pair, same
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, choose, computed_fill, filled, filled_like
from anec.passes.lower_to_mil.symbolic import counted, scalar
from anec.passes.lower_to_mil.typing import INT32_MAX, NARROW_INTEGERS, cast, in_range, int32, result_type, static
from anec.rewrite import Rule, reject, rewrite


def _fill(op: Op, given: Attr) -> Value:
    """The number in the shape of the result; a symbolic shape is read off ``self`` or computed."""
    type_, dtype = result_type(op), op.results[0].tensor.dtype
    if isinstance(given, (int, float)) and dtype in NARROW_INTEGERS:
        given = in_range(int(given), dtype)
    if type_.is_static:
        return filled(type_.static_shape, given, type_.dtype)
    like = op.operand("self") if "self" in op.defn.by_name else None
    if isinstance(like, Value) and like.tensor.shape == type_.shape:
        return filled_like(like, given, type_.dtype)
    return computed_fill(type_, given)


@rewrite(each("full", "full_like", "new_full", "scalar_tensor", "fill.Scalar"))
def full(op: Op) -> Value:
    """One fill."""
    for name in ("fill_value", "value", "s"):
        if name in op.defn.by_name:
            given = op.attr(name)
            if not isinstance(given, (bool, int, float)):
                reject(f"{name} is {given}, not a number known here")
            return _fill(op, given)
    raise AssertionError(op.name)


@rewrite(each("ones", "ones_like", "new_ones"))
def ones(op: Op) -> Value:
    """A fill of 1, or of True."""
    return _fill(op, 1)


@rewrite(
    each(
        "zeros",
        "zeros_like",
        "new_zeros",
        "zero",
        "empty.memory_format",
        "empty_like",
        "empty_strided",
        "empty_permuted",
        "new_empty",
        "new_empty_strided",
        "_efficientzerotensor",
    )
)
def zeros(op: Op) -> Value:
    """A fill of 0; also what torch would leave uninitialised."""
    return _fill(op, 0)


@rewrite(each("arange", "arange.start", "arange.start_step"))
def arange(op: Op) -> Value:
    """Floats are start + step * i over whole i, as torch has them: no error adds up."""
    type_ = result_type(op)
    (size,) = type_.shape
    start, step = (op.attr(name) if name in op.defn.by_name else None for name in ("start", "step"))
    first, by = (0 if start is None else start), (1 if step is None else step)
    if isinstance(size, int) and isinstance(first, (int, float)) and isinstance(by, (int, float)):
        return _progression(size, first, by, type_.dtype)
    # Of a symbolic size, or from a symbolic start: start + step * i.
    steps = as_value(cast(counted(size), type_.dtype))
    scaled = steps if by == 1 else mil.mul(steps, cast(Literal(by), type_.dtype))
    return scaled if first == 0 else mil.add(scaled, cast(Literal(first), type_.dtype))


@rewrite(each("linspace"))
def linspace(op: Op) -> Value:
    """Floats only: start + step * i."""
    type_ = result_type(op)
    (size,) = static(type_)
    start, end = op.attr("start"), op.attr("end")
    if not isinstance(start, (int, float)) or not isinstance(end, (int, float)) or not type_.dtype.is_float:
        reject("only numbers known here and float results")
    return _progression(size, float(start), (end - start) / max(size - 1, 1), type_.dtype)


@rewrite(each("linspace.Tensor_Tensor", "linspace.Tensor_Scalar", "linspace.Scalar_Tensor"))
def linspace_between(op: Op) -> Value:
    """Between computed ends: start * (1 - t) + end * t, or whole steps for integers."""
    type_ = result_type(op)
    (size,) = static(type_)
    start, end = pair(op, type_.dtype, "start", "end")
    if size == 0:
        return filled((0,), 0, type_.dtype)
    if type_.dtype is DType.I32:
        return _whole_steps(start, end, size)
    return _between(start, end, size, type_.dtype)


def _between(start: Operand, end: Operand, size: int, dtype: DType) -> Value:
    share = _progression(size, 0.0, 1 / max(size - 1, 1), dtype)
    return mil.add(mil.mul(mil.sub(1.0, share), start), mil.mul(share, end))


@rewrite(each("logspace.Tensor_Tensor", "logspace.Tensor_Scalar", "logspace.Scalar_Tensor"))
def logspace_between(op: Op) -> Value:
    """The base to the power of what linspace gives; ends of integers are cut off first (a lone one is not)."""
    type_, base = result_type(op), op.attr("base")
    (size,) = static(type_)
    if not isinstance(base, (int, float)):
        reject(f"base is {base}, not a number known here")
    if size == 0:
        return filled((0,), 0, type_.dtype)
    whole = type_.dtype is DType.I32
    start, end = pair(op, DType.I32 if whole and size > 1 else DType.F32, "start", "end")
    exponents = _between(cast(start, DType.F32), cast(end, DType.F32), size, DType.F32)
    powers = mil.pow(Literal(float(base)), exponents)
    if whole:
        # torch computes in float64; in float32 a power that is whole may come out just below it.
        powers = mil.add(powers, mil.clip(mil.mul(powers, 2.0**-18), alpha=-0.25, beta=0.25))
    return as_value(cast(powers, type_.dtype))


def _whole_steps(start: Operand, end: Operand, size: int) -> Value:
    """The fraction start + (end - start) * i / last, cut off towards 0.

    Nothing leaves int32 but a way from start to end that does. Exact, where torch, which steps in float64, falls
    short of a whole number now and then.
    """
    last = max(size - 1, 1)
    if last**2 > INT32_MAX:
        reject(f"{size} integers; up to 46341 can be spaced within int32")
    steps = mil.range_1d(end=size, start=0, step=1)
    way = mil.sub(end, start)
    stride = mil.floor_div(way, last)
    rest = mil.mul(mil.sub(way, mil.mul(stride, last)), steps)
    below = mil.add(mil.add(mil.mul(stride, steps), start), mil.floor_div(rest, last))
    cut = mil.logical_and(mil.less(below, 0), mil.not_equal(mil.mod(rest, last), 0))
    return mil.add(below, mil.cast(cut, dtype="int32"))


def _progression(size: int, first: float, by: float, dtype: DType) -> Value:
    if size == 0 or by == 0:
        return filled((size,), first, dtype)
    if not dtype.is_float or (float(first).is_integer() and float(by).is_integer()):
        begin, step = int(first), int(by)
        if step == 0:
            return filled((size,), begin, dtype)
        counted = mil.range_1d(end=int32(begin + size * step), start=int32(begin), step=int32(step))
        return as_value(cast(counted, dtype))
    steps = as_value(cast(mil.range_1d(end=size, start=0, step=1), DType.F32))
    scaled = steps if by == 1 else mil.mul(steps, float(by))
    return as_value(cast(scaled if first == 0 else mil.add(scaled, float(first)), dtype))


@rewrite(each("eye", "eye.m"))
def eye(op: Op) -> Value:
    """The diagonal of a tensor of ones; of symbolic sizes, where the row is the column."""
    type_ = result_type(op)
    if not type_.is_static:
        rows, columns = map(counted, type_.shape)
        return as_value(cast(mil.equal(mil.expand_dims(rows, axes=(1,)), columns), type_.dtype))
    return mil.band_part(filled(static(type_), 1, type_.dtype), lower=0, upper=0)


@rewrite(each("tril", "triu"))
def triangle(op: Op) -> Value:
    """One band_part where the diagonal is kept; a triangle beside it is what the other one leaves."""
    type_ = result_type(op)
    x = same(op)
    diagonal = op.attr("diagonal")
    lower = op.defn.root == "tril"
    rows, columns = type_.shape[-2:]
    if not isinstance(diagonal, int) or not isinstance(rows, int) or not isinstance(columns, int):
        assert isinstance(diagonal, (int, Expr))
        ends = mil.add(mil.expand_dims(counted(rows), axes=(1,)), scalar(diagonal))
        compare = mil.less_equal if lower else mil.greater_equal
        return choose(compare(counted(columns), ends), x, Literal(0), type_)
    reach = diagonal if lower else -diagonal
    if reach >= 0:
        return _band(x, lower, reach)
    outside = _band(filled(static(type_)[-2:], True, DType.BOOL), not lower, -reach - 1)
    return choose(outside, Literal(0), x, type_)


def _band(x: Value, lower: bool, reach: int) -> Value:
    """All of one side, and ``reach`` diagonals of the other."""
    return mil.band_part(x, lower=-1 if lower else reach, upper=reach if lower else -1)


RULES: list[Rule] = [full, ones, zeros, arange, linspace, linspace_between, logspace_between, eye, triangle]
