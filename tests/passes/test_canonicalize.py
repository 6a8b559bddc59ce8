"""canonicalize: every rule fires where it should and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn as tnn

import anec
import golden
from anec.passes.canonicalize import Canonicalize


@pytest.mark.parametrize("path", golden.cases("canonicalize"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    rule = path.stem.partition(".")[0]
    if path.stem == rule:
        assert rule in outcome.fired, outcome.reasons


def test_every_rule_has_goldens() -> None:
    stems = {path.stem for path in golden.cases("canonicalize")}
    for rule in Canonicalize.rules:
        if rule.name in ("choose_by_mask", "write_by_mask"):
            continue  # how many places a mask has cannot be written down: tested below
        assert {rule.name, f"{rule.name}.not"} <= stems


class Masked(tnn.Module):
    def __init__(self, work: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.work = work

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.work(x * 1, y)


def by_one_mask(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    mask = y > 0
    x[mask] = torch.exp(y[mask] - x[mask]) / (y[mask] + 1)
    return x


def by_masks_computed_alike(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x[x > 0.5] = x[x > 0.5] * 0.25 + y[x > 0.5]
    return x


def whole_rows(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    mask = y[..., 0] < 0
    x[mask] = y[mask]
    return x


def rows_through_layers(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """An adapter for some rows, as models of several languages have one for each."""
    down, up = torch.linspace(-1, 1, 18).view(3, 6), torch.linspace(-0.5, 0.7, 18).view(6, 3)
    mask = y[..., 0] < 0
    hidden = torch.nn.functional.gelu(torch.nn.functional.linear(x[mask], down, torch.tensor([0.1, -0.2, 0.3])))
    x[mask] = torch.nn.functional.linear(hidden, up) * torch.linspace(0.5, 1.5, 6) + y[mask]
    return x


def places_first(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x[torch.where(y > 0)] = 0.5
    rows = (y[..., 1] < 0).nonzero(as_tuple=True)
    x[rows] = y[rows] * 2
    places = (x.reshape(-1) > 1).nonzero()[:, 0]
    x.view(-1)[places] = 0.25
    return x


WORKS = [by_one_mask, by_masks_computed_alike, whole_rows, rows_through_layers, places_first]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_what_a_mask_reads_and_writes_is_a_choice(work: Callable[..., torch.Tensor], target: str) -> None:
    torch.manual_seed(0)
    example = torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    compiled = anec.compile(Masked(work).eval(), example, precision="fp32", target=target, passes="default")
    for seed in range(3):
        torch.manual_seed(seed)
        x, y = torch.randn(2, 5, 6), torch.randn(2, 5, 6)
        found = torch.as_tensor(compiled.run({"x": x, "y": y})["output"])
        torch.testing.assert_close(found, work(x.clone(), y), rtol=1e-6, atol=1e-6)


def some_columns(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x[(y > 0).nonzero()[:, 0]] = 0.5
    return x


def swapped_columns(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    rows, columns = (y > 0).nonzero(as_tuple=True)
    x[columns, rows] = 0.5
    return x


@pytest.mark.parametrize("work", [some_columns, swapped_columns], ids=lambda work: work.__name__)
def test_what_is_not_all_the_places_of_a_mask_is_refused(work: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(anec.AnecError, match="nonzero"):
        anec.compile(Masked(work).eval(), (torch.randn(5, 5), torch.randn(5, 5)), passes="default")


def test_what_another_mask_reads_is_no_choice() -> None:
    def other(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x[x > 0] = y[x > 0].flip(0)
        return x

    with pytest.raises(anec.AnecError, match="index_put"):
        anec.compile(Masked(other).eval(), (torch.randn(2, 5), torch.randn(2, 5)), passes="default")
