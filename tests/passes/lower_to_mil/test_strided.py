"""Views by strides, and writes through views."""

from __future__ import annotations

import pytest
import torch

import anec
from lowering import TARGETS, Case, bools, case, floats, integers, op_names

X = floats(3, 4)
CASES = [
    *(
        case(name, given, [2, 2], stride, 1)
        for name in ("as_strided", "as_strided_copy")
        for given in (X, integers(3, 4), bools(3, 4))
        for stride in ([4, 1], [1, 4], [1, 1], [3, 2], [0, 1])
    ),
    case("as_strided", X, [2, 3, 1], [1, 0, 5]),
    case("as_strided", X, [], []),
    case("as_strided_scatter", X, floats(2, 2, seed=1), [2, 2], [1, 4], 1),
    case("as_strided_scatter", integers(12), integers(2, 3, seed=1), [2, 3], [5, 2]),
    case("as_strided_scatter", bools(3, 4), bools(2, 2, seed=1), [2, 2], [3, 1]),
    case("diagonal_scatter", X, floats(3, seed=1)),
    case("diagonal_scatter", X, floats(3, seed=1), 1),
    case("diagonal_scatter", bools(3, 4), bools(2, seed=1), -1),
    case("diagonal_scatter", floats(2, 3, 4, 5), floats(3, 4, 2, seed=1), 0, 0, 3),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("made", CASES, ids=str)
def test_equals_torch(made: Case, target: str) -> None:
    made.check(target)


def test_dense_memory_needs_no_gather() -> None:
    assert "gather" not in op_names(case("as_strided", X, [4, 3], [1, 4]).check())
    assert "gather" in op_names(case("as_strided", X, [2, 2], [3, 2]).check())


class Windows(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.T.contiguous() + 1).as_strided((2, 3), (1, 2)) * 2


def test_what_torch_made_contiguous_is_row_major() -> None:
    x = floats(4, 3)
    compiled = anec.compile(Windows(), (x,), check="numerics", precision="fp32")
    found = compiled.run({"x": x})["output"]
    torch.testing.assert_close(torch.as_tensor(found), Windows()(x), rtol=1e-6, atol=1e-6)


def test_a_number_in_memory() -> None:
    case("as_strided", torch.arange(4.0), [1], [1], 3).check()
