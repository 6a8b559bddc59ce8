"""Drawing values for checks: plain ones, and edges one kind at a time.

Edges of very different magnitude are not mixed in one draw: in float64 too, ``1e38 + 1 - 1e38``
loses the 1, and an exact rewrite would look wrong.
"""

from __future__ import annotations

import math

import torch

from anec.ir.graph import Op, Value

Domain = tuple[float, float]

EDGES: tuple[tuple[float, ...], ...] = (
    (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.5, -2.5, 3.0, 6.0),  # zeros, ties, corners of activations
    (65504.0, -65504.0),  # the largest float16
    (1e-40, -1e-40, 6e-8, -6e-8),  # subnormal in float32 and in float16
)
# Only for rules that promise something about them.
SPECIAL = (math.inf, -math.inf, math.nan, 1.0, -2.0)

# Ops whose result tells which of two equal elements came first, which neither torch nor Core ML promises.
_ORDERING = frozenset("sort msort argsort topk kthvalue median argmax argmin reduce_argmax reduce_argmin".split())
# Ops that take whole numbers as positions, by the start of their names.
_INDEXING = ("gather", "scatter", "index", "embedding", "take", "one_hot", "slice")


def draw(
    value: Value, generator: torch.Generator, domain: Domain | None = None, *, signed: bool = False
) -> torch.Tensor:
    """Random numbers for a value: normal floats, small whole numbers, coin flips; or inside ``domain``.

    Args:
        value: its dtype and static shape decide.
        generator: what the numbers come from.
        domain: both ends included, infinite where there is none; a bool is true as often as its middle says.
        signed: whole numbers that are no positions may be negative, and are not 0, by which nothing divides.
    """
    shape, dtype = value.shape, value.tensor.dtype
    if dtype.is_float:
        return _floats(shape, generator, domain)
    if dtype.is_integer and any(op.defn.root in _ORDERING for op in value.users):
        return _distinct(value, generator, signed=signed and dtype.range[0] < 0)
    if dtype.is_integer:
        limit = _index_limit(value)
        least = -limit if signed and dtype.range[0] < 0 and not _indexes(value) else 0
        low, high = (least, limit) if domain is None else _whole(domain, least, limit)
        numbers = torch.randint(low, max(high, low + 1), shape, generator=generator)
        return torch.where(numbers == 0, limit, numbers) if least < 0 and domain is None else numbers
    return torch.rand(shape, generator=generator) < (0.5 if domain is None else sum(domain) / 2)


def _floats(shape: tuple[int, ...], generator: torch.Generator, domain: Domain | None) -> torch.Tensor:
    if domain is not None and math.isfinite(domain[0]) and math.isfinite(domain[1]):
        low, high = domain
        return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64) * 1.5 + 0.25
    if domain is None:
        return numbers
    low, high = domain
    return low + numbers.abs() if math.isfinite(low) else high - numbers.abs()


def _whole(domain: Domain, least: int, limit: int) -> tuple[int, int]:
    low, high = domain
    first = math.ceil(low) if math.isfinite(low) else least
    return first, math.floor(high) + 1 if math.isfinite(high) else first + limit


def _distinct(value: Value, generator: torch.Generator, *, signed: bool) -> torch.Tensor:
    """Whole numbers in any order, no two equal as far as the dtype goes."""
    count, most = math.prod(value.shape), value.tensor.dtype.range[1] + 1
    numbers = torch.randperm(count, generator=generator) % most
    return (numbers - min(count, most) // 2 if signed else numbers).reshape(value.shape)


def _indexes(value: Value) -> bool:
    """True when the value may be positions, seen through a few ops that keep its numbers."""
    level: list[Op] = value.users
    for _ in range(4):
        if any(op.defn.root.startswith(_INDEXING) for op in level):
            return True
        level = [user for op in level for result in op.results for user in result.users][:64]
    return False


def _index_limit(value: Value) -> int:
    """Whole numbers often index something; stay below every size they could index by."""
    limit = 8
    for user in value.users:
        for operand in user.inputs:
            if operand is not value and operand.tensor.dtype.is_float and operand.tensor.is_static:
                limit = min(limit, *operand.shape) if operand.shape else limit
    return max(limit, 1)


def edge(
    value: Value, generator: torch.Generator, numbers: tuple[float, ...], domain: Domain | None = None
) -> torch.Tensor:
    """Some of ``numbers`` at random places; only those inside ``domain``, and its ends."""
    if not value.tensor.dtype.is_float:
        return draw(value, generator, domain)
    if domain is not None:
        ends = tuple(end for end in domain if math.isfinite(end))
        numbers = tuple(n for n in (*numbers, *ends) if math.isnan(n) or domain[0] <= n <= domain[1])
    table = torch.tensor(numbers, dtype=torch.float64)
    return table[torch.randint(0, len(numbers), value.shape, generator=generator)]
