"""What each generation of the Neural Engine can hold and run, as numbers.

Generations are named after the Mac chip, with Apple's compiler family: M1 is H13, M5 is H17. The tables
were read from the compiler by a third party (ane-guide, appendix A); M1, M2 and M5 were run, M3 and M4
are its prediction. The dimension limits of M1 to M3 are those of Apple's own diagnostic, ``not within
supported range, N[1-65536] D[1-16384] C[1-65536] H[1-16384] W[1-16384]``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from anec.errors import UsageError, nearest

GENERATIONS = ("M1", "M2", "M3", "M4", "M5")
# iPhone chips, by the tier of their compiler; sources differ by one generation on each.
ALIASES = {"A14": "M1", "A15": "M2", "A16": "M3", "A17": "M4", "A18": "M4", "A19": "M5"}


@dataclass(frozen=True, slots=True)
class Limits:
    """One generation.

    Args:
        generation: ``M1`` to ``M5``.
        family: the name of the compiler's target, ``H13``.
        width: the largest last or last but one dimension (B01).
        channels: the largest channel dimension (B02).
        batch: the largest batch (B03).
        depth: the largest depth of a tensor of rank 5 (B04).
        kernel_width: of a convolution in float16 (B05).
        kernel_height: the same, the other way (B07).
        strided_kernel_width: of a transposed or strided convolution (B08).
        transposed: the largest dimension a transpose takes (B09).
        grouped: the largest Cin x kH x kW of a grouped convolution that is not taken apart (B10).
        reduced: the longest axis that is reduced where it lies (B16).
        compared: the longest axis of argmax and argmin (B17).
        working_set: the bytes of one operand that stays on the chip (B15, B63).
        has_texture: resize, crop_resize, resample, affine, reflecting pads (B12).
        has_trigonometry: sin and cos (B13).
        has_dynamic_slice: a slice that begins where a value says (B14).
        cores: the number that output channels are split over (B65).
        dispatch: milliseconds one evaluation takes at least (B60).
        sure: false where the table is a prediction itself.
    """

    generation: str
    family: str
    width: int = 16384
    channels: int = 65536
    batch: int = 65536
    depth: int = 16384
    kernel_width: int = 13
    kernel_height: int = 29
    strided_kernel_width: int = 7
    transposed: int = 16384
    grouped: int = 2048
    reduced: int = 192
    compared: int = 2048
    working_set: int = 2 << 20
    has_texture: bool = False
    has_trigonometry: bool = False
    has_dynamic_slice: bool = False
    cores: int = 16
    dispatch: float = 0.23
    sure: bool = True


_M1 = Limits("M1", "H13")
_M2 = replace(
    _M1, generation="M2", family="H14", kernel_width=16, kernel_height=32, strided_kernel_width=8,
    has_texture=True, has_dynamic_slice=True,
)  # fmt: skip
_M3 = replace(_M2, generation="M3", family="H15", reduced=384, has_trigonometry=True, sure=False)
_M4 = replace(_M3, generation="M4", family="H16", width=65536, depth=65536, transposed=65536, dispatch=0.11)
# 4.72 MB was measured, where the table says 2.
_M5 = replace(_M4, generation="M5", family="H17", working_set=4_720_000, sure=True)
_LIMITS = {limits.generation: limits for limits in (_M1, _M2, _M3, _M4, _M5)}


def limits_of(name: str) -> Limits:
    """The limits of a generation, by its name or that of an iPhone chip of its tier.

    Raises:
        UsageError: an unknown name.
    """
    found = _LIMITS.get(ALIASES.get(name, name))
    if found is None:
        raise UsageError(f"unknown generation {name!r}", hint=nearest(name, [*GENERATIONS, *ALIASES]))
    return found
