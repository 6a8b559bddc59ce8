"""States lowered: read, written, and read again in the next call."""

from __future__ import annotations

import pytest
import torch

from anec.dialects import registry
from anec.ir.parser import parse_module
from anec.passes.lower_to_mil import LowerToMil
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from anec.testing import assert_legal, run_pass

TEXT = """anec 1
module target=iOS18

func main(%x: f32[2,3], %total: state<DTYPE[2,3]>) -> (%y: f32[2,3]) {
  %before = nn.read_state(%total) : DTYPE[2,3]
  %y = aten.add.Tensor(%x, %before) : f32[2,3]
  WRITTEN
  nn.write_state(%total, %new)
  return %y
}
"""


@pytest.mark.parametrize(("dtype", "written"), [
    ("f32", "%new = aten.mul.Tensor(%y, 2.0) : f32[2,3]"),
    ("i64", "%new = aten._to_copy.default(%y) {dtype=i64} : i64[2,3]"),
])  # fmt: skip
def test_what_one_call_writes_the_next_one_reads(dtype, written):
    text = TEXT.replace("DTYPE", dtype).replace("WRITTEN", written)
    module, lowered = parse_module(text, registry), parse_module(text, registry)
    run_pass(lowered, LowerToMil())
    assert_legal(lowered)
    assert [op.name for op in lowered.ops() if "state" in op.name] == ["mil.read_state", "mil.coreml_update_state"]
    x, ours, theirs = torch.randn(2, 3) * 9, {}, {}
    for _ in range(3):
        wanted = evaluate(module, {"x": x}, state=theirs, precision=DOUBLE)["y"]
        torch.testing.assert_close(evaluate(lowered, {"x": x}, state=ours, precision=DOUBLE)["y"], wanted)
    assert bool((wanted != x).any())
