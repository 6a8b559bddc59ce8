"""torch.cond: both branches are computed, and the condition chooses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import anec


class Gate(nn.Module):
    """Branches with weights and buffers of their own, and two results."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 3), nn.Linear(3, 3)
        self.register_buffer("shift", torch.tensor([0.5, -1.0, 2.0]))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def wide(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.left(a) + b, b.sum(0)

        def narrow(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.relu(self.right(a)) * b + self.shift, b[0] * 2

        return torch.cond(x.sum() > 0, wide, narrow, (x, y))


class Nested(nn.Module):
    """A branch within a branch; batch norm and dropout in it; the result is used again."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        def inner(a: torch.Tensor) -> torch.Tensor:
            return torch.cond(a[0, 0] > 0, lambda b: b.exp(), lambda b: self.norm(b), (a,))

        return torch.cond((x > y).any(), inner, lambda a: a - y, (x,)) * 2


class Holding(nn.Module):
    """Constants made in branches, one within another, that two calls share; conditions of one element."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        def inner(a: torch.Tensor) -> torch.Tensor:
            return torch.cond((a > 2)[:1, :1], lambda b: (b * torch.tensor([7.0, 8.0, 9.0])).sum(), torch.mean, (a,))

        def other(a: torch.Tensor) -> torch.Tensor:
            return a[0].amax() + torch.tensor(2.5)

        first = torch.cond((x > 0).any(0, keepdim=True)[:, :1], inner, other, (x,))
        return torch.cond((y > 5)[0, :1], inner, other, (y,)) + first * torch.tensor([0.5, 2.0])


@pytest.mark.parametrize("model", [Gate, Nested, Holding])
def test_branches_agree_with_eager(model: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    net = model().eval()
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    compiled = anec.compile(net, (x, y), precision="fp32", check="numerics")
    seen = set()
    for sign in (1.0, -1.0):
        for offset in (0.0, 9.0):
            given = (x.abs() * sign, y + offset)
            wanted = net(*given)
            found = compiled.run(dict(zip(compiled.input_names, given, strict=True)))
            for array, tensor in zip(found.values(), wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
                torch.testing.assert_close(torch.from_numpy(array), tensor, rtol=1e-5, atol=1e-5)
            seen.add(str(wanted))
    assert len(seen) == 4


def test_the_callers_program_stays_as_it_is() -> None:
    program = torch.export.export(Gate().eval(), (torch.randn(2, 3), torch.randn(2, 3)))
    before = str(program.graph)
    anec.compile(program)
    assert str(program.graph) == before
