"""The package list against the tree, and what the wheel and the sdist hold."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("passes", "frontend", "backend")


def tree() -> dict[str, Path]:
    """Every package of the tree, links followed, with its folder."""
    found = {}
    todo = [("anec", ROOT / "src" / "anec")]
    while todo:
        name, folder = todo.pop()
        if any(folder.glob("*.py")):
            found[name] = folder
            todo += [(f"{name}.{child.name}", child) for child in folder.iterdir() if child.is_dir()]
    return found


def data_files(folder: Path) -> list[Path]:
    return [path for pattern in ("*.py", "*.json", "*.txt", "py.typed") for path in folder.glob(pattern)]


def test_package_list_is_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(tree())


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_links_to_the_root(room: str) -> None:
    link = ROOT / "src" / "anec" / room
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{room}"
    assert not (ROOT / room).is_symlink()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return out


def test_wheel_holds_every_file(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {f"{name.replace('.', '/')}/{path.name}" for name, folder in tree().items() for path in data_files(folder)}
    assert held == wanted


def test_sdist_holds_real_files_and_builds_the_same(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    for name, folder in tree().items():
        for path in data_files(folder):
            member = names[f"src/{name.replace('.', '/')}/{path.name}"]
            assert member.isfile(), member.name
            assert member.size == path.stat().st_size
