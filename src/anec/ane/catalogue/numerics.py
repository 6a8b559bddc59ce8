"""Numbers: what float16 on the Neural Engine gets wrong."""

from __future__ import annotations

import math

from anec.ane.rules import Confidence, Effect, Rule
from anec.ane.site import Site, span
from anec.ir.attr_types import HALF_MAX, SMALLEST_HALF
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand


def _infinite(site: Site) -> str | None:
    for operand in site.op.operands:
        known = span(operand) if operand is not None else None
        if known is not None and (known[0] < -HALF_MAX or known[1] > HALF_MAX):
            beyond = known[0] if known[0] < -HALF_MAX else known[1]
            return f"the constant {beyond:g} is infinite in float16"
    return None


def _epsilon(site: Site) -> str | None:
    found = site.given("epsilon")
    return f"epsilon is {found:g}, 0 in float16" if isinstance(found, float) and 0 < found < SMALLEST_HALF else None


def _squares(op: Op | None) -> bool:
    """True for an op that multiplies a computed tensor by itself."""
    if op is None or op.is_constant:
        return False
    if op.defn.root == "mul":
        return op.operands[0] is op.operands[1]
    return op.defn.root == "square" or (op.defn.root == "pow" and span(op.operands[1]) == (2, 2))


def _maker(operand: Operand, *roots: str) -> Op | None:
    """The op that computes an operand, if it is one of these."""
    op = operand.op if isinstance(operand, Value) else None
    return op if op is not None and op.defn.root in roots else None


def _maximum(operand: Operand, bound: str) -> Operand:
    """What an operand is the maximum of, beside which it lies; behind a bound of this kind too."""
    bounded = _maker(operand, bound)
    most = _maker(operand if bounded is None else bounded.operand("x"), "reduce_max")
    return most.operand("x") if most is not None and most.attr("keep_dims") is True else None


def _below_maximum(operand: Operand) -> bool:
    """True for x - max(x), which is never above 0."""
    op = _maker(operand, "sub")
    return op is not None and _maximum(op.operand("y"), "clip") is op.operand("x")


def _over_maximum(operand: Operand) -> bool:
    """True for x / max(|x|), which is never beyond 1."""
    op = _maker(operand, "real_div")
    sizes = None if op is None else _maker(_maximum(op.operand("y"), "maximum"), "abs")
    return op is not None and sizes is not None and sizes.operand("x") is op.operand("x")


def _sum_of_squares(site: Site) -> str | None:
    source = site.operand("x")
    if site.root in ("reduce_sum_square", "reduce_l2_norm"):
        return None if _over_maximum(source) else f"squares {list(site.size('x'))}"
    square = source.op if isinstance(source, Value) else None
    if square is None or not _squares(square) or _over_maximum(square.operands[0]):
        return None
    return f"%{square.result.name} is a square"


def _log_softmax(site: Site) -> str | None:
    source = site.operand("x")
    if not isinstance(source, Value) or source.op is None or source.op.defn.root != "softmax":
        return None
    return f"the logarithm of %{source.name}, which may be 0"


def _exponentials(site: Site) -> str | None:
    axes = site.ints("axes", range(len(site.size("x"))))
    count = math.prod(site.size("x")[axis] for axis in axes)
    most = math.log(HALF_MAX / max(count, 1))
    if most >= 0 and _below_maximum(site.operand("x")):
        return None
    return f"overflows beyond {most:.3g} (sums {count} exponentials)"


def _softplus(site: Site) -> str | None:
    negated = _maker(site.operand("x"), "mul")
    if negated is not None and _maker(negated.operand("x"), "abs") is not None:
        factor = span(negated.operand("y"))
        if factor is not None and factor[1] <= 0:
            return None
    return f"exp overflows beyond {math.log(HALF_MAX):.3g}"


def _power(site: Site) -> str | None:
    known = span(site.operand("y"))
    if known is not None and known[0] == known[1] and known[0].is_integer() and known[0] != 2:
        return None
    return "a computed exponent" if known is None else f"the exponent is {known[0]:g}"


def _not_a_number(site: Site) -> str | None:
    first, second = site.op.operands[:2]
    return f"compares %{first.name} with itself" if isinstance(first, Value) and first is second else None


def _wide_square(site: Site) -> str | None:
    width = site.result[-1] if site.result else 0
    return f"the width {width} leaves {width % 128} of 128" if width % 128 > 64 else None


_REDUCTIONS = ("reduce_sum", "reduce_mean", "reduce_sum_square", "reduce_l2_norm")

RULES = (
    Rule(
        "A24",
        "Softmax does not handle minus infinity.",
        ("add", "sub", "select", "maximum", "minimum", "mul"),
        Effect.NUMERICS,
        Confidence.APPLE,
        "ANT, CAI",
        "masks of -10000 to -40000; ane-attention and fp16-safe clamp them",
        _infinite,
    ),
    Rule(
        "A51",
        "An epsilon below 6e-8 is 0 in float16.",
        ("layer_norm", "instance_norm", "batch_norm", "l2_norm", "rsqrt", "log", "inverse"),
        Effect.NUMERICS,
        Confidence.APPLE,
        "ANT",
        "1e-7, which Apple uses (it alters the numbers)",
        _epsilon,
    ),
    Rule(
        "A34",
        "A square overflows float16 beyond 256.",
        _REDUCTIONS,
        Effect.NUMERICS,
        Confidence.APPLE,
        "CMT-py",
        "scale before squaring; fp16-safe does so for norms",
        _sum_of_squares,
    ),
    Rule(
        "B36",
        "log(softmax(x)) is minus infinity where softmax rounds to 0.",
        ("log",),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "CMT#2728",
        "x - max - log(sum(exp(x - max)))",
        _log_softmax,
    ),
    Rule(
        "B36l",
        "log(sum(exp(x))) overflows float16 early.",
        ("reduce_log_sum_exp",),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "CMT#2690",
        "subtract the maximum first",
        _exponentials,
    ),
    Rule(
        "B36s",
        "softplus overflows float16.",
        ("softplus",),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "CMT#2687",
        "maximum(x, 0) + log(1 + exp(-abs(x)))",
        _softplus,
    ),
    Rule(
        "B28",
        "Powers give wrong results.",
        ("pow",),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "SQB",
        "mul(x, x), sqrt, rsqrt",
        _power,
    ),
    Rule(
        "B28s",
        "square in front of an activation fails at some widths.",
        ("square",),
        Effect.FAIL,
        Confidence.FOLKLORE,
        "AF",
        "mul(x, x)",
        _wide_square,
    ),
    Rule(
        "B30",
        "NaN is not propagated: a test for it answers nothing.",
        ("equal", "not_equal"),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "AG, AF",
        "keep NaN out of the program",
        _not_a_number,
    ),
)
