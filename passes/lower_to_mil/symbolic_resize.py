"""Resizing from or to symbolic sizes: the sampling points are computed as whole numbers.

    %x: f32[1,3,h,w], %like: f32[1,8,2*h-1,2*w-1]
    ; sketch
    %y = nn.interpolate(%x) {size=[(2*h-1), (2*w-1)], mode="bilinear"}
        ->
    %1 = mil.shape(%like)
    %2 = mil.slice_by_index(%1, [2], [4])
    %y = mil.resize(%x, %2) {resized_dims=2, interpolation_mode="LINEAR", sampling_mode="UNALIGN_CORNERS"}

from iOS17 on, where Core ML has an op for it. Everything else reads a few pixels for each new one,
axis by axis: point i lies at n / d pixels, where n and d are whole numbers of the sizes (an explicit
scale is a fraction), so that the first pixel is n // d and the weights are polynomials in
t = n mod d / d. No rounding moves a point to another pixel, in float16 neither. torch's ``nearest``
multiplies by the quotient of the sizes in float32: in 2 % of all pairs of sizes that falls just below
a whole number, and one pixel is the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.symbolic import Number, computed, counted, plus, scalar, times, vector
from anec.passes.lower_to_mil.tap_weights import CUBIC, LINEAR
from anec.passes.lower_to_mil.typing import MIL_NAMES
from anec.rewrite import reject

_FIRST_WITH_RESIZE = 17
_WEIGHTS = {"linear": LINEAR, "bicubic": CUBIC}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis to resize.

    Args:
        at: which axis.
        before: its size.
        after: its new size.
        scale: the factor the model gave, else None: the quotient of the sizes.
    """

    at: int
    before: Dim
    after: Dim
    scale: float | None

    @property
    def stays(self) -> bool:
        return self.before == self.after and self.scale in (None, 1.0)

    def points(self, mode: str, align_corners: bool) -> tuple[Value, Number]:
        """Where the new pixels lie, as int32 numerators ``[after]`` and one denominator."""
        steps = counted(self.after)
        if align_corners:
            last = plus(computed(self.after), -1)
            above = last if isinstance(last, int) else mil.maximum(last, 1)
            return mil.mul(steps, plus(scalar(self.before), -1)), max(above, 1) if isinstance(above, int) else above
        small, large = self._ratio()
        if mode == "nearest":
            return mil.mul(steps, small), large
        middles = mil.mul(mil.add(mil.mul(steps, 2), 1), small)
        if mode == "nearest-exact":
            return middles, times(large, 2)
        shifted = mil.sub(middles, large)
        return mil.maximum(shifted, 0) if mode == "linear" else shifted, times(large, 2)

    def _ratio(self) -> tuple[Number, Number]:
        """Old pixels to new ones."""
        if self.scale is None:
            return computed(self.before), computed(self.after)
        exact = Fraction(self.scale).limit_denominator(1 << 10)
        if abs(float(exact) - self.scale) > 1e-12 * self.scale:
            reject(f"the scale {self.scale} is no fraction of small numbers; resize to a size")
        return exact.denominator, exact.numerator


def resized(x: Value, axes: list[Axis], mode: str, align_corners: bool, opset: int) -> Value:
    """Resize axes of ``x``: ``mode`` is ``nearest``, ``nearest-exact``, ``linear`` or ``bicubic``.

    Raises:
        Reject: no input tells a size, or a scale is no fraction of small numbers.
    """
    moving = [axis for axis in axes if not axis.stays]
    at_end = len(axes) <= 2 and all(axis.scale is None for axis in moving) and x.rank >= 3
    if mode == "linear" and opset >= _FIRST_WITH_RESIZE and at_end and moving:
        return _by_resize(x, axes, align_corners)
    for axis in moving:
        x = _nearest(x, axis, mode) if mode.startswith("nearest") else _blended(x, axis, mode, align_corners)
    return x


def _by_resize(x: Value, axes: list[Axis], align_corners: bool) -> Value:
    """Core ML's op resizes the last two axes; one alone stands beside an axis of size 1."""
    sampling = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS"
    image = mil.expand_dims(x, axes=(2,)) if len(axes) == 1 else x
    sizes = vector([*(1,) * (2 - len(axes)), *(axis.after for axis in axes)])
    result = mil.resize(image, sizes, resized_dims=2, interpolation_mode="LINEAR", sampling_mode=sampling)
    return mil.squeeze(result, axes=(2,)) if len(axes) == 1 else result


def _nearest(x: Value, axis: Axis, mode: str) -> Value:
    above, below = axis.points(mode, False)
    pixels = mil.minimum(mil.floor_div(above, below), plus(scalar(axis.before), -1))
    return _on_numbers(x, lambda numbers: mil.gather(numbers, pixels, axis=axis.at))


def _on_numbers(x: Value, build: Callable[[Value], Value]) -> Value:
    """Gather takes no bools."""
    if x.tensor.dtype is not DType.BOOL:
        return build(x)
    return mil.cast(build(mil.cast(x, dtype=MIL_NAMES[DType.I32])), dtype=MIL_NAMES[DType.BOOL])


def _blended(x: Value, axis: Axis, mode: str, align_corners: bool) -> Value:
    """The sum of a few pixels, each times its weight."""
    if not x.tensor.dtype.is_float:
        reject(f"{mode} interpolation of {x.tensor.dtype} rounds in torch; interpolate floats, then round")
    above, below = axis.points(mode, align_corners)
    name = MIL_NAMES[x.tensor.dtype]
    first = mil.floor_div(above, below)
    divisor = mil.cast(below, dtype=name) if isinstance(below, Value) else float(below)
    rest = mil.real_div(mil.cast(mil.mod(above, below), dtype=name), divisor)
    fraction = mil.expand_dims(rest, axes=tuple(range(1, x.rank - axis.at))) if axis.at < x.rank - 1 else rest
    last = plus(scalar(axis.before), -1)
    total: Value | None = None
    for tap, polynomial in enumerate(_WEIGHTS[mode], 0 if mode == "linear" else -1):
        pixel = mil.maximum(mil.minimum(mil.add(first, tap) if tap else first, last), 0)
        part = mil.mul(mil.gather(x, pixel, axis=axis.at), _evaluated(polynomial, fraction))
        total = part if total is None else mil.add(total, part)
    assert total is not None
    return total


def _evaluated(polynomial: tuple[float, ...], t: Value) -> Value:
    """By Horner's rule."""
    found = mil.mul(t, polynomial[0]) if polynomial[0] != 1 else t
    for coefficient in polynomial[1:-1]:
        found = mil.mul(mil.add(found, coefficient) if coefficient else found, t)
    return mil.add(found, polynomial[-1]) if polynomial[-1] else found


__all__ = ["Axis", "resized"]
