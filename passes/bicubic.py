"""Bicubic and antialiased resizing as constant linear maps; and, on request, bilinear instead.

    %y = nn.interpolate(%x) {size=[10, 10], mode="bicubic"}     %x: f32[1,3,4,4]
        ->
    %columns = weight "y.columns" : f64[4,10]
    %rows = weight "y.rows" : f64[10,4]
    %1 = mil.cast(%columns) {dtype="fp32"}
    %2 = mil.matmul(%x, %1)
    %3 = mil.cast(%rows) {dtype="fp32"}
    %y = mil.matmul(%3, %2)

    ; pass: bicubic{form=convolution}
    %y = nn.interpolate(%x) {size=[4, 16], mode="bicubic"}     %x: f32[1,3,4,8]
        ->
    %kernel = weight "y.kernel" : f64[3,1,1,8]
    %1 = mil.cast(%kernel) {dtype="fp32"}
    %2 = mil.pad(%x, [0, 0, 0, 0, 0, 0, 2, 2]) {mode="replicate"}
    %y = mil.conv_transpose(%2, %1) {pad=[0, 0, 7, 7], pad_type="custom", strides=[1, 2], groups=3}

Core ML has no op for either; torch's kernel (A = -0.75, antialiased -0.5 and without it the plain
bilinear hat) depends on sizes alone, so torch itself computes the map of each axis, whatever the
sizes, the scale factors and the corners. Axes with symbolic sizes are left to ``lower-to-mil``.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import nn
from anec.errors import UsageError
from anec.ir.graph import Graph, Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.axis_map import FORMS
from anec.passes.lower_to_mil.resize import asked, resized
from anec.passes.raise_nn import resize as raising
from anec.pipeline.base import EXACT, Context, Lossy, Pass
from anec.pipeline.registry import register
from anec.rewrite import Rule, reject, rewrite


@rewrite(nn.interpolate)
def by_constant_maps(op: Op, opts: Bicubic, ctx: Context) -> Value:
    """A product with a constant matrix, or a convolution, along each axis."""
    how, x = asked(op), op.value("x")
    if how.mode != "bicubic" and not how.antialias:
        reject(f"{op.attr('mode')} interpolation without antialiasing has an op in Core ML")
    if x.tensor.dtype not in (DType.F16, DType.F32):
        reject(f"{x.tensor.dtype} is narrowed by lower-to-mil first")
    return resized(op, ctx, how, x, opts.form)


RULES: list[Rule] = [by_constant_maps]


@register
@dataclass
class Bicubic(Pass):
    """Resize bicubically, or antialiased, by a constant map along each axis.

    Attributes:
        form: `product` with a matrix, `convolution` where the ratio of sizes is whole, or `auto`, the cheaper one.
    """

    name = "bicubic"
    rules = RULES
    fidelity = EXACT

    form: str = "auto"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UsageError(f"bicubic: form={self.form}", hint=f"one of {', '.join(FORMS)}")


@rewrite(nn.interpolate)
def to_bilinear(op: Op, opts: BicubicToBilinear) -> Value:
    """The same resize, bilinear: one op of Core ML."""
    if op.attr("mode") != "bicubic":
        reject(f"the mode is {op.attr('mode')}")
    before, after = op.value("x").tensor.shape[2:], op.result.tensor.shape[2:]
    for small, large in zip(before, after, strict=True):
        if not isinstance(small, int) or not isinstance(large, int):
            reject("its sizes are symbolic")
        if large < small:
            reject(f"it shrinks {small} to {large}, which bilinear without antialiasing does badly")
        if opts.max_scale and large > opts.max_scale * small:
            reject(f"{small} to {large} is a scale beyond max-scale={opts.max_scale:g}")
    # Where nothing shrinks, antialiasing changes no bilinear kernel.
    return nn.interpolate(
        op.value("x"),
        size=op.attr("size"),
        mode="bilinear",
        align_corners=op.attr("align_corners"),
        scales=op.attr("scales"),
    )


@register
@dataclass
class BicubicToBilinear(Pass):
    """Enlarge bilinearly what the model enlarges bicubically; put it in front of `default`.

    Attributes:
        max_scale: leave larger scales alone; 0 takes all.
    """

    name = "bicubic-to-bilinear"
    fidelity = Lossy("bicubic interpolation becomes bilinear", measure="psnr", at_least=30.0)
    dialects = frozenset({"aten", "nn"})

    max_scale: float = 0.0

    def run(self, graph: Graph, ctx: Context) -> None:
        # What torch.export gives is spelled in aten still.
        ctx.rewrite([*raising.RULES, to_bilinear], opts=self)


__all__ = ["Bicubic", "BicubicToBilinear"]
