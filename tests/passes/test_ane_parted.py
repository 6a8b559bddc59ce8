"""Pieces of what was moved, and what is made of pieces: moved where that copies less, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

import anec
from anec.ir.graph import Module
from anec.passes.ane_layout import AneLayout
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from anec.testing import run_pass

HEADER = "anec 1\nmodule target=iOS18\n\nfunc main"


def program(text: str) -> Module:
    return anec.read(HEADER + text)


def fired(text: str, wanted: dict[str, int]) -> Module:
    """The program behind the pass, which computes the same."""
    module = program(text)
    inputs = {
        value.name: torch.randn(value.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        for number, value in enumerate(module.main.inputs)
    }
    before = evaluate(module, inputs, precision=DOUBLE)
    found = run_pass(module, AneLayout()).fired
    assert {rule: found.get(rule, 0) for rule in wanted} == wanted
    after = evaluate(module, inputs, precision=DOUBLE)
    assert all(torch.equal(before[name], after[name]) for name in before)
    return module


def names(module: Module) -> list[str]:
    return [op.defn.root for op in module.main]


def test_heads_with_an_axis_of_their_own_are_views() -> None:
    module = fired(
        """(%x: f32[2,3,12,5]) -> (%a: f32[2,12,1,5], %b: f32[2,12,1,5], %c: f32[2,12,1,5]) {
  %m1 = mil.reshape(%x, [2, 36, 1, 5]) : f32[2,36,1,5]
  %a, %b, %c = mil.split(%m1) {num_splits=3, axis=1} : f32[2,12,1,5], f32[2,12,1,5], f32[2,12,1,5]
  return %a, %b, %c
}
""",
        {"split_before_moves": 1},
    )
    assert "reshape" not in names(module)
    assert "transpose" not in names(module)


@pytest.mark.parametrize("sizes", [(12, 24), (24, 12), (12, 12, 12)])
@pytest.mark.parametrize("perm", [(0, 2, 1, 3), (0, 2, 3, 1), (0, 1, 2, 3)])
def test_pieces_of_any_number_of_heads(sizes: tuple[int, ...], perm: tuple[int, ...]) -> None:
    """A permutation in front keeps the numbers; a head on the last axis stays where it was."""
    held = [0] * 4
    for at, axis in enumerate(perm):
        held[axis] = (2, 3, 12, 5)[at]
    results = [(f"%p{number}", f"f32[2,{size},1,5]") for number, size in enumerate(sizes)]
    listed = ", ".join(f"{name}: {kind}" for name, kind in results)
    outs, types = (", ".join(part) for part in zip(*results, strict=True))
    moved = "%m1 = mil.identity(%x)" if perm == (0, 1, 2, 3) else f"%m1 = mil.transpose(%x) {{perm={list(perm)}}}"
    fired(
        f"""(%x: f32{str(held).replace(" ", "")}) -> ({listed}) {{
  {moved} : f32[2,3,12,5]
  %m2 = mil.reshape(%m1, [2, 36, 1, 5]) : f32[2,36,1,5]
  {outs} = mil.split(%m2) {{split_sizes={list(sizes)}, axis=1}} : {types}
  return {outs}
}}
""",
        {},
    )


def test_a_piece_that_cuts_a_head_apart_stays() -> None:
    module = fired(
        """(%x: f32[2,3,12,5]) -> (%a: f32[2,18,1,5], %b: f32[2,18,1,5]) {
  %m1 = mil.reshape(%x, [2, 36, 1, 5]) : f32[2,36,1,5]
  %a, %b = mil.split(%m1) {num_splits=2, axis=1} : f32[2,18,1,5], f32[2,18,1,5]
  return %a, %b
}
""",
        {"split_before_moves": 0},
    )
    assert names(module) == ["reshape", "split"]


def test_no_rows_of_one_element_are_made() -> None:
    fired(
        """(%x: f32[2,12,5,3]) -> (%a: f32[2,12,1,5], %b: f32[2,12,1,5], %c: f32[2,12,1,5]) {
  %m1 = mil.transpose(%x) {perm=[0, 3, 1, 2]} : f32[2,3,12,5]
  %m2 = mil.reshape(%m1, [2, 36, 1, 5]) : f32[2,36,1,5]
  %a, %b, %c = mil.split(%m2) {num_splits=3, axis=1} : f32[2,12,1,5], f32[2,12,1,5], f32[2,12,1,5]
  return %a, %b, %c
}
""",
        {"split_before_moves": 1},
    )


def test_joined_heads_are_moved_one_by_one() -> None:
    module = fired(
        """(%a: f32[2,5,1,12], %b: f32[2,5,1,12]) -> (%y: f32[2,24,1,5]) {
  %m1 = mil.concat([%a, %b]) {axis=1} : f32[2,10,1,12]
  %m2 = mil.reshape(%m1, [4, 5, 12]) : f32[4,5,12]
  %m3 = mil.transpose(%m2) {perm=[0, 2, 1]} : f32[4,12,5]
  %y = mil.reshape(%m3, [2, 24, 1, 5]) : f32[2,24,1,5]
  return %y
}
""",
        {"concat_behind_moves": 1},
    )
    assert names(module) == ["transpose", "transpose", "concat"]


def test_what_is_copied_as_often_stays() -> None:
    module = fired(
        """(%a: f32[2,5,1,12], %b: f32[2,5,1,12]) -> (%y: f32[2,12,1,10]) {
  %m1 = mil.concat([%a, %b]) {axis=1} : f32[2,10,1,12]
  %y = mil.transpose(%m1) {perm=[0, 3, 2, 1]} : f32[2,12,1,10]
  return %y
}
""",
        {"concat_behind_moves": 0},
    )
    assert names(module) == ["concat", "transpose"]


def test_what_something_else_uses_whole_stays() -> None:
    module = fired(
        """(%x: f32[2,3,12,5]) -> (%a: f32[2,12,1,5], %b: f32[2,24,1,5], %y: f32[2,36,1,5]) {
  %m1 = mil.reshape(%x, [2, 36, 1, 5]) : f32[2,36,1,5]
  %a, %b = mil.split(%m1) {split_sizes=[12, 24], axis=1} : f32[2,12,1,5], f32[2,24,1,5]
  %y = mil.relu(%m1) : f32[2,36,1,5]
  return %a, %b, %y
}
""",
        {"split_before_moves": 0},
    )
    assert "split" in names(module)
