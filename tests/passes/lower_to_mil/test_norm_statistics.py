"""Norms whose mean and inverse deviation are used."""

from __future__ import annotations

import pytest

from anec.testing import check_lowering
from lowering import TARGETS, floats


@pytest.mark.parametrize("target", TARGETS)
def test_layer_norm(target: str) -> None:
    x = floats(2, 3, 5)
    check_lowering("aten.native_layer_norm.default", x, [5], floats(5, seed=1), floats(5, seed=2), 1e-5, target=target)
    check_lowering("aten.native_layer_norm.default", x, [3, 5], floats(3, 5), None, 1e-2, target=target)
    check_lowering("aten.native_layer_norm.default", x[0, 0], [5], None, None, 1e-5, target=target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(groups: int, target: str) -> None:
    x, weight, bias = floats(2, 6, 3, 4), floats(6, seed=1), floats(6, seed=2)
    name = "aten.native_group_norm.default"
    check_lowering(name, x, weight, bias, 2, 6, 12, groups, 1e-5, target=target, weights=["weight", "bias"])
    check_lowering(name, x[:1], weight, None, 1, 6, 12, groups, 1e-5, target=target)
    check_lowering(name, floats(2, 6), None, None, 2, 6, 1, groups, 1e-2, target=target)
