"""The metrics, in one definition.

``rel = max|a-b| / max|b|`` and ``psnr = 20 log10(max|b| / rms(a-b))``, where ``b`` is the reference;
NaN and infinities must stand at the same places. A reference whose largest magnitude is below 1e-3,
or that does not vary, is void: it cannot tell a right answer from a wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from anec.errors import AnecError


@dataclass(frozen=True, slots=True)
class Metric:
    """How far an output is from its reference.

    Args:
        name: the output.
        rel: largest difference over largest reference magnitude; inf where NaN or inf misplace.
        psnr: in dB; inf for equal outputs.
        max_abs: the largest difference.
        void: why the reference says nothing, or the empty string.
        problem: what makes the two incomparable (shape, NaN places), or the empty string.
    """

    name: str
    rel: float
    psnr: float
    max_abs: float
    void: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, object]:
        """Plain values; infinities as text, since JSON has none."""
        return {
            "output": self.name,
            "rel": _plain(self.rel),
            "psnr": _plain(self.psnr),
            "max_abs": _plain(self.max_abs),
            "void": self.void,
            "problem": self.problem,
        }


def _plain(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)


def compare(name: str, actual: torch.Tensor, reference: torch.Tensor) -> Metric:
    """Compare one output with its reference, in float64."""
    if actual.is_complex() != reference.is_complex():
        kinds = f"{actual.dtype}, reference {reference.dtype}"
        return Metric(name, math.inf, -math.inf, math.inf, problem=kinds)
    if actual.shape != reference.shape:
        shapes = f"shape {tuple(actual.shape)}, reference {tuple(reference.shape)}"
        return Metric(name, math.inf, -math.inf, math.inf, problem=shapes)
    if not reference.is_floating_point() and not reference.is_complex():
        return _compare_whole(name, actual, reference)
    a, b = _as_reals(actual), _as_reals(reference)
    problem = _special_places(a, b)
    if problem:
        return Metric(name, math.inf, -math.inf, math.inf, problem=problem)
    finite = torch.isfinite(b)
    a, b = a[finite], b[finite]
    if b.numel() == 0:
        return Metric(name, 0.0, math.inf, 0.0, void="no finite number")
    difference = (a - b).abs()
    peak, worst = float(b.abs().max()), float(difference.max())
    rms = float(difference.square().mean().sqrt())
    rel = 0.0 if worst == 0 else worst / peak if peak else math.inf
    psnr = math.inf if rms == 0 else 20 * math.log10(peak / rms) if peak else -math.inf
    return Metric(name, rel, psnr, worst, void=_void(b, peak))


def _as_reals(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers in float64; real and imaginary parts of complex ones."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.to(torch.float64).reshape(-1)


def _compare_whole(name: str, actual: torch.Tensor, reference: torch.Tensor) -> Metric:
    """Integers and booleans are equal or not."""
    # As they are: float64 cannot tell integers beyond 2**53 apart.
    wrong = int((actual != reference).sum())
    if not wrong:
        return Metric(name, 0.0, math.inf, 0.0)
    difference = float((actual.to(torch.float64) - reference.to(torch.float64)).abs().max())
    peak = max(1.0, float(reference.to(torch.float64).abs().max()))
    return Metric(name, difference / peak, 20 * math.log10(peak / difference) if difference else 0.0, difference,
                  problem=f"{wrong} of {reference.numel()} integers differ")  # fmt: skip


def _special_places(a: torch.Tensor, b: torch.Tensor) -> str:
    for what, test in (("NaN", torch.isnan), ("+inf", torch.isposinf), ("-inf", torch.isneginf)):
        left, right = test(a), test(b)
        if not torch.equal(left, right):
            extra, missing = int((left & ~right).sum()), int((right & ~left).sum())
            return f"{what}: {extra} more and {missing} fewer places than the reference"
    return ""


def _void(b: torch.Tensor, peak: float) -> str:
    if peak < 1e-3:
        return f"the reference's largest magnitude is {peak:.1e}"
    if b.numel() > 1 and float(b.max() - b.min()) == 0:
        return "the reference does not vary"
    return ""


def compare_outputs(actual: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor]) -> list[Metric]:
    """Compare outputs by name, or by position when no name is shared.

    Raises:
        AnecError: the outputs cannot be paired.
    """
    if actual.keys() == reference.keys():
        return [compare(name, actual[name], reference[name]) for name in reference]
    if len(actual) != len(reference):
        raise AnecError(f"{len(actual)} outputs against {len(reference)}: {list(actual)} and {list(reference)}")
    return [compare(name, a, b) for (name, b), a in zip(reference.items(), actual.values(), strict=True)]


def worst(metrics: list[Metric]) -> Metric:
    """The metric furthest from its reference."""
    return max(metrics, key=lambda metric: metric.rel)


__all__ = ["Metric", "compare", "compare_outputs", "worst"]
