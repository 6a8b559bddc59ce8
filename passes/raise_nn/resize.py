"""Resizing and sampling.

    %y = aten.upsample_bilinear2d.vec(%x) {align_corners=false, scale_factors=[2.0, 2.0]}     %x: f32[1,3,8,8]
        ->
    %y = nn.interpolate(%x) {size=[16, 16], mode="bilinear"}

Scale factors stay only where they say something that the sizes do not: 1.3 of 8 is 10, and torch
then steps by 1 / 1.3 rather than by 8 / 10.
"""

from __future__ import annotations

from fractions import Fraction

from anec.dialects import aten, nn
from anec.ir.attrs import Attr
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.passes.raise_nn.common import integer
from anec.rewrite import Rule, reject, rewrite

# torch's packet: mode, antialiased.
_PACKETS: dict[str, tuple[str, bool]] = {
    **{f"upsample_nearest{n}d": ("nearest", False) for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": ("nearest-exact", False) for n in (1, 2, 3)},
    "upsample_linear1d": ("linear", False),
    "upsample_bilinear2d": ("bilinear", False),
    "upsample_trilinear3d": ("trilinear", False),
    "upsample_bicubic2d": ("bicubic", False),
    "_upsample_bilinear2d_aa": ("bilinear", True),
    "_upsample_bicubic2d_aa": ("bicubic", True),
}
_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def _given_scales(op: Op) -> tuple[Attr, ...]:
    """The scale factors as written, one a space axis."""
    if "scale_factors" in op.defn.by_name:
        given = op.attr("scale_factors")
        return given if isinstance(given, tuple) else ()
    return tuple(op.attr(param.name) for param in op.defn.params if param.name.startswith("scales"))


def _says_nothing(scale: Attr, before: Dim, after: Dim) -> bool:
    """True when the grid is that of the sizes: no scale, one torch ignores, or an exact ratio."""
    if not isinstance(scale, (int, float)) or scale <= 0:
        return True
    return isinstance(before, int) and isinstance(after, int) and Fraction(scale) * before == after


def _interpolate(source: OpDef, mode: str, antialias: bool, name: str) -> Rule:
    @rewrite(source, name=name)
    def raise_interpolate(op: Op) -> Value:
        x = op.operands[0]
        if not isinstance(x, Value):
            reject(f"it resizes {x}")
        before, after = x.tensor.shape[2:], op.result.tensor.shape[2:]
        align_corners = bool(op.attr("align_corners")) if "align_corners" in op.defn.by_name else False
        scales = _given_scales(op)
        needless = len(scales) != len(after) or all(map(_says_nothing, scales, before, after))
        return nn.interpolate(
            x,
            size=after,
            mode=mode,
            align_corners=align_corners,
            antialias=antialias,
            # With aligned corners torch does not look at them.
            scales=None if needless or align_corners else scales,
        )

    return raise_interpolate


def _grid_sample(name: str) -> Rule:
    @rewrite(getattr(aten, name).default, name=f"raise_{name}")
    def raise_grid_sample(op: Op) -> Value:
        return nn.grid_sample(
            op.value("input"),
            op.value("grid"),
            mode=_MODES[integer(op, "interpolation_mode")],
            padding_mode=_PADDINGS[integer(op, "padding_mode")],
            align_corners=bool(op.attr("align_corners")),
        )

    return raise_grid_sample


RULES: list[Rule] = [
    *(
        _interpolate(
            getattr(getattr(aten, packet), overload), mode, antialias, f"raise_{packet.strip('_')}_{overload}"
        )
        for packet, (mode, antialias) in _PACKETS.items()
        for overload in ("default", "vec")
    ),
    *(_grid_sample(name) for name in ("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")),
]
