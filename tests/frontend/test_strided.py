"""Views by strides of tensors that lie in memory in another order than the row-major one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import anec
from anec.errors import UnsupportedError

Function = Callable[[torch.Tensor], torch.Tensor]


class Calls(torch.nn.Module):
    """A function as a model; here, as errors name the file whose `forward` it is."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def check(function: Function, x: torch.Tensor) -> list[str]:
    """Compare with eager torch; return the ops of the program."""
    compiled = anec.compile(Calls(function), (x,), check="numerics", precision="fp32")
    found = torch.as_tensor(compiled.run({"x": x})["output"])
    torch.testing.assert_close(found, function(x), rtol=1e-6, atol=1e-6)
    return [op.name for op in compiled.module.main.ops()]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def chunks(x: torch.Tensor) -> torch.Tensor:
    """Halves overlap, as Longformer cuts its keys."""
    heads = x.view(8, 2, 3, 4).transpose(0, 1).transpose(1, 2).reshape(6, 8, 4)
    blocks = heads.view(6, 2, 4, 4)
    batch, block, inner, last = blocks.stride()
    return blocks.as_strided((6, 3, 4, 4), (batch, block // 2, inner, last)) + 1


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x.T.as_strided((2, 3), (1, 2)) * 2, (4, 3)),
        (lambda x: x.permute(2, 0, 1).as_strided((3, 5), (7, 1)) * 2, (3, 2, 5)),
        (lambda x: x[1:].as_strided((2, 3), (3, 1)) * 2, (4, 3)),
        (lambda x: x[1:].as_strided((2, 3), (3, 1), 6) * 2, (4, 3)),
        (lambda x: x[2:].T.as_strided((3,), (1,)) * 2, (4, 3)),
        (lambda x: x.unsqueeze(0).transpose(0, 2).as_strided((6,), (2,)) * 2, (4, 3)),
        (lambda x: (x.T + 1).as_strided((2, 3), (1, 2)) * 2, (4, 3)),
        (lambda x: x.to(memory_format=torch.channels_last).as_strided((6, 4), (1, 6)) * 2, (1, 6, 2, 2)),
        (chunks, (8, 2, 12)),
    ],
)
def test_equals_torch(function: Function, shape: tuple[int, ...]) -> None:
    check(function, drawn(*shape))


def test_overlapping_chunks_are_no_gather() -> None:
    assert "mil.gather" not in check(chunks, drawn(8, 2, 12))


def test_an_input_that_lies_turned() -> None:
    # The package takes row-major inputs, whatever the example was.
    check(lambda x: x.as_strided((3, 2), (2, 1)) * 2, drawn(4, 3).T)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x[:, 1:].as_strided((2,), (2,)) + 1, r"strides \(3, 1\)"),
        (lambda x: x[:1].expand(4, 3).as_strided((2,), (1,)) + 1, r"strides \(0, 1\)"),
        (lambda x: x[1:3].as_strided((3,), (1,), 0) + 1, "in front of the tensor or behind it"),
        (lambda x: x[:2].as_strided((4, 3), (3, 1)) + 1, "in front of the tensor or behind it"),
        (lambda x: torch.as_strided_scatter(x.T, x[0], (3,), (2,)) + 1, r"strides \(1, 3\)"),
    ],
)
def test_memory_that_is_not_the_tensor_is_refused(function: Function, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        anec.compile(Calls(function), (drawn(4, 3),))
    assert "test_strided.py" in str(caught.value)
    assert "use view, permute and unfold" in str(caught.value)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_order_of_axes(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    order = data.draw(st.permutations(range(len(shape))))
    total = torch.Size(shape).numel()
    size = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    stride = [data.draw(st.integers(0, max((total - 1) // (2 * len(size) + 1), 0))) for _ in size]
    reach = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    offset = data.draw(st.integers(0, total - 1 - reach))
    check(lambda x: x.permute(*order).as_strided(size, stride, offset) + 1, drawn(*shape))
