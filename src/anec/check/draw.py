"""Drawing values for checks: plain ones, and edges one kind at a time.

Edges of very different magnitude are not mixed in one draw: in float64 too, ``1e38 + 1 - 1e38``
loses the 1, and an exact rewrite would look wrong.
"""

from __future__ import annotations

import torch

from anec.ir.graph import Value

EDGES: tuple[tuple[float, ...], ...] = (
    (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.5, -2.5, 3.0, 6.0),  # zeros, ties, corners of activations
    (65504.0, -65504.0),  # the largest float16
    (1e-40, -1e-40, 6e-8, -6e-8),  # subnormal in float32 and in float16
)


def draw(value: Value, generator: torch.Generator, domain: tuple[float, float] | None = None) -> torch.Tensor:
    """Random numbers for a value: normal floats, small whole numbers, coin flips; or uniform in ``domain``."""
    shape, dtype = value.shape, value.tensor.dtype
    if dtype.is_float:
        if domain is not None:
            low, high = domain
            return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
        # Scales differ along the last axis, so that swapped or merged axes show.
        numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
        return numbers * 1.5 + 0.25
    if dtype.is_integer:
        low, high = domain if domain is not None else (0, _index_limit(value))
        return torch.randint(int(low), max(int(high), int(low) + 1), shape, generator=generator)
    return torch.rand(shape, generator=generator) < 0.5


def _index_limit(value: Value) -> int:
    """Whole numbers often index something; stay below every size they could index by."""
    limit = 8
    for user in value.users:
        for operand in user.inputs:
            if operand is not value and operand.tensor.dtype.is_float and operand.tensor.is_static:
                limit = min(limit, *operand.shape) if operand.shape else limit
    return max(limit, 1)


def edge(
    value: Value,
    generator: torch.Generator,
    numbers: tuple[float, ...],
    domain: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Some of ``numbers`` at random places; only those inside ``domain``, and its ends."""
    if not value.tensor.dtype.is_float:
        return draw(value, generator, domain)
    if domain is not None:
        numbers = tuple(n for n in (*numbers, *domain) if domain[0] <= n <= domain[1])
    table = torch.tensor(numbers, dtype=torch.float64)
    return table[torch.randint(0, len(numbers), value.shape, generator=generator)]
