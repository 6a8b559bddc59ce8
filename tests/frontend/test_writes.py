"""In-place ops: read as functional where nobody can tell, left to torch's functionalisation where one could."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from anec.frontend import from_torch
from anec.frontend.writes import functional_twin, harmless_writes
from anec.reference.evaluate import evaluate


class Model(torch.nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.conv(x), x)


def relu_of_conv(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.relu_(y) + x


def chain(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    y.mul_(2).add_(x)
    y.sub_(1)
    return y * y


def read_before(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    before = y + 1
    y.clamp_(min=0)
    return before - y


def view_before(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    row = y[:, 0]
    y.mul_(3)
    return row + x[:, 0]


def write_through_view(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    y[:, 0].zero_()
    return y + x


def write_into_clone(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    z = x.reshape(x.shape)
    z = z.clone()
    z.copy_(y)
    return z.abs_() + x


def dropout_is_an_alias(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    same = torch.nn.functional.dropout(y, 0.5, training=False)
    same.add_(1)
    return y + same


HARMLESS = [relu_of_conv, chain, read_before, write_into_clone]
OTHERS = [view_before, write_through_view, dropout_is_an_alias]


@pytest.mark.parametrize("function", [*HARMLESS, *OTHERS], ids=lambda f: f.__name__)
def test_same_numbers(function: Callable[..., torch.Tensor]) -> None:
    model, x = Model(function), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        wanted = model(x.clone())
    found = evaluate(from_torch(model, x).module, {"x": x})["output"]
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", HARMLESS, ids=lambda f: f.__name__)
def test_harmless_writes_are_found(function: Callable[..., torch.Tensor]) -> None:
    program = torch.export.export(Model(function), (torch.randn(2, 3, 4, 5),))
    writes = harmless_writes(program.graph)
    assert writes
    assert all(not twin._schema.is_mutable for twin in writes.values())


@pytest.mark.parametrize("function", OTHERS, ids=lambda f: f.__name__)
def test_writes_that_could_be_seen_are_not(function: Callable[..., torch.Tensor]) -> None:
    program = torch.export.export(Model(function), (torch.randn(2, 3, 4, 5),))
    assert harmless_writes(program.graph) is None


def test_twins_have_the_same_arguments() -> None:
    assert functional_twin(torch.ops.aten.relu_.default) is torch.ops.aten.relu.default
    assert functional_twin(torch.ops.aten.add_.Tensor) is torch.ops.aten.add.Tensor
    assert functional_twin(torch.ops.aten.relu.default) is None
