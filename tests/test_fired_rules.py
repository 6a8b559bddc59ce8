"""The check that every built-in rule fires in the suite can fail."""

from __future__ import annotations

import pytest

import fired_rules
import golden


def test_a_rule_that_never_fired_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fired_rules, "FIRED", set())
    name = "mil-cleanup: merge_transposes (anec.passes.mil_cleanup.transposes)"
    assert name in fired_rules.unfired()
    (path,) = (path for path in golden.cases("mil-cleanup") if path.stem == "merge_transposes")
    golden.check(path)
    assert name not in fired_rules.unfired()
    assert len(fired_rules.unfired()) > 300


def test_workers_hand_over_what_they_saw(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    monkeypatch.setattr(fired_rules, "FIRED", set())

    class Node:
        workeroutput = {"fired_rules": [["a", "b"]]}  # noqa: RUF012  # as xdist has it

    fired_rules.Collector(pytestconfig).pytest_testnodedown(Node(), None)
    assert ("a", "b") in fired_rules.FIRED
