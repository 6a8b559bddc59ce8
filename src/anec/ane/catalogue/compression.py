"""Compressed weights: palettes, scales, sparsity, and quantized activations."""

from __future__ import annotations

import math
from collections.abc import Callable

from anec.ane.rules import Confidence, Effect, Rule
from anec.ane.site import Site
from anec.ir.graph import Op, Value
from anec.ir.types import DType

_USERS = ("conv", "conv_transpose", "linear", "matmul")
_SCALES = ("constexpr_blockwise_shift_scale", "constexpr_affine_dequantize")
_LEAST_GROUP = 4


def _weight(site: Site) -> tuple[Op, int] | None:
    """What makes the weight of a product, and the axis of its output channels."""
    for name, axis in (("weight", 1 if site.root == "conv_transpose" else 0), ("y", -1), ("x", -2)):
        found = site.operand(name) if name == "weight" or site.root == "matmul" else None
        if isinstance(found, Value) and found.op is not None and found.op.defn.root.startswith("constexpr_"):
            if site.root == "matmul" and site.given(f"transpose_{name}") is True:
                axis = -3 - axis
            return found.op, axis % found.rank
    return None


def _operand(op: Op, name: str) -> Value | None:
    found = op.operand(name) if name in op.defn.by_name and name not in op.attrs else None
    return found if isinstance(found, Value) else None


def _blocks(site: Site) -> str | None:
    found = _weight(site)
    if found is None or found[0].defn.root not in _SCALES:
        return None
    scale = _operand(found[0], "scale")
    if scale is None or math.prod(site.shape(scale)) == 1:
        return None
    if found[0].defn.root == "constexpr_affine_dequantize":
        axis = found[0].attr("axis")
        wrong = isinstance(axis, int) and axis % found[0].results[0].rank != found[1]
        return f"a scale along axis {axis}" if wrong else None
    wide = [axis for axis, size in enumerate(site.shape(scale)) if size > 1 and axis != found[1]]
    return f"scales of {list(site.shape(scale))}" if wide else None


def _scaled_palette(site: Site) -> str | None:
    found = _weight(site)
    data = _operand(found[0], "data") if found is not None else None
    if data is None or data.op is None or data.op.defn.root != "constexpr_lut_to_dense":
        return None
    return f"a scale is applied to the palette of {list(site.shape(data))}"


def _deep_palette(site: Site) -> str | None:
    lut = _palette(site)
    if lut is None or lut.op is None or not lut.op.defn.root.startswith("constexpr_") or lut.rank <= 5:
        return None
    return f"the palette itself is compressed, at rank {lut.rank}"


def _palette(site: Site) -> Value | None:
    found = _weight(site)
    return _operand(found[0], "lut") if found is not None and found[0].defn.root == "constexpr_lut_to_dense" else None


def _groups(site: Site) -> tuple[int, int]:
    """How many palettes there are, and how many channels share one."""
    lut, found = _palette(site), _weight(site)
    if lut is None or found is None:
        return 1, 0
    shape = site.shape(found[0].results[0])
    for size, palettes in zip(shape, site.shape(lut), strict=False):
        # Before iOS18 a palette has one dimension, behind it one for each of the weight's and two more.
        if lut.rank == len(shape) + 2 and palettes > 1:
            return palettes, size // palettes
    return 1, 0


def _small_group(site: Site) -> str | None:
    palettes, group = _groups(site)
    return f"{palettes} palettes, one for {group} channels" if palettes > 1 and group < _LEAST_GROUP else None


def _grouped(site: Site) -> str | None:
    palettes, group = _groups(site)
    return f"{palettes} palettes, one for {group} channels" if palettes > 1 else None


def _bytes_stored(*roots: str) -> Callable[[Site], str | None]:
    def test(site: Site) -> str | None:
        found = _weight(site)
        if found is None or found[0].defn.root not in roots:
            return None
        held = next(iter(found[0].inputs), None)
        if held is None or held.tensor.dtype not in (DType.I8, DType.U8):
            return None
        return f"the weight {list(site.shape(found[0].results[0]))} is stored as {held.tensor.dtype}"

    return test


def _activation(site: Site) -> str | None:
    return f"quantizes {list(site.size('input') or site.result)} while running"


RULES = (
    Rule(
        "A37",
        "Scales of weights are one a tensor, or one an output channel.",
        _USERS,
        Effect.CPU,
        Confidence.APPLE,
        "CAD, ET, CMT",
        "one scale a channel, or a palette",
        _blocks,
    ),
    Rule(
        "A35",
        "A scale for each channel on top of a palette belongs behind the product.",
        _USERS,
        Effect.CPU,
        Confidence.APPLE,
        "CMT-py",
        "multiply the output instead",
        _scaled_palette,
    ),
    Rule(
        "A36",
        "Palettes of more than five dimensions that are computed are refused.",
        _USERS,
        Effect.CPU,
        Confidence.APPLE,
        "CAI-py, CMT#2688",
        "no scale a channel for palettes of convolutions",
        _deep_palette,
    ),
    Rule(
        "A38",
        "Palettes for fewer than four channels lose their speed.",
        _USERS,
        Effect.SLOW,
        Confidence.APPLE,
        "CMT",
        "groups of 8 or 16 channels",
        _small_group,
    ),
    Rule(
        "B45",
        "Grouped palettes of convolutions gave wrong values on M5.",
        ("conv",),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "CAD",
        "one palette a tensor; measure on the device",
        _grouped,
        generations=("M5",),
    ),
    Rule(
        "B46",
        "int8 weights are unpacked to float16 before they are used, so that they save no time on M1.",
        _USERS,
        Effect.SLOW,
        Confidence.MEASURED,
        "AG",
        "palettes or sparse weights",
        _bytes_stored(*_SCALES),
        generations=("M1",),
    ),
    Rule(
        "A39",
        "int8 activations pay off from A17 Pro and M4 on, and slow down what came before.",
        ("quantize",),
        Effect.SLOW,
        Confidence.APPLE,
        "CMT",
        "quantize weights only",
        _activation,
        generations=("M1", "M2", "M3"),
    ),
)
