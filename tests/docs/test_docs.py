"""The documentation against the code: flags, tables, IR texts, Python blocks, commands, links."""

from __future__ import annotations

import argparse
import glob
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import anec
from anec.cli import main

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "tools" / "generate_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()
PAGES = GENERATOR.pages()
COMMANDS = GENERATOR.commands()


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, kind: str) -> list[str]:
    return [body for info, body in FENCE.findall(path.read_text(encoding="utf-8")) if info.strip() == kind]


def with_blocks(kind: str) -> list[Path]:
    found = [path for path in PAGES if blocks(path, kind)]
    assert found, f"no page has a block {kind!r}"
    return found


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples, in which a page's commands run."""
    GENERATOR.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_tables_are_current(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert GENERATOR.with_tables(text) == text, "run: python tools/generate_docs.py --tables"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_documented(command: str) -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    section = re.search(rf"^## anec {command}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section is not None, f"command-line.md has no section 'anec {command}'"
    for action in COMMANDS[command]._actions:
        for flag in () if isinstance(action, argparse._HelpAction) else action.option_strings:
            assert re.search(rf"`{flag}\b", section[1]), f"{flag} is not in the section"
    assert f"$ anec {command}" in section[1], "the section shows no run"


@pytest.mark.parametrize("path", with_blocks("anec"), ids=name)
def test_ir_texts_parse(path: Path) -> None:
    for text in blocks(path, "anec"):
        module = anec.read(text)
        assert anec.read(str(module)) is not None


@pytest.mark.parametrize("path", with_blocks("python run"), ids=name)
def test_python_blocks_run(
    path: Path, examples: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page run in order, as one module; ``#`` comments behind print() say what it prints."""
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    for number, text in enumerate(blocks(path, "python run"), 1):
        exec(compile(text, f"{path.name}, block {number}", "exec", dont_inherit=True), page.__dict__)
        printed = capsys.readouterr().out
        for said in re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE):
            assert said in printed, f"block {number} of {path.name} prints {printed!r}, not {said!r}"


@pytest.mark.parametrize("path", with_blocks("console run"), ids=name)
def test_commands_run(
    path: Path, examples: Path, capsys: pytest.CaptureFixture[str], forget_plugins: Callable[[], None]
) -> None:
    """Every command of a page ends with the exit code that the page shows."""
    for command, wanted in GENERATOR.console_commands(path.read_text(encoding="utf-8")):
        forget_plugins()
        # Each process would load torch anew, so `anec` runs here, without what its output is piped to.
        alone, *piped = re.split(r" (?:\d?>|\||&&) ?", command, maxsplit=1)
        if alone.startswith("anec "):
            code = run_here(shlex.split(alone)[1:])
            shown = capsys.readouterr()
            output = shown.out + shown.err
            assert code in ((0, 1) if piped else (wanted,)), f"{command}\n{output}"
        else:
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
            assert done.returncode == wanted, f"{command}\n{done.stdout}{done.stderr}"


def run_here(arguments: list[str]) -> int:
    try:
        return main([path for text in arguments for path in (sorted(glob.glob(text)) or [text])])
    except SystemExit as left:  # argparse: --help, --version, a wrong call
        return left.code if isinstance(left.code, int) else 2


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (path.parent / target).exists(), f"{target} does not exist"


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{path.name})" in text, f"{path.name} is not linked"


def test_set_up_is_what_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for part in ('torch torchvision -e ".[dev]"', "python -m pytest -n auto"):
        assert part in readme
        assert part in ci


def test_paths_in_the_text_exist() -> None:
    """Files that pages name in code are there."""
    pattern = re.compile(r"`((?:src|passes|frontend|backend|tests|tools|examples|benchmarks|docs)/[\w./-]+\.\w+)`")
    for path in PAGES:
        for target in pattern.findall(path.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{path.name} names {target}"
