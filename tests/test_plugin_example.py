"""The example plugin: given by file, installed with its entry point, explained and dumped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from anec.cli import main

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin and its entry point, as pip leaves it."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("plugin")
    for name in ("pyproject.toml", "fuse_gelu.py"):
        (source / name).write_text((PLUGIN / name).read_text())
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, capture_output=True)
    return target


def anec_command(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from anec.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_entry_point_makes_the_pass_known(installed: Path) -> None:
    done = anec_command(installed, "passes", "fuse-gelu")
    assert done.returncode == 0, done.stderr
    assert "gelu_sigmoid" in done.stdout


def test_file_and_entry_point_of_one_name_name_both(installed: Path) -> None:
    done = anec_command(installed, "passes", "--plugin", str(PLUGIN / "fuse_gelu.py"))
    assert done.returncode == 2
    assert "two passes are called 'fuse-gelu'" in done.stderr
    assert str(PLUGIN / "fuse_gelu.py") in done.stderr


def test_fires_explains_and_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = tmp_path / "dump"
    plugin = ["--plugin", str(PLUGIN / "fuse_gelu.py")]
    source = f"{PLUGIN / 'model.py'}:model"
    passes = ["--passes", "lower-to-mil,fuse-gelu"]
    arguments = ["compile", source, "-o", str(tmp_path / "m.mlpackage"), *passes, "-v", "--dump", str(dump), *plugin]
    assert main([*arguments, "--check", "all"]) == 0
    shown = capsys.readouterr().out
    assert "gelu_sigmoid fired 2x" in shown
    assert "wanted constant 1.702, got 1.5 at" in shown
    text = (dump / "002_fuse-gelu.anec").read_text()
    assert text.count("mil.gelu") == 2
    assert "model.py:" in text, "the dump shows the user's source lines"
    trace = json.loads((dump / "trace.json").read_text())
    assert sum(record["rule"] == "gelu_sigmoid" for record in trace) == 2

    before = (dump / "002_fuse-gelu.anec").read_bytes()
    replay = ["opt", str(dump / "001_lower-to-mil.anec"), "--passes", "fuse-gelu", *plugin]
    assert main([*replay, "-o", str(dump / "002_fuse-gelu.anec"), "--force"]) == 0
    assert (dump / "002_fuse-gelu.anec").read_bytes() == before


def test_the_plugins_own_tests_pass(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", str(PLUGIN / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
