"""Adaptive pools, and the ops that move pixels between space and channels.

    %y, %indices = aten.adaptive_max_pool2d.default(%x) {output_size=[2, 2]}     %x: f32[1,3,8,8]
        ->
    %y = nn.adaptive_max_pool(%x) {size=[2, 2]}

A maximum whose indices are used stays as it is.
"""

from __future__ import annotations

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.passes.raise_nn.common import integer, only_first
from anec.rewrite import Rule, rewrite

_POOLS: dict[str, tuple[OpDef, int]] = {
    **{f"adaptive_avg_pool{n}d": (nn.adaptive_avg_pool, n) for n in (1, 2, 3)},
    **{f"_adaptive_avg_pool{n}d": (nn.adaptive_avg_pool, n) for n in (2, 3)},
    **{f"adaptive_max_pool{n}d": (nn.adaptive_max_pool, n) for n in (1, 2, 3)},
}


def _pool(name: str, target: OpDef, space: int) -> Rule:
    @rewrite(getattr(aten, name).default, name=f"raise_{name.strip('_')}" + "_internal" * name.startswith("_"))
    def raise_pool(op: Op) -> Value:
        only_first(op)
        return target(op.value("self"), size=op.results[0].tensor.shape[-space:])

    return raise_pool


@rewrite(aten.pixel_shuffle.default)
def raise_pixel_shuffle(op: Op) -> Value:
    """Channels to space."""
    return nn.pixel_shuffle(op.value("self"), factor=integer(op, "upscale_factor"))


@rewrite(aten.pixel_unshuffle.default)
def raise_pixel_unshuffle(op: Op) -> Value:
    """Space to channels."""
    return nn.pixel_unshuffle(op.value("self"), factor=integer(op, "downscale_factor"))


@rewrite(aten.channel_shuffle.default)
def raise_channel_shuffle(op: Op) -> Value:
    """Groups of channels in turn."""
    return nn.channel_shuffle(op.value("self"), groups=integer(op, "groups"))


RULES: list[Rule] = [
    *(_pool(name, target, space) for name, (target, space) in _POOLS.items()),
    raise_pixel_shuffle,
    raise_pixel_unshuffle,
    raise_channel_shuffle,
]
