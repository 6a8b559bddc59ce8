"""What a pass promises about the numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exact:
    """Equal over the real numbers: judged in float64, rel <= 1e-10, bitwise for data movement."""

    def __str__(self) -> str:
        return "exact"


@dataclass(frozen=True, slots=True)
class Close:
    """``numpy.allclose`` in float64 with these tolerances."""

    rtol: float
    atol: float = 0.0

    def __str__(self) -> str:
        return f"close (rtol {self.rtol:g}, atol {self.atol:g})"


@dataclass(frozen=True, slots=True)
class Lossy:
    """Changes the numbers on purpose. Runs only when its name was typed, and needs example inputs.

    Args:
        reason: what is given up.
        measure: the metric, ``"psnr"`` (dB) or ``"rel"``.
        at_least: the value that must be reached (a lower bound for psnr, an upper bound for rel).
    """

    reason: str
    measure: str = "psnr"
    at_least: float = 0.0

    def __str__(self) -> str:
        return f"lossy ({self.reason}; {self.measure} at least {self.at_least:g})"


Fidelity = Exact | Close | Lossy
EXACT = Exact()
