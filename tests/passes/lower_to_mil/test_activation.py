"""Activations of the nn dialect, lowered."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.testing import check_lowering

TARGETS = ("iOS15", "iOS17", "iOS18")
POINTS = torch.tensor(
    [-1e4, -60.0, -20.1, -6.0, -3.0, -1.0, -1e-6, 0.0, 1e-6, 0.5, 3.0, 6.0, 19.99, 20.0, 20.01, 60.0, 1e4]
)
# How many ops each takes: what is said by one MIL op is one.
COUNTS = {
    "gelu": 1, "silu": 1, "hard_sigmoid": 1, "hard_swish": 2, "mish": 3, "log_sigmoid": 3, "softplus": 3, "softsign": 1,
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("shape", [(17,), (1, 17, 1), (), (2, 0)])
def test_activation(name, shape, target):
    x = POINTS.reshape(shape) if math.prod(shape) == 17 else torch.randn(shape)
    module = check_lowering(f"nn.{name}", x, target=target)
    assert len(list(module.ops())) == COUNTS[name]


@pytest.mark.parametrize("name", ["silu", "hard_sigmoid", "log_sigmoid", "softplus"])
def test_infinities_are_torchs(name):
    check_lowering(f"nn.{name}", torch.tensor([-math.inf, math.inf, math.nan]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("approximate", ["none", "tanh", "sigmoid"])
def test_gelu(approximate, target):
    module = check_lowering("nn.gelu", POINTS, approximate=approximate, target=target)
    assert [op.name for op in module.ops()] == ["mil.gelu"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.5), (1.5, 0.0), (-0.5, 0.25)])
def test_hard_sigmoid_of_another_slope(alpha, beta, target):
    module = check_lowering("nn.hard_sigmoid", POINTS, alpha=alpha, beta=beta, target=target)
    assert [op.name for op in module.ops()] == ["mil.sigmoid_hard"]


@settings(max_examples=30, deadline=None)
@given(beta=st.floats(0.1, 8) | st.just(1.0) | st.floats(-4, -0.1), threshold=st.floats(-5, 30))
def test_softplus(beta, threshold):
    x = torch.cat([torch.linspace(-40, 40, 83), torch.tensor([threshold / beta])])
    # Next to the threshold itself the order of roundings decides; torch's product is x * beta too.
    check_lowering("nn.softplus", x, beta=beta, threshold=threshold)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_glu(axis, target):
    module = check_lowering("nn.glu", torch.randn(4, 6, 2), axis=axis, target=target)
    assert [op.name for op in module.ops()] == ["mil.split", "mil.sigmoid", "mil.mul"]


def test_half_precision_stays_half():
    for name in COUNTS:
        module = check_lowering(f"nn.{name}", torch.randn(3, 5).half())
        assert all(str(value.tensor.dtype) in ("f16", "bool") for op in module.ops() for value in op.results)
