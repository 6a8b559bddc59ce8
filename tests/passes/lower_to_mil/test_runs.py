"""Writes at computed places: slices where the places follow one another, on every target."""

from __future__ import annotations

import pytest
import torch

from anec.dialects import aten
from anec.ir.graph import Module, Value
from anec.testing import check_module_lowering, module_of

TARGETS = ("iOS15", "iOS17", "iOS18")
X = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))


def part(*sizes: int) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(1))


def roots(module: Module) -> list[str]:
    return [op.defn.root for op in module.main]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("dim", [2, -1])
def test_index_copy_of_one_place(place: int, dim: int, target: str) -> None:
    def write(x: Value, index: Value, new: Value) -> Value:
        return aten.index_copy.default(x, dim, index, new)

    module, inputs = module_of(write, X, torch.tensor([place]), part(2, 3, 1), target=target)
    check_module_lowering(module, inputs)
    assert ("slice_update" if target == "iOS18" else "scatter") in roots(module)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("place", [-7, -1, 0, 6])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_index_put_of_one_place_from_either_end(place: int, shape: tuple[int, ...], target: str) -> None:
    def write(x: Value, index: Value, new: Value) -> Value:
        return aten.index_put.default(x, [None, None, index], new)

    index = torch.tensor(place).reshape(shape)
    module, inputs = module_of(write, X, index, part(2, 3, *shape), target=target)
    check_module_lowering(module, inputs)
    assert ("slice_update" if target == "iOS18" else "scatter") in roots(module)


@pytest.mark.parametrize("target", TARGETS)
def test_index_put_of_one_place_on_two_axes(target: str) -> None:
    def write(x: Value, row: Value, column: Value, new: Value) -> Value:
        return aten.index_put.default(x, [None, row, column], new)

    given = (X, torch.tensor([-1]), torch.tensor([4]), part(2, 1))
    check_module_lowering(*module_of(write, *given, target=target))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("start", "first", "swapped"), [(0, 0, False), (3, 0, True), (1, 2, False), (2, -1, True)])
def test_a_run_from_a_computed_start(start: int, first: int, swapped: bool, target: str) -> None:
    def write(x: Value, at: Value, new: Value) -> Value:
        steps = aten.arange.start_step(first, first + 3, 1)
        places = aten.add.Tensor(steps, at) if swapped else aten.add.Tensor(at, steps)
        return aten.index_copy.default(x, 2, places, new)

    module, inputs = module_of(write, X, torch.tensor([start]), part(2, 3, 3), target=target)
    check_module_lowering(module, inputs)
    assert ("slice_update" if target == "iOS18" else "scatter") in roots(module)


@pytest.mark.parametrize("steps", [[0, 2, 4], [2, 1, 0], [0, 0, 1]])
def test_places_apart_are_no_run(steps: list[int]) -> None:
    def write(x: Value, at: Value, apart: Value, new: Value) -> Value:
        return aten.index_add.default(aten.index_copy.default(x, 2, aten.add.Tensor(at, apart), new), 2, at, new)

    def copy(x: Value, at: Value, apart: Value, new: Value) -> Value:
        return aten.index_copy.default(x, 2, aten.add.Tensor(at, apart), new)

    # Where a place is written twice, both writes say the same.
    new = part(2, 3, 1).expand(2, 3, 3).contiguous()
    module, inputs = module_of(copy, X, torch.tensor([1]), torch.tensor(steps), new, weights=(2,))
    check_module_lowering(module, inputs)
    assert "scatter" in roots(module)


def test_a_factor_of_the_steps_is_no_run() -> None:
    def write(x: Value, at: Value, new: Value) -> Value:
        places = aten.add.Tensor(at, aten.arange.start_step(0, 2, 1), alpha=3)
        return aten.index_copy.default(x, 2, places, new)

    module, inputs = module_of(write, X, torch.tensor([1]), part(2, 3, 2))
    check_module_lowering(module, inputs)


def test_a_run_that_may_start_below_zero_stays_a_scatter() -> None:
    """x[:, :, -1 + [0, 1]] is the last place, then the first."""
    def write(x: Value, at: Value, new: Value) -> Value:
        places = aten.add.Tensor(at, aten.arange.start_step(0, 2, 1))
        return aten.index_put.default(x, [None, None, places], new)

    module, inputs = module_of(write, X, torch.tensor([-1]), part(2, 3, 2))
    check_module_lowering(module, inputs)
    assert "scatter" in roots(module)


def test_bools_and_integers() -> None:
    def write(x: Value, index: Value, new: Value) -> Value:
        return aten.index_copy.default(x, 0, index, new)

    for dtype in (torch.bool, torch.int64, torch.float16):
        module, inputs = module_of(write, (X > 0).to(dtype), torch.tensor([1]), torch.ones(1, 3, 7).to(dtype))
        check_module_lowering(module, inputs)
        assert "slice_update" in roots(module)
