"""Norms of the nn dialect, lowered: numbers on every target, and how many ops it takes."""

from __future__ import annotations

import pytest
import torch

from anec.errors import UnsupportedError
from anec.ir.graph import Module
from anec.testing import check_lowering

TARGETS = ("iOS15", "iOS17", "iOS18")
each_target = pytest.mark.parametrize("target", TARGETS)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def ops(module: Module) -> list[str]:
    """What is left to run: ops that are not constant."""
    from anec.ir.facts import is_constant

    return [op.name for op in module.ops() if not all(is_constant(result) for result in op.results)]


@each_target
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 7), (-1,)), ((2, 3, 8), (-2, -1)), ((2, 3, 4, 5), (1,)), ((2, 3, 4, 5), (1, 3)), ((2, 3, 4, 5), (0, 2, 3))],
)
@pytest.mark.parametrize("affine", ["both", "weight", "bias", "none"])
def test_layer_norm(shape, axes, affine, constant, target):
    size = [shape[axis] for axis in sorted(axis % len(shape) for axis in axes)]
    weight = randn(*size) if affine in ("both", "weight") else None
    bias = randn(*size) if affine in ("both", "bias") else None
    named = ("weight", "bias") if constant else ()
    module = check_lowering(
        "nn.layer_norm", randn(*shape) * 3 + 1, weight, bias, axes=axes, epsilon=1e-3, weights=named, target=target
    )
    if constant:
        # coremltools cannot type one that has beta but not gamma.
        assert ops(module)[0] == "mil.layer_norm"
        assert len(ops(module)) == (2 if affine == "bias" else 1)


def test_layer_norm_of_rank_six_is_an_error_that_says_so():
    with pytest.raises(UnsupportedError, match="at most 5 axes"):
        check_lowering("nn.layer_norm", randn(1, 2, 1, 2, 2, 3), axes=(-1,))


@each_target
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [(2, 6), (1, 6, 5), (2, 6, 3, 4), (2, 6, 2, 3, 4)])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm(shape, groups, constant, target):
    named = ("weight", "bias") if constant else ()
    settings = {"groups": groups, "epsilon": 1e-3, "target": target}
    check_lowering("nn.group_norm", randn(*shape) + 2, randn(6), randn(6), weights=named, **settings)
    check_lowering("nn.group_norm", randn(*shape) - 2, **settings)


def test_group_norm_reshapes_only_where_it_must():
    x, weight, bias = randn(2, 6, 3, 4), randn(6), randn(6)

    def lowered(groups: int) -> list[str]:
        return ops(check_lowering("nn.group_norm", x, weight, bias, groups=groups, weights=("weight", "bias")))

    assert lowered(6) == ["mil.instance_norm"]
    assert lowered(1) == ["mil.layer_norm", "mil.mul", "mil.add"]
    assert lowered(2) == ["mil.reshape", "mil.layer_norm", "mil.reshape", "mil.mul", "mil.add"]


@each_target
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [(1, 4, 5), (2, 4, 3, 5), (2, 4, 2, 3, 5)])
def test_instance_norm(shape, constant, target):
    named = ("weight", "bias") if constant else ()
    settings = {"epsilon": 1e-3, "target": target}
    check_lowering("nn.instance_norm", randn(*shape), randn(4), randn(4), weights=named, **settings)
    check_lowering("nn.instance_norm", randn(*shape), **settings)


@each_target
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [(3, 4), (1, 4, 5), (2, 4, 3, 5), (2, 4, 2, 3, 5)])
@pytest.mark.parametrize("affine", ["both", "weight", "bias", "none"])
def test_batch_norm(shape, affine, constant, target):
    weight = randn(4) if affine in ("both", "weight") else None
    bias = randn(4) if affine in ("both", "bias") else None
    named = ("mean", "variance", "weight", "bias") if constant else ()
    module = check_lowering(
        "nn.batch_norm", randn(*shape), randn(4), randn(4).abs() + 0.1, weight, bias,
        epsilon=1e-3, weights=named, target=target,
    )  # fmt: skip
    if constant:
        assert ops(module) == (["mil.mul", "mil.add"] if len(shape) == 2 else ["mil.batch_norm"])


@each_target
@pytest.mark.parametrize(("shape", "axis"), [((3, 5), -1), ((2, 3, 4), 1), ((1, 7), 0), ((), 0)])
def test_log_softmax(shape, axis, target):
    module = check_lowering("nn.log_softmax", randn(*shape) * 500, axis=axis, target=target)
    assert len(ops(module)) == (4 if shape else 1)


def test_log_softmax_of_infinities_is_torchs():
    inf = torch.inf
    x = torch.tensor([[1.0, -inf, 2.0], [-inf, -inf, -inf], [inf, 0.0, 1.0]])
    check_lowering("nn.log_softmax", x, axis=1)


@pytest.mark.parametrize("name", ["nn.layer_norm", "nn.rms_norm"])
def test_half_precision_stays_half(name):
    module = check_lowering(name, randn(2, 8).half(), axes=(-1,), epsilon=1e-3)
    assert all(str(value.tensor.dtype) == "f16" for op in module.ops() for value in op.results)
