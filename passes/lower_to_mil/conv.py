"""Convolutions, plain and transposed, over one to three space axes.

    %x: f32[1,3,8,8], %w: f32[4,3,3,3] weight, %b: f32[4] weight
    %y = aten.convolution.default(%x, %w, %b) {stride=[2, 2], padding=[1, 1], dilation=[1, 1],
                                               transposed=false, output_padding=[0, 0], groups=1}
        ->
    %y = mil.conv(%x, %w, %b) {strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]}

Both frameworks want weights [C_out, C_in / groups, *K], and [C_in, C_out / groups, *K] transposed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anec.dialects import aten, mil
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import reshaped, sliced
from anec.passes.lower_to_mil.padding import padded
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.typing import numbers, result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

Ints = tuple[int, ...]

# Of transposed convolutions.
_FIRST_WITH_COMPUTED_WEIGHTS = 17


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window: one entry a space axis."""

    kernel: Ints
    stride: Ints
    padding: Ints
    dilation: Ints

    @property
    def spans(self) -> Ints:
        """What the dilated kernel covers."""
        return tuple((size - 1) * step + 1 for size, step in zip(self.kernel, self.dilation, strict=True))

    def counts(self, sizes: Sequence[int]) -> Ints:
        """How many windows fit."""
        return tuple(
            (size + 2 * pad - span) // step + 1
            for size, pad, span, step in zip(sizes, self.padding, self.spans, self.stride, strict=True)
        )

    def tiles(self, sizes: Sequence[int]) -> bool:
        """Whether the windows lie side by side and cover all."""
        return (
            self.kernel == self.stride
            and not any(self.padding)
            and all(step == 1 or size == 1 for step, size in zip(self.dilation, self.kernel, strict=True))
            and all(size % step == 0 for size, step in zip(sizes, self.stride, strict=True))
        )

    def places(self, axis: int, count: int) -> list[int]:
        """Where the windows' entries lie along one padded axis, kernel entry by kernel entry."""
        return [
            window * self.stride[axis] + entry * self.dilation[axis]
            for entry in range(self.kernel[axis])
            for window in range(count)
        ]


def convolved(
    x: Value,
    weight: Value,
    bias: Value | None,
    window: Window,
    groups: int,
    pads: Sequence[tuple[int, int]] | None = None,
) -> Value:
    """mil.conv with only the attributes that say something; ``pads`` overrides the window's padding."""
    pads = pads or [(pad, pad) for pad in window.padding]
    if any(step != 1 for step in window.dilation) and not is_constant(weight):
        # Core ML dilates constant weights only (coremltools, conv.type_inference).
        weight = _dilated(weight, window.dilation)
        window = Window(window.spans, window.stride, window.padding, (1,) * len(window.dilation))
    attrs = _attrs(window, groups, pads)
    if bias is None or is_constant(bias):
        return mil.conv(x, weight, bias, **attrs) if bias is not None else mil.conv(x, weight, **attrs)
    return mil.add(mil.conv(x, weight, **attrs), _per_channel(bias, x.rank))


def convolved_transposed(
    x: Value, weight: Value, bias: Value | None, window: Window, groups: int, extra: Sequence[int]
) -> Value:
    """mil.conv_transpose; ``extra`` is torch's output_padding: entries more at each end.

    Cropping less after than before gives them. Where there is nothing to crop less, they lie beyond
    every kernel's reach and hold zeros (and the bias): those are padded.
    """
    pads = [(pad, max(pad - more, 0)) for pad, more in zip(window.padding, extra, strict=True)]
    beyond = [max(more - pad, 0) for pad, more in zip(window.padding, extra, strict=True)]
    attrs = _attrs(window, groups, pads)
    inside = bias is not None and is_constant(bias) and not any(beyond)
    result = mil.conv_transpose(x, weight, bias, **attrs) if inside else mil.conv_transpose(x, weight, **attrs)
    result = padded(result, [(0, 0), (0, 0), *((0, more) for more in beyond)], 0)
    return result if inside or bias is None else mil.add(result, _per_channel(bias, x.rank))


def one_hot(op: Op, ctx: Context, channels: int, kernel: Sequence[int], dtype: DType) -> Value:
    """[channels * window, 1, *kernel]: output channel c * window + k is entry k of channel c's window."""
    import torch

    count = math.prod(kernel)
    rows = torch.eye(count, dtype=torch.float32).repeat(channels, 1)
    return constant(ctx, op, rows.reshape(-1, 1, *kernel), "window", dtype)


def spread(op: Op, ctx: Context, x: Value, weight: Value, groups: int) -> tuple[Value, Value, int]:
    """A transposed convolution with a computed weight as one with a constant: its operand, weight and groups.

    What each place of ``x`` adds to the entries of its window is a product of matrices; the constant
    weight adds these where they belong.
    """
    batch, inner, *space = static(x.tensor)
    _, outer, *kernel = static(weight.tensor)
    count = math.prod(kernel)
    matrix = reshaped(weight, (1, groups, inner // groups, outer * count))
    product = mil.matmul(matrix, reshaped(x, (batch, groups, inner // groups, math.prod(space))), transpose_x=True)
    channels = outer * groups
    entries = reshaped(product, (batch, channels * count, *space))
    return entries, one_hot(op, ctx, channels, kernel, x.tensor.dtype), channels


def _attrs(window: Window, groups: int, pads: Sequence[tuple[int, int]]) -> dict[str, Attr]:
    attrs: dict[str, Attr] = {"pad_type": "valid"}
    if any(step != 1 for step in window.stride):
        attrs["strides"] = window.stride
    if any(before or after for before, after in pads):
        attrs |= {"pad_type": "custom", "pad": tuple(amount for pair in pads for amount in pair)}
    if any(step != 1 for step in window.dilation):
        attrs["dilations"] = window.dilation
    if groups != 1:
        attrs["groups"] = groups
    return attrs


def _per_channel(bias: Value, rank: int) -> Value:
    return reshaped(bias, (1, *bias.tensor.shape, *(1,) * (rank - 2)))


def _dilated(weight: Value, dilation: Ints) -> Value:
    """A kernel with zeros between its entries."""
    for at, step in enumerate(dilation, 2):
        shape = weight.tensor.shape
        size = shape[at]
        if step == 1 or size == 1 or not isinstance(size, int):
            continue
        before, after = volume(shape[:at]), volume(shape[at + 1 :])
        spaced = padded(reshaped(weight, (before, size, 1, after)), [(0, 0), (0, 0), (0, step - 1), (0, 0)], 0)
        row = reshaped(spaced, (before, size * step, after))
        span = (size - 1) * step + 1
        weight = reshaped(sliced(row, 1, None, span), (*shape[:at], span, *shape[at + 1 :]))
    return weight


# -- the ops -------------------------------------------------------------------------------------


def _attr(op: Op, name: str, otherwise: Attr) -> Attr:
    return op.attr(name) if name in op.defn.by_name else otherwise


@rewrite(
    each(
        "convolution",
        "_convolution",
        *(f"conv{count}d{form}" for count in (1, 2, 3) for form in ("", ".padding")),
        "conv_transpose1d",
        "conv_transpose2d.input",
        "conv_transpose3d.input",
    )
)
def convolution(op: Op, ctx: Context) -> Value:
    """All forms of one op: unbatched inputs get a batch of 1; padding may be numbers, valid or same."""
    kind = result_type(op)
    if not kind.dtype.is_float:
        raise UnsupportedError(
            f"{op.name} of {kind.dtype}; Core ML convolves floats only",
            where=op.origin.place,
            hint="cast the input and the weight to float",
        )
    x = value(op.operand("input"), kind.dtype)
    weight = value(op.operand("weight"), kind.dtype)
    bias = value(op.operand("bias"), kind.dtype) if op.operand("bias") is not None else None
    count = weight.rank - 2
    if not 1 <= count <= 3:
        reject(f"{op.name} over {count} space axes")
    groups = _attr(op, "groups", 1)
    assert isinstance(groups, int)
    kernel = numbers(weight.tensor.shape[2:], count)
    stride, dilation = (numbers(op.attr(name), count) for name in ("stride", "dilation"))
    given = op.attr("padding")
    batched = x if x.rank == weight.rank else reshaped(x, (1, *x.tensor.shape))
    if isinstance(given, str):
        totals = [step * (size - 1) if given == "same" else 0 for size, step in zip(kernel, dilation, strict=True)]
        window = Window(kernel, stride, (0,) * count, dilation)
        pads = [(total // 2, total - total // 2) for total in totals]
        result = convolved(batched, weight, bias, window, groups, pads)
        return result if batched is x else reshaped(result, kind.shape)
    window = Window(kernel, stride, numbers(given, count), dilation)
    if op.attr("transposed") if "transposed" in op.defn.by_name else op.defn.root.startswith("conv_transpose"):
        if not is_constant(weight) and ctx.module.opset < _FIRST_WITH_COMPUTED_WEIGHTS:
            batched, weight, groups = spread(op, ctx, batched, weight, groups)
        result = convolved_transposed(batched, weight, bias, window, groups, numbers(op.attr("output_padding"), count))
    else:
        result = convolved(batched, weight, bias, window, groups)
    return result if batched is x else reshaped(result, kind.shape)


@rewrite(aten.conv_tbc.default)
def conv_tbc(op: Op) -> Value:
    """A convolution of [time, batch, channels] with a weight [kernel, C_in, C_out]."""
    dtype = result_type(op).dtype
    x = mil.transpose(value(op.operand("self"), dtype), perm=(1, 2, 0))
    weight = mil.transpose(value(op.operand("weight"), dtype), perm=(2, 1, 0))
    bias, pad = value(op.operand("bias"), dtype), op.attr("pad")
    assert isinstance(pad, int)
    window = Window(numbers(weight.tensor.shape[2:], 1), (1,), (pad,), (1,))
    return mil.transpose(convolved(x, weight, bias, window, 1), perm=(2, 0, 1))


RULES: list[Rule] = [convolution, conv_tbc]
