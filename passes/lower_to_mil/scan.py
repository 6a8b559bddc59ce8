"""Running sums, products and extrema.

    %y = aten.cumsum.default(%x) {dim=-1}     ->     %y = mil.cumsum(%x) {axis=1}

MIL runs sums only. The others compare each place with all: the axis is laid out once more beside
itself, what lies ahead is hidden by a triangle, and the copy is reduced. That is a fixed number of
ops, but size times as many numbers, so it is limited to short axes.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.ir.types import DType
from anec.passes.lower_to_mil.elementwise import same
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, carrier, choose, filled
from anec.passes.lower_to_mil.symbolic import counted
from anec.passes.lower_to_mil.typing import INT32_MAX, INT32_MIN, axis, cast, result_type, static, value
from anec.rewrite import Rule, reject, rewrite

_MOST = 1 << 24


@rewrite(each("cumsum"))
def cumsum(op: Op) -> Value:
    """The one MIL has."""
    x = same(op)
    return x if x.rank == 0 else mil.cumsum(x, axis=axis(op.attr("dim"), x.rank))


class _Beside:
    """A tensor whose axis ``at`` lies, as seen from each of its places, along a further axis.

    Args:
        x: the tensor.
        at: the axis to run along.
    """

    def __init__(self, x: Value, at: int) -> None:
        sizes = static(x.tensor)
        if math.prod(sizes) * sizes[at] > _MOST:
            reject(f"running along {sizes[at]} of {x.tensor} takes too much memory")
        self.at, self.size = at, sizes[at]
        self.shape = (*sizes[: at + 1], *sizes[at:])
        self.x = mil.expand_dims(x, axes=(at,))
        behind = mil.band_part(filled((self.size, self.size), True, DType.BOOL), lower=-1, upper=0)
        after = len(sizes) - at - 1
        self.behind = mil.expand_dims(behind, axes=tuple(range(2, 2 + after))) if after else behind

    def hidden(self, x: Value, neutral: float) -> Value:
        """``x``, with ``neutral`` in the places ahead."""
        type_ = self.x.tensor.with_shape(self.shape).with_dtype(x.tensor.dtype)
        return choose(self.behind, x, Literal(neutral), type_)

    def reduce(self, target: OpDef, x: Value) -> Value:
        return target(x, axes=(self.at + 1,), keep_dims=False)

    def places(self) -> Value:
        """The place of each element along the further axis."""
        return mil.reshape(counted(self.size), shape=(self.size, *[1] * (len(self.shape) - self.at - 2)))


@rewrite(each("cumprod"))
def cumprod(op: Op) -> Value:
    """The product of what lies behind each place."""
    x = same(op)
    if x.rank == 0:
        return x
    beside = _Beside(x, axis(op.attr("dim"), x.rank))
    return beside.reduce(mil.reduce_prod, beside.hidden(beside.x, 1.0 if x.tensor.dtype.is_float else 1))


@rewrite(each("cummax", "cummin"))
def running_extremum(op: Op) -> tuple[Value, Value]:
    """The extremum so far and its place, the last one of equals as torch has it."""
    dtype = result_type(op).dtype
    largest = op.defn.root == "cummax"
    x = value(op.operand("self"), carrier(dtype))
    if x.rank == 0:
        return as_value(cast(x, dtype)), mil.fill(shape=(), value=0)
    target = mil.reduce_max if largest else mil.reduce_min
    lowest, highest = (-math.inf, math.inf) if x.tensor.dtype.is_float else (INT32_MIN, INT32_MAX)
    beside = _Beside(x, axis(op.attr("dim"), x.rank))
    best = beside.reduce(target, beside.hidden(beside.x, lowest if largest else highest))
    equal = mil.equal(beside.x, mil.expand_dims(best, axes=(beside.at + 1,)))
    here = choose(equal, beside.places(), Literal(-1), beside.x.tensor.with_shape(beside.shape).with_dtype(DType.I32))
    return as_value(cast(best, dtype)), beside.reduce(mil.reduce_max, beside.hidden(here, -1))


@rewrite(each("logcumsumexp", "_logcumsumexp"))
def logcumsumexp(op: Op) -> Value:
    """Each place takes out the maximum of what lies behind it."""
    x = same(op)
    if x.rank == 0:
        return x
    beside = _Beside(x, axis(op.attr("dim"), x.rank))
    known = beside.hidden(beside.x, -math.inf)
    return beside.reduce(mil.reduce_log_sum_exp, known)


RULES: list[Rule] = [cumsum, cumprod, running_extremum, logcumsumexp]
