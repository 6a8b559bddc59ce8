"""Failures of data-dependent code name the input to bind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from anec.errors import AnecError
from anec.frontend import from_torch


class Model(nn.Module):
    def __init__(self, code: Callable[..., Any]) -> None:
        super().__init__()
        self.code = code
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, batch: dict[str, torch.Tensor], n: torch.Tensor) -> Any:
        return self.code(self.linear(x), batch["grid"], n)


def rows(x: torch.Tensor, grid: torch.Tensor, n: torch.Tensor) -> Any:
    whole = grid * 1
    for t, h, w in whole:
        x = torch.cat([x, torch.ones(t * h, w)])
    return x + n


def sliced(x: torch.Tensor, grid: torch.Tensor, n: torch.Tensor) -> Any:
    return torch.zeros(4)[: n + 1].reshape(n + 1, 1) + x.sum() + grid.sum()


def in_place(x: torch.Tensor, grid: torch.Tensor, n: torch.Tensor) -> Any:
    ends = torch.zeros(2, dtype=torch.int64)
    ends[1] = n
    return x[: int(ends[1]), None].repeat(1, int(ends[1]), 1) if ends[1] > 1 else x


def both(x: torch.Tensor, grid: torch.Tensor, n: torch.Tensor) -> Any:
    return x * 2 if (grid.sum() + n) > 3 else x


def many(x: torch.Tensor, grid: torch.Tensor, n: torch.Tensor) -> Any:
    return x * 2 if grid.max() > 3 else x


def floats(x: torch.Tensor, grid: torch.Tensor, n: torch.Tensor) -> Any:
    return x * 2 if x.mean() > n else x


def loop_over_places(x: torch.Tensor, grid: torch.Tensor, n: torch.Tensor) -> Any:
    if not torch.compiler.is_compiling() and (n > 5).all():
        return x
    found = (grid > 1).nonzero()
    for place in found:
        x = x + place.sum()
    return x


@pytest.mark.parametrize(
    ("code", "grid", "hint"),
    [
        (loop_over_places, [[1, 1, 3]], "batch_grid decides; fix it with --bind batch_grid=[[1,1,3]]"),
        (rows, [[1, 1, 3]], "batch_grid decides; fix it with --bind batch_grid=[[1,1,3]]"),
        (sliced, [[1, 1, 3]], "n decides; fix it with --bind n=2"),
        (in_place, [[1, 1, 3]], "fix it with --bind n=2"),
        (both, [[1, 1, 3]], "batch_grid, n decides; fix it with --bind batch_grid=[[1,1,3]] --bind n=2"),
        (many, [[1, 1, 3]] * 9, "--bind batch_grid=@batch_grid.npy"),
        (floats, [[1, 1, 3]], "(--bind NAME=VALUE), or write it with torch.where. Here x, n decides it"),
    ],
)
def test_the_input_behind_a_failure(code: Callable[..., Any], grid: list[list[int]], hint: str) -> None:
    model, args = Model(code), (torch.randn(2, 3), {"grid": torch.tensor(grid)}, torch.tensor(2))
    with pytest.raises(AnecError) as caught:
        from_torch(model, args)
    assert hint in str(caught.value.hint), caught.value
    if "NAME" not in hint:
        names = {"batch_grid": grid, "n": 2}
        from_torch(model, args, bind={name: value for name, value in names.items() if f"--bind {name}=" in hint})


def test_a_model_that_fails_by_itself_names_nobody() -> None:
    def fails(x: torch.Tensor, grid: torch.Tensor, n: torch.Tensor) -> Any:
        return x @ torch.ones(n, 7) if torch.ones(9, 9) @ x else x

    with pytest.raises(AnecError, match="export failed"):
        from_torch(Model(fails), (torch.randn(2, 3), {"grid": torch.tensor([[1]])}, torch.tensor(2)))
