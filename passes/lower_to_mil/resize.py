"""Resizing of images.

    %y = nn.interpolate(%x) {size=[8, 8], mode="bilinear"}     %x: f32[1,3,4,4]
        ->
    %y = mil.upsample_bilinear(%x) {scale_factor_height=2, scale_factor_width=2, align_corners=false}

    %y = nn.interpolate(%x) {size=[10, 10], mode="bicubic"}     %x: f32[1,3,4,4]
        ->
    %1 = mil.cast(%columns) {dtype="fp32"}
    %2 = mil.matmul(%x, %1)
    %3 = mil.cast(%rows) {dtype="fp32"}
    %y = mil.matmul(%3, %2)

Every resizing is separable: along one axis it is a linear map that depends on sizes and mode alone
(see ``axis_map``), or, for the nearest modes, a choice of elements. Core ML's own ops are used where
their grid is torch's; all else goes by such constants, which torch itself computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import mil, nn
from anec.errors import UnsupportedError
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil import symbolic_resize
from anec.passes.lower_to_mil.axis_map import mapped
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.permutation import divide
from anec.passes.lower_to_mil.symbolic_resize import Axis
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


def asked(op: Op) -> Resize:
    """What ``op``, an nn.interpolate, asks for."""
    mode = str(op.attr("mode"))
    return Resize("linear" if mode in _LINEAR else mode, bool(op.attr("align_corners")), bool(op.attr("antialias")))


@rewrite(nn.interpolate)
def lower_interpolate(op: Op, ctx: Context) -> Value:
    """By Core ML's ops, by choosing elements, or by a constant map for each axis."""
    how = asked(op)
    type_ = result_type(op)
    x = value(op.operand("x"), type_.dtype)
    before, after = _fixed(x.tensor.shape[2:]), _fixed(type_.shape[2:])
    if before is None or after is None:
        return _symbolic(op, how, x, ctx)
    scales = _scales(op, len(after))
    if how.mode in _NEAREST:
        picks = [how.indices(*axis) for axis in zip(before, after, scales, strict=True)]
        return _nearest(op, ctx, x, picks)
    if not type_.dtype.is_float:
        reject(f"{op.attr('mode')} interpolation of {type_.dtype} rounds in torch; interpolate floats, then round")
    if how.mode == "linear" and not how.antialias and scales == (None,) * len(after):
        return _linear(op, ctx, how, x, after)
    return resized(op, ctx, how, x)


def resized(op: Op, ctx: Context, how: Resize, x: Value, form: str = "auto") -> Value:
    """Resize ``x`` by a constant map for each axis; see :mod:`anec.passes.lower_to_mil.axis_map` for ``form``.

    Raises:
        Reject: a space axis is symbolic.
    """
    before, after = _fixed(x.tensor.shape[2:]), _fixed(op.result.tensor.shape[2:])
    if before is None or after is None:
        reject(f"the sizes of {x.tensor} are symbolic")
    scales = _scales(op, len(after))
    # The axis that grows least goes first: what follows is smaller.
    for index in sorted(range(len(after)), key=lambda index: (after[index] / before[index], -index)):
        x = mapped(op, ctx, x, index + 2, how.matrix(before[index], after[index], scales[index]), form)
    return x


def _fixed(dims: Sequence[Dim]) -> tuple[int, ...] | None:
    """The sizes, when none is symbolic."""
    fixed = tuple(dim for dim in dims if isinstance(dim, int))
    return fixed if len(fixed) == len(dims) else None


def _scales(op: Op, space: int) -> tuple[float | None, ...]:
    given = op.attr("scales")
    if not isinstance(given, tuple):
        return (None,) * space
    return tuple(float(scale) if isinstance(scale, (int, float)) else None for scale in given)


def _size(x: Value, axis: int) -> int:
    size = x.tensor.shape[axis]
    assert isinstance(size, int)
    return size


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
        x, after = mapped(op, ctx, x, 2, how.matrix(_size(x, 2), after[0], None)), after[1:]
    height, width = (1, *after)[-2:]
    old_height, old_width = _size(x, -2) if len(after) > 1 else 1, _size(x, -1)
    if height % old_height == 0 and width % old_width == 0:
        return _upsampled(x, height // old_height, width // old_width, how.align_corners)

    def build(image: Value) -> Value:
        mode = "STRICT_ALIGN_CORNERS" if how.align_corners else "UNALIGN_CORNERS"
        return mil.resize_bilinear(image, target_size_height=height, target_size_width=width, sampling_mode=mode)

    return _as_image(x, build)


def _nearest(op: Op, ctx: Context, x: Value, picks: list[list[int]]) -> Value:
    """Whole steps take every n-th element, whole factors repeat each, all else gathers."""
    begin, end, stride = [0] * x.rank, [0] * x.rank, [1] * x.rank
    whole = [True] * x.rank
    factors = [1] * x.rank
    gathered: dict[int, list[int]] = {}
    for axis, pick in enumerate(picks, 2):
        size, count = _size(x, axis), len(pick)
        step = pick[1] - pick[0] if count > 1 else 1
        if pick == list(range(size)):
            continue
        if step > 0 and pick == list(range(pick[0], pick[0] + step * count, step)):
            begin[axis], end[axis], stride[axis], whole[axis] = pick[0], pick[-1] + 1, step, False
        elif count % size == 0 and _repeats_axis(x, axis) and pick == [i * size // count for i in range(count)]:
            factors[axis] = count // size
        else:
            gathered[axis] = pick
    if not all(whole):
        x = mil.slice_by_index(x, begin=begin, end=end, stride=stride, begin_mask=whole, end_mask=whole)
    for axis, pick in gathered.items():
        import torch

        indices = constant(ctx, op, torch.tensor(pick, dtype=torch.int32), "indices", DType.I32)
        x = mil.gather(x, indices, axis=axis)
    return _repeated(x, *factors[-2:])


def _repeats_axis(x: Value, axis: int) -> bool:
    """Core ML repeats floats along the last two axes."""
    return x.tensor.dtype.is_float and axis >= x.rank - 2


def _symbolic(op: Op, how: Resize, x: Value, ctx: Context) -> Value:
    """Symbolic sizes: by a whole factor where there is one, else by computed points."""
    before, after = x.tensor.shape[2:], op.result.tensor.shape[2:]
    factors = [divide(large, small) for large, small in zip(after, before, strict=True)]
    whole = [factor for factor in factors if isinstance(factor, int)]
    agree = all(s is None or s == f for s, f in zip(_scales(op, len(after)), factors, strict=True))
    fits = how.mode in _NEAREST or (how.mode == "linear" and not how.antialias)
    if how.antialias:
        raise UnsupportedError(
            f"antialiased interpolation of {x.tensor} to {op.result.tensor}",
            where=op.origin.place or None,
            hint="its windows grow with the sizes: fix them, or leave out antialias",
        )
    if not fits or not agree or len(whole) != len(factors) or len(whole) > 2 or not x.tensor.dtype.is_float:
        spaces = enumerate(zip(before, after, _scales(op, len(after)), strict=True), 2)
        return symbolic_resize.resized(
            x, [Axis(at, *rest) for at, rest in spaces], how.mode, how.align_corners, ctx.module.opset
        )
    height, width = (1, *whole)[-2:]
    if how.mode == "linear":
        return _upsampled(x, height, width, how.align_corners)
    return _repeated(x, height, width)


RULES: list[Rule] = [lower_interpolate]
