"""Sliding windows: Tensor.unfold and its adjoint, F.unfold (im2col) and F.fold (col2im).

    %x: f32[1,8,16,16]
    %y = aten.im2col.default(%x) {kernel_size=[3, 3], dilation=[1, 1], padding=[1, 1], stride=[1, 1]}
        ->
    %1 = mil.conv(%x, %one_hot) {pad_type="custom", pad=[1, 1, 1, 1], groups=8}
    %y = mil.reshape(%1, [1, 72, 256])

The weight picks one entry of the window for each output channel. Windows side by side are views.
"""

from __future__ import annotations

from anec.dialects import aten, mil
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.conv import Window, convolved, convolved_transposed, one_hot
from anec.passes.lower_to_mil.movement import (
    gathered,
    moved,
    permutation_to_end,
    rearranged,
    reshaped,
    sliced,
    source,
    transposed,
)
from anec.passes.lower_to_mil.padding import padded
from anec.passes.lower_to_mil.permutation import Movement, volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import inverse_permutation
from anec.passes.lower_to_mil.typing import MIL_NAMES, axis, result_type, static
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite


@rewrite(each("unfold", "unfold_copy"))
def unfold(op: Op) -> Value:
    """Windows of ``size`` along one axis, in a new last axis."""
    x = source(op)
    size, step = _known(op.attr("size")), _known(op.attr("step"))
    wanted = result_type(op)
    if x.rank == 0:
        return reshaped(x, wanted.shape)
    at = axis(op.attr("dimension"), x.rank)
    shape = x.tensor.shape
    count = wanted.shape[at]
    order = permutation_to_end((at + 1,), x.rank + 1)
    if count == 1:
        first = x if shape[at] == size else sliced(x, at, None, size)
        sizes = (*shape[:at], 1, size, *shape[at + 1 :])
        return moved(first, Movement.of(sizes).permuted(order), wanted.shape)
    if size == step:
        cut = x if shape[at] == count * size else sliced(x, at, None, _known(count * size))
        sizes = (*shape[:at], count, size, *shape[at + 1 :])
        return moved(cut, Movement.of(sizes).permuted(order), wanted.shape)
    dtype = x.tensor.dtype
    numbers = x if dtype is not DType.BOOL else mil.cast(x, dtype=MIL_NAMES[DType.I32])
    windows = mil.sliding_windows(numbers, axis=at, size=size, stride=step)
    last = windows if at == x.rank - 1 else mil.transpose(windows, perm=order)
    return last if dtype is not DType.BOOL else mil.cast(last, dtype=MIL_NAMES[DType.BOOL])


def _known(size: object) -> int:
    if not isinstance(size, int):
        reject(f"windows of, or along, the symbolic size {size}")
    return size


def _pair(given: Attr) -> tuple[int, int]:
    items = given if isinstance(given, tuple) else (given,)
    return _known(items[0]), _known(items[-1])


def _window(op: Op) -> Window:
    return Window(*(_pair(op.attr(name)) for name in ("kernel_size", "stride", "padding", "dilation")))


@rewrite(aten.im2col.default)
def im2col(op: Op, ctx: Context) -> Value:
    """A grouped convolution for floats, two gathers for booleans."""
    x, window = source(op), _window(op)
    wanted = result_type(op).shape
    batch, channels, height, width = (1,) * (4 - x.rank) + static(x.tensor)
    image = reshaped(x, (batch, channels, height, width))
    rows, columns = window.counts((height, width))
    kernel = window.kernel
    if window.tiles((height, width)):
        sizes = (batch * channels, rows, kernel[0], columns, kernel[1])
        return rearranged(image, sizes, (0, 2, 4, 1, 3), wanted)
    if x.tensor.dtype.is_float:
        weight = one_hot(op, ctx, channels, kernel, x.tensor.dtype)
        return reshaped(convolved(image, weight, None, window, channels), wanted)
    top, left = window.padding
    grown = padded(image, [(0, 0), (0, 0), (top, top), (left, left)], 0)
    tall = gathered(grown, window.places(0, rows), 2)
    wide = gathered(tall, window.places(1, columns), 3)
    sizes = (batch * channels, kernel[0], rows, kernel[1], columns)
    return rearranged(wide, sizes, (0, 1, 3, 2, 4), wanted)


@rewrite(aten.col2im.default)
def col2im(op: Op, ctx: Context) -> Value:
    """Windows are added where they overlap: a transposed convolution with the same weight."""
    x, window = source(op), _window(op)
    size = _pair(op.attr("output_size"))
    wanted = result_type(op).shape
    batch, depth, _ = (1,) * (3 - x.rank) + static(x.tensor)
    rows, columns = window.counts(size)
    kernel = window.kernel
    channels = depth // (kernel[0] * kernel[1])
    if window.tiles(size):
        sizes = (batch * channels, kernel[0], kernel[1], rows, columns)
        return rearranged(x, sizes, (0, 3, 1, 4, 2), wanted)
    if not x.tensor.dtype.is_float:
        raise UnsupportedError(
            f"{op.name} adds {x.tensor.dtype}; Core ML adds windows of floats only", where=op.origin.place
        )
    weight = one_hot(op, ctx, channels, kernel, x.tensor.dtype)
    image = reshaped(x, (batch, depth, rows, columns))
    extra = tuple(
        size[i] - ((count - 1) * window.stride[i] + window.spans[i] - 2 * window.padding[i])
        for i, count in enumerate((rows, columns))
    )
    return reshaped(convolved_transposed(image, weight, None, window, channels, extra), wanted)


@rewrite(each("unfold_backward"))
def unfold_backward(op: Op, ctx: Context) -> Value:
    """Windows of ``size`` along one axis are added where they overlap: what istft ends with.

    A window is cut into pieces of ``step`` entries; piece p of window w lies at w + p. So all pieces are
    the channels of an image of [windows, step], and a transposed convolution puts channel p p rows down.
    """
    x = source(op, "grad_in")
    shape, at = result_type(op).shape, axis(op.attr("dim"), len(result_type(op).shape))
    size, step = _known(op.attr("size")), _known(op.attr("step"))
    length, count = _known(shape[at]), _known(x.tensor.shape[at])
    if not x.tensor.dtype.is_float:
        raise UnsupportedError(
            f"{op.name} adds {x.tensor.dtype}; Core ML adds windows of floats only", where=op.origin.place
        )
    pieces = -(-size // step)
    order = permutation_to_end((at, x.rank - 1), x.rank)
    outer = tuple(shape[index] for index in order[:-2])
    windows = reshaped(transposed(x, order), (volume(outer), count, size))
    whole = padded(windows, [(0, 0), (0, 0), (0, pieces * step - size)], 0)
    image = rearranged(whole, (volume(outer), count, pieces, step), (0, 2, 1, 3), (volume(outer), pieces, count, step))
    window = Window((pieces, 1), (1, 1), (0, 0), (1, 1))
    weight = one_hot(op, ctx, 1, (pieces, 1), x.tensor.dtype)
    rows = convolved_transposed(image, weight, None, window, 1, (0, 0)) if pieces > 1 else image
    total = (count + pieces - 1) * step
    line = reshaped(rows, (volume(outer), total))
    fitted = sliced(line, 1, None, length) if total > length else padded(line, [(0, 0), (0, length - total)], 0)
    moved_shape = (*outer, length)
    return transposed(reshaped(fitted, moved_shape), inverse_permutation(permutation_to_end((at,), len(shape))))


RULES: list[Rule] = [unfold, im2col, col2im, unfold_backward]
