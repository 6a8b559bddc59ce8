"""Layout: which axis is last, what moves it, and what is done along it."""

from __future__ import annotations

from anec.ane.rules import Confidence, Effect, Rule
from anec.ane.site import Site
from anec.ir.graph import Value

# Below this a move or a softmax costs less than launching it.
_SMALL = 1 << 16
_BRANCHES = 12


def _moved(site: Site) -> str | None:
    source, result = site.operand("x"), site.op.results[0]
    if not isinstance(source, Value) or site.bytes(result) < _SMALL:
        return None
    if site.root == "transpose":
        perm = site.ints("perm")
        kept = not perm or perm[-1] in (len(perm) - 1, -1)
    else:
        kept = site.shape(source)[-1:] == site.result[-1:]
    if kept:
        return None
    return f"{list(site.shape(source))} to {list(site.result)} moves {site.bytes(result) / 1e6:.3g} MB"


def _long_transpose(site: Site) -> str | None:
    longest = max(site.result, default=0)
    return f"an axis of {longest}, beyond {site.limits.transposed}" if longest > site.limits.transposed else None


def _spatial_softmax(site: Site) -> str | None:
    spatial = site.axis() in ((-1, -2) if len(site.result) >= 4 else (-1,))
    large = site.bytes(site.op.results[0]) >= _SMALL
    return f"axis {site.axis()} of {list(site.result)}" if spatial and large else None


def _rows(site: Site) -> str | None:
    axes = site.ints("axes")
    rank = len(site.result)
    return f"normalizes the last axis of {list(site.result)}" if rank == 3 and axes in ((-1,), (2,)) else None


def _long_reduction(site: Site) -> str | None:
    source = site.operand("x")
    if not isinstance(source, Value):
        return None
    shape = site.shape(source)
    axes = site.ints("axes", range(len(shape)))
    long = [shape[axis] for axis in axes if (axis if axis < 0 else axis - len(shape)) >= -2]
    most = max(long, default=0)
    return f"an axis of {most}, beyond {site.limits.reduced}" if most > site.limits.reduced else None


def _fan_in(site: Site) -> str | None:
    branches = len({value.op for value in site.inputs})
    return f"{branches} branches meet" if branches >= _BRANCHES else None


def _offset_slice(site: Site) -> str | None:
    begin, mask = site.ints("begin"), site.ints("begin_mask")
    if not begin or (len(mask) == len(begin) and mask[-1]) or not begin[-1]:
        return None
    return f"begins at {begin[-1]} of the last axis"


def _spelled_norm(site: Site) -> str | None:
    source = site.inputs[0].op if site.inputs else None
    if source is not None and source.defn.root == "add":
        source = next((value.op for value in source.inputs if not value.is_constant), None)
    if source is None or source.defn.root != "reduce_mean":
        return None
    return f"the root of a mean, %{source.results[0].name}"


_REDUCTIONS = (
    "reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_sum_square", "reduce_l1_norm", "reduce_l2_norm",
    "reduce_log_sum", "reduce_log_sum_exp",
)  # fmt: skip

RULES = (
    Rule(
        "A07",
        "The layout that suits is (B, C, 1, S).",
        ("layer_norm",),
        Effect.SLOW,
        Confidence.APPLE,
        "ANT, CAI, ART1",
        "--passes default,ane",
        _rows,
    ),
    Rule(
        "A23",
        "A softmax over height or width keeps the compiler from splitting the work.",
        ("softmax",),
        Effect.SLOW,
        Confidence.APPLE,
        "CAI, ANT, VIT",
        "put the axis on the channels, as ane-attention does",
        _spatial_softmax,
    ),
    Rule(
        "A30",
        "Moving the last axis rewrites the whole tensor.",
        ("transpose", "reshape"),
        Effect.SLOW,
        Confidence.APPLE,
        "CAI",
        "ane-layout makes moves meet and cancel",
        _moved,
    ),
    Rule(
        "B09",
        "Transposes take axes up to a size.",
        ("transpose",),
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "split the axis",
        _long_transpose,
    ),
    Rule(
        "B16",
        "A reduction along a long row is turned into transposes.",
        _REDUCTIONS,
        Effect.SLOW,
        Confidence.MEASURED,
        "AG",
        "reduce over the channels, or in two steps",
        _long_reduction,
    ),
    Rule(
        "B54",
        "Where twelve branches or more meet the compiler searches for seconds.",
        ("concat", "stack"),
        Effect.LOAD,
        Confidence.MEASURED,
        "AG",
        "fewer heads at once: ane-attention{heads=6}",
        _fan_in,
    ),
    Rule(
        "B33",
        "A slice of the last axis that begins past 0 turns numbers beyond 4094 into inf on M1 and M2.",
        ("slice_by_index", "slice_by_size"),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "AG",
        "slice the channels instead",
        _offset_slice,
        generations=("M1", "M2"),
    ),
    Rule(
        "A31",
        "Norms as one op run better than spelled out.",
        ("rsqrt", "sqrt"),
        Effect.SLOW,
        Confidence.APPLE,
        "CAI",
        "custom-norms recognises them",
        _spelled_norm,
    ),
)
