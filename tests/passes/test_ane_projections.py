"""Projections of which several are one op: taken apart in front of the layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn as tnn

from anec.dialects import mil
from anec.ir.graph import Value
from anec.passes.ane_layout import AneLayout
from anec.passes.ane_layout.projections import cut_of
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from anec.testing import run_pass
from laid_out import Program, compiled


def fused(view: tuple[int, ...], perm: tuple[int, ...]) -> type[tnn.Module]:
    """Attention with one projection for all three, taken apart in some order."""

    class Fused(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = tnn.Linear(12, 36), tnn.Linear(12, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            query, key, value = self.inner(x).view(2, 7, *view).permute(perm).unbind(0)
            mixed = tnn.functional.scaled_dot_product_attention(query, key, value)
            out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(2, 7, 12))
            return x + out

    return Fused


def test_a_fused_projection_becomes_three() -> None:
    found = compiled(fused((3, 2, 6), (2, 0, 3, 1, 4))(), 2, 7, 12)
    assert found["conv"] == 4
    assert found["transpose"] == 3, "the ends and the keys"
    assert not found["slice_by_index"] + found["linear"]


CUTS: dict[str, tuple[list[int], list[int], dict[str, list[bool]], tuple[int, int, int] | None]] = {
    "squeezed": ([0, 0, 1, 0], [2, 7, 2, 4], {"squeeze_mask": [False, False, True, False]}, (2, 1, 2)),
    "squeezed, from its mask on": (
        [0, 0, 2, 0], [2, 7, 3, 4],
        {"squeeze_mask": [False, False, True, False], "begin_mask": [False, False, True, False]}, (2, 0, 1),
    ),
    "from before the beginning": ([0, 0, -100, 0], [2, 7, 2, 4], {}, (2, 0, 2)),
    "to beyond the end": ([0, 0, 1, 0], [2, 7, 100, 4], {}, (2, 1, 3)),
    "two axes": ([0, 1, 1, 0], [2, 7, 2, 4], {}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CUTS)
def test_a_slice_behind_a_view_takes_the_same(name: str) -> None:
    begin, end, masks, wanted = CUTS[name]
    program = Program(2, 7, 12)

    def cut(x: Value) -> Value:
        linear = mil.linear(x, program.weight(12, 12))
        taken = mil.slice_by_index(mil.reshape(linear, (2, 7, 3, 4)), begin, end, **masks)
        assert taken.op is not None
        assert cut_of(taken.op) == wanted
        return mil.relu(taken)

    module = program.returns(cut)
    before = program.numbers()
    x = before.pop("x")
    fired = run_pass(module, AneLayout(bounded=False)).fired
    assert ("slice_before_movement" in fired) == (wanted is not None)
    after = evaluate(module, {"x": x}, precision=DOUBLE)
    for found, number in zip(after.values(), before.values(), strict=True):
        torch.testing.assert_close(found, number, rtol=1e-10, atol=1e-12)


def test_windows_that_overlap_are_taken_of_what_is_moved_once() -> None:
    program = Program(2, 8, 12)

    def windows(x: Value) -> Value:
        blocks = mil.transpose(mil.reshape(mil.linear(x, program.weight(12, 12)), (2, 8, 3, 4)), perm=(0, 2, 1, 3))
        first, second = (mil.slice_by_index(blocks, (0, 0, at, 0), (2, 3, at + 6, 4)) for at in (0, 2))
        return mil.mul(mil.softmax(first, axis=-1), mil.softmax(second, axis=-1))

    module = program.returns(windows)
    before = program.numbers()
    x = before.pop("x")
    assert "slice_before_movement" not in run_pass(module, AneLayout(bounded=False)).fired
    after = evaluate(module, {"x": x}, precision=DOUBLE)
    for found, number in zip(after.values(), before.values(), strict=True):
        torch.testing.assert_close(found, number, rtol=1e-10, atol=1e-12)


def test_an_interleaved_projection_becomes_three() -> None:
    # For each head its query, key and value: the rows of each are taken out of the weight head by head.
    found = compiled(fused((2, 3, 6), (3, 0, 2, 1, 4))(), 2, 7, 12)
    assert found["conv"] == 4
    assert found["transpose"] == 3, "the ends and the keys"
    assert not found["slice_by_index"] + found["linear"] + found["reshape"]


def test_heads_of_a_conv_of_an_image_become_three() -> None:
    class Heads(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = tnn.Conv2d(12, 36, 1), tnn.Conv2d(12, 12, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            query, key, value = self.inner(x).view(2, 2, 18, 15).chunk(3, dim=2)
            split = [part.transpose(-1, -2) for part in (query, key, value)]
            mixed = tnn.functional.scaled_dot_product_attention(*split)
            out: torch.Tensor = self.out(mixed.transpose(-1, -2).reshape(2, 12, 3, 5))
            return x + out

    found = compiled(Heads(), 2, 12, 3, 5)
    assert found["conv"] == 4
    assert found["transpose"] == 1, "the keys"
    assert found["reshape"] == 3, "into the sequence, for the keys, and back"


def test_a_split_projection_becomes_three() -> None:
    class Split(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = tnn.Linear(12, 24, bias=False), tnn.Linear(12, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = self.inner(x).chunk(2, dim=-1)
            out: torch.Tensor = self.out(left * right.sigmoid())
            return x + out

    found = compiled(Split(), 2, 7, 12)
    assert found["conv"] == 3
    assert not found["split"]
