"""Products: linear, matmul, einsum, attention."""

from __future__ import annotations

import math

from anec.ane.rules import Confidence, Effect, Rule
from anec.ane.site import Site
from anec.ir.graph import Value

_NATIVE = "abcd,adce->abce"
_LONG = 1024
_CANCELLING = 4096


def _high_rank(site: Site) -> str | None:
    ranks = [value.rank for value in site.values]
    return f"operands of rank {max(ranks)}" if max(ranks) >= 5 else None


def _turned(site: Site) -> str | None:
    if len(site.result) < 5 or not any(user.defn.root == "matmul" for user in site.op.results[0].users):
        return None
    return f"a product reads this transpose of rank {len(site.result)}"


def _linear(site: Site) -> str | None:
    return f"{list(site.size('weight'))} as linear"


def _constant_matmul(site: Site) -> str | None:
    stored = [value for value in site.constants if value.rank == 2]
    return f"a product with the constant {list(site.shape(stored[0]))}" if stored else None


def _heads(site: Site) -> str | None:
    if len(site.result) != 4 or not (site.runs("x") and site.runs("y")):
        return None
    heads = max(site.result[1], site.size("x")[1])
    return f"{heads} heads in one product" if heads > 1 else None


def _equation(site: Site) -> str | None:
    letters: dict[str, str] = {}
    text = str(site.given("equation")).replace(" ", "")
    shape = "".join(letters.setdefault(c, chr(97 + len(letters))) if c.isalpha() else c for c in text)
    return None if shape == _NATIVE else f"the equation is {text}"


def _fused(site: Site) -> str | None:
    return f"queries of {list(site.size('query'))}, keys of {list(site.size('key'))}"


def _long(site: Site) -> str | None:
    queries, keys = site.size("query"), site.size("key")
    longest = max(queries[-2], keys[-2])
    return f"{longest} positions, beyond {_LONG}" if longest >= _LONG else None


def _depth(site: Site) -> int:
    """How many products are summed for one number."""
    if site.root == "matmul":
        first = site.operand("x")
        shape = site.shape(first) if isinstance(first, Value) else (1, 1)
        return shape[-2] if site.given("transpose_x") is True and len(shape) > 1 else shape[-1]
    weight = site.size("weight")
    return weight[-1] if site.root == "linear" and weight else math.prod(weight[1:]) if len(weight) > 1 else 1


def _cancellation(site: Site) -> str | None:
    depth = _depth(site)
    return f"sums {depth} products" if depth > _CANCELLING else None


_DECOMPOSE = "--passes default,ane writes it as one einsum a head"

RULES = (
    Rule(
        "B24",
        "Products take operands of up to four dimensions.",
        ("matmul", "linear"),
        Effect.CPU,
        Confidence.MEASURED,
        "AG, ET",
        "ane-legalize takes the entries one by one, or joins the leading dimensions",
        _high_rank,
    ),
    Rule(
        "B27",
        "A transpose of rank 5 in front of a product is refused.",
        ("transpose",),
        Effect.FAIL,
        Confidence.MEASURED,
        "AF",
        "ane-legalize takes the entries one by one, or joins the leading dimensions",
        _turned,
    ),
    Rule(
        "A20",
        "linear is slower than a convolution of kernel 1.",
        ("linear",),
        Effect.SLOW,
        Confidence.APPLE,
        "CAI, ANT, MX",
        "--passes default,ane",
        _linear,
    ),
    Rule(
        "B64",
        "A product with a constant is slower than a convolution of kernel 1.",
        ("matmul",),
        Effect.SLOW,
        Confidence.MEASURED,
        "MX, AG",
        "--passes default,ane",
        _constant_matmul,
    ),
    Rule(
        "A21",
        "Heads are to be computed one by one.",
        ("matmul",),
        Effect.SLOW,
        Confidence.APPLE,
        "CAI, ANT, SD",
        _DECOMPOSE,
        _heads,
    ),
    Rule(
        "A22",
        "nchw,nwhu->nchu is the equation that needs no transpose.",
        ("einsum",),
        Effect.SLOW,
        Confidence.APPLE,
        "CAI, CMT-py",
        "keys first, then queries, as ane-attention writes it",
        _equation,
    ),
    Rule(
        "A54",
        "Fused attention is taken apart by the compiler, and not well.",
        ("scaled_dot_product_attention",),
        Effect.SLOW,
        Confidence.APPLE,
        "CMT-py, AG",
        _DECOMPOSE,
        _fused,
    ),
    Rule(
        "B35",
        "Fused attention over long sequences fails to compile.",
        ("scaled_dot_product_attention",),
        Effect.FAIL,
        Confidence.MEASURED,
        "SQB, SHC",
        _DECOMPOSE,
        _long,
    ),
    Rule(
        "B50",
        "Long sums lose digits where terms cancel: operands are float16.",
        ("conv", "linear", "matmul"),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "AG",
        "measure with anec check; --precision mixed keeps such an op in float32",
        _cancellation,
    ),
)
