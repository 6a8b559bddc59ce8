"""Sampling at the points of a grid, in the form that suits the grid.

    %y = nn.grid_sample(%x, %grid)     %x: f32[1,3,8,8], %grid: f32[1,4,4,2]
        ->
    %y = mil.resample(%x, %grid) {sampling_mode="bilinear", padding_mode="constant", padding_value=0.0,
                                  coordinates_mode="normalized_minus_one_to_one", align_corners=false}

A constant grid is a product with the matrix of its weights; where rows depend on y alone and columns on
x alone (crops, flips, zooms) one along each axis, else one in all where images are small. Images at other
grids take Core ML's resample, bilinear or nearest; gathers do the rest: bicubic, and volumes. A grid that
is computed from constants (``affine_grid`` of a constant matrix) is a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import nn
from anec.errors import UsageError
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.grid_sample import FORMS, sampled
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register
from anec.rewrite import Rule, reject, rewrite


@rewrite(nn.grid_sample)
def sample_grid(op: Op, opts: GridSample, ctx: Context) -> Value:
    """Products for constant grids, resample where Core ML's op says the same, gathers for the rest."""
    if op.value("x").tensor.dtype not in (DType.F16, DType.F32):
        reject(f"{op.value('x').tensor.dtype} is narrowed by lower-to-mil first")
    return sampled(op, ctx, opts.form)


RULES: list[Rule] = [sample_grid]


@register
@dataclass
class GridSample(Pass):
    """Sample at the points of a grid, by products, Core ML's resample, or gathers.

    Attributes:
        form: `resample` where Core ML has it, `gather` everywhere, or `auto`: products for constant grids first.
    """

    name = "grid-sample"
    rules = RULES
    fidelity = EXACT

    form: str = "auto"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UsageError(f"grid-sample: form={self.form}", hint=f"one of {', '.join(FORMS)}")


__all__ = ["GridSample"]
