"""A long axis, folded into rows: what works along it works on all rows at once.

    %x: f32[1,2,20480], %w: f32[4,2,3] weight
    %1 = mil.conv(%x, %w) {strides=[2]}
        ->
    %1 = mil.reshape(%x, [1, 2, 2, 10240])
    %2 = mil.slice_by_index(%1, [0, 0, 1, 0], [0, 0, 2, 1]) {begin_mask=[true, true, false, false],
                                                             end_mask=[true, true, false, false]}
    %3 = mil.pad(%2, [0, 0, 0, 0, 0, 1, 0, 0])
    %4 = mil.concat([%1, %3]) {axis=3}
    %5 = mil.expand_dims(%w) {axes=[2]}
    %6 = mil.conv(%4, %5) {strides=[1, 2], pad_type="valid"}
    %7 = mil.reshape(%6, [1, 4, 10240])
    %y = mil.slice_by_index(%7, [0, 0, 0], [0, 0, 10239]) {begin_mask=[true, true, false],
                                                           end_mask=[true, true, false]}

A row ends with what the next one begins with, as far as a window reaches (and begins with the end of the
one before, where the operand is padded), so the number of ops does not grow with the length. Convolutions and
what works position by position keep the rows; the last of them gives one row again. Behind the end of the
last row stands what the same ops made of zeros: it is finite, and cut off, or zeroed where it would count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.ane.limits import Limits
from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.ane_layout.projections import cut_of
from anec.passes.ane_legalize.pointwise import BOUNDED, BOUNDED_PAIRS
from anec.passes.ane_legalize.windows import Convolution, convolution, window_of
from anec.passes.common import known, varying
from anec.passes.lower_to_mil.movement import joined, reshaped, sliced
from anec.passes.lower_to_mil.padding import padded
from anec.passes.lower_to_mil.shared import filled
from anec.rewrite import Rule, any_of, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

# Rows of a multiple of 64 are halved by six strided convolutions (wav2vec 2.0); 16 will do where nothing is left over.
_UNITS = (64, 32, 16)
# An eighth of a row is left for what neighbours share.
_FILLED = 7 / 8


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows of what length hold a long axis."""

    count: int
    length: int

    @staticmethod
    def of(length: int, step: int, limits: Limits) -> Rows:
        """Rows for at least ``length`` entries: few, and with nothing behind the end if four times as few do it.

        Args:
            length: of the axis.
            step: each row is a multiple of it.
            limits: of the generation.

        Raises:
            Reject: not even one step fits.
        """
        for unit in (math.lcm(step, unit) for unit in _UNITS):
            fewest = math.ceil(length / limits.width / _FILLED)
            exact = (n for n in range(fewest, 4 * fewest + 1) if length % (n * unit) == 0)
            count = next(exact, None)
            if count is not None:
                return Rows(count, length // count)
        unit = math.lcm(step, _UNITS[0])
        most = int(limits.width * _FILLED) // unit * unit
        if not most:
            reject(f"a row holds no {unit} entries")
        row = math.ceil(length / math.ceil(length / most) / unit) * unit
        return Rows(math.ceil(length / row), row)


def unfolded(x: Value, length: int, rank: int) -> Value:
    """Rows, [batch, channels, rows, row], as one of ``length``: the shape has ``rank`` axes."""
    batch, channels, count, row = x.shape
    flat = reshaped(x, (batch, channels, *(1,) * (rank - 3), count * row))
    return sliced(flat, rank - 1, 0, length) if length < count * row else flat


def folded(value: Value) -> Value | None:
    """The rows, [batch, channels, rows, row], that begin with ``value``, where it was unfolded from some."""
    op = value.op
    if op is not None and op.defn is mil.slice_by_index and op.value("x").tensor.is_static:
        cut = cut_of(op)
        if cut is None or cut[:2] != (value.rank - 1, 0) or op.results[0].rank != op.value("x").rank:
            return None
        op = op.value("x").op
    if op is None or op.defn is not mil.reshape or not op.value("x").tensor.is_static:
        return None
    rows, flat = op.value("x"), op.results[0].shape
    if rows.rank != 4 or rows.shape[2] == 1 or flat not in (_flat(rows, 3), _flat(rows, 4)):
        return None
    return rows


def _flat(rows: Value, rank: int) -> tuple[int, ...]:
    batch, channels, count, row = rows.shape
    return (batch, channels, *(1,) * (rank - 3), count * row)


def _inside(rows: Value, length: int) -> Value:
    """1 for the first ``length`` entries of rows, 0 behind the end."""
    count, row = rows.shape[2:]
    ones = padded(filled((length,), 1.0, rows.tensor.dtype), [(0, count * row - length)], 0.0)
    return reshaped(ones, (1, 1, count, row))


def _ended(rows: Value, length: int) -> Value:
    """Rows with zeros behind the end."""
    return rows if rows.shape[2] * rows.shape[3] == length else mil.mul(rows, _inside(rows, length))


@rewrite(mil.conv(varying("x"), rest))
def conv_in_rows(op: Op, opts: AneLegalize) -> Value:
    """A convolution along an axis that is too long works on rows that overlap by its window."""
    limits, given = opts.limits, (op.value("x").tensor, op.results[0].tensor)
    if all(kind.is_static and kind.static_shape[-1] <= limits.width for kind in given):
        reject("the axis is short enough")
    found = convolution(op)
    others = (*found.space[:-1], *found.counts[:-1], *found.window.kernel[:-1])
    if found.x.rank > 4 or any(size != 1 for size in others):
        reject("there are several axes")
    step, before = found.window.stride[-1], found.pads[-1][0]
    span, count = found.window.spans[-1], found.counts[-1]
    if max(found.pads[-1]) >= span:
        reject("a window lies in the padding")
    rows = _rows_for(found, limits)
    made = rows.shape[3] // step
    behind = span - step - before
    if before + rows.shape[3] + max(behind, 0) > limits.width or max(before, behind) > rows.shape[3]:
        reject("a window reaches beyond the next row")
    x = _overlapping(rows, before, behind)
    weight = reshaped(found.weight, (*found.weight.shape[:2], 1, found.weight.shape[-1]))
    window = window_of((1, weight.shape[3]), (1, step), (1, found.window.dilation[-1]))
    result = found.again(x, weight, window, [(0, 0), (0, 0)])
    assert result.shape[2:] == (rows.shape[2], made)
    return unfolded(result, count, found.x.rank)


def _rows_for(found: Convolution, limits: Limits) -> Value:
    """The operand in rows: those it was unfolded from, if they fit, else new ones."""
    step, (before, after), size = found.window.stride[-1], found.pads[-1], found.space[-1]
    count = found.counts[-1]
    rows = folded(found.x)
    if rows is not None and rows.shape[3] % step == 0 and rows.shape[2] * rows.shape[3] >= count * step:
        return _ended(rows, size) if after else rows
    # What the last window reads stands in a row of its own, not behind the last one.
    read = min((count - 1) * step - before + found.window.spans[-1], size)
    fit = Rows.of(max(count, math.ceil(read / step)) * step, step, limits)
    batch, channels = found.x.shape[:2]
    outer = [(0, 0)] * (found.x.rank - 1)
    x = padded(found.x, [*outer, (0, fit.count * fit.length - size)], 0.0)
    return reshaped(x, (batch, channels, fit.count, fit.length))


def _overlapping(rows: Value, before: int, behind: int) -> Value:
    """Each row with the end of the one before and the beginning of the next."""
    count, length = rows.shape[2:]
    parts = [rows]
    if before > 0:
        ends = _corner(rows, range(count - 1), range(length - before, length))
        parts.insert(0, padded(ends, [(0, 0), (0, 0), (1, 0), (0, 0)], 0.0))
    if behind > 0:
        beginnings = _corner(rows, range(1, count), range(behind))
        parts.append(padded(beginnings, [(0, 0), (0, 0), (0, 1), (0, 0)], 0.0))
    return joined(parts, 3)


def _corner(rows: Value, down: range, across: range) -> Value:
    """Some entries of some rows."""
    begin, end, whole = (0, 0, down.start, across.start), (0, 0, down.stop, across.stop), (True, True, False, False)
    return mil.slice_by_index(rows, begin, end, begin_mask=whole, end_mask=whole)


# Position by position, and finite where their operand is.
_UNARY = (*BOUNDED, "prelu", "batch_norm", "layer_norm")
x, y = varying("x"), varying("y")


@rewrite(any_of(*(mil.resolve(name)(rest, x=x) for name in _UNARY), *(defn(rest) for defn in BOUNDED_PAIRS)))
def pointwise_in_rows(op: Op, opts: AneLegalize) -> Value:
    """What works position by position works on rows as it does on one."""
    result = op.results[0].tensor
    if not result.is_static or result.rank not in (3, 4) or result.static_shape[-1] <= opts.limits.width:
        reject("the axis is short enough")
    if op.defn is mil.layer_norm and op.attr("axes") != (1,):
        reject("it works along the axis")
    shape = result.static_shape
    found = {name: _in_rows(op.operand(name), shape) for name in ("x", "y") if name in op.defn.by_name}
    rows = [value for value in found.values() if value is not None and value.rank == 4 and value.shape[2] > 1]
    if not rows or any(value.shape[2:] != rows[0].shape[2:] for value in rows):
        reject("the operands are not in the same rows")
    changes = {name: value for name, value in found.items() if value is not None}
    arguments = {name: given for name, given in op.arguments().items() if given is not None}
    made: Value = op.defn.build((), {**arguments, **op.attrs, **changes}).result
    return unfolded(made, shape[-1], len(shape))


def _in_rows(operand: object, shape: Sequence[int]) -> Value | None:
    """An operand beside rows: in rows itself, or with one more axis; None for a number.

    Raises:
        Reject: it is long, and in no rows.
    """
    if isinstance(operand, Literal) or not isinstance(operand, Value):
        return None if not isinstance(operand, Literal) or not isinstance(operand.value, tuple) else reject("a list")
    if not operand.tensor.is_static:
        reject("sizes are symbolic")
    given = operand.shape
    if given == tuple(shape):
        return folded(operand) or reject(f"%{operand.name} is not in rows")
    if given and given[-1] != 1:
        reject(f"%{operand.name} is {operand.tensor}")
    return reshaped(operand, (*given, 1)) if len(shape) == 3 and given else operand


@rewrite(mil.instance_norm(x, rest))
def norm_in_rows(op: Op, opts: AneLegalize, x: Value) -> Value:
    """A norm along the whole axis: means of rows, without what stands behind the end."""
    shape = op.results[0].tensor.shape
    if not x.tensor.is_static or x.rank not in (3, 4) or x.shape[-1] <= opts.limits.width:
        reject("the axis is short enough")
    rows = folded(x)
    if rows is None:
        reject(f"%{x.name} is not in rows")
    length = x.shape[-1]
    gamma, beta, epsilon = op.operand("gamma"), op.operand("beta"), op.attr("epsilon")
    if rows.shape[2] * rows.shape[3] == length:
        return unfolded(mil.instance_norm(rows, gamma, beta, epsilon=epsilon), length, len(shape))
    scale = rows.shape[2] * rows.shape[3] / length
    inside = _inside(rows, length)
    mean = mil.mul(mil.reduce_mean(mil.mul(rows, inside), axes=(2, 3), keep_dims=True), scale)
    centred = mil.sub(rows, mean)
    kept = mil.mul(centred, inside)
    variance = mil.mul(mil.reduce_mean(mil.mul(kept, kept), axes=(2, 3), keep_dims=True), scale)
    made = mil.mul(centred, mil.rsqrt(variance, epsilon=epsilon))
    for defn, given in ((mil.mul, gamma), (mil.add, beta)):
        made = made if given is None else defn(made, _column(given))
    return unfolded(made, length, len(shape))


def _column(vector: object) -> Value:
    """A vector of channels beside [batch, channels, rows, row]."""
    if not isinstance(vector, Value) or not known(vector) or vector.tensor.dtype not in (DType.F32, DType.F16):
        reject("the scale is no constant vector")
    return reshaped(vector, (vector.shape[0], 1, 1))


RULES: list[Rule] = [conv_in_rows, pointwise_in_rows, norm_in_rows]
