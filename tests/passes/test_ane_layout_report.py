"""What is told of the layout is what the pass does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ane.ane_programs import Maker, made
from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.ane_layout import AneLayout
from anec.passes.ane_layout.decision import decided
from anec.passes.ane_layout.forms import Form
from anec.passes.ane_layout.report import report
from anec.testing import run_pass


def names(ops: tuple[Op | None, ...]) -> list[str]:
    return [op.name if op is not None else "end" for op in ops]


def test_one_transpose_for_all_users() -> None:
    def build(m: Maker) -> list[Value]:
        x = m.x("f32[2,12,16]")
        inner = [mil.relu(mil.linear(x, m.w("f32[32,16]"))) for _ in range(2)]
        return [mil.linear(y, m.w("f32[16,32]")) for y in inner]

    module = made(build)
    found = report(decided(module.main))
    entry, *ends = sorted(found.moves, key=lambda move: -len(move.users))
    assert (entry.value.name, entry.held, entry.wanted) == ("x", Form.WRITTEN, Form.CHANNELS_FIRST)
    assert names(entry.users) == ["mil.linear", "mil.linear"]
    assert [(names(move.users), move.held, move.wanted) for move in ends] == [
        (["end"], Form.CHANNELS_FIRST, Form.WRITTEN)
    ] * 2
    assert {move.price for move in found.moves} == {2 * 2 * 12 * 16}
    run_pass(module, AneLayout(bounded=False))
    assert sum(op.name == "mil.transpose" for op in module.main) == 3


def residual(m: Maker, x: Value) -> Value:
    y = mil.layer_norm(x, axes=(-1,), gamma=m.w("f32[16]"), beta=m.w("f32[16]"), epsilon=1e-5)
    return mil.add(x, mil.linear(mil.gelu(mil.linear(y, m.w("f32[64,16]"))), m.w("f32[16,64]")))


def transposed(m: Maker, x: Value) -> Value:
    return mil.relu(mil.transpose(mil.linear(mil.linear(x, m.w("f32[16,16]")), m.w("f32[16,16]")), perm=(0, 2, 1)))


@pytest.mark.parametrize("make", [residual, transposed])
def test_every_move_becomes_one_transpose(make: Callable[[Maker, Value], Value]) -> None:
    module = made(lambda m: make(m, m.x("f32[2,12,16]")))
    found = report(decided(module.main))
    run_pass(module, AneLayout(bounded=False))
    assert sum(op.name == "mil.transpose" for op in module.main) == len(found.moves)
    assert found.turned


REASONS = {
    "gather has one form": lambda m, x: mil.gather(x, [0, 1], axis=1),
    "tensors of rank 5 have one form": lambda m, x: mil.relu(mil.expand_dims(x, axes=(0, 1))),
    "it has no constant matrix over its last axis": lambda m, x: mil.matmul(x, x, transpose_y=True),
    "it repeats what is there, or by how much is computed": lambda m, x: mil.pad(x, [1, 1], mode="reflect"),
    "it has a scale along several axes": lambda m, x: mil.layer_norm(
        x, axes=(-2, -1), gamma=m.w("f32[12,16]"), beta=m.w("f32[12,16]"), epsilon=1e-5
    ),
    "it joins or parts axes that stand apart in another form": lambda m, x: mil.reshape(mil.relu(x), (2, 16, 12)),
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_why_an_op_has_one_form(reason: str) -> None:
    module = made(lambda m: REASONS[reason](m, m.x("f32[2,12,16]")))
    assert reason in [why for _, why in report(decided(module.main)).fixed]
