"""fold-constants: small expressions become weights, large ones stay ops on references."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import golden
from anec.dialects import registry
from anec.ir.parser import parse_module
from anec.passes.fold_constants import FoldConstants
from anec.reference.evaluate import evaluate
from anec.testing import run_pass


@pytest.mark.parametrize("path", golden.cases("fold-constants"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    golden.check(path)


CHAIN = """anec 1
module target=iOS18

func main(%x: f32[4]) -> (%y: f32[4]) {
  %w = weight "w" : f32[4]
  %a = aten.exp.default(%w) : f32[4]
  %b = aten.mul.Tensor(%a, %a) : f32[4]
  %c = aten.neg.default(%b) : f32[4]
  %y = aten.add.Tensor(%x, %c) : f32[4]
  return %y
}
"""


def test_intermediate_weights_do_not_stay() -> None:
    module = golden.read(CHAIN)
    run_pass(module, FoldConstants())
    assert list(module.weights) == ["w", "main.c"]
    assert list(module.main.weights) == ["w", "main.c"]


def test_what_is_beyond_the_budget_is_noted() -> None:
    ctx = run_pass(golden.read(CHAIN), FoldConstants(budget=8))
    assert ctx.notes == ["3 constants stay ops until emission: of more than 8 bytes, or of no fixed size, at %a"]
    assert run_pass(golden.read(CHAIN), FoldConstants()).notes == []


def test_folded_numbers_are_those_of_the_declared_dtype() -> None:
    module = golden.read(CHAIN)
    inputs = {"x": torch.randn(4)}
    before = evaluate(module, inputs)
    run_pass(module, FoldConstants())
    after = evaluate(module, inputs)
    assert torch.equal(before["y"], after["y"])


def test_weights_without_data_are_left_alone() -> None:
    module = parse_module(CHAIN, registry)
    run_pass(module, FoldConstants())
    assert golden.text_of(module) == CHAIN


def test_a_budget_of_nothing_folds_nothing() -> None:
    module = golden.read(CHAIN)
    run_pass(module, FoldConstants(budget=0))
    assert golden.text_of(module) == CHAIN
