"""custom-norms: every rule fires where it should and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

import golden
from anec.passes.custom_norms import CustomNorms


@pytest.mark.parametrize("path", golden.cases("custom-norms"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    rule = path.stem.partition(".")[0]
    if path.stem == rule:
        assert rule in outcome.fired, outcome.reasons


def test_every_rule_has_goldens() -> None:
    stems = {path.stem for path in golden.cases("custom-norms")}
    for rule in CustomNorms.rules:
        assert {rule.name, f"{rule.name}.not"} <= stems
