"""Near misses as they are told: deepest first, equal ones together, and not too many."""

from __future__ import annotations

from pathlib import Path

import pytest

import anec
from anec.api.text import optimize
from anec.cli.reports import passes
from anec.pipeline.manager import PassReport, Report
from anec.rewrite.match import Miss

PLUGIN = '''
from anec import Pass, Value, constant, mil, register, reject, rest, rewrite, var

x, w = var("x"), constant("w")

@rewrite(mil.relu(x, rest))
def root_alone(x: Value) -> Value:
    return reject("not today")

@rewrite(mil.add(x, w))
def of_constant(x: Value) -> Value:
    return reject("not tomorrow")

@rewrite(mil.tanh(mil.relu(x)))
def of_two(x: Value) -> Value:
    return reject("never")

@register
class Misses(Pass):
    """Nothing fires."""

    name = "misses"
    rules = [root_alone, of_constant, of_two]
'''
TEXT = """anec 1
module target=iOS18

func main(%x: f32[4]) -> (%y: f32[4]) {
  %a = mil.relu(%x) : f32[4]
  %b = mil.tanh(%a) : f32[4]
  %c = mil.relu(%b) : f32[4]
  %d = mil.tanh(%c) : f32[4]
  %e = mil.add(%d, 2.0) : f32[4]
  %y = mil.exp(%e) : f32[4]
  return %y
}
"""


def test_depth_counts_ops_and_constants_and_equal_misses_are_told_together(tmp_path: Path) -> None:
    plugin = tmp_path / "misses_plugin.py"
    plugin.write_text(PLUGIN)
    _, report = optimize(anec.read(TEXT), "misses", plugins=[plugin])
    told = report.passes[0].misses
    assert told == {
        "of_constant": "not tomorrow at %e",
        "of_two": "never at %b, %d",
        "root_alone": "not today at %a, %c",  # somebody is writing this pass, and asks why nothing happens
    }
    assert list(told)[-1] == "root_alone"
    assert report.as_json()["passes"][0]["misses"] == told


def test_a_root_alone_is_near_to_nothing_in_built_in_passes() -> None:
    _, report = optimize(anec.read(TEXT), "mil-cleanup")
    # matches of one op: merge_bounds, fold_offset and others stop at the root's operand
    assert report.passes[0].misses == {}


def test_places_beyond_a_few_are_counted() -> None:
    miss = Miss(2, "why", dict.fromkeys(f"a.py:{line}" for line in range(1, 8)))
    assert str(miss) == "why at a.py:1, a.py:2, a.py:3, a.py:4 and 3 more"


def test_only_the_deepest_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    done = PassReport(1, "some-pass", misses={f"rule_{i}": "why at %x" for i in range(8)})
    passes(Report("some-pass", [done]), verbose=True, times=False)
    said = capsys.readouterr().out
    assert [f"rule_{i} nearly matched: why at %x\n" in said for i in range(8)] == [True] * 5 + [False] * 3
    assert said.endswith("some-pass: 3 more rules nearly matched (--json has them)\n")
