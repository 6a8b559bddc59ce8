"""nn.attention lowered: one op from iOS18 on, composed before and where that op does not fit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import UnsupportedError
from anec.ir.facts import is_constant
from anec.ir.graph import Module
from anec.passes.lower_to_mil import LowerToMil
from anec.testing import check_lowering, check_module_lowering, module_of, run_pass, single_op

TARGETS = ("iOS15", "iOS17", "iOS18")
each_target = pytest.mark.parametrize("target", TARGETS)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def qkv(*lead: int, rows: int = 5, columns: int = 7) -> tuple[torch.Tensor, ...]:
    return randn(*lead, rows, 8), randn(*lead, columns, 8), randn(*lead, columns, 6)


def ops(module: Module) -> list[str]:
    """What is left to run."""
    return [op.defn.root for op in module.ops() if not all(is_constant(result) for result in op.results)]


def bool_mask(*shape: int, empty: bool = False) -> torch.Tensor:
    mask = torch.rand(shape) > 0.4
    mask[..., 0] = True
    if empty:
        mask[..., 1, :] = False
    return mask


@each_target
@pytest.mark.parametrize("lead", [(), (3,), (1, 4), (2, 2, 3)])
@pytest.mark.parametrize("scale", [None, 0.3, 1.0, 8**-0.5])
def test_scales_and_ranks(lead, scale, target):
    module = check_lowering("nn.attention", *qkv(*lead), scale=scale, target=target)
    scaled = ["mul"] if scale not in (1.0,) else []
    fused = ["mul"] if scale in (0.3, 1.0) else []
    if target == "iOS18" and lead:
        assert ops(module) == [*fused, "scaled_dot_product_attention"]
    else:
        assert ops(module) == [*scaled, "matmul", "softmax", "matmul"]


@each_target
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (2, 1, 5, 7), (2, 1, 1, 7), (1, 4, 5, 7), (7,), (5, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_masks(shape, kind, constant, causal, target):
    mask = bool_mask(*shape) if kind == "bool" else randn(*shape)
    named = ("mask",) if constant else ()
    check_lowering("nn.attention", *qkv(2, 4), mask, causal=causal, weights=named, target=target)


@each_target
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("shape", [(5, 7), (2, 1, 5, 7)])
@pytest.mark.parametrize("causal", [False, True])
def test_rows_that_keep_nothing_are_zeros(shape, kind, constant, causal, target):
    mask = bool_mask(*shape, empty=True)
    if kind == "float":
        mask = torch.zeros(shape).masked_fill(~mask, -math.inf)
    named = ("mask",) if constant else ()
    module = check_lowering("nn.attention", *qkv(2, 4), mask, causal=causal, weights=named, target=target)
    # Replaced after the softmax, whether the mask is known or not.
    assert ops(module)[-1] == "select"


def test_rows_that_the_causal_mask_empties_are_found():
    """The mask keeps key 3 alone for the first row, which the causal one hides."""
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[0] = False
    mask[0, 3] = True
    module = check_lowering("nn.attention", *qkv(2), mask, causal=True, weights=("mask",))
    assert ops(module) == ["scaled_dot_product_attention", "select"]


def test_a_known_mask_costs_one_op_at_most():
    mask = bool_mask(5, 7)
    fused = check_lowering("nn.attention", *qkv(2, 4), mask, weights=("mask",))
    assert ops(fused) == ["scaled_dot_product_attention"]
    composed = check_lowering("nn.attention", *qkv(2, 4), mask, weights=("mask",), target="iOS17")
    assert ops(composed) == ["mul", "matmul", "add", "softmax", "matmul"]


def test_a_computed_mask_is_guarded_on_the_mask_not_on_the_scores():
    """The guard reads [2, 1, 5, 7]; the scores are four times that."""
    guards = {"bool": ["cast", "reduce_max", "cast", "select"], "float": ["reduce_max", "equal", "select"]}
    for kind, guard in guards.items():
        mask = bool_mask(2, 1, 5, 7) if kind == "bool" else randn(2, 1, 5, 7)
        module = check_lowering("nn.attention", *qkv(2, 4), mask)
        assert ops(module) == ["scaled_dot_product_attention", *guard]


@each_target
@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (3, 6), (6, 3), (1, 4)])
def test_causal(rows, columns, target):
    module = check_lowering("nn.attention", *qkv(2, 4, rows=rows, columns=columns), causal=True, target=target)
    assert "select" not in ops(module)


def test_layers_share_their_causal_mask():
    from anec.dialects import nn

    def two_layers(q, k, v):
        return nn.attention(nn.attention(q, k, v, causal=True), k, v, causal=True)

    tensors = (randn(2, 5, 8), randn(2, 5, 8), randn(2, 5, 8))
    module, inputs = module_of(two_layers, *tensors)
    check_module_lowering(module, inputs)
    assert len(module.weights) == 1


@each_target
@pytest.mark.parametrize(("heads", "groups"), [(6, 3), (4, 1), (4, 4)])
@pytest.mark.parametrize("lead", [(), (2,), (2, 2)])
def test_fewer_key_heads(lead, heads, groups, target):
    query, key, value = randn(*lead, heads, 5, 8), randn(*lead, groups, 7, 8), randn(*lead, groups, 7, 6)
    check_lowering("nn.attention", query, key, value, bool_mask(5, 7), target=target)


@each_target
def test_leading_axes_broadcast(target):
    check_lowering("nn.attention", randn(2, 4, 5, 8), randn(1, 4, 7, 8), randn(1, 4, 7, 6), target=target)
    check_lowering("nn.attention", randn(2, 4, 5, 8), randn(4, 7, 8), randn(4, 7, 6), target=target)


@each_target
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_softcap(mask, target):
    given = {"bool": bool_mask(5, 7), "float": randn(5, 7), None: None}[mask]
    query, key, value = qkv(2, 4)
    module = check_lowering("nn.attention", query * 9, key * 9, value, given, softcap=5.0, target=target)
    assert "tanh" in ops(module)


def test_half_precision_stays_half():
    tensors = [tensor.half() for tensor in qkv(2, 4)]
    for target in TARGETS:
        module = check_lowering("nn.attention", *tensors, randn(5, 7).half(), target=target)
        assert all(str(value.tensor.dtype) in ("f16", "bool") for op in module.ops() for value in op.results)


def test_rank_six_is_an_error_that_says_so():
    module, _ = single_op("nn.attention", *qkv(1, 2, 1, 2))
    with pytest.raises(UnsupportedError, match="rank 5"):
        run_pass(module, LowerToMil())


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]),
    scale=st.none() | st.floats(0.1, 2),
    causal=st.booleans(),
    softcap=st.sampled_from([0.0, 2.0]),
    mask=st.sampled_from([None, "bool", "float"]),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 99),
)
def test_forms_together(rows, columns, heads, scale, causal, softcap, mask, target, seed):
    torch.manual_seed(seed)
    query, key = randn(2, heads[0], rows, 4), randn(2, heads[1], columns, 4)
    value = randn(2, heads[1], columns, 3)
    given_mask = {
        None: None,
        "bool": torch.rand(rows, columns) > 0.5,
        "float": randn(rows, columns).masked_fill(torch.rand(rows, columns) > 0.7, -math.inf),
    }[mask]
    check_lowering(
        "nn.attention", query, key, value, given_mask, scale=scale, causal=causal, softcap=softcap, target=target
    )
