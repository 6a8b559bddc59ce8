"""Ops that the Neural Engine does not have, or that Core ML never puts there."""

from __future__ import annotations

from anec.ane.rules import Confidence, Effect, Rule
from anec.ane.site import Site, is_stored
from anec.ir.graph import Value

_FACTORS = frozenset({1, 2, 3, 4, 8})
_FACTOR_NAMES = ("upscale_factor", "downscale_factor", "block_size", "block_shape")


def _always(site: Site) -> str | None:
    return f"{site.root} has no form on the Neural Engine"


def _embedding(site: Site) -> str | None:
    table = site.operand("x")
    return f"looks up a table of {list(site.size('x'))}" if isinstance(table, Value) and is_stored(table) else None


def _gather(site: Site) -> str | None:
    return None if site.root == "gather" and _embedding(site) else f"{site.root} is never placed there"


def _long_axis(site: Site) -> str | None:
    shape = site.size("x")
    length = shape[site.ints("axis", [-1])[0]] if shape else 1
    return f"the axis is {length} long, beyond {site.limits.compared}" if length > site.limits.compared else None


def _texture(site: Site) -> str | None:
    return None if site.limits.has_texture else f"{site.limits.generation} has no texture unit"


def _reflected(site: Site) -> str | None:
    return _texture(site) if site.given("mode") in ("reflect", "replicate") else None


def _trigonometry(site: Site) -> str | None:
    return None if site.limits.has_trigonometry else f"{site.limits.generation} has no {site.root}"


def _sorting(site: Site) -> str | None:
    return f"sorts {list(site.size('x'))}"


def _dynamic_slice(site: Site) -> str | None:
    where = [name for name in ("begin", "end", "size") if site.runs(name)]
    if not where or site.limits.has_dynamic_slice:
        return None
    return f"{where[0]} is computed, which {site.limits.generation} does not run"


def _factor(site: Site) -> str | None:
    name = next(name for name in _FACTOR_NAMES if name in site.op.defn.by_name)
    found = [factor for factor in site.ints(name) if factor not in _FACTORS]
    return f"the factor is {found[0]}; 2, 3, 4 and 8 are native" if found else None


def _upsampling(site: Site) -> str | None:
    factors = [site.given("scale_factor_height"), site.given("scale_factor_width")]
    large = [factor for factor in factors if isinstance(factor, (int, float)) and factor > 2]
    return f"scales by {large[0]:g}" if large else None


def _padded_channels(site: Site) -> str | None:
    pads, rank = site.ints("pad"), len(site.result)
    axes = [rank - len(pads) // 2 + index // 2 for index, pad in enumerate(pads) if pad]
    outer = [axis for axis in axes if axis < rank - 2]
    return f"pads axis {outer[0]} of rank {rank}" if outer else None


def _tile(site: Site) -> str | None:
    return f"repeats {list(site.size('x'))} to {list(site.result)}"


# Trigonometry apart, what no generation has (AG, appendix A).
_MISSING = (
    "reduce_prod", "mod", "cumsum", "one_hot", "non_zero", "band_part", "reverse_sequence", "shape", "sliding_windows",
    "logical_and", "logical_or", "logical_xor", "tan", "asin", "acos", "sinh", "cosh", "atanh",
    "random_normal", "random_uniform", "random_bernoulli", "random_categorical",
)  # fmt: skip
_SAMPLING = ("resize", "resize_bilinear", "resize_nearest_neighbor", "crop_resize", "resample", "affine")
_SHUFFLES = ("pixel_shuffle", "pixel_unshuffle", "depth_to_space", "space_to_depth", "space_to_batch", "batch_to_space")

RULES = (
    Rule(
        "B21",
        "No generation has these ops.",
        _MISSING,
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "ane-legalize for cumsum, reduce_prod, band_part, sliding_windows, tan, asin, acos, cosh and logic; "
        "fp16-safe for mod",
        _always,
    ),
    Rule(
        "B22",
        "Ops of the compiler's own that run on the CPU or GPU.",
        ("range_1d", "non_maximum_suppression", "classify", "reshape_like", "fill_like"),
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "compute it before the program runs, or leave it to the host",
        _always,
    ),
    Rule(
        "A13",
        "scatter leaves the Neural Engine; slice assignment may stay.",
        ("scatter", "scatter_nd", "scatter_along_axis"),
        Effect.CPU,
        Confidence.APPLE,
        "CMT-py",
        "write whole slices (slice_update), or gather the other way round",
        _always,
    ),
    Rule(
        "A14",
        "Recurrent ops are not run.",
        ("lstm", "gru", "rnn"),
        Effect.CPU,
        Confidence.APPLE,
        "CMT#1780",
        "unroll a fixed number of steps into products, sigmoid and tanh",
        _always,
    ),
    Rule(
        "A16",
        "Embeddings are looked up on the CPU; harmless at the edge of a program.",
        ("gather",),
        Effect.CPU,
        Confidence.APPLE,
        "ANT, CAI",
        "keep the lookup first in the program, or do it in the host",
        _embedding,
    ),
    Rule(
        "A17",
        "Tables are not to be indexed inside the program: gather_nd is refused.",
        ("gather_nd",),
        Effect.CPU,
        Confidence.APPLE,
        "CAI",
        "ane-legalize for constant indices; take cos and sin as inputs, or as slices of a constant",
        _always,
    ),
    Rule(
        "B23",
        "Core ML never places these ops on the Neural Engine.",
        ("gather", "gather_along_axis", "reduce_argmax", "reduce_argmin"),
        Effect.CPU,
        Confidence.MEASURED,
        "AG, RFD, MAT",
        "ane-legalize for constant indices: slices, or a one-hot product; others at the edge, or in the host",
        _gather,
    ),
    Rule(
        "B17",
        "argmax and argmin take axes up to 2048.",
        ("reduce_argmax", "reduce_argmin"),
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "argmax of parts, then of their results",
        _long_axis,
    ),
    Rule(
        "B12",
        "Resizing and sampling need a texture unit, which M1 lacks.",
        _SAMPLING,
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "upsample_nearest_neighbor or upsample_bilinear by whole factors",
        _texture,
    ),
    Rule(
        "B12p",
        "Reflecting and replicating pads need a texture unit, which M1 lacks.",
        ("pad",),
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "ane-legalize joins slices; or pad with zeros",
        _reflected,
    ),
    Rule(
        "B13",
        "sin and cos are there from M3 on.",
        ("sin", "cos"),
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "compute the table before the program runs",
        _trigonometry,
    ),
    Rule(
        "B14",
        "M1 has no topk and argsort; later generations take them and still leave them to the CPU.",
        ("topk", "argsort"),
        Effect.CPU,
        Confidence.MEASURED,
        "AG, RFD",
        "keep it last in the program, or in the host",
        _sorting,
    ),
    Rule(
        "B14s",
        "A slice that begins where a value says is not run on M1.",
        ("slice_by_index", "slice_by_size", "slice_update"),
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "fixed positions, or a mask",
        _dynamic_slice,
    ),
    Rule(
        "B20",
        "Shuffles have factors 2, 3, 4 and 8.",
        _SHUFFLES,
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "ane-legalize writes a transpose; or two shuffles, one after the other",
        _factor,
    ),
    Rule(
        "B26",
        "Pads reach height and width only.",
        ("pad",),
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "ane-legalize joins constants",
        _padded_channels,
    ),
    Rule(
        "B56",
        "tile of a computed tensor stays on the CPU.",
        ("tile",),
        Effect.CPU,
        Confidence.MEASURED,
        "RFD, FG",
        "ane-legalize multiplies by ones or joins copies; mil-cleanup drops what the op behind broadcasts",
        _tile,
    ),
    Rule(
        "F01",
        "Upsampling by more than 2 was not run by early generations.",
        ("upsample_nearest_neighbor", "upsample_bilinear"),
        Effect.CPU,
        Confidence.FOLKLORE,
        "HOL",
        "ane-legalize doubles several times what takes the nearest",
        _upsampling,
    ),
)
