"""``anec check``: two programs compared."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Runner


def test_check_package_against_its_source(run: Runner, package: Path) -> None:
    for pair in (("tiny.mlpackage", "models.py:tiny"), ("models.py:tiny", "tiny.mlpackage")):
        found = run("check", *pair)
        assert (found.code, found.err) == (0, ""), found.out
        assert found.out.splitlines()[1].split()[0] == "output"
        assert found.out.splitlines()[1].endswith("ok")


def spoil(package: Path) -> None:
    """Overwrite the largest weight's last bytes by others."""
    path = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(path.read_bytes())
    half = np.frombuffer(bytes(data[-8:]), np.float16)
    assert np.isfinite(half).all()
    data[-8:] = (half + np.float16(1)).tobytes()
    path.write_bytes(bytes(data))


def test_check_names_the_first_value_that_differs(run: Runner, package: Path) -> None:
    shutil.copytree(package, "good.mlpackage")
    spoil(package)
    for reference in ("models.py:tiny", "good.mlpackage"):
        found = run("check", "tiny.mlpackage", reference, "--inputs", "in.npz")
        assert found.code == 1
        assert found.out.splitlines()[1].endswith("FAILED")
        assert "1 of 1 outputs left the limits: psnr >= 40 dB\n" in found.out
        # Every later value differs too; the linear is the first that does.
        assert "first value that differs: %fc_linear = mil.linear" in found.out
    data = json.loads(run("check", "tiny.mlpackage", "good.mlpackage", "--inputs", "in.npz", "--json").out)
    assert data["passed"] is data["outputs"][0]["passed"] is False
    assert data["first"].startswith("first value that differs: %fc_linear")


DRAWN = """

def seeded():
    return tiny()


def drawn():
    torch.seed()
    model, *rest = tiny()
    torch.seed()
    for weight in model.parameters():
        weight.data.normal_()
    return model, *rest
"""


def test_check_tells_a_source_of_random_weights(run: Runner, package: Path) -> None:
    Path("drawn.py").write_text(Path("models.py").read_text() + DRAWN)
    spoil(package)
    told = "makes other weights each time it is called"
    assert told in run("check", "tiny.mlpackage", "drawn.py:drawn").err
    assert told not in run("check", "tiny.mlpackage", "drawn.py:seeded").err


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (("--rtol", "1e-9"), 1),
        (("--rtol", "0.1"), 0),
        (("--rtol", "1e-9", "--atol", "0.1"), 0),
        (("--min-psnr", "150"), 1),
        (("--min-psnr", "30"), 0),
        (("--min-psnr", "30", "--rtol", "1e-9"), 1),
    ],
)
def test_limits(run: Runner, package: Path, limits: tuple[str, ...], code: int) -> None:
    assert run("check", "tiny.mlpackage", "models.py:tiny", *limits).code == code


def test_metric_of_the_user(run: Runner, package: Path, folder: Path) -> None:
    (folder / "metrics.py").write_text(
        "def near(a, b):\n    return bool(abs(a['output'] - b['output']).max() < 0.1)\n"
        "def far(a, b):\n    return not near(a, b)\n"
        "def error(a, b):\n    return float(abs(a['output'] - b['output']).max())\n"
        "def broken(a, b):\n    return a['nothing']\n"
    )
    command = ("check", "tiny.mlpackage", "models.py:tiny", "--metric")
    near, far = run(*command, "metrics.py:near"), run(*command, "metrics.py:far")
    assert (near.code, far.code) == (0, 1)
    assert "metrics.py:near: True\n" in near.out
    error = json.loads(run(*command, "metrics.py:error", "--json").out)
    assert error["passed"] is True
    assert 0 < error["metric"] < 0.1
    broken = run(*command, "metrics.py:broken")
    assert broken.code == 1
    assert "the metric metrics.py:broken failed: KeyError: 'nothing'" in broken.err


def test_check_compile_says_what_was_done(run: Runner, package: Path) -> None:
    found = run("check", "tiny.mlpackage", "--compile")
    assert found.code == 0
    assert "typed anew for iOS18 by coremltools" in found.out or "compiled by" in found.out
    if sys.platform != "darwin":
        assert "not compiled: that needs macOS" in found.out
        data = json.loads(run("check", "tiny.mlpackage", "--compile", "--json").out)
        assert data["compiled"] is False
        assert data["target"] == "iOS18"


def test_check_stored_outputs(run: Runner, package: Path) -> None:
    run("run", "tiny.mlpackage", "--inputs", "in.npz", "-o", "out.npz")
    found = run("check", "tiny.mlpackage", "out.npz", "--inputs", "in.npz")
    assert (found.code, found.err) == (0, "")
    both = run("check", "out.npz", "out.npz", "--json")
    assert json.loads(both.out)["outputs"][0]["psnr"] == "inf", "JSON has no infinity"
    np.savez("other.npz", output=np.load("out.npz")["output"] + 1)
    assert run("check", "other.npz", "out.npz").code == 1


def test_inputs_that_a_source_does_not_have(refused: Runner, run: Runner, folder: Path) -> None:
    """A source runs on what it is given, never on its own example instead."""
    np.savez(folder / "other.npz", y=np.zeros((2, 4), np.float32))
    np.savez(folder / "wide.npz", x=np.zeros((2, 5), np.float32))
    both = ("check", "models.py:tiny", "models.py:tiny", "--inputs")
    refused(2, ("the input 'x' is missing", "at: models.py:tiny"), *both, "other.npz")
    refused(1, ("PyTorch fails on these inputs: RuntimeError", "at: models.py:tiny"), *both, "wide.npz")
    np.savez(folder / "good.npz", x=np.ones((2, 4), np.float32))
    assert run(*both, "good.npz").code == 0


@pytest.mark.parametrize("option", ["--bind", "--shapes", "--function"])
def test_programs_are_not_exported_again(refused: Runner, package: Path, option: str) -> None:
    parts = (f"{option} is for a SOURCE", f"leave out {option}")
    value = "f:x=2x4" if option == "--function" else "x=2x4"
    refused(2, parts, "check", "tiny.mlpackage", "tiny.mlpackage", option, value)
    if option != "--function":
        refused(2, parts, "analyze", "tiny.mlpackage", option, value)


def test_check_compile_takes_one_package(refused: Runner, package: Path) -> None:
    refused(2, ("--compile checks tiny.mlpackage alone",), "check", "tiny.mlpackage", "models.py:tiny", "--compile")


def test_metric_without_a_function(refused: Runner, package: Path) -> None:
    parts = ("--metric models.py names no function",)
    refused(2, parts, "check", "tiny.mlpackage", "models.py:tiny", "--metric", "models.py")


def test_the_program_that_lacks_an_input_is_named(refused: Runner, package: Path) -> None:
    refused(2, ("the input 'x' is missing", "at: tiny.mlpackage"), "check", "tiny.mlpackage", "models.py:index")
