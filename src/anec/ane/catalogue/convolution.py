"""Convolutions and pools: kernels, strides, dilations, groups, channels."""

from __future__ import annotations

import math

from anec.ane.rules import Confidence, Effect, Rule
from anec.ane.site import Site

_STRIDES = frozenset({1, 2, 3, 4, 6, 8, 9, 12, 16, 24, 32})
_BESIDE_TWO = frozenset({1, 2, 3, 4, 8, 9})
_BOTH = ("conv", "conv_transpose")
_POOLS = ("max_pool", "avg_pool", "l2_pool")


def _kernel(site: Site) -> tuple[int, ...]:
    return site.size("weight")[2:]


def _strides(site: Site) -> tuple[int, ...]:
    return site.ints("strides", (1,) * len(_kernel(site)))


def _runtime_weight(site: Site) -> str | None:
    return f"its weight of {list(site.size('weight'))} is computed" if site.runs("weight") else None


def _volume(site: Site) -> str | None:
    return f"the kernel is {list(_kernel(site))}" if len(_kernel(site)) == 3 else None


def _kernel_size(site: Site) -> str | None:
    kernel, limits = _kernel(site), site.limits
    if kernel and kernel[-1] > limits.kernel_width:
        return f"the kernel is {kernel[-1]} wide, beyond {limits.kernel_width}"
    if len(kernel) > 1 and kernel[-2] > limits.kernel_height:
        return f"the kernel is {kernel[-2]} high, beyond {limits.kernel_height}"
    return None


def _wide_kernel(site: Site) -> str | None:
    kernel, limits = _kernel(site), site.limits
    if not kernel or not limits.strided_kernel_width < kernel[-1] <= limits.kernel_width:
        return None
    return f"the kernel is {kernel[-1]} wide"


def _stride(site: Site) -> str | None:
    strides = _strides(site)
    if len(set(strides)) == 1:
        wrong = strides[0] not in _STRIDES
    elif 1 in strides or 2 in strides:
        wrong = not set(strides) <= _BESIDE_TWO
    else:
        wrong = True
    return f"the stride is {list(strides)}" if strides and wrong else None


def _unequal(site: Site) -> str | None:
    strides = _strides(site)
    return f"the stride is {list(strides)}" if len(set(strides)) > 1 and max(strides) >= 16 else None


def _dilation(site: Site) -> str | None:
    # One tap has none.
    kernel = site.size("weight")[2:]
    given = zip(site.ints("dilations", [1] * len(kernel)), kernel, strict=False)
    large = [dilation for dilation, taps in given if taps > 1 and (dilation > 8 or dilation in (5, 7))]
    return f"the dilation is {large[0]}" if large else None


def _pool_stride(site: Site) -> str | None:
    strides = site.ints("strides", [1])
    wrong = [stride for stride in strides if stride not in (1, 2, 4)]
    # A pool over the whole image takes one step, whatever its stride.
    return f"the stride is {list(strides)}" if wrong and math.prod(site.result[2:]) > 1 else None


def _pool_kernel(site: Site) -> str | None:
    kernel = site.ints("kernel_sizes")
    return f"the window is {list(kernel)}" if kernel and max(kernel) > 13 else None


def _groups(site: Site) -> int:
    return site.ints("groups", [1])[0]


def _large_group(site: Site) -> str | None:
    weight = site.size("weight")
    # Depthwise convolutions have a path of their own.
    if _groups(site) == 1 or len(weight) < 3 or weight[1] == 1:
        return None
    found = math.prod(weight[1:])
    return f"Cin x kH x kW of a group is {found}, beyond {site.limits.grouped}" if found > site.limits.grouped else None


def _uneven(site: Site) -> str | None:
    groups, weight = _groups(site), site.size("weight")
    if len(weight) < 2 or (weight[1] == 1 and groups > 1):
        return None
    if groups > 1 and site.limits.cores % groups:
        return f"{groups} groups do not divide {site.limits.cores} cores"
    channels = weight[0] if site.root == "conv" else weight[1] * groups
    return f"{channels} output channels, no multiple of 16" if channels > 16 and channels % 16 else None


RULES = (
    Rule(
        "B25",
        "A convolution whose weight is computed gives wrong numbers or crashes the compiler.",
        _BOTH,
        Effect.CPU,
        Confidence.MEASURED,
        "FG, AG",
        "ane-legalize multiplies matrices",
        _runtime_weight,
    ),
    Rule(
        "B25v",
        "Convolutions are two-dimensional; those over volumes are never lowered.",
        _BOTH,
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "ane-legalize convolves slices",
        _volume,
    ),
    Rule(
        "B05",
        "Kernels have a largest width and height.",
        _BOTH,
        Effect.FAIL,
        Confidence.MEASURED,
        "AG",
        "ane-legalize splits the kernel, or convolves blocks",
        _kernel_size,
    ),
    Rule(
        "A27",
        "Wide kernels are costly.",
        _BOTH,
        Effect.SLOW,
        Confidence.APPLE,
        "CAI, AG",
        "two convolutions of k1 + k2 - 1 = k (needs training)",
        _wide_kernel,
    ),
    Rule(
        "A26",
        "Equal strides are products of 2 and 3 up to 32; beside a 2 stands 3, 4, 8 or 9.",
        _BOTH,
        Effect.LOAD,
        Confidence.APPLE,
        "CAI, CMT#2473",
        "ane-legalize convolves blocks by the stride",
        _stride,
    ),
    Rule(
        "B34",
        "Transposed convolutions of very unequal strides fail to load.",
        ("conv_transpose",),
        Effect.FAIL,
        Confidence.FOLKLORE,
        "CMT#2450",
        "reshape, then equal strides",
        _unequal,
    ),
    Rule(
        "A28",
        "Large dilations are costly.",
        ("conv",),
        Effect.SLOW,
        Confidence.APPLE,
        "CAI, AG",
        "ane-legalize brings the taps together; or a chain of dilations 2 and 3 (needs training)",
        _dilation,
    ),
    Rule(
        "A29",
        "Pools of other strides than 2 and 4 cost more.",
        _POOLS,
        Effect.SLOW,
        Confidence.APPLE,
        "CAI",
        "a stride of 2 or 4",
        _pool_stride,
    ),
    Rule(
        "F01p",
        "Pools of windows beyond 13 were not run by early generations.",
        _POOLS,
        Effect.CPU,
        Confidence.FOLKLORE,
        "HOL",
        "two pools, one after the other",
        _pool_kernel,
    ),
    Rule(
        "B10",
        "A grouped convolution of large groups is taken apart.",
        ("conv",),
        Effect.SLOW,
        Confidence.MEASURED,
        "AG",
        "fewer channels in a group",
        _large_group,
    ),
    Rule(
        "B65",
        "Output channels are split over the cores, sixteen at a time.",
        _BOTH,
        Effect.SLOW,
        Confidence.MEASURED,
        "AG",
        "a multiple of 16 channels; groups that divide the cores",
        _uneven,
    ),
)
