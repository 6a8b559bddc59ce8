"""Checking packages, importing without noise, and what the room imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from backend_programs import program, read, spec_of

from anec.backend import PackageCheck, check_package, save
from anec.backend.paths import MODEL
from anec.backend.quiet import ct
from anec.errors import AnecError, CheckError

TEXT = program(
    '%w = weight "w" : f32[4,8]\n%l = mil.linear(%x, %w) : f32[2,4]\n%y = mil.softmax(%l) {axis=-1} : f32[2,4]',
    "%x: f32[2,8]",
    "%y: f32[2,4]",
    "iOS17",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(read(TEXT), tmp_path / "model.mlpackage")
    return tmp_path / "model.mlpackage"


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac the compiler runs too")
def test_off_a_mac_ops_are_typed_anew(path: Path) -> None:
    found = check_package(path)
    assert found == PackageCheck("iOS17", 1, 2, compiled=False)
    assert str(found) == (
        f"2 ops in 1 function typed anew for iOS17 by coremltools {ct.__version__}; not compiled: that needs macOS"
    )


def test_a_type_that_does_not_follow_is_found(path: Path) -> None:
    model = spec_of(path)
    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    block.operations[-1].outputs[0].type.tensorType.dimensions[0].constant.size = 3
    (path / MODEL).write_bytes(model.SerializeToString())
    with pytest.raises(AnecError, match=r"%y is f32\[3,4\] here, but coremltools infers f32\[2,4\]"):
        check_package(path)


def test_on_a_mac_the_compiler_decides(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "compiled.mlmodelc"

    def compile_model(package: str) -> str:
        assert package == str(path)
        made.mkdir()
        return str(made)

    monkeypatch.setattr("anec.backend.check.sys.platform", "darwin")
    monkeypatch.setattr(ct.models.utils, "compile_model", compile_model)
    assert check_package(path).compiled
    assert not made.exists()

    def refuse(package: str) -> str:
        raise RuntimeError("Error compiling model: no such op\nat line 3")

    monkeypatch.setattr(ct.models.utils, "compile_model", refuse)
    with pytest.raises(CheckError, match=r"does not compile .*: Error compiling model: no such op$"):
        check_package(path)


def run(code: str) -> Any:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)


def test_coremltools_is_imported_late_and_without_noise() -> None:
    found = run(
        "import sys, anec.backend\n"
        "anec.backend.check_output('m.mlpackage')\n"
        "print('coremltools' in sys.modules, 'torch' in sys.modules)\n"
        "anec.backend.emit\n"
        "print('coremltools' in sys.modules)\n"
        "import logging; print(logging.getLogger('coremltools').level)\n"
    )
    assert found.stdout.split() == ["False", "False", "True", "0"]
    assert found.stderr == ""


def test_the_room_lists_what_it_offers() -> None:
    import anec.backend as room

    assert all(callable(getattr(room, name)) for name in room.__all__)
    with pytest.raises(AttributeError, match="no attribute 'emitt'"):
        room.emitt  # noqa: B018
