"""Wrong calls: one clear error, the documented exit code, and nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import COMPILE, Runner


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("frobnicate",), "invalid choice: 'frobnicate'"),
        ((), "the following arguments are required: COMMAND"),
        (("compile",), "the following arguments are required: SOURCE"),
        (("compile", "models.py:tiny", "--precision", "fp8"), "invalid choice: 'fp8'"),
        (("run", "x.mlpackage"), "the following arguments are required: --inputs"),
        (("check", "a.npz", "b.npz", "--rtol", "small"), "invalid limit (0 or more) value: 'small'"),
        (("check", "a.npz", "b.npz", "--atol", "-1"), "invalid limit (0 or more) value: '-1'"),
        (("check", "a.npz", "b.npz", "--rtol", "nan"), "invalid limit (0 or more) value: 'nan'"),
        (("check", "a.npz", "b.npz", "--seed", str(2**70)), "invalid seed (0 to 2**63 - 1)"),
        (("compile", "models.py:tiny", "--passes", "-cse"), "is written --passes=-name"),
        (("check", "a.npz"), "check needs a second program to compare with"),
        (("passes", "canonicalise"), "did you mean 'canonicalize'"),
        (("passes", "CSE"), "did you mean 'cse'?"),
    ],
)
def test_wrong_call(refused: Runner, arguments: tuple[str, ...], part: str) -> None:
    refused(2, (part,), *arguments)


def test_a_mistake_of_anec_asks_for_a_report(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from anec.cli import reports

    def broken(*, as_json: bool) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(reports, "list_passes", broken)
    found = run("passes")
    assert found.code == 1
    assert found.err.splitlines()[-1].startswith("error: anec itself failed (ZeroDivisionError); please report it")
    assert "Traceback" in found.err


def test_errors_as_json(run: Runner) -> None:
    import json

    found = run(*COMPILE, "--passes", "canonicalise", "--json")
    assert json.loads(found.out)["error"]["message"] == "there is no pass 'canonicalise'"
    assert found.err.startswith("error: there is no pass")


def test_check_with_what_is_not_there(refused: Runner, package: Path, folder: Path) -> None:
    np.savez(folder / "stored.npz", output=np.zeros((2, 3), np.float32))
    parts = ("stored.npz holds the outputs for inputs of its own", "--inputs")
    refused(2, parts, "check", "tiny.mlpackage", "stored.npz")
    metric = ("check", "tiny.mlpackage", "models.py:tiny", "--metric")
    refused(2, ("the metric file gone.py does not exist",), *metric, "gone.py:f")
    refused(2, ("models.py has no function 'nothing'",), *metric, "models.py:nothing")
    refused(2, ("--compile checks an .mlpackage",), "check", "in.npz", "--compile")
    shutil.rmtree(package)
    refused(2, ("tiny.mlpackage does not exist",), "check", "tiny.mlpackage", "--compile")
