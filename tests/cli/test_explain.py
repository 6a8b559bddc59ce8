"""``anec explain --layout``: the edges that the cut goes through, and what holds ops back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Runner

BLOCK = """
import torch


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(16)
        self.inner = torch.nn.Linear(16, 32)
        self.outer = torch.nn.Linear(32, 16)

    def forward(self, x):
        x = x + self.outer(torch.relu(self.inner(self.norm(x))))
        return x[:, torch.tensor([3, 1])]


def block():
    return Block().eval(), torch.randn(2, 12, 16)
"""


# The block's two ends may be transposed.
FREE = ("--passes", "default,ane{bounded=false}")


@pytest.fixture
def block(folder: Path) -> Path:
    (folder / "block.py").write_text(BLOCK)
    return folder


def explained(run: Runner, *arguments: str) -> dict[str, Any]:
    found = run("explain", "--layout", *arguments, "--json")
    assert (found.code, found.err) == (0, "")
    data = json.loads(found.out)
    assert data["kind"] == "layout"
    (function,) = data["functions"]
    return dict(function)


def test_cut_edges_and_what_stays(run: Runner, block: Path) -> None:
    found = explained(run, "block.py:block", *FREE)
    entry = next(move for move in found["moves"] if move["value"] == "%x")
    assert (entry["held"], entry["wanted"], entry["cut"]) == ("as written", "channels first", True)
    assert entry["bytes"] == 2 * 2 * 12 * 16
    assert [user["op"] for user in entry["users"]] == ["mil.layer_norm"]
    assert entry["users"][0]["place"].startswith("block.py:13")
    assert found["turned"] == 4
    assert [(row["op"], row["reason"]) for row in found["fixed"]] == [("mil.gather", "gather has one form")]
    shown = run("explain", "--layout", "block.py:block", *FREE).out
    assert shown.startswith("4 ops held in another form, 1 as written by choice, 1 as written by need\n")
    assert "%x             as written      channels first  768" in shown
    assert "mil.gather  1      gather has one form  block.py:14" in shown


def test_a_program_that_moves_nothing_stays_as_written(run: Runner, block: Path) -> None:
    found = explained(run, "block.py:block")
    assert (found["turned"], found["moves"]) == (0, [])
    assert "where the program writes 0: all ops stay as written" in found["note"]
    assert found["note"] in run("explain", "--layout", "block.py:block").out
    ran = run("compile", "block.py:block", "--passes", "default,ane", "--dry-run", "--json")
    (layout,) = (ran for ran in json.loads(ran.out)["passes"] if ran["spec"] == "ane-layout")
    assert layout["notes"] == [f"ane-layout: {found['note']}"]


def test_text_and_packages(run: Runner, block: Path) -> None:
    """Text in front of the layout says the same; a package is judged as it is."""
    from_source = explained(run, "block.py:block", *FREE)
    run("compile", "block.py:block", "--emit", "anec", "-o", "block.anec")
    assert explained(run, "block.anec", *FREE) == from_source
    run("compile", "block.py:block", *FREE, "-o", "block.mlpackage")
    done = explained(run, "block.mlpackage")
    assert "mil.conv" in {row["op"] for row in done["fixed"]}


def test_it_needs_to_be_told_what(run: Runner) -> None:
    found = run("explain", "models.py:tiny")
    assert found.code == 2
    assert "required: --layout" in found.err


def test_a_pipeline_without_a_layout(run: Runner) -> None:
    found = run("explain", "--layout", "models.py:tiny", "--passes", "default")
    assert found.code == 2
    assert "'default' has no pass ane-layout" in found.err


def test_flexible_sizes(run: Runner, block: Path) -> None:
    found = run("explain", "--layout", "block.py:block", "--shapes", "x=1..4x12x16")
    assert found.code == 1
    assert "a size is flexible" in found.err
