"""Relative positions, placed by reshapes or looked up: one reshape of the size of the result, bit by bit the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import anec
from anec.ir.graph import Module
from anec.passes.ane_legalize import AneLegalize
from anec.reference.evaluate import evaluate
from anec.testing import run_pass


def fire(text: str, *shape: int, fired: bool = True) -> Module:
    module = anec.read(f"anec 1\nmodule target=iOS18\n\nfunc main{text}")
    inputs = {"x": torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))}
    wanted = evaluate(module, inputs)["y"]
    assert run_pass(module, AneLegalize()).fired == ({"shear_of_reshapes": 1} if fired else {})
    assert torch.equal(evaluate(module, inputs)["y"], wanted)
    return module


def moved(module: Module) -> int:
    return sum(op.results[0].tensor.size for op in module.main if op.name == "mil.reshape")


def transformer_xl(batch: int, heads: int, lines: int) -> str:
    """A column of zeros in front, and each line read one entry further on."""
    b, h, n, length = batch, heads, lines, 2 * lines - 1
    return f"""(%x: f32[{b},{h},{n},{length}]) -> (%y: f32[{b},{h},{n},{n}]) {{
  %a = mil.pad(%x, [0, 0, 0, 0, 0, 0, 1, 0]) {{mode="constant", constant_val=0.0}} : f32[{b},{h},{n},{length + 1}]
  %b = mil.reshape(%a, [{b}, {h}, {length + 1}, {n}]) : f32[{b},{h},{length + 1},{n}]
  %c = mil.slice_by_index(%b, [0, 0, 1, 0], [{b}, {h}, {length + 1}, {n}]) : f32[{b},{h},{length},{n}]
  %d = mil.reshape(%c, [{b}, {h}, {n}, {length}]) : f32[{b},{h},{n},{length}]
  %y = mil.slice_by_index(%d, [0, 0, 0, 0], [{b}, {h}, {n}, {n}]) : f32[{b},{h},{n},{n}]
  return %y
}}
"""


@pytest.mark.parametrize(("batch", "heads", "lines"), [(1, 1, 2), (2, 3, 7), (1, 4, 8), (2, 1, 79)])
def test_the_shift_of_transformer_xl(batch: int, heads: int, lines: int) -> None:
    module = fire(transformer_xl(batch, heads, lines), batch, heads, lines, 2 * lines - 1)
    assert moved(module) == batch * heads * lines * (lines + 1)


def test_an_element_is_no_shear() -> None:
    fire(
        """(%x: f32[2,3]) -> (%y: f32[]) {
  %a = mil.reshape(%x, [6]) : f32[6]
  %y = mil.slice_by_index(%a, [2], [3]) {squeeze_mask=[true]} : f32[]
  return %y
}
""",
        2,
        3,
        fired=False,
    )


@pytest.mark.parametrize(("lines", "length"), [(8, 12), (4, 6), (7, 8), (5, 5)])
def test_fewer_lines_than_entries(lines: int, length: int) -> None:
    """As HaloNet places them: flat, with zeros behind."""
    wide = lines + length - 1
    wide += wide % 2
    first, flat = lines - 1, lines * (wide + 1)
    rows = -(-flat // wide)
    fire(
        f"""(%x: f32[3,{lines},{wide}]) -> (%y: f32[3,{lines},{length}]) {{
  %a = mil.pad(%x, [0, 0, 0, 0, 0, 1]) {{mode="constant", constant_val=0.0}} : f32[3,{lines},{wide + 1}]
  %b = mil.reshape(%a, [3, {flat}]) : f32[3,{flat}]
  %c = mil.pad(%b, [0, 0, 0, {rows * wide - flat}]) {{mode="constant", constant_val=0.0}} : f32[3,{rows * wide}]
  %d = mil.reshape(%c, [3, {rows}, {wide}]) : f32[3,{rows},{wide}]
  %y = mil.slice_by_index(%d, [0, 0, {first}], [3, {lines}, {first + length}]) : f32[3,{lines},{length}]
  return %y
}}
""",
        3, lines, wide,
    )  # fmt: skip


def test_other_reshapes_stay() -> None:
    """The same ops with a slice that begins elsewhere take entries of other lines."""
    fire(transformer_xl(2, 2, 6).replace("[0, 0, 1, 0]", "[0, 0, 0, 0]").replace(
        "f32[2,2,11,6]\n", "f32[2,2,12,6]\n").replace("[2, 2, 6, 11]", "[2, 2, 6, 12]").replace(
        "f32[2,2,6,11]\n", "f32[2,2,6,12]\n"), 2, 2, 6, 11, fired=False)  # fmt: skip


class Mask(torch.nn.Module):
    """A mask with minus infinity among what is placed: zeros would make NaN of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.where(x > 0, x, torch.full_like(x, -torch.inf))
        shifted = torch.nn.functional.pad(x, (1, 0)).view(2, 8, 4)[:, 1:].reshape(2, 4, 7)[:, :, :4]
        return shifted.clone()


class Scores(torch.nn.Module):
    """Scores by distance, looked up along the last axis, with ``entries`` for each line."""

    places: torch.Tensor

    def __init__(self, lines: int, entries: int, span: int) -> None:
        super().__init__()
        distance = torch.arange(entries)[None] - torch.arange(lines)[:, None]
        self.register_buffer("places", (distance + span).clamp(0, 2 * span - 1))
        self.table = torch.nn.Linear(8, 2 * span)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.table(x)
        return found.gather(-1, self.places.expand(*x.shape[:-2], -1, -1))


def test_a_mask_meets_no_zeros() -> None:
    model, x = Mask(), torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1))
    compiled = anec.compile(model, (x,), passes="default,ane", precision="fp32")
    (found,) = compiled.run({compiled.input_names[0]: x}).values()
    assert torch.equal(torch.as_tensor(found), model(x))


LOOKUPS: dict[str, Callable[[], tuple[Scores, torch.Tensor]]] = {
    "as many": lambda: (Scores(9, 9, 20), torch.randn(2, 3, 9, 8)),
    "more entries": lambda: (Scores(6, 9, 20), torch.randn(1, 6, 8)),
    "more lines": lambda: (Scores(9, 4, 20), torch.randn(2, 9, 8)),
    "few lines": lambda: (Scores(2, 12, 20), torch.randn(2, 2, 2, 8)),
    "clamped": lambda: (Scores(9, 9, 3), torch.randn(2, 9, 8)),
}


@pytest.mark.parametrize("case", LOOKUPS)
def test_lookups_by_distance(case: str) -> None:
    torch.manual_seed(0)
    model, x = LOOKUPS[case]()
    compiled = anec.compile(model.eval(), (x,), passes="default,ane", precision="fp32")
    assert "gather_along_axis" not in {op.defn.root for op in compiled.module.main}
    (found,) = compiled.run({compiled.input_names[0]: x}).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x).detach(), rtol=1e-5, atol=1e-5)
