"""ane-layout, maps: a linear over a whole feature map is a convolution of its size."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn as tnn

import anec
from anec.ane.limits import limits_of


def compiled(model: tnn.Module, x: torch.Tensor) -> Counter[str]:
    """The ops of ``default,ane`` by kind, after a comparison of the numbers."""
    with torch.no_grad():
        wanted = model(x)
    found = anec.compile(model, (x,), passes="default,ane", precision="fp32")
    (given,) = found.run({found.input_names[0]: x}).values()
    torch.testing.assert_close(torch.as_tensor(given), wanted, rtol=1e-5, atol=1e-5)
    return Counter(op.name.removeprefix("mil.") for op in found.module.main if not op.is_constant)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (3, 7)])
def test_a_classifier_takes_the_map_as_it_is(batch: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = tnn.Sequential(
        tnn.Conv2d(3, 8, 3, padding=1), tnn.ReLU(), tnn.Flatten(), tnn.Linear(8 * size[0] * size[1], 32), tnn.ReLU(),
        tnn.Linear(32, 10),
    )  # fmt: skip
    count = compiled(model.eval(), torch.randn(batch, 3, *size))
    assert (count["transpose"], count["reshape"], count["conv"]) == (0, 0, 3)


def test_a_map_beyond_the_kernels_is_seen_as_a_row() -> None:
    torch.manual_seed(0)
    width = limits_of("M1").kernel_width + 1
    model = tnn.Sequential(tnn.Conv2d(3, 4, 3, padding=1), tnn.Flatten(), tnn.Linear(4 * 2 * width, 5)).eval()
    assert compiled(model, torch.randn(2, 3, 2, width))["reshape"] == 1
