"""Embedding bags."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import UnsupportedError
from anec.ir.graph import Module
from anec.testing import check_module_lowering, single_op
from lowering import TARGETS, floats, integers, op_names

TABLE = floats(10, 5)
INDICES = integers(7, low=0, high=10)


def bag(
    offsets: list[int],
    mode: int,
    *,
    indices: torch.Tensor = INDICES,
    factors: torch.Tensor | None = None,
    last: bool = False,
    padding: int = -1,
    constant: bool = True,
    target: str = "iOS18",
) -> Module:
    """Lower a bag whose first result alone is used, and compare it with torch."""
    given = torch.tensor([*offsets, len(indices)] if last else offsets)
    module, inputs = single_op(
        "aten._embedding_bag.default", TABLE, indices, given, False, mode, False, factors, last, padding,
        target=target, weights=["offsets"] if constant else [],
    )  # fmt: skip
    module.main.outputs = module.main.outputs[:1]
    module.main.signature.outputs = module.main.signature.outputs[:1]
    return check_module_lowering(module, inputs)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("offsets", [[0, 3, 5], [0, 0, 7], [0, 3, 3, 6], [0]])
def test_equals_torch(offsets: list[int], mode: int, constant: bool, target: str) -> None:
    for last in (False, True):
        for padding in (-1, int(INDICES[1])):
            bag(offsets, mode, last=last, padding=padding, constant=constant, target=target)
    if mode == 0:
        bag(offsets, mode, factors=floats(7, seed=1), constant=constant, target=target)


def test_bags_of_one_length_are_an_axis() -> None:
    module = bag([0, 3], 1, indices=INDICES[:6])
    assert op_names(module) == ["reshape", "gather", "reduce_mean"]
    module = bag([0, 3], 0, indices=INDICES[:6], factors=floats(6))
    assert op_names(module) == ["reshape", "gather", "reshape", "expand_dims", "mul", "reduce_sum"]


def test_a_bag_of_padding_alone_is_zero() -> None:
    bag([0, 2], 2, indices=torch.tensor([4, 4, 1]), padding=4)


def test_results_for_the_backward_pass_are_refused() -> None:
    module, inputs = single_op("aten._embedding_bag.default", TABLE, INDICES, torch.tensor([0, 3]))
    with pytest.raises(UnsupportedError, match="serve the backward pass"):
        check_module_lowering(module, inputs)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5), mode=st.integers(0, 2), data=st.data())
def test_bags_of_every_length(lengths: list[int], mode: int, data: st.DataObject) -> None:
    count = max(1, sum(lengths))
    offsets = [min(sum(lengths[:at]), count) for at in range(len(lengths))]
    padding = data.draw(st.integers(-1, 9))
    constant = data.draw(st.booleans())
    bag(offsets, mode, indices=integers(count, low=0, high=10, seed=count), padding=padding, constant=constant)
