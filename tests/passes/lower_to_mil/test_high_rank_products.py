"""Einstein sums and linear layers over tensors of rank 6 and more, against torch."""

from __future__ import annotations

import math

import pytest
import torch

from anec.dialects import aten
from anec.errors import AnecError
from anec.ir.graph import Module, Value
from anec.testing import check_module_lowering, module_of
from lowering import TARGETS, op_names

Shape = tuple[int, ...]

CASES: list[tuple[str, Shape, Shape]] = [
    ("bythwc,hkc->bythwk", (2, 3, 2, 4, 5, 6), (4, 7, 6)),
    ("bythwc,wkc->bythwk", (1, 3, 2, 4, 5, 6), (5, 7, 6)),
    ("bythwc,tkc->bythwk", (2, 1, 2, 4, 1, 6), (2, 7, 6)),
    ("bildsk,biokl->bolsd", (2, 3, 4, 1, 5, 2), (2, 3, 6, 2, 4)),
    ("bythwc,hkc->bythwk", (2, 3, 2, 4, 5, 6), (1, 7, 6)),
    ("...ij,jk->...ik", (2, 3, 2, 2, 4, 5), (5, 6)),
    ("abcdef,abcdef->", (2, 3, 2, 2, 1, 2), (2, 3, 2, 2, 1, 2)),
    ("abcdefg,efg->abcd", (2, 1, 2, 3, 2, 2, 2), (2, 2, 2)),
    ("abc,defg->abcdefg", (2, 3, 2), (2, 1, 2, 3)),
]


def lowered(equation: str, left: Shape, right: Shape, target: str) -> Module:
    """The sum between views, since no program takes or gives tensors of more than 5 axes."""

    def sums(x: Value, y: Value) -> Value:
        views = [aten.view.default(x, left), aten.view.default(y, right)]
        return aten.view.default(aten.einsum.default(equation, views), (-1,))

    flat = [torch.randn(math.prod(shape)) for shape in (left, right)]
    return check_module_lowering(*module_of(sums, *flat, target=target))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("equation", "left", "right"), CASES)
def test_equals_torch(equation: str, left: Shape, right: Shape, target: str) -> None:
    assert len(op_names(lowered(equation, left, right, target))) <= 10


def test_shuffled_axes_are_refused() -> None:
    with pytest.raises(AnecError, match="no axes of it stay neighbours"):
        lowered("abcdef,fdbeca->cfbead", (2, 3, 2, 3, 2, 3), (3, 3, 3, 2, 2, 2), "iOS18")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("biased", [True, False])
def test_linear(biased: bool, target: str) -> None:
    def layer(x: Value, w: Value, b: Value) -> Value:
        windows = aten.permute.default(aten.view.default(x, (2, 3, 2, 3, 2, 4)), (0, 1, 3, 2, 4, 5))
        made = aten.linear.default(windows, w, b) if biased else aten.linear.default(windows, w)
        return aten.view.default(aten.permute.default(made, (0, 1, 3, 2, 4, 5)), (2, 6, 6, 5))

    tensors = [torch.randn(2, 6, 6, 4), torch.randn(5, 4), torch.randn(5)]
    module = check_module_lowering(*module_of(layer, *tensors, weights=(1, 2), target=target))
    assert "linear" in op_names(module)
