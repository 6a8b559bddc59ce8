"""What values hold, and at which op a rounded program loses them."""

from __future__ import annotations

import math

import torch

from anec import mil
from anec.check.ranges import losses, measure
from anec.passes.to_fp16 import ToFp16
from anec.pipeline.clone import clone
from anec.testing import run_pass
from rewriting import module_of


def test_where_float16_ends() -> None:
    def program(a):  # type: ignore[no-untyped-def]  # as the builders of the other tests
        return mil.mul(mul := mil.square(a), 1e-5), mil.mul(mul, 1e-12), mil.relu(a)

    module = module_of(program)
    inputs = {"x0": torch.linspace(-900, 600, 8).reshape(2, 4)}
    wide, outputs = measure(module, "main", inputs)
    square, small, tiny, relu = (wide[op.result.name] for op in module.main)
    assert square.largest == 900.0**2
    assert square.overflows
    assert not small.leaves
    assert not relu.leaves
    assert tiny.flushed > 0
    assert torch.equal(next(iter(outputs.values())), inputs["x0"].square() * 1e-5)

    half = clone(module)
    run_pass(half, ToFp16())
    found, rounded = losses(wide, half, "main", inputs)
    drops = {loss.name: loss.drop for loss in found}
    first = next(loss for loss in found if loss.drop > 3)
    # The product behind it is as wrong, but not by its own fault.
    assert first.op.name == "mil.square"
    assert math.isinf(first.drop)
    assert drops[next(op for op in module.main if op.name == "mil.mul").result.name] == 0
    assert torch.isinf(next(iter(rounded.values()))).any()


def test_a_sample_of_large_values() -> None:
    module = module_of(mil.exp, "f32[64,1024]")
    x = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0))
    wide, _ = measure(module, "main", {"x0": x})
    (measured,) = wide.values()
    assert measured.largest == float(x.exp().max())
    assert 2000 < measured.sample.numel() <= 4096
    assert len({float(v) for v in measured.sample}) > 1900
