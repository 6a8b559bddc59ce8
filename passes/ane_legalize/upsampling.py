"""Upsampling by more than 2, in doublings.

    %x: f32[1,4,8,8]
    %y = mil.upsample_nearest_neighbor(%x) {scale_factor_height=8, scale_factor_width=2}
        ->
    %1 = mil.upsample_nearest_neighbor(%x) {scale_factor_height=2, scale_factor_width=2}
    %2 = mil.upsample_nearest_neighbor(%1) {scale_factor_height=2, scale_factor_width=1}
    %y = mil.upsample_nearest_neighbor(%2) {scale_factor_height=2, scale_factor_width=1}

Repeating is repeating twice; what a bilinear resize makes between is not (rule F01).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.windows import breaks
from anec.passes.common import varying
from anec.rewrite import Rule, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize


@rewrite(mil.upsample_nearest_neighbor(varying("x"), rest))
def nearest_in_doublings(op: Op, opts: AneLegalize, x: Value) -> Value:
    """A factor of 4, 8, ... is so many factors of 2."""
    if breaks(op, opts.limits, "F01") is None:
        reject("the factors are small")
    height, width = (_doublings(op.attr(f"scale_factor_{axis}")) for axis in ("height", "width"))
    for step in range(max(height, width)):
        factors = {"height": 1 + (step < height), "width": 1 + (step < width)}
        x = mil.upsample_nearest_neighbor(x, **{f"scale_factor_{axis}": factor for axis, factor in factors.items()})
    return x


def _doublings(factor: object) -> int:
    """How often 2 makes the factor."""
    count = int(factor).bit_length() - 1 if isinstance(factor, (int, float)) else 0
    return count if count >= 0 and factor == 2**count else reject(f"{factor} is no power of 2")


RULES: list[Rule] = [nearest_in_doublings]
