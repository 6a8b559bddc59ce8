"""Types and sizes: what a tensor may be that the Neural Engine computes with."""

from __future__ import annotations

from collections.abc import Callable

from anec.ane.limits import Limits
from anec.ane.rules import Confidence, Effect, Rule
from anec.ane.site import COMPUTED, Site
from anec.ir.graph import Value
from anec.ir.types import DType

# Ops whose numbers of another type are what rule B31, or a rule of their own, speaks of.
CONDITIONS = (
    "equal", "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_not", "select", "cast",
)  # fmt: skip
_ROWS = 32


def _type(site: Site) -> str | None:
    return next((_typed(value) for value in site.values if value.tensor.dtype is DType.F32), None)


def _condition(site: Site) -> str | None:
    found = (value for value in site.data if value.tensor.dtype not in COMPUTED | {DType.F32})
    return next((_typed(value) for value in found), None)


def _integer(site: Site) -> str | None:
    return None if site.root in CONDITIONS else _condition(site)


def _typed(value: Value) -> str:
    return f"%{value.name} is {value.tensor.dtype}"


def _rank(site: Site) -> str | None:
    rank = max((value.rank for value in site.values), default=0)
    return f"rank {rank}" if rank > 5 else None


def _symbolic(site: Site) -> str | None:
    found = next((value for value in site.values if not value.tensor.is_static), None)
    return f"%{found.name} is {found.tensor}" if site.ranged and found is not None else None


def dimensions(shape: tuple[int, ...]) -> dict[str, int]:
    """A shape by the names of the hardware's axes; leading ones are added: W is the last axis."""
    names = "NDCHW" if len(shape) > 4 else "NCHW"
    shape = shape[-len(names) :]
    return dict(zip(names[len(names) - len(shape) :], shape, strict=True))


def _within(names: str, limit: Callable[[Limits], int]) -> Callable[[Site], str | None]:
    def test(site: Site) -> str | None:
        most = limit(site.limits)
        for value in site.values:
            sizes = dimensions(site.shape(value))
            wide = [name for name in names if sizes.get(name, 1) > most]
            if wide:
                return f"{wide[0]} of %{value.name} is {sizes[wide[0]]}, beyond {most}"
        return None

    return test


def _waste(site: Site) -> str | None:
    # A few rows of padding are no matter.
    if not site.result or site.result[-1] >= _ROWS or site.padding(site.op.results[0]) < 1 << 16:
        return None
    last = site.result[-1]
    row = last * site.op.results[0].tensor.dtype.bits // 8
    padded = row + -row % 64
    return f"the last axis is {last}: rows of {row} bytes take {padded}, {padded / row:.3g} times the memory"


def _unaligned(site: Site) -> str | None:
    for value in site.inputs:
        shape = site.shape(value)
        if len(shape) >= 3 and shape[-1] > _ROWS and shape[-1] % 32:
            return f"the last axis of %{value.name} is {shape[-1]}, no multiple of 32"
    return None


def _working_set(site: Site) -> str | None:
    largest = max(site.values, key=site.bytes, default=None)
    if largest is None or site.bytes(largest) <= site.limits.working_set:
        return None
    taken, held = site.bytes(largest) / 1e6, site.limits.working_set / 1e6
    return f"%{largest.name} takes {taken:.3g} MB, the chip holds {held:.3g}"


def _broadcast_depth(site: Site) -> str | None:
    if len(site.result) != 5 or site.result[1] == 1:
        return None
    short = [value for value in site.inputs if value.rank == 5 and site.shape(value)[1] == 1]
    return f"%{short[0].name} is stretched to a depth of {site.result[1]}" if short else None


_BINARY = ("add", "sub", "mul", "real_div", "maximum", "minimum", "pow", "floor_div")

RULES = (
    Rule(
        "A01",
        "The hardware computes in float16; an op typed float32 is never lowered to that.",
        (),
        Effect.CPU,
        Confidence.APPLE,
        "CAI, CMT",
        "--precision fp16; --io-dtype fp16 saves the casts of inputs and outputs",
        _type,
    ),
    Rule(
        "A01i",
        "Of integers the hardware takes int8 and int16; int32 and bool stay on the CPU.",
        (),
        Effect.CPU,
        Confidence.APPLE,
        "CAI",
        "ane-legalize for logic between comparisons; else float16, or the very beginning of the program",
        _integer,
    ),
    Rule(
        "B31",
        "Comparisons, select and casts to or from bool and integers stay on the CPU.",
        CONDITIONS,
        Effect.CPU,
        Confidence.MEASURED,
        "RFD, AG",
        "ane-legalize for conditions between floats, ane-attention for masks, which are added",
        _condition,
    ),
    Rule(
        "A03",
        "Tensors have at most five dimensions.",
        (),
        Effect.CPU,
        Confidence.APPLE,
        "CAI, VIT",
        "join neighbouring dimensions; lower-to-mil does so",
        _rank,
    ),
    Rule(
        "A11",
        "There are no dynamic shapes; a range of sizes runs on the CPU or GPU.",
        (),
        Effect.CPU,
        Confidence.APPLE,
        "ET, CAI",
        "list shapes instead of a range, or compile one function for each shape",
        _symbolic,
    ),
    Rule(
        "B01",
        "Height and width have a largest size.",
        (),
        Effect.FAIL,
        Confidence.APPLE,
        "AG, FluidAudio#121",
        "ane-legalize folds long rows and splits products; else put the axis on the channels (up to 65536)",
        _within("HW", lambda limits: limits.width),
    ),
    Rule(
        "B02",
        "At most 65536 channels.",
        (),
        Effect.FAIL,
        Confidence.APPLE,
        "AG, FluidAudio#121",
        "ane-legalize splits products and what works on their results",
        _within("C", lambda limits: limits.channels),
    ),
    Rule(
        "B03",
        "At most 65536 in a batch.",
        (),
        Effect.FAIL,
        Confidence.APPLE,
        "AG, FluidAudio#121",
        "split the batch",
        _within("N", lambda limits: limits.batch),
    ),
    Rule(
        "B04",
        "The depth of a tensor of rank 5 has a largest size.",
        (),
        Effect.FAIL,
        Confidence.APPLE,
        "AG, FluidAudio#121",
        "split the axis",
        _within("D", lambda limits: limits.depth),
    ),
    Rule(
        "A06",
        "Rows (the last axis) are padded to 64 bytes: a short last axis wastes memory.",
        (),
        Effect.MEMORY,
        Confidence.APPLE,
        "CAI, ART1",
        "ane-layout puts the longest axis last",
        _waste,
    ),
    Rule(
        "A08",
        "Operands of attention want a last axis that is a multiple of 32.",
        ("matmul", "einsum", "scaled_dot_product_attention"),
        Effect.MEMORY,
        Confidence.APPLE,
        "VIT",
        "pad the axis to a multiple of 32",
        _unaligned,
    ),
    Rule(
        "B63",
        "An operand beyond the memory of the chip is fetched piece by piece.",
        (),
        Effect.SLOW,
        Confidence.MEASURED,
        "AG, MX",
        "split the op; ane-attention chunks the queries",
        _working_set,
    ),
    Rule(
        "B32",
        "Broadcasting along the depth of a tensor of rank 5 is not run.",
        _BINARY,
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "ane-legalize stretches in four dimensions",
        _broadcast_depth,
    ),
)
