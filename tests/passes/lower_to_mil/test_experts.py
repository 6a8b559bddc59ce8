"""Mixtures of experts and histograms, against torch."""

from __future__ import annotations

import pytest
import torch

import anec
from anec.errors import AnecError
from anec.passes.lower_to_mil import LowerToMil
from anec.reference.evaluate import evaluate
from anec.testing import check_lowering, run_pass, single_op

TARGETS = ("iOS15", "iOS17", "iOS18")
ENDS = ([2, 2, 7], [0, 3, 5], [7, 7, 7], [0, 0, 0], [1, 4, 7])


def _ends(*ends: int) -> torch.Tensor:
    return torch.tensor(ends, dtype=torch.int32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("x", "bins", "low", "high"),
    [
        (torch.tensor([0.0, 3.0, 4.0, 1.0, 1.0, 2.9]), 4, 0, 3),
        (torch.linspace(-3, 3, 28).reshape(4, 7).sin() * 2, 10, -1, 1),
        (torch.linspace(0, 9, 40).cos(), 7, 0, 0),
        (torch.full((6,), 2.0), 5, 0, 0),
        (torch.tensor([0.0, 1.0, 0.5, 0.25, 0.75, -0.1, 1.1]), 3, 0.0, 1.0),
        (torch.rand(5, generator=torch.Generator().manual_seed(1)), 1, 0, 2),
    ],
)
def test_histogram(x: torch.Tensor, bins: int, low: float, high: float, target: str) -> None:
    check_lowering("aten.histc.default", x, bins=bins, min=low, max=high, target=target)


class Counting(torch.nn.Module):
    """How transformers counts the tokens of each expert."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        counts = torch.histc(ids.float(), bins=128, min=0, max=127)
        return torch.cumsum(counts, dim=0, dtype=torch.int32)


def test_counts_are_exact_in_float16() -> None:
    ids = torch.randint(0, 128, (6000,), generator=torch.Generator().manual_seed(1))
    compiled = anec.compile(Counting().eval(), (ids,), passes="default,ane", precision="fp16")
    (found,) = compiled.run({"ids": ids}).values()
    assert torch.equal(torch.from_numpy(found), Counting()(ids))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("ends", ENDS)
def test_groups_of_rows(ends: list[int], target: str) -> None:
    pytest.importorskip("transformers.integrations.moe")
    x, w = torch.randn(7, 4), torch.randn(3, 4, 5)
    offs = _ends(*ends)
    module = check_lowering("transformers.grouped_mm_fallback.default", x, w, offs, target=target)
    assert sum(1 for _ in module.main.ops()) < 20


@pytest.mark.parametrize("ends", ENDS[::4])
def test_torchs_own_groups(ends: list[int]) -> None:
    # Torch types it in bfloat16 only, and in rows of 16 bytes.
    x, w = torch.randn(7, 8).bfloat16(), torch.randn(3, 8, 16).bfloat16()
    offs = _ends(*ends)
    module, inputs = single_op("aten._grouped_mm.default", x, w, offs)
    run_pass(module, LowerToMil())
    (found,) = evaluate(module, inputs).values()
    torch.testing.assert_close(found.bfloat16(), torch._grouped_mm(x, w, offs=offs), rtol=2**-7, atol=2**-7)


def test_groups_along_the_summed_axis_are_refused() -> None:
    module, _ = single_op("aten._grouped_mm.default", torch.randn(8, 16).bfloat16(), torch.randn(16, 8).bfloat16(), _ends(8, 16))
    with pytest.raises(AnecError, match="groups of rows only"):
        run_pass(module, LowerToMil())
