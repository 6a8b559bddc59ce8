"""The project speaks of itself alone: no machine's paths, no registry's hosts in any file of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Put together here, so that this file does not hold what it looks for.
PATHS = re.compile(r"(?<![\w.)}\]*])/" + r"(?:home|root|opt|work|Users)/")
HOSTS = re.compile("|".join(r"\.".join(host) for host in (
    ("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"), ("conda", "anaconda", "org"),
    ("registry", "npmjs", "org"), ("proxy", "golang", "org"),
)))  # fmt: skip


def files() -> list[Path]:
    """What git tracks or would track; every file of the tree where there is no git (an sdist)."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        found = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        skipped = {".git", ".venv", "build", "dist", "__pycache__", ".hypothesis"}
        found = [path for path in ROOT.rglob("*") if not skipped & set(path.relative_to(ROOT).parts)]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def lines(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    return found


@pytest.mark.parametrize("pattern", [PATHS, HOSTS], ids=["paths", "hosts"])
def test_no_file_names(pattern: re.Pattern[str]) -> None:
    assert lines(pattern) == []


def test_the_patterns_find_what_they_look_for() -> None:
    slash = "/"
    assert PATHS.search(f"see {slash}home{slash}someone")
    assert PATHS.search(f'open("{slash}opt{slash}x")')
    assert not PATHS.search(f"tests{slash}work{slash}x")
    assert HOSTS.search("https://files." + "pythonhosted." + "org/packages")
    assert len(files()) > 100
