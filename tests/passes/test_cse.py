"""cse: equal ops and equal weights become one; effects keep ops apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import golden
from anec.dialects import registry
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.ir.weights import TensorData
from anec.passes.cse import Cse
from anec.testing import run_pass


@pytest.mark.parametrize("path", golden.cases("cse"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    golden.check(path)


def module_of(first: torch.Tensor, second: torch.Tensor) -> Module:
    """Two functions, each using a weight of its own."""
    text = """anec 1
module target=iOS18

func small(%x: f32[4,4]) -> (%y: f32[4,4]) {
  %a = weight "a" : f32[4,4]
  %y = mil.add(%x, %a) : f32[4,4]
  return %y
}

func large(%x: f32[4,4]) -> (%y: f32[4,4]) {
  %b = weight "b" : f32[4,4]
  %y = mil.add(%x, %b) : f32[4,4]
  return %y
}
"""
    module = parse_module(text, registry)
    module.weights["a"].data, module.weights["b"].data = TensorData(first), TensorData(second)
    return module


def test_the_same_memory_is_one_weight_whatever_its_size() -> None:
    tensor = torch.randn(4, 4)
    module = module_of(tensor, tensor.view(4, 4))
    run_pass(module, Cse(weight_limit=0))
    assert list(module.weights) == ["a"]
    assert all(list(graph.weights) == ["a"] for graph in module.functions.values())


def test_equal_bytes_are_one_weight_up_to_the_limit() -> None:
    tensor = torch.randn(4, 4)
    module = module_of(tensor, tensor.clone())
    run_pass(module, Cse(weight_limit=63))
    assert list(module.weights) == ["a", "b"]
    run_pass(module, Cse(weight_limit=64))
    assert list(module.weights) == ["a"]


@pytest.mark.parametrize("place", [0, 1, 5, 15])
def test_one_other_number_keeps_weights_apart(place: int) -> None:
    tensor = torch.randn(4, 4)
    other = tensor.clone()
    other.view(-1)[place] += 1.0
    module = module_of(tensor, other)
    run_pass(module, Cse())
    assert list(module.weights) == ["a", "b"]


def test_zero_and_minus_zero_differ() -> None:
    module = module_of(torch.zeros(4, 4), -torch.zeros(4, 4))
    run_pass(module, Cse())
    assert list(module.weights) == ["a", "b"]


def test_a_transposed_view_equals_its_copy_and_not_its_base() -> None:
    tensor = torch.randn(4, 4)
    module = module_of(tensor.t(), tensor.t().contiguous())
    run_pass(module, Cse())
    assert list(module.weights) == ["a"]
    module = module_of(tensor, tensor.t())
    run_pass(module, Cse())
    assert list(module.weights) == ["a", "b"]


def test_weights_without_data_stay_apart() -> None:
    module = module_of(torch.ones(4, 4), torch.ones(4, 4))
    module.weights["a"].data = module.weights["b"].data = None
    run_pass(module, Cse())
    assert list(module.weights) == ["a", "b"]
