"""``anec analyze``: the predicted placement as text, as JSON, as an exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import anec
from ane.ane_programs import Maker, distilbert, made
from anec import backend
from anec.backend.planned import Planned
from anec.dialects import mil
from anec.ir.graph import Module, Value
from cli.conftest import Runner


def write(folder: Path, module: Module, name: str = "program.anec") -> str:
    (folder / name).write_text(str(module), encoding="utf-8")
    return name


def split_by_a_cumsum(m: Maker) -> Value:
    first = m.conv(m.x("f16[1,256,64,64]"), "f16[256,256,3,3]", pad_type="same")
    return m.conv(mil.cumsum(first, axis=1), "f16[256,256,3,3]", pad_type="same")


def as_json(run: Runner, *arguments: str) -> tuple[int, dict[str, Any]]:
    found = run("analyze", *arguments, "--json")
    return found.code, json.loads(found.out)


def test_apple_s_distilbert(run: Runner, folder: Path) -> None:
    name = write(folder, distilbert())
    found = run("analyze", name, "--fail-below", "99")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("prediction for the Neural Engine of M1 (H13); nothing was measured\n")
    assert "in 1 segment;" in found.out
    blockers = found.out.partition("off the Neural Engine\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[:3] for line in blockers[1:]] == [
        ["mil.gather", "1", "A16"], ["mil.sub", "1", "A01i"], ["mil.cast", "1", "B31"], ["mil.cast", "1", "A01"],
    ]  # fmt: skip
    assert all("at the edge" in line for line in blockers[1:])
    assert "2 changes of device, 0.197 MB taken over" in found.out
    segments = found.out.partition("\nsegments\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[:2] for line in segments[1:]] == [["CPU", "3"], ["ANE", "469"], ["CPU", "1"]]
    assert found.out.splitlines()[-1].startswith("all ")


def test_blockers_and_the_exit_code(run: Runner, folder: Path) -> None:
    name = write(folder, made(split_by_a_cumsum))
    found = run("analyze", name)
    assert found.code == 0
    (line,) = [line for line in found.out.splitlines() if line.startswith("mil.cumsum") and "B21" in line]
    assert "inside" in line
    assert "ane-legalize for cumsum" in line
    assert "in 2 segments" in found.out
    below = run("analyze", name, "--fail-below", "95")
    assert below.code == 1
    assert "66.7% is below 95%" in below.out
    assert run("analyze", name, "--fail-below", "60").code == 0
    code, data = as_json(run, name, "--fail-below", "95")
    assert (code, data["supported"]) == (1, True)
    assert data["prediction"]["kind"] == "prediction"
    assert data["prediction"]["ane_share"]["ops"] == pytest.approx(2 / 3, abs=1e-4)
    (blocker,) = [row for row in data["prediction"]["functions"][0]["placements"] if row["preferred"] == "CPU"]
    assert (blocker["op"], blocker["rules"][0]["id"], blocker["edge"]) == ("mil.cumsum", "B21", False)


def test_a_source_is_compiled_before_it_is_judged(run: Runner, folder: Path) -> None:
    code, data = as_json(run, "models.py:mobile")
    assert code == 0
    assert {row["op"] for row in data["rows"]} >= {"aten.conv2d.default"}, "support is told of the model's own ops"
    (function,) = data["prediction"]["functions"]
    rows = function["placements"]
    assert {row["op"] for row in rows} >= {"mil.conv", "mil.cast"}
    assert any("models.py:" in row["place"] for row in rows)
    text = run("analyze", "models.py:mobile").out
    assert "prediction for the Neural Engine" in text


def test_a_package(run: Runner, package: Path) -> None:
    code, data = as_json(run, "tiny.mlpackage")
    assert code == 0
    rows = data["prediction"]["functions"][0]["placements"]
    assert {"mil.linear", "mil.gelu"} <= {row["op"] for row in rows}
    assert all("CPU" in row["supported"] for row in rows)


def test_no_prediction_for_what_cannot_be_lowered(run: Runner, folder: Path) -> None:
    code, data = as_json(run, "models.py:unsupported", "--fail-below", "95")
    assert code == 1
    assert data["prediction"] == {"kind": "prediction", "error": "not every op is supported on iOS18"}
    assert data["rows"]
    found = run("analyze", "models.py:unsupported", "--fail-below", "95")
    assert "no prediction: not every op is supported on iOS18" in found.err


def test_generations(run: Runner, folder: Path) -> None:
    name = write(folder, made(lambda m: mil.sin(m.conv(m.x("f16[1,256,64,64]"), "f16[256,256,3,3]"))))
    for generation, share in (("M1", 0.5), ("M2", 0.5), ("M3", 1.0), ("A15", 0.5), ("M5", 1.0)):
        data = as_json(run, name, "--ane-generation", generation)[1]["prediction"]
        assert data["ane_share"]["ops"] == share, generation
    assert "limits are themselves predicted" in run("analyze", name, "--ane-generation", "M3").out
    share = as_json(run, name, "--passes", "ane{generation=M3}")[1]["prediction"]["ane_share"]["ops"]
    assert share == 1.0, "the chip that the pipeline names"
    wrong = run("analyze", name, "--ane-generation", "M9")
    assert wrong.code == 2
    assert "unknown generation 'M9'" in wrong.err


def test_functions_are_shown_one_by_one(run: Runner, folder: Path) -> None:
    module = made(split_by_a_cumsum)
    module.functions["other"] = made(lambda m: mil.relu(m.x("f16[1,8]"))).main
    module.functions["other"].name = "other"
    shown = run("analyze", write(folder, module)).out
    assert shown.index("\nfunction main\n") < shown.index("\nfunction other\n")
    assert "function" not in run("analyze", write(folder, made(split_by_a_cumsum))).out.partition("notes")[0]


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has what this says is missing")
def test_comparison_needs_a_mac(run: Runner, package: Path) -> None:
    found = run("analyze", "tiny.mlpackage", "--compare")
    assert found.code == 1
    assert "needs macOS" in found.err


def test_comparison_needs_a_package(run: Runner, folder: Path) -> None:
    found = run("analyze", "models.py:tiny", "--compare")
    assert found.code == 2
    assert "--compare needs a package" in found.err


def test_disagreements_are_saved(run: Runner, package: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a plan in Core ML's place: all as predicted but for the product."""
    rows = as_json(run, "tiny.mlpackage")[1]["prediction"]["functions"][0]["placements"]
    plan = {
        row["name"].removeprefix("%"): Planned(row["op"], ("CPU", "ANE"), "ANE" if row["op"] == "mil.linear" else "CPU")
        for row in rows
    }
    monkeypatch.setattr(backend, "compute_plan", lambda path, units: {"main": plan}, raising=False)
    found = run("analyze", "tiny.mlpackage", "--compare", "out.json")
    assert found.code == 0
    wanted = [row["name"] for row in rows if row["op"] == "mil.linear"]
    assert f"Core ML disagrees on {len(wanted)} of {len(rows)} ops" in found.err
    saved = json.loads((folder / "out.json").read_text())
    assert [row["name"] for row in saved["disagreements"]] == wanted
    assert saved["disagreements"][0]["planned"] == "ANE"


@pytest.mark.mac
def test_core_ml_has_a_plan(run: Runner, package: Path, folder: Path) -> None:
    found = run("analyze", "tiny.mlpackage", "--compare")
    assert found.code == 0
    assert json.loads((folder / "disagreements.json").read_text())["compared"] > 0


def test_a_text_that_is_printed_reads_back_the_same() -> None:
    """What the tests above write is what they mean."""
    assert str(anec.read(str(distilbert()))) == str(distilbert())
