"""attention and static-attention-mask: every rule fires where it should and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

import golden
from anec.passes.attention import Attention
from anec.passes.attention_masks import StaticAttentionMask
from anec.pipeline.base import Pass

PASSES: list[type[Pass]] = [Attention, StaticAttentionMask]


@pytest.mark.parametrize(
    "path", [path for pass_ in PASSES for path in golden.cases(pass_.name)], ids=lambda path: f"{path.stem}"
)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    rule = path.stem.partition(".")[0]
    if path.stem == rule:
        assert rule in outcome.fired, outcome.reasons
    else:
        assert rule not in outcome.fired


@pytest.mark.parametrize("pass_", PASSES)
def test_every_rule_has_goldens(pass_: type[Pass]) -> None:
    stems = {path.stem for path in golden.cases(pass_.name)}
    for rule in pass_.rules:
        assert {rule.name, f"{rule.name}.not"} <= stems
