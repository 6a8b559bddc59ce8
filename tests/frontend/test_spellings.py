"""Spellings that stay as torch wrote them, and in-place ops, mean what eager PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from anec.frontend import decompose, export, lift
from anec.reference.evaluate import evaluate
from lifting import Call, Lift

IMAGE = (2, 4, 6, 9)


SPELLINGS: list[Callable[[torch.Tensor], Any]] = [
    lambda x: F.conv2d(x, torch.ones(3, 4, 3, 3), padding="same"),
    lambda x: F.conv2d(x, torch.ones(3, 4, 2, 3), padding="same"),
    lambda x: F.conv_transpose2d(x, torch.ones(4, 3, 3, 3), stride=2),
    lambda x: x.transpose(1, 2).flatten(1),
    lambda x: x.chunk(2, 1)[1] * 2,
    lambda x: x.masked_fill(x > 0, -1.0),
    lambda x: F.dropout(x, 0.5, training=False),
    lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4) * 2),
]


@pytest.mark.parametrize("function", SPELLINGS)
def test_spellings_mean_the_same_kept_or_not(lifted: Lift, function: Callable[[torch.Tensor], Any]) -> None:
    model, x = Call(function), torch.randn(IMAGE)
    kept = lifted(model, x)
    apart = lift(decompose(export(model, (x,)), keep=()))
    for name, value in evaluate(apart.module, apart.inputs).items():
        torch.testing.assert_close(value, evaluate(kept.module, kept.inputs)[name], rtol=1e-5, atol=1e-6)


def aliased_before(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    part = y[:, 1:]
    y.mul_(2)
    return part


def two_names(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x + 1
    z = y.relu_()
    z += 1
    return y, z, y * z


def through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    y.view(-1)[:5].zero_()
    return y


def read_before_and_after(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    before = y.exp()
    y.neg_()
    return before + y.exp()


def view_behind_a_write(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x + 1
    y.relu_()
    flat = y.view(-1)
    flat.mul_(2)
    return y, flat


def same_tensor_by_another_op(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x + 1
    same = (y.contiguous(), y.to(torch.float32), y.reshape(-1), F.dropout(y, 0.5, training=False))
    y.mul_(3)
    return same


def parts(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    first, second = y.chunk(2)
    y.mul_(3)
    return first + second


IN_PLACE = [
    aliased_before,
    two_names,
    through_a_view,
    read_before_and_after,
    view_behind_a_write,
    same_tensor_by_another_op,
    parts,
]


@pytest.mark.parametrize("function", IN_PLACE, ids=lambda f: f.__name__)
def test_in_place_ops_keep_their_meaning(lifted: Lift, function: Callable[[torch.Tensor], Any]) -> None:
    found = lifted(Call(function), torch.randn(IMAGE))
    assert not [op for op in found.module.main if op.defn.root.endswith("_")]
