"""--bind and --function as text, and commands over packages of several functions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anec.cli import main
from anec.cli.bindings import read_bindings, read_functions, read_value
from anec.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-1.5", -1.5), ("true", True), ("True", True), ("None", None), ("null", None), ("[[1,28,28]]", [[1, 28, 28]]),
        ("(1, 2)", (1, 2)), ("mean", "mean"), ("784x588", "784x588"), ("'7'", "7"), ("", ""),
    ],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    assert read_value(text) == value


def test_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.arange(3))
    assert read_value(f"@{tmp_path / 'ids.npy'}").tolist() == [0, 1, 2]
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"cannot read .*objects\.npy"):
        read_value(f"@{tmp_path / 'objects.npy'}")


def test_functions_add_up() -> None:
    texts = ["a:x=3x4,grid=[[1,2],[3,4]],mode=mean", "b", "a:len=3"]
    assert read_functions(texts) == {"a": {"x": "3x4", "grid": [[1, 2], [3, 4]], "mode": "mean", "len": 3}, "b": {}}


@pytest.mark.parametrize("text", ["x", "2=1", "=1"])
def test_what_binds_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="binds nothing"):
        read_bindings([text])


LOOPING = """
import torch


class Looping(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x, grid):
        for h, w in grid:
            x = x + torch.arange(h * w).sum()
        return self.linear(x)


def model():
    return Looping(), (torch.randn(2, 4), torch.tensor([[1, 1]]))
"""
BINDINGS = ("--bind", "grid=[[1,2]]", "--function", "one:x=3x4", "--function", "two:grid=[[2,2],[1,3]]")


def run(*arguments: str) -> int:
    return main(list(arguments))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("looping.py").write_text(LOOPING)


def test_commands_on_several_functions(capsys: pytest.CaptureFixture[str]) -> None:
    source = ("looping.py:model", *BINDINGS)
    assert run("compile", *source, "-o", "x.mlpackage", "--precision=fp32", "--check=all", "--dump=d") == 0
    shown = capsys.readouterr().out
    assert "note: one: grid is bound to [[1, 2]]" in shown
    assert "note: two: grid is bound to [[2, 2], [1, 3]]" in shown
    assert sorted(np.load("d/inputs.npz").files) == ["one/x", "two/x"]

    assert run("check", "x.mlpackage", *source, "--json") == 0
    assert [row["output"] for row in json.loads(capsys.readouterr().out)["outputs"]] == ["one/output", "two/output"]
    # A difference in the second function alone fails the check.
    assert run("check", "x.mlpackage", *source[:-1], "two:grid=[[2,2],[1,4]]") == 1
    assert "first value that differs" in capsys.readouterr().out
    assert run("check", "x.mlpackage", "d/000_input.anec") == 0
    capsys.readouterr()

    assert run("run", "x.mlpackage", "--inputs", "d/inputs.npz", "--function", "one", "--json") == 0
    assert json.loads(capsys.readouterr().out)["outputs"][0]["shape"] == [3, 4]
    assert run("run", "x.mlpackage", "--inputs", "d/inputs.npz") == 2
    assert "which function?" in capsys.readouterr().err


def test_analyze_takes_bindings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("analyze", "looping.py:model") == 1
    assert "--bind grid=[[1,1]]" in capsys.readouterr().err
    assert run("analyze", "looping.py:model", "--bind", "grid=[[1,1]]") == 0
