"""Who may import whom, read from the sources: lower rooms never import higher ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "anec"
# Rooms of one rank may not import each other.
RANKS = {
    "errors": 0, "_version": 0, "ir": 1, "reference": 2, "dialects": 3, "rewrite": 4, "check": 5, "pipeline": 6,
    "ane": 7, "passes": 8, "frontend": 8, "backend": 8, "api": 9, "view": 10, "testing": 10, "cli": 11,
}  # fmt: skip
# The root lists the public names.
FREE = {"__init__", "__main__"}


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.glob("**/*.py") if "__pycache__" not in path.parts) + sorted(
        path for room in ("passes", "frontend", "backend") for path in (ROOT / room).glob("**/*.py")
    )


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, int]]:
    """The rooms of anec that a file imports, lazily or not, with line numbers."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if node.level == 0 else []
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [(name.split(".")[1], node.lineno) for name in names if name.startswith("anec.")]
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    if room in FREE:
        return
    for other, line in imports(path):
        if other == room or other == "_version":
            continue
        assert RANKS[other] < RANKS[room], f"{path}:{line}: {room} imports {other}"


@pytest.mark.parametrize("room", ["errors", "ir", "dialects", "rewrite", "passes", "cli"])
def test_heavy_libraries_load_late(room: str) -> None:
    """No module of these rooms imports torch or coremltools when it is itself imported."""
    heavy = {"torch", "coremltools"}
    for path in sources():
        if room_of(path) != room:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            assert not {name.partition(".")[0] for name in names} & heavy, f"{path}:{node.lineno}"


def loaded_after(code: str) -> set[str]:
    script = f"import sys; {code}; print('LOADED', *[m for m in ('torch', 'coremltools', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


def test_import_anec_loads_neither_torch_nor_coremltools() -> None:
    assert loaded_after("import anec; anec.mil.conv; anec.aten.add.Tensor") == set()


@pytest.mark.parametrize("arguments", [["passes"], ["passes", "to-fp16"]])
def test_light_commands_load_neither(arguments: list[str]) -> None:
    assert not loaded_after(f"from anec.cli import main; main({arguments!r})") & {"torch", "coremltools"}


def test_only_the_backend_imports_coremltools() -> None:
    for path in sources():
        if room_of(path) == "backend":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            assert not any(name.partition(".")[0] == "coremltools" for name in names), f"{path}:{node.lineno}"
