"""Numbers read out of tensors: places of slices, and numbers to compute with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import anec
from anec.errors import AnecError

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


class Of(nn.Module):
    """A function of a tensor and a number that a tensor holds, from 0 to 4."""

    def __init__(self, function: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        number = place.item()
        torch._check(number >= 0)
        torch._check(number <= 4)
        return self.function(x, number)


def written(x: Tensor, number: int) -> Tensor:
    x = x.clone()
    x[:, number : number + 3] = 7.0
    return x


FUNCTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "slice": lambda x, n: x[:, n : n + 3] * 2,
    "slice_shifted": lambda x, n: x[:, n * 1 + 2 : n + 4] * 2,
    "narrow": lambda x, n: x.narrow(1, n, 2) * 2,
    "select": lambda x, n: x.select(1, n) * 2,
    "written": written,
    "compared": lambda x, n: x.masked_fill(torch.arange(8) <= n, 0.0),
    "added": lambda x, n: x + n,
    "multiplied": lambda x, n: (x * (n + 1)) / (2 * n + 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_number_stays_an_input(name: str) -> None:
    model = Of(FUNCTIONS[name])
    compiled = anec.compile(model, (X, torch.tensor(1)), precision="fp32", passes="default,ane")
    assert compiled.input_names == ["x", "place"]
    for number in (0, 3, 4):
        (found,) = compiled.run({"x": X, "place": number}).values()
        torch.testing.assert_close(torch.as_tensor(found), model(X, torch.tensor(number)))


def test_select_counts_from_the_end_too() -> None:
    class Row(nn.Module):
        def forward(self, x: Tensor, place: Tensor) -> Tensor:
            x = x.clone()
            x[:, place] = 5.0
            return x

    compiled = anec.compile(Row(), (X, torch.tensor(1)), precision="fp32")
    for number in (-8, -1, 0, 7):
        (found,) = compiled.run({"x": X, "place": number}).values()
        torch.testing.assert_close(torch.as_tensor(found), Row()(X, torch.tensor(number)))


def test_a_size_is_refused() -> None:
    with pytest.raises(AnecError, match="a number is read out of a tensor") as caught:
        anec.compile(Of(lambda x, n: x[:, :n].sum(1)), (X, torch.tensor(1)))
    assert "--bind" in str(caught.value)
