"""Ops that models seldom call, and that decompose before they get here in torch's own tests."""

from __future__ import annotations

import pytest
import torch

from anec.testing import check_lowering


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)], ids=len)
@pytest.mark.parametrize("target", ["iOS15", "iOS17", "iOS18"])
def test_rarely_met(target: str, shape: tuple[int, ...]) -> None:
    x, y = torch.randn(shape), torch.randn(shape)
    check_lowering("aten.angle.default", x, target=target)
    check_lowering("aten.ldexp.Tensor", x, y, target=target)
    check_lowering("aten.rrelu.default", x, 0.1, 0.3, False, target=target)
    check_lowering("aten.rrelu_with_noise.default", x, y, 0.1, 0.3, False, target=target)
    check_lowering("aten.rrelu_with_noise_functional.default", x, y, 0.1, 0.3, False, target=target)
