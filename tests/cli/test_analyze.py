"""``anec analyze``: what is supported, where, and what to do about the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Runner, rows


def analyzed(run: Runner, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    found = run("analyze", *arguments, "--json")
    data = json.loads(found.out)
    assert data["supported"] is (found.code == 0)
    return found.code, {row["op"]: row for row in data["rows"]}


def test_analyze_reports_every_unsupported_op(run: Runner, folder: Path) -> None:
    code, found = analyzed(run, "models.py:unsupported")
    assert code == 1
    text = (folder / "models.py").read_text().splitlines()
    for op, source, reason in (
        ("aten.special_bessel_j0.default", "torch.special.bessel_j0", "no short series"),
        ("aten._linalg_svd.default", "torch.linalg.svdvals", "factorizes a matrix"),
    ):
        assert found[op]["targets"] == []
        assert reason in found[op]["reason"]
        assert "register_op" in found[op]["remedy"]
        assert text[int(found[op]["places"][0].rpartition(":")[2]) - 1].find(source) > 0
    assert found["nn.gru"]["targets"] == ["iOS18"]
    assert found["aten.add.Tensor"]["targets"] == ["iOS15", "iOS16", "iOS17", "iOS18"]
    shown = run("analyze", "models.py:unsupported")
    assert shown.out.endswith(f"2 of {sum(row['count'] for row in found.values())} ops are not supported on iOS18\n")
    first = [line.split()[0] for line in shown.out.splitlines()[1:4]]
    assert first == ["aten._linalg_svd.default", "aten.special_bessel_j0.default", "nn.gru"], (
        "what is missing stands first"
    )


@pytest.mark.parametrize("factory", ["wide_constant", "wide_buffer"])
def test_analyze_goes_on_behind_a_constant_that_is_too_wide(run: Runner, factory: str) -> None:
    code, found = analyzed(run, f"models.py:{factory}")
    assert code == 1
    wide = [row for row in found.values() if not row["targets"]]
    assert len(wide) == 1
    assert "1099511627776" in wide[0]["reason"]
    assert "int32" in wide[0]["reason"]
    assert "change the model there" in wide[0]["remedy"]
    if factory == "wide_constant":
        assert found["aten.relu.default"]["targets"] == ["iOS15", "iOS16", "iOS17", "iOS18"]


def test_analyze_gru(run: Runner) -> None:
    assert analyzed(run, "models.py:short_gru", "--target", "iOS15")[0] == 0
    assert analyzed(run, "models.py:long_gru", "--target", "iOS18")[0] == 0
    code, found = analyzed(run, "models.py:long_gru", "--target", "iOS17")
    assert code == 1
    assert found["nn.gru"]["missing"] == {"iOS15": 1, "iOS16": 1, "iOS17": 1}
    shown = run("analyze", "models.py:long_gru", "--target", "iOS17")
    line = shown.out.splitlines()[1]
    assert "iOS18+" in line
    assert line.count("--target iOS18") == 1
    assert "models.py:" in line


def test_analyze_counts_the_failing_ones_alone(run: Runner, folder: Path) -> None:
    """Of two grus one is short enough to be written out."""
    with (folder / "models.py").open("a") as file:
        file.write(
            "\n\nclass Both(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.short, self.long = Gru(), Gru()\n\n    def forward(self, a, b):\n"
            "        return self.short(a), self.long(b)\n\n\n"
            "def both():\n    return Both(), (torch.randn(1, 3, 4), torch.randn(1, 40, 4))\n"
        )
    code, found = analyzed(run, "models.py:both", "--target", "iOS16")
    assert code == 1
    assert (found["nn.gru"]["count"], found["nn.gru"]["missing"]["iOS16"]) == (2, 1)
    assert "(long.gru)" in found["nn.gru"]["places"][0], "the failing one stands first"
    assert "1 of 2 ops is not supported on iOS16" in run("analyze", "models.py:both", "--target", "iOS16").out


def test_analyze_judges_what_is_left_of_a_high_rank(run: Runner) -> None:
    code, found = analyzed(run, "models.py:convex")
    assert code == 0
    assert found["aten.softmax.int"]["targets"] == ["iOS15", "iOS16", "iOS17", "iOS18"]


def test_analyze_mobile_network(run: Runner) -> None:
    for target in ("iOS15", "iOS18"):
        found = run("analyze", "models.py:mobile", "--target", target)
        assert (found.code, found.err) == (0, "")
        shown = rows(found.out)
        assert shown["aten.conv2d.default"][:2] == ["3", "iOS15+"]
        assert found.out.splitlines()[-1].startswith("all ")


def test_analyze_package_and_text(run: Runner, package: Path, text: Path) -> None:
    code, found = analyzed(run, "tiny.mlpackage")
    assert code == 0
    assert {"mil.linear", "mil.gelu", "mil.mul"} <= found.keys()
    code, found = analyzed(run, "tiny.anec")
    assert code == 0
    assert {"aten.linear.default", "nn.gelu", "aten.mul.Tensor"} == found.keys()


def test_analyze_package_of_a_later_target(run: Runner) -> None:
    """A gru is one op from iOS18 on, whose form earlier targets do not take."""
    assert run("compile", "models.py:long_gru", "-o", "gru.mlpackage", "--target", "iOS18").code == 0
    assert analyzed(run, "gru.mlpackage", "--target", "iOS18")[0] == 0
    code, found = analyzed(run, "gru.mlpackage", "--target", "iOS15")
    assert code == 1
    assert found["mil.gru"]["targets"] == ["iOS18"]
    assert found["mil.gru"]["remedy"] == "--target iOS18"
