"""Resizing and sampling of images.

    %y = nn.interpolate(%x) {size=[8, 8], mode="bilinear"}     %x: f32[1,3,4,4]
        ->
    %y = mil.upsample_bilinear(%x) {scale_factor_height=2, scale_factor_width=2, align_corners=false}

    %y = nn.interpolate(%x) {size=[10, 10], mode="bicubic"}     %x: f32[1,3,4,4]
        ->
    %1 = mil.cast(%columns) {dtype="fp32"}
    %2 = mil.matmul(%x, %1)
    %3 = mil.cast(%rows) {dtype="fp32"}
    %y = mil.matmul(%3, %2)

Every resizing is separable: along one axis it is a product with a matrix that depends on sizes and
mode alone, or, for the nearest modes, a choice of elements. Core ML's own ops are used where their
grid is torch's; all else goes by such constants, which torch itself computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import mil, nn
from anec.errors import UnsupportedError
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.permutation import divide
from anec.passes.lower_to_mil.typing import result_type, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

if TYPE_CHECKING:
    import torch

_LINEAR = ("linear", "bilinear", "trilinear")
_NEAREST = ("nearest", "nearest-exact")


@dataclass(frozen=True, slots=True)
class Resize:
    """What nn.interpolate asks for.

    Args:
        mode: torch's word, ``linear`` for all its dimensions.
        align_corners: the grid runs from corner to corner.
        antialias: the kernel widens where it shrinks.
    """

    mode: str
    align_corners: bool
    antialias: bool

    def matrix(self, before: int, after: int, scale: float | None) -> torch.Tensor:
        """The float64 matrix [after, before] of a resize along one axis, from torch's own kernel."""
        import torch

        # The rows of the image are the unit vectors; its height stays. (Resizing the height of images
        # of one column would do as well, but there torch's antialiasing repeats the first pixel.)
        units = torch.eye(before, dtype=torch.float64).reshape(1, 1, before, before)
        aten = torch.ops.aten
        if self.mode == "bicubic":
            function = aten._upsample_bicubic2d_aa if self.antialias else aten.upsample_bicubic2d
        else:
            function = aten._upsample_bilinear2d_aa if self.antialias else aten.upsample_bilinear2d
        result = function.default(units, [before, after], self.align_corners, None, scale)
        assert isinstance(result, torch.Tensor)
        return result.reshape(before, after).T

    def indices(self, before: int, after: int, scale: float | None) -> list[int]:
        """Which element each new one is, from torch's own kernel."""
        import torch

        aten = torch.ops.aten
        function = aten.upsample_nearest1d if self.mode == "nearest" else aten._upsample_nearest_exact1d
        numbers = torch.arange(before, dtype=torch.float64).reshape(1, 1, before)
        return [int(number) for number in function.default(numbers, [after], scale).flatten().tolist()]


@rewrite(nn.interpolate)
def lower_interpolate(op: Op, ctx: Context) -> Value:
    """By Core ML's ops, by choosing elements, or by a product for each axis."""
    mode = str(op.attr("mode"))
    how = Resize("linear" if mode in _LINEAR else mode, bool(op.attr("align_corners")), bool(op.attr("antialias")))
    type_ = result_type(op)
    x = value(op.operand("x"), type_.dtype)
    if not type_.is_static or not x.tensor.is_static:
        return _by_whole_factors(op, how, x)
    before, after = x.shape[2:], type_.static_shape[2:]
    scales = _scales(op, len(after))
    if how.mode in _NEAREST:
        picks = [how.indices(*axis) for axis in zip(before, after, scales, strict=True)]
        return _nearest(op, ctx, x, picks)
    if not type_.dtype.is_float:
        reject(f"{mode} interpolation of {type_.dtype} rounds in torch")
    if how.mode == "linear" and not how.antialias and scales == (None,) * len(after):
        return _linear(op, ctx, how, x, after)
    # The axis that grows least goes first: what follows is smaller.
    for index in sorted(range(len(after)), key=lambda index: (after[index] / before[index], -index)):
        x = _product(op, ctx, x, index + 2, how.matrix(before[index], after[index], scales[index]))
    return x


def _scales(op: Op, space: int) -> tuple[float | None, ...]:
    given = op.attr("scales")
    if not isinstance(given, tuple):
        return (None,) * space
    return tuple(float(scale) if isinstance(scale, (int, float)) else None for scale in given)


def _product(op: Op, ctx: Context, x: Value, axis: int, matrix: torch.Tensor) -> Value:
    """``matrix`` [after, before] applied along one axis."""
    import torch

    shape, (after, before) = x.shape, matrix.shape
    if after == before and torch.equal(matrix, torch.eye(after, dtype=matrix.dtype)):
        return x
    if axis == x.rank - 1:
        return mil.matmul(x, constant(ctx, op, matrix.T, "columns", x.tensor.dtype))
    rows = constant(ctx, op, matrix, "rows", x.tensor.dtype)
    if axis == x.rank - 2:
        return mil.matmul(rows, x)
    # The axes behind it as one: [N, C, D, H * W].
    flat = mil.reshape(x, shape=(*shape[: axis + 1], -1))
    return mil.reshape(mil.matmul(rows, flat), shape=(*shape[:axis], after, *shape[axis + 1 :]))


def _as_image(x: Value, build: Callable[[Value], Value]) -> Value:
    """Apply what works on the last two axes; [N, C, W] goes as [N, C, 1, W]."""
    return mil.squeeze(build(mil.expand_dims(x, axes=(2,))), axes=(2,)) if x.rank == 3 else build(x)


def _repeated(x: Value, height: int, width: int) -> Value:
    def build(image: Value) -> Value:
        return mil.upsample_nearest_neighbor(image, scale_factor_height=height, scale_factor_width=width)

    return x if height == width == 1 else _as_image(x, build)


def _upsampled(x: Value, height: int, width: int, align_corners: bool) -> Value:
    def build(image: Value) -> Value:
        return mil.upsample_bilinear(
            image, scale_factor_height=height, scale_factor_width=width, align_corners=align_corners
        )

    return x if height == width == 1 else _as_image(x, build)


def _linear(op: Op, ctx: Context, how: Resize, x: Value, after: tuple[int, ...]) -> Value:
    """By the ratio of sizes: Core ML's grids STRICT_ALIGN_CORNERS and UNALIGN_CORNERS are torch's."""
    if len(after) == 3:
        x, after = _product(op, ctx, x, 2, how.matrix(x.shape[2], after[0], None)), after[1:]
    height, width = (1, *after)[-2:]
    old_height, old_width = (1, *x.shape[2:])[-2:]
    if height % old_height == 0 and width % old_width == 0:
        return _upsampled(x, height // old_height, width // old_width, how.align_corners)

    def build(image: Value) -> Value:
        mode = "STRICT_ALIGN_CORNERS" if how.align_corners else "UNALIGN_CORNERS"
        return mil.resize_bilinear(image, target_size_height=height, target_size_width=width, sampling_mode=mode)

    return _as_image(x, build)


def _nearest(op: Op, ctx: Context, x: Value, picks: list[list[int]]) -> Value:
    """Whole steps take every n-th element, whole factors repeat each, all else gathers."""
    begin, end, stride = [0] * x.rank, list(x.shape), [1] * x.rank
    factors = [1] * x.rank
    gathered: dict[int, list[int]] = {}
    for axis, pick in enumerate(picks, 2):
        size, count = x.shape[axis], len(pick)
        step = pick[1] - pick[0] if count > 1 else 1
        if step > 0 and pick == list(range(pick[0], pick[0] + step * count, step)):
            begin[axis], end[axis], stride[axis] = pick[0], pick[-1] + 1, step
        elif count % size == 0 and _repeats_axis(x, axis) and pick == [i * size // count for i in range(count)]:
            factors[axis] = count // size
        else:
            gathered[axis] = pick
    if (begin, end, stride) != ([0] * x.rank, list(x.shape), [1] * x.rank):
        x = mil.slice_by_index(x, begin=begin, end=end, stride=stride)
    for axis, pick in gathered.items():
        import torch

        indices = constant(ctx, op, torch.tensor(pick, dtype=torch.int32), "indices", DType.I32)
        x = mil.gather(x, indices, axis=axis)
    return _repeated(x, *factors[-2:])


def _repeats_axis(x: Value, axis: int) -> bool:
    """Core ML repeats floats along the last two axes."""
    return x.tensor.dtype.is_float and axis >= x.rank - 2


def _by_whole_factors(op: Op, how: Resize, x: Value) -> Value:
    """Symbolic sizes: what a whole factor says without knowing them."""
    before, after = x.tensor.shape[2:], op.result.tensor.shape[2:]
    factors = [divide(large, small) for large, small in zip(after, before, strict=True)]
    whole = [factor for factor in factors if isinstance(factor, int)]
    agree = all(s is None or s == f for s, f in zip(_scales(op, len(after)), factors, strict=True))
    fits = how.mode in _NEAREST or (how.mode == "linear" and not how.antialias)
    if not fits or not agree or len(whole) != len(factors) or len(whole) > 2 or not x.tensor.dtype.is_float:
        raise UnsupportedError(
            f"interpolation of {x.tensor} to {op.result.tensor}",
            where=op.origin.place or None,
            hint="symbolic sizes resize by whole factors, nearest or linear, in one or two dimensions",
        )
    height, width = (1, *whole)[-2:]
    if how.mode == "linear":
        return _upsampled(x, height, width, how.align_corners)
    return _repeated(x, height, width)


# torch's padding and corners to Core ML's word: what torch mirrors at pixel edges is `symmetric`.
_PADDINGS = {
    ("zeros", True): "constant",
    ("zeros", False): "constant",
    ("border", True): "border",
    ("border", False): "border",
    ("reflection", True): "reflection",
    ("reflection", False): "symmetric",
}


@rewrite(nn.grid_sample)
def lower_grid_sample(op: Op) -> Value:
    """One op for images, bilinear or nearest; Core ML samples neither cubically nor volumes."""
    type_ = result_type(op)
    mode, padding, align_corners = op.attr("mode"), str(op.attr("padding_mode")), bool(op.attr("align_corners"))
    if mode not in ("bilinear", "nearest") or type_.rank != 4:
        raise UnsupportedError(
            f"grid_sample {mode} of {op.value('x').tensor}",
            where=op.origin.place or None,
            hint="Core ML samples [N, C, H, W], mode bilinear or nearest",
        )
    return mil.resample(
        value(op.operand("x"), type_.dtype),
        value(op.operand("grid"), type_.dtype),
        sampling_mode=mode,
        padding_mode=_PADDINGS[padding, align_corners],
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=align_corners,
    )


RULES: list[Rule] = [lower_interpolate, lower_grid_sample]
