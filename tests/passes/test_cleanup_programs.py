"""Clean-up passes on random programs: laws, numbers and fixpoints, in every order."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import golden
from anec.ir.graph import Module
from anec.ir.verify import verify
from anec.passes.canonicalize import Canonicalize
from anec.passes.cse import Cse
from anec.passes.dce import Dce
from anec.passes.fold_constants import FoldConstants
from anec.passes.mil_cleanup import MilCleanup
from anec.pipeline.base import Context, Pass
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from mil_programs import MENU, Program, Step

PASSES: list[type[Pass]] = [MilCleanup, Canonicalize, FoldConstants, Cse, Dce]
SHAPES = [((1, 4, 3, 6), (2, 3)), ((2, 2, 5, 4), (1, 1, 4)), ((1, 3, 1), (3, 1, 2, 2)), ((4, 6), (2, 4, 6))]
STEPS = st.lists(st.tuples(st.integers(0, len(MENU) - 1), st.integers(0, 10_000)), min_size=1, max_size=20)


def results(module: Module, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return evaluate(module, inputs, precision=DOUBLE)


def assert_close(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], rel: float) -> None:
    assert before.keys() == after.keys()
    for name, wanted in before.items():
        found = after[name]
        assert found.shape == wanted.shape
        scale = float(wanted.abs().max()) if wanted.numel() else 0.0
        torch.testing.assert_close(found, wanted, rtol=rel, atol=rel * max(scale, 1.0), equal_nan=True)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SHAPES), STEPS, st.permutations(PASSES))
def test_every_order_of_passes(shapes: tuple[tuple[int, ...], ...], steps: list[Step], order: list[type[Pass]]) -> None:
    module = Program(shapes).build(steps)
    verify(module)
    generator = torch.Generator().manual_seed(1)
    inputs = {v.name: torch.randn(v.shape, generator=generator) for v in module.main.inputs}
    before = results(module, inputs)
    pointers = {name: weight.tensor().data_ptr() for name, weight in module.weights.items()}
    types = [value.type for value in module.main.outputs]
    rel = 1e-10
    for kind in (*order, MilCleanup, Dce):
        pass_ = kind()
        pass_.run_module(module, lambda graph: Context(module, graph))
        verify(module)
        if kind is FoldConstants:
            # What is folded is rounded to float32, here as at emission.
            rel = 1e-5
        assert_close(before, results(module, inputs), rel)
        golden.assert_settled(module, pass_)
        assert [value.type for value in module.main.outputs] == types
        for name, weight in module.weights.items():
            assert pointers.get(name, weight.tensor().data_ptr()) == weight.tensor().data_ptr()
