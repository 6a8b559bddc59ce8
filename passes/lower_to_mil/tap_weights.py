"""The weight of each pixel around a point, as a polynomial in how far the point is behind a pixel.

One row a tap, the highest power first; ``CUBIC`` of A = -0.75, as torch has it, begins a pixel before.
"""

from __future__ import annotations

Polynomials = tuple[tuple[float, ...], ...]
_A = -0.75
LINEAR: Polynomials = ((-1.0, 1.0), (1.0, 0.0))
CUBIC: Polynomials = (
    (_A, -2 * _A, _A, 0.0),
    (_A + 2, -(_A + 3), 0.0, 1.0),
    (-(_A + 2), 2 * _A + 3, -_A, 0.0),
    (-_A, _A, 0.0, 0.0),
)
