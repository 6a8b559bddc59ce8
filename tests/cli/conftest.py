"""What the tests of the command line share: a clean folder, models to name, a runner, a package."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from anec.cli import main
from anec.pipeline import registry

COMPILE = ("compile", "models.py:tiny", "-o", "out.mlpackage")
MODELS = Path(__file__).parent / "named_models.py"


@dataclass(frozen=True)
class Result:
    """What a command gave."""

    code: int
    out: str
    err: str


Runner = Callable[..., Result]


PASS = '''
from anec import Pass, register


@register
class Mine(Pass):
    """Does nothing, or what the test wants."""

    name = "mine"

    def run(self, graph, ctx):
        {body}
'''


def plugin(path: Path, body: str = "return") -> str:
    path.write_text(PASS.format(body=body))
    return path.name


def rows(table: str) -> dict[str, list[str]]:
    """A printed table by its first column."""
    lines = [line.split("  ") for line in table.splitlines()]
    return {cells[0]: [cell.strip() for cell in cells[1:] if cell.strip()] for cells in lines if len(cells) > 1}


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: data for name, data in found.items() if "__pycache__" not in name}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, which is the current one; ``models.py`` is in it."""
    shutil.copy(MODELS, tmp_path / "models.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Runs a command in the test's folder."""

    def runner(*arguments: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as left:  # argparse's own errors
            code = int(left.code or 0)
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return runner


@pytest.fixture
def refused(folder: Path, run: Runner) -> Runner:
    """Runs a command that must fail: one clear error, the exit code, no file made or changed."""

    def runner(code: int, parts: tuple[str, ...], *arguments: object) -> Result:
        before = files_in(folder)
        found = run(*arguments)
        assert found.code == code, found.err
        assert found.err.count("error:") == 1
        assert "Traceback" not in found.err
        for part in parts:
            assert part in found.err, found.err
        assert files_in(folder) == before
        return found

    return runner


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    """Forget the plugins of the test."""
    registry.passes()
    kept = (registry._PASSES, registry._OWNERS, registry._LOADED)
    copies = [dict(known) for known in kept]
    lowerings = list(registry._LOWERINGS)
    yield
    for known, copy in zip(kept, copies, strict=True):
        known.clear()
        known.update(copy)
    registry._LOWERINGS[:] = lowerings


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiny.mlpackage``, ``tiny.anec`` (in front of lowering) and ``in.npz``."""
    place = tmp_path_factory.mktemp("made")
    source = f"{MODELS}:tiny"
    assert main(["compile", source, "-o", str(place / "tiny.mlpackage")]) == 0
    assert main(["compile", source, "-o", str(place / "tiny.anec"), "--emit", "anec"]) == 0
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    np.savez(place / "in.npz", x=x)
    return place


@pytest.fixture
def package(made: Path, folder: Path) -> Path:
    """``tiny.mlpackage`` in the test's folder, to spoil."""
    shutil.copytree(made / "tiny.mlpackage", folder / "tiny.mlpackage")
    shutil.copy(made / "in.npz", folder / "in.npz")
    return folder / "tiny.mlpackage"


@pytest.fixture
def text(made: Path, folder: Path) -> Path:
    """``tiny.anec`` with its weights in the test's folder."""
    shutil.copy(made / "tiny.anec", folder / "tiny.anec")
    shutil.copytree(made / "weights", folder / "weights")
    return folder / "tiny.anec"
