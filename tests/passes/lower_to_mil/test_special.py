"""Special functions: series that hold to the precision of float64, or to 2e-7."""

from __future__ import annotations

import math

import pytest
import torch

from anec.errors import UnsupportedError
from anec.testing import check_lowering
from lowering import TARGETS

EVERYWHERE = torch.cat(
    [torch.linspace(-9.7, 30, 199), torch.tensor([0.0, -1.0, -2.0, 1.0, 2.0, 100.0, 1e-3, math.inf, math.nan])]
)
POSITIVE = torch.cat([torch.linspace(0.05, 20, 99), torch.tensor([100.0, 1000.0])])
CENTRED = torch.cat([torch.linspace(-1.1, 1.1, 199), torch.tensor([1.0, -1.0, 0.0, 0.99999, 1e-5, math.nan])])
BOTH_SIDES = torch.linspace(-30, 30, 199)
EXACT = 1e-10
# The polynomials of Abramowitz and Stegun are this good, relative to each result.
TABULATED = 2e-7
CASES = [
    ("lgamma", EVERYWHERE, EXACT),
    ("lgamma", torch.linspace(0.9, 2.1, 99), EXACT),
    ("digamma", EVERYWHERE, EXACT),
    ("erfinv", CENTRED, EXACT),
    ("special_ndtri", (CENTRED + 1) / 2, EXACT),
    ("special_ndtri", torch.logspace(-37, -1, 99), EXACT),
    ("special_erfcx", torch.linspace(-5, 30, 199), TABULATED),
    ("i0", BOTH_SIDES, TABULATED),
    ("special_i0e", BOTH_SIDES, TABULATED),
    ("special_i1", BOTH_SIDES, TABULATED),
    ("special_i1e", BOTH_SIDES, TABULATED),
    ("special_spherical_bessel_j0", BOTH_SIDES, EXACT),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "x", "rtol"), CASES, ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(CASES)])
def test_equals_torch(name: str, x: torch.Tensor, rtol: float, target: str) -> None:
    # Near a root the difference of numbers of about 1 is left.
    check_lowering(f"aten.{name}.default", x, rtol=rtol, atol=1e-11, target=target)


@pytest.mark.parametrize("order", range(9))
def test_derivatives_of_digamma(order: int) -> None:
    # Torch's own trigamma is good to 5e-10 only.
    check_lowering("aten.polygamma.default", order, POSITIVE, rtol=1e-9 if order == 1 else EXACT)
    below = torch.tensor([-0.3, -1.7, -4.4, 0.25])
    check_lowering("aten.polygamma.default", order, below, rtol=1e-9 if order == 1 else EXACT)


def test_integers_become_floats() -> None:
    check_lowering("aten.lgamma.default", torch.arange(1, 9))
    check_lowering("aten.erfinv.default", torch.tensor([True, False]))


def test_higher_derivatives_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="derivative 9 of digamma"):
        check_lowering("aten.polygamma.default", 9, POSITIVE)
