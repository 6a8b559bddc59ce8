"""Pooling: max and average, over one to three space axes.

    %x: f32[1,3,8,8]
    %y, %i = aten.max_pool2d_with_indices.default(%x) {kernel_size=[3, 3], stride=[2, 2], padding=[1, 1]}
        ->
    %y = mil.max_pool(%x) {kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]}

``ceil_mode`` becomes padding after the last entry, which no maximum sees and no average counts.
Indices that are used are found as ``pool_indices.py`` tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import mil
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.dims import Expr
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.passes.lower_to_mil.movement import gathered, reshaped
from anec.passes.lower_to_mil.padding import padded
from anec.passes.lower_to_mil.pool_indices import first_places, indices_used, windows_side_by_side
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.typing import numbers, result_type, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

Ints = tuple[int, ...]
Pads = list[tuple[int, int]]


def batched(x: Value, count: int) -> Value:
    """``x`` with a batch axis of its own, which torch lets one leave out."""
    return x if x.rank == count + 2 else reshaped(x, (1, *x.tensor.shape))


def floats_only(op: Op, x: Value) -> Value:
    """``x``, which must hold floats.

    Raises:
        UnsupportedError: an integer tensor, which Core ML does not average.
    """
    if not x.tensor.dtype.is_float:
        raise UnsupportedError(
            f"{op.name} of {x.tensor.dtype}; Core ML pools floats only",
            where=op.origin.place,
            hint="cast the tensor to float",
        )
    return x


def pool(kind: OpDef, x: Value, kernel: Ints, stride: Ints, pads: Pads, **more: Attr) -> Value:
    """mil.max_pool or mil.avg_pool with only the attributes that say something."""
    attrs: dict[str, Attr] = {"kernel_sizes": kernel, "pad_type": "valid", **more}
    if any(step != 1 for step in stride):
        attrs["strides"] = stride
    if any(before or after for before, after in pads):
        attrs |= {"pad_type": "custom", "pad": tuple(amount for pair in pads for amount in pair)}
    return kind(x=x, **attrs)


@dataclass(frozen=True, slots=True)
class _Pooling:
    """An op's arguments, one entry a space axis."""

    count: int
    kernel: Ints
    stride: Ints
    padding: Ints
    dilation: Ints
    ceil_mode: bool

    @staticmethod
    def of(op: Op) -> _Pooling:
        count = int(op.defn.root.partition("pool")[2][0])
        kernel = numbers(op.attr("kernel_size"), count)
        # An absent stride is the kernel.
        stride = numbers(op.attr("stride"), count) if op.attr("stride") else kernel
        dilation = numbers(op.attr("dilation"), count) if "dilation" in op.defn.by_name else (1,) * count
        return _Pooling(count, kernel, stride, numbers(op.attr("padding"), count), dilation, bool(op.attr("ceil_mode")))

    def overhang(self, op: Op, x: Value) -> Ints | None:
        """How far the last windows stick out beyond the padding; None when the sizes are symbolic."""
        found = []
        for axis in range(self.count):
            size, windows = x.tensor.shape[2 + axis], op.results[0].tensor.shape[axis - self.count]
            if isinstance(size, Expr) or isinstance(windows, Expr):
                return (0,) * self.count if not self.ceil_mode else None
            span = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            reach = (windows - 1) * self.stride[axis] + span
            found.append(max(0, reach - size - 2 * self.padding[axis]) if self.ceil_mode else 0)
        return tuple(found)

    def along(self, op: Op, x: Value, axis: int) -> list[list[int]]:
        """For each window along a space axis its entries; those in the padding are others, twice.

        Raises:
            Reject: the size is symbolic.
        """
        size, windows = x.tensor.shape[2 + axis], op.results[0].tensor.shape[axis - self.count]
        if isinstance(size, Expr) or isinstance(windows, Expr):
            reject(f"the entries of windows over the symbolic size {size}")
        found = []
        for window in range(windows):
            start = window * self.stride[axis] - self.padding[axis]
            places = (start + entry * self.dilation[axis] for entry in range(self.kernel[axis]))
            inside = [place for place in places if 0 <= place < size]
            if not inside:
                raise UnsupportedError(f"{op.name}: a window lies in the padding alone", where=op.origin.place)
            # A maximum does not mind an entry that comes twice.
            found.append(inside + inside[-1:] * (self.kernel[axis] - len(inside)))
        return found

    def entries(self, op: Op, x: Value) -> list[list[list[int]]]:
        """The entries of all windows, by axis."""
        return [self.along(op, x, axis) for axis in range(self.count)]


@rewrite(each(*(f"max_pool{count}d{form}" for count in (1, 2, 3) for form in ("", "_with_indices"))))
def max_pool(op: Op, ctx: Context) -> list[Value]:
    """Padding never wins, so the overhang of ceil_mode is more of it. Integers are reduced window by window."""
    given = _Pooling.of(op)
    kind = result_type(op)
    x = batched(value(op.operand("self"), kind.dtype), given.count)
    if kind.dtype.is_float and not indices_used(op):
        return [_unbatched(_maximum(op, x, given), x, op)]
    windows, places = windows_side_by_side(op, x, given.entries(op, x), ctx)
    if kind.dtype.is_float:
        best = _maximum(op, x, given)
    else:
        best = mil.reduce_max(windows, axes=(3,), keep_dims=False)
        best = reshaped(best, (*x.tensor.shape[:2], *kind.shape[-given.count :]))
    results = [best, first_places(windows, places, best)] if indices_used(op) else [best]
    return [_unbatched(result, x, op) for result in results]


def _maximum(op: Op, x: Value, given: _Pooling) -> Value:
    overhang = given.overhang(op, x)
    pads = [(pad, pad) for pad in given.padding]
    if any(step != 1 for step in given.dilation):
        return _dilated_max(op, x, given)
    if overhang is None:
        if given.count > 2:
            reject("ceil_mode over three space axes of symbolic size")
        return pool(mil.max_pool, x, given.kernel, given.stride, pads, ceil_mode=True)
    pads = [(before, after + more) for (before, after), more in zip(pads, overhang, strict=True)]
    return pool(mil.max_pool, x, given.kernel, given.stride, pads)


def _unbatched(result: Value, x: Value, op: Op) -> Value:
    wanted = op.results[0].tensor
    return result if wanted.rank == x.rank else reshaped(result, wanted.shape)


def _dilated_max(op: Op, x: Value, given: _Pooling) -> Value:
    """The entries of each window are gathered side by side, so that windows neither overlap nor have gaps."""
    kernel, stride = list(given.kernel), list(given.stride)
    pads = [(pad, pad) for pad in given.padding]
    for axis, step in enumerate(given.dilation):
        if step == 1 and not given.ceil_mode:
            continue
        x = gathered(x, [place for window in given.along(op, x, axis) for place in window], 2 + axis)
        stride[axis], pads[axis] = kernel[axis], (0, 0)
    return pool(mil.max_pool, x, tuple(kernel), tuple(stride), pads)


@rewrite(each("avg_pool1d", "avg_pool2d", "avg_pool3d"))
def avg_pool(op: Op) -> Value:
    """Which zeros an average counts: declared padding when ``count_include_pad``, the overhang never."""
    given = _Pooling.of(op)
    kind = result_type(op)
    x = floats_only(op, batched(value(op.operand("self"), kind.dtype), given.count))
    overhang = given.overhang(op, x)
    divisor = op.attr("divisor_override") if "divisor_override" in op.defn.by_name else None
    counted = bool(op.attr("count_include_pad"))
    pads = [(pad, pad) for pad in given.padding]
    if overhang is None:
        if given.count > 2 or divisor is not None:
            reject("ceil_mode over three space axes of symbolic size, or with a divisor")
        result = pool(
            mil.avg_pool, x, given.kernel, given.stride, pads,
            ceil_mode=True, exclude_padding_from_average=not counted,
        )  # fmt: skip
        return _unbatched(result, x, op)
    whole = [(before, after + more) for (before, after), more in zip(pads, overhang, strict=True)]
    some = any(before or after for before, after in whole)
    if isinstance(divisor, int):
        result = pool(mil.avg_pool, x, given.kernel, given.stride, whole)
        size = 1
        for length in given.kernel:
            size *= length
        return _unbatched(result if size == divisor else mil.mul(result, size / divisor), x, op)
    if counted and any(overhang) and any(given.padding):
        # Declared padding becomes part of the tensor; only the overhang is left out.
        inside = padded(x, [(0, 0), (0, 0), *pads], 0)
        after = [(0, more) for more in overhang]
        result = pool(mil.avg_pool, inside, given.kernel, given.stride, after, exclude_padding_from_average=True)
    elif some and (not counted or any(overhang)):
        result = pool(mil.avg_pool, x, given.kernel, given.stride, whole, exclude_padding_from_average=True)
    else:
        result = pool(mil.avg_pool, x, given.kernel, given.stride, whole)
    return _unbatched(result, x, op)


RULES: list[Rule] = [max_pool, avg_pool]
