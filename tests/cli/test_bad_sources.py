"""Sources that give no model: one clear error, the documented exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.conftest import COMPILE, Runner

# -- sources -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("models.py:tinny", ("models.py has no 'tinny'", "did you mean 'tiny'")),
        ("models.py", ("'models.py' is not a source", "file.py:factory")),
        ("models.py:", ("models.py: which factory?",)),
        ("modls.py:tiny", ("there is no file modls.py", "did you mean 'models.py'?")),
        ("gone/models.py:tiny", ("there is no file gone/models.py", "the folder gone does not exist")),
        ("no.such.module:tiny", ("there is no module 'no.such.module'",)),
        (
            "models.py:raises",
            ("the factory raises(): RuntimeError: the weights are elsewhere", "models.py:", "raise Runtime"),
        ),
        ("models.py:number", ("models.py:number gives an int", "return (module, args)")),
        ("models.py:no_arguments", ("models.py:no_arguments gives a module without example inputs",)),
        ("models.py:one_name", ("two inputs would be called 'a'",)),
        ("gone.pt2", ("there is no file gone.pt2",)),
    ],
)
def test_source_that_gives_no_model(refused: Runner, source: str, parts: tuple[str, ...]) -> None:
    refused(2, parts, "compile", source, "-o", "out.mlpackage")


def test_op_without_a_lowering(refused: Runner, folder: Path) -> None:
    lines = dict(enumerate((folder / "models.py").read_text().splitlines(), 1))
    found = refused(1, ("2 ops have no lowering to Core ML", "pass: lower-to-mil"), "compile", "models.py:unsupported")
    for op, text in (
        ("aten.special_bessel_j0.default", "torch.special.bessel_j0"),
        ("aten._linalg_svd.default", "torch.linalg.svdvals"),
    ):
        number = next(n for n, line in lines.items() if text in line)
        assert f"{op}  x1  models.py:{number}" in found.err


def test_weight_that_is_nan(refused: Runner) -> None:
    refused(1, ("the weight 'scale' holds NaN", "at: models.py"), "compile", "models.py:not_a_number")


@pytest.mark.parametrize("factory", ["wide_constant", "wide_buffer"])
def test_constant_beyond_int32(refused: Runner, factory: str) -> None:
    refused(1, ("1099511627776", "int32", "at: models.py"), "compile", f"models.py:{factory}")


def test_unknown_target(refused: Runner) -> None:
    refused(2, ("unknown target 'iOS19'", "'iOS18'"), *COMPILE, "--target", "iOS19")
    refused(2, ("unknown target 'iOS19'", "'iOS18'"), "analyze", "models.py:tiny", "--target", "iOS19")


@pytest.mark.parametrize(
    ("option", "parts"),
    [
        ("--bind=y=1", ("there is no input 'y' to bind", "inputs: x")),
        ("--bind=x", ("'x' binds nothing", "name=value")),
        ("--bind=x=[[1", ("'[[1' is no value",)),
        ("--bind=x=@none.npy", ("none.npy does not exist",)),
        ("--bind=x=@models.py", ("cannot read models.py as .npy",)),
        ("--bind=x=word", ("x is bound to 'word'",)),
        ("--function=2x:x=1", ("'2x' is not a legal function name",)),
        ("--function=small:y=3x4", ("there is no input 'y' to resize",)),
        ("--function=small:x=1,x=2", ("x is bound twice",)),
    ],
)
def test_bindings(refused: Runner, option: str, parts: tuple[str, ...]) -> None:
    refused(2, parts, *COMPILE, option)


# -- .pt2 --------------------------------------------------------------------------------------------


@pytest.fixture
def pt2(folder: Path) -> Path:
    path = folder / "tiny.pt2"
    torch.manual_seed(0)
    torch.export.save(torch.export.export(torch.nn.Linear(4, 3), (torch.randn(2, 4),)), path)
    return path


def with_pickled_weights(path: Path) -> None:
    """Ask for the weights to be unpickled."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            config = name.endswith("weights_config.json")
            archive.writestr(name, data.replace(b'"use_pickle": false', b'"use_pickle": true') if config else data)
    changed = [name for name in records if name.endswith("weights_config.json")]
    assert changed and b'"use_pickle": false' in records[changed[0]]


def test_pt2_with_pickled_payloads(refused: Runner, run: Runner, pt2: Path) -> None:
    with_pickled_weights(pt2)
    parts = ("tiny.pt2 can run code while it is read", "is stored as a pickle", "--trust")
    refused(2, parts, "compile", "tiny.pt2", "-o", "out.mlpackage")
    assert "can run code" not in run("compile", "tiny.pt2", "--trust", "--dry-run").err


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and nothing", b"not a zip"])
def test_corrupt_pt2(refused: Runner, folder: Path, data: bytes) -> None:
    (folder / "bad.pt2").write_bytes(data)
    refused(2, ("bad.pt2 is not a .pt2 archive",), "compile", "bad.pt2", "-o", "out.mlpackage")


def test_truncated_pt2(refused: Runner, pt2: Path) -> None:
    pt2.write_bytes(pt2.read_bytes()[:-400])
    refused(2, ("tiny.pt2",), "compile", "tiny.pt2", "-o", "out.mlpackage")


@pytest.mark.parametrize("name", ["tiny.mlpackage", "tiny.anec"])
def test_program_that_is_compiled_already(refused: Runner, package: Path, text: Path, name: str) -> None:
    refused(2, (f"{name} is compiled already",), "compile", name, "-o", "out.mlpackage")


def test_folder_for_a_source(refused: Runner, folder: Path) -> None:
    (folder / "model.pt2").mkdir()
    refused(2, ("model.pt2 is a folder",), "compile", "model.pt2", "-o", "out.mlpackage")


@pytest.mark.parametrize(
    ("shape", "part"),
    [
        ("99999999999999999999x4", "the largest is 2147483647"),
        ("1..99999999999999999999x4", "the largest is 2147483647"),
        ("2147483647x40000", "x of shape 2147483647x40000 does not fit in memory"),
    ],
)
def test_shape_beyond_all_memory(refused: Runner, shape: str, part: str) -> None:
    refused(2, (part,), *COMPILE, "--shapes", f"x={shape}")


def test_text_bound_to_a_tensor(refused: Runner, folder: Path) -> None:
    np.save(folder / "words.npy", np.array(["a"]))
    refused(2, ("x is bound to an array of <U1, which are no numbers",), *COMPILE, "--bind", "x=@words.npy")
    refused(2, (". is a folder",), *COMPILE, "--bind", "x=@.")


def test_what_a_factory_prints_is_no_output_of_ours(run: Runner, folder: Path) -> None:
    (folder / "loud.py").write_text(
        "import torch\n\ndef loud():\n    print('loading')\n    return torch.nn.ReLU(), (torch.ones(2, 4),)\n"
    )
    found = run("compile", "loud.py:loud", "--dry-run", "--json")
    assert (found.code, found.err) == (0, "loading\n")
    assert json.loads(found.out)["output"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_name_of_a_file_that_is_no_text(run: Runner, refused: Runner, folder: Path) -> None:
    name = os.fsdecode(b"mod\xff.py")
    shutil.copy(folder / "models.py", folder / name)
    refused(2, ("the name of mod\\udcff.py is not UTF-8",), "compile", f"{name}:tiny", "-o", "out.mlpackage")
    assert run(*COMPILE, "--plugin", name, "--dump", os.fsdecode(b"dump\xff")).code == 0
