"""dce: what nothing uses goes, what writes a state stays."""

from __future__ import annotations

from pathlib import Path

import pytest

import golden
from anec.dialects import registry
from anec.ir.parser import parse_module
from anec.passes.dce import Dce
from anec.testing import run_pass


@pytest.mark.parametrize("path", golden.cases("dce"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    golden.check(path)


def test_a_weight_stays_while_another_function_uses_it() -> None:
    text = """anec 1
module target=iOS18

func small(%x: f32[3]) -> (%y: f32[3]) {
  %shared = weight "shared" : f32[3]
  %lost = weight "lost" : f32[3]
  %y = mil.exp(%x) : f32[3]
  return %y
}

func large(%x: f32[3]) -> (%y: f32[3]) {
  %shared = weight "shared" : f32[3]
  %y = mil.add(%x, %shared) : f32[3]
  return %y
}
"""
    module = parse_module(text, registry)
    run_pass(module, Dce())
    assert list(module.weights) == ["shared"]
    assert not module.functions["small"].weights
    assert list(module.functions["large"].weights) == ["shared"]


def test_a_long_dead_chain_goes_at_once() -> None:
    lines = [f"  %v{i} = mil.exp(%{'x' if i == 0 else f'v{i - 1}'}) : f32[3]" for i in range(20_000)]
    text = "\n".join(
        [
            "anec 1",
            "module target=iOS18",
            "func main(%x: f32[3]) -> (%y: f32[3]) {",
            *lines,
            "  %y = mil.relu(%x) : f32[3]",
            "  return %y",
            "}",
        ]
    )
    module = parse_module(text, registry)
    assert len(module.main) == 20_001
    Dce().run_module(module, lambda graph: None)  # type: ignore[arg-type, return-value]  # dce asks for nothing
    assert [op.name for op in module.ops()] == ["mil.relu"]
