"""Files that cannot be read or written: one clear error, and nothing half-written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cli.conftest import COMPILE, Runner

# -- packages and texts ------------------------------------------------------------------------------


def model_file(package: Path) -> Path:
    return package / "Data" / "com.apple.CoreML" / "model.mlmodel"


@pytest.mark.parametrize("command", ["run", "analyze", "check"])
def test_corrupt_package(refused: Runner, package: Path, command: str) -> None:
    model_file(package).write_bytes(model_file(package).read_bytes()[:100])
    more = {"run": ("--inputs", "in.npz"), "check": ("models.py:tiny",)}.get(command, ())
    refused(1, ("model.mlmodel is damaged",), command, "tiny.mlpackage", *more)


def test_package_without_a_manifest(refused: Runner, package: Path) -> None:
    (package / "Manifest.json").unlink()
    refused(1, ("tiny.mlpackage is no model package", "Manifest.json"), "run", "tiny.mlpackage", "--inputs", "in.npz")


def test_package_without_its_weights(refused: Runner, package: Path) -> None:
    (package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").unlink()
    refused(1, ("cannot read the weights file", "weight.bin"), "run", "tiny.mlpackage", "--inputs", "in.npz")


def test_neural_network_package(refused: Runner, package: Path) -> None:
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model(specificationVersion=4)
    layer = model.neuralNetwork.layers.add(name="relu", input=["x"], output=["y"])
    layer.activation.ReLU.SetInParent()
    model_file(package).write_bytes(model.SerializeToString())
    parts = ("is a neuralNetwork, not an ML Program", "minimum_deployment_target")
    refused(1, parts, "run", "tiny.mlpackage", "--inputs", "in.npz")


def test_missing_program(refused: Runner, package: Path) -> None:
    refused(2, ("gone.mlpackage does not exist",), "run", "gone.mlpackage", "--inputs", "in.npz")
    refused(2, ("gone.anec does not exist",), "opt", "gone.anec", "--passes", "dce")
    refused(2, ("in.npz is neither an .mlpackage nor an .anec file",), "run", "in.npz", "--inputs", "in.npz")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("nn.gelu(", "nn.gelu[", ("expected '(', found '['",)),
        ("nn.gelu(", "nn.gello(", ("there is no op nn.gello", "did you mean 'gelu'")),
        ("nn.gelu(%", "nn.gelu(%no_", ("no_",)),
    ],
)
def test_text_with_a_mistake(refused: Runner, text: Path, old: str, new: str, parts: tuple[str, ...]) -> None:
    given = text.read_text()
    assert given.count(old) == 1
    text.write_text(given.replace(old, new))
    lines = text.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if new in line)
    found = refused(1, (*parts, f"at: tiny.anec:{number}"), "opt", "tiny.anec", "--passes", "dce", "-o", "out.anec")
    shown = [line.strip() for line in found.err.splitlines()]
    assert "> " + lines[number - 1] in shown
    assert lines[number - 2].strip() in shown, "the line in front of it is shown too"


def test_text_that_is_none(refused: Runner, folder: Path) -> None:
    (folder / "bytes.anec").write_bytes(b"\xff\xfe\x00")
    refused(2, ("bytes.anec is not text",), "opt", "bytes.anec", "--passes", "dce")


# -- inputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"x": np.zeros((3, 4), np.float32)}, ("the input 'x' has shape [3, 4]; the model takes f32[2,4]",)),
        ({"x": np.zeros(8, np.float32)}, ("the input 'x' has shape [8]; the model takes f32[2,4]",)),
        ({"x": np.zeros((2, 4), np.complex64)}, ("the input 'x' is torch.complex64; the model takes f32",)),
        ({"x": np.full((2, 4), 1e39)}, ("the input 'x' holds values beyond f32",)),
        ({"y": np.zeros((2, 4), np.float32)}, ("there is no input 'y'", "known: x")),
        ({}, ("the input 'x' is missing", "inputs: x")),
    ],
)
def test_input_that_does_not_fit(
    refused: Runner, package: Path, folder: Path, arrays: dict[str, np.ndarray], parts: tuple[str, ...]
) -> None:
    np.savez(folder / "in.npz", **arrays)
    refused(2, parts, "run", "tiny.mlpackage", "--inputs", "in.npz", "-o", "out.npz")


@pytest.mark.parametrize(
    ("index", "parts"),
    [
        (np.array([0, 2**40]), ("the input 'index' holds values beyond i32", "-2147483648 to 2147483647")),
        (np.array([0.0, 1.0]), ("the input 'index' is torch.float64; the model takes whole numbers",)),
    ],
)
def test_index_that_does_not_fit(
    refused: Runner, run: Runner, folder: Path, index: np.ndarray, parts: tuple[str, ...]
) -> None:
    assert run("compile", "models.py:index", "-o", "index.mlpackage").code == 0
    np.savez(folder / "in.npz", table=np.zeros((5, 3), np.float32), index=index)
    refused(2, parts, "run", "index.mlpackage", "--inputs", "in.npz", "-o", "out.npz")


def test_arrays_that_cannot_be_read(refused: Runner, package: Path, folder: Path) -> None:
    np.savez(folder / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    (folder / "bad.npz").write_bytes(b"PK\x03\x04 and nothing")
    np.save(folder / "one.npy", np.zeros(3))
    (folder / "one.npy").rename(folder / "one.npz")
    refused(2, ("gone.npz does not exist",), "run", "tiny.mlpackage", "--inputs", "gone.npz")
    refused(2, ("cannot read bad.npz",), "run", "tiny.mlpackage", "--inputs", "bad.npz")
    refused(2, ("cannot read objects.npz", "allow_pickle=False"), "run", "tiny.mlpackage", "--inputs", "objects.npz")
    refused(2, ("one.npz holds one array without a name",), "run", "tiny.mlpackage", "--inputs", "one.npz")


def test_checks_without_inputs(refused: Runner, text: Path) -> None:
    parts = ("--check=numerics needs example inputs", "--inputs")
    refused(2, parts, "opt", "tiny.anec", "--passes", "dce", "--check", "numerics")


# -- outputs -----------------------------------------------------------------------------------------


def test_output_that_exists(refused: Runner, run: Runner, package: Path, text: Path) -> None:
    refused(2, ("tiny.mlpackage exists already", "--force"), "compile", "models.py:tiny", "-o", "tiny.mlpackage")
    refused(2, ("tiny.anec exists already", "--force"), "opt", "tiny.anec", "--passes", "dce", "-o", "tiny.anec")
    refused(2, ("in.npz exists already", "--force"), "run", "tiny.mlpackage", "--inputs", "in.npz", "-o", "in.npz")
    assert run("compile", "models.py:tiny", "-o", "tiny.mlpackage", "--force").code == 0


def test_output_that_is_no_package(refused: Runner, folder: Path) -> None:
    (folder / "mine.mlpackage").mkdir()
    (folder / "mine.mlpackage" / "letter.txt").write_text("keep me")
    parts = ("mine.mlpackage is a folder, but no package",)
    refused(2, parts, "compile", "models.py:tiny", "-o", "mine.mlpackage", "--force")
    refused(2, ("out.mlmodel does not end in .mlpackage",), "compile", "models.py:tiny", "-o", "out.mlmodel")


@pytest.mark.parametrize("emit", ["mlpackage", "anec"])
def test_folder_that_is_none(refused: Runner, folder: Path, emit: str) -> None:
    (folder / "file").write_text("not a folder")
    for place in ("file", "gone"):
        found = refused(2, ("folder",), "compile", "models.py:tiny", "-o", f"{place}/out.{emit}", "--emit", emit)
        assert place in found.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_folder_that_cannot_be_written(refused: Runner, folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o500)
    refused(2, ("cannot be written to",), "compile", "models.py:tiny", "-o", "locked/out.mlpackage")


def no_space(*arguments: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_space_for_a_package(refused: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from anec.backend import package

    monkeypatch.setattr(package.BlobWriter, "append", no_space)
    refused(1, ("cannot write", "out.mlpackage", "No space left on device"), *COMPILE)


def test_no_space_keeps_the_old_package(refused: Runner, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", no_space)
    refused(1, ("No space left on device",), "compile", "models.py:tiny", "-o", "tiny.mlpackage", "--force")


def test_no_space_for_a_text(refused: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are written in front of the text; they go too."""
    monkeypatch.setattr(Path, "write_text", no_space)
    refused(1, ("No space left on device",), "compile", "models.py:tiny", "--emit", "anec", "-o", "out.anec")


def test_no_space_for_outputs(refused: Runner, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "savez", no_space)
    parts = ("cannot write out.npz", "No space left on device")
    refused(1, parts, "run", "tiny.mlpackage", "--inputs", "in.npz", "-o", "out.npz")


def test_full_disk_leaves_no_part_of_a_dump(run: Runner, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights go straight into their files."""
    from anec.pipeline import store

    class Full:
        def __enter__(self) -> object:
            return SimpleNamespace(write=no_space)

        def __exit__(self, *given: object) -> None:
            return None

    def opened(path: Path, mode: str = "r", **more: object) -> object:
        path.touch()
        return Full()

    monkeypatch.setattr(store.Path, "open", opened)
    found = run("compile", "models.py:tiny", "--dry-run", "--dump", "dump")
    assert (found.code, "cannot write the dump folder dump: No space left" in found.err) == (1, True)
    assert not list(folder.rglob("*.partial"))


def test_folders_for_files(refused: Runner, package: Path, folder: Path) -> None:
    (folder / "in.anec").mkdir()
    (folder / "inputs.npz").mkdir()
    refused(2, ("in.anec is a folder",), "opt", "in.anec", "--passes", "dce")
    refused(2, ("tiny.mlpackage is a folder", "anec run"), "opt", "tiny.mlpackage", "--passes", "dce")
    refused(2, ("inputs.npz is a folder",), "run", "tiny.mlpackage", "--inputs", "inputs.npz")
    refused(2, (". is a folder", "name a package in it"), "compile", "models.py:tiny", "-o", ".")


def test_opt_writes_no_package(refused: Runner, text: Path) -> None:
    refused(2, ("opt writes IR text",), "opt", "tiny.anec", "--passes", "dce", "-o", "out.mlpackage")


def test_inputs_of_opt_fit(refused: Runner, text: Path, folder: Path) -> None:
    np.savez(folder / "in.npz", x=np.zeros((2, 5), np.float32))
    parts = ("the input 'x' has shape [2, 5]; the model takes f32[2,4]",)
    refused(2, parts, "opt", "tiny.anec", "--passes", "dce", "--check", "numerics", "--inputs", "in.npz")
