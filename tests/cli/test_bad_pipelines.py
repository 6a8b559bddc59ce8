"""Pipelines and plugins that cannot be: one clear error, exit code 2, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from anec.passes.pipelines import DESCRIPTIONS, PIPELINES
from cli.conftest import COMPILE, Runner, plugin

# -- pipelines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passes", "parts"),
    [
        ("default,canonicalise", ("there is no pass 'canonicalise'", "did you mean 'canonicalize'")),
        ("-canonicalise", ("there is no pass 'canonicalise'", "did you mean 'canonicalize'")),
        ("fold-constants{budjet=1}", ("the pass fold-constants has no option 'budjet'", "did you mean 'budget'?")),
        ("default{budjet=1}", ("no pass of the pipeline default has the option 'budjet'", "did you mean 'budget'?")),
        ("dce{x=1}", ("the pass dce has no option 'x'", "dce takes no options")),
        (
            "ane{generaton=M3}",
            ("no pass of the pipeline ane has the option 'generaton'", "ane-attention: heads", "'generation'?"),
        ),
        ("ane{heads=-1}", ("ane-attention{heads=-1}: it is auto, or at least 1",)),
        ("ane{chunk=few}", ("ane-attention{chunk=...}: 'few' is neither an integer nor auto",)),
        ("ane{generation=M9}", ("unknown generation 'M9'", "'M5'")),
        ("fold-constants{budget=many}", ("fold-constants{budget=...}: 'many' is not an integer",)),
        ("to-fp16,lower-to-mil", ("to-fp16 must come after lower-to-mil",)),
    ],
)
def test_pipeline_with_a_wrong_word(refused: Runner, passes: str, parts: tuple[str, ...]) -> None:
    refused(2, parts, *COMPILE, f"--passes={passes}")


@pytest.mark.parametrize(
    ("passes", "message", "column"),
    [
        ("default,fix(cse,dce", "a parenthesis is not closed", 19),
        ("cse{x=1,", "a brace is not closed", 8),
        ("cse,,dce", "expected the name of a pass", 4),
        ("cse dce", "unexpected text", 4),
        ("to-fp16{keep=[1", "a bracket is not closed", 13),
        ("cse{x=1 x=2}", "x is given twice", 8),
    ],
)
def test_pipeline_that_cannot_be_read(refused: Runner, passes: str, message: str, column: int) -> None:
    found = refused(2, (f"cannot read the pipeline: {message}",), *COMPILE, "--passes", passes)
    lines = found.err.splitlines()
    at = lines.index("    " + passes)
    assert lines[at + 1] == " " * (4 + column) + "^"


def test_named_pipeline_in_a_cycle(refused: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PIPELINES, "first", "cse,second")
    monkeypatch.setitem(PIPELINES, "second", "dce,first")
    refused(2, ("the pipeline first -> second -> first contains itself",), *COMPILE, "--passes", "first")


def test_every_pipeline_is_described() -> None:
    assert PIPELINES.keys() == DESCRIPTIONS.keys()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--passes=default",), ("no pass of 'default' asks for the generation", "--passes default,ane")),
        (("--passes=default,ane{generation=M2}",), ("ane is given generation=M2 and generation=M3",)),
        (("--passes=default,ane", "--ane-generation=M9"), ("unknown generation 'M9'",)),
    ],
)
def test_generation_without_a_place(refused: Runner, arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    refused(2, parts, *COMPILE, "--ane-generation=M3", *arguments)


@pytest.mark.parametrize("percent", ["abc", "101", "-1", "nan", ""])
def test_a_share_that_is_none(refused: Runner, percent: str) -> None:
    found = refused(2, ("invalid percentage (0 to 100)",), "analyze", "models.py:tiny", "--fail-below", percent)
    assert found.err.splitlines()[1:] == ["  hint: anec analyze --help"]


@pytest.mark.parametrize("option", ["--stop-after", "--disable"])
def test_unknown_pass_to_leave_out(refused: Runner, option: str) -> None:
    refused(2, ("there is no pass 'canonicalise'", "'canonicalize'"), *COMPILE, option, "canonicalise")


def test_stop_after_a_pass_of_another_pipeline(refused: Runner) -> None:
    parts = ("the pipeline has no pass 'to-fp16'", "it runs raise-to-nn,")
    refused(2, parts, "compile", "models.py:tiny", "--emit", "anec", "--stop-after", "to-fp16")


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_no_lowering_at_all(refused: Runner, precision: str) -> None:
    parts = (
        "requires a program of `mil` ops alone",
        "aten.linear.default  x1  models.py",
        "run lower-to-mil before it",
    )
    refused(1, parts, *COMPILE, "--disable", "lower-to-mil", "--precision", precision)


# -- plugins -----------------------------------------------------------------------------------------


def test_missing_plugin(refused: Runner) -> None:
    refused(2, ("the plugin nowhere.py does not exist",), *COMPILE, "--plugin", "nowhere.py")
    refused(2, ("the plugin no.such does not import", "No module named 'no'"), *COMPILE, "--plugin", "no.such")


def test_plugin_that_raises(refused: Runner, folder: Path) -> None:
    (folder / "broken.py").write_text("import anec\n\nraise ValueError('no such table')\n")
    found = refused(
        2, ("the plugin broken.py does not import: ValueError: no such table",), *COMPILE, "--plugin=broken.py"
    )
    assert f"at: {folder / 'broken.py'}:3: raise ValueError('no such table')" in found.err


def test_plugin_that_leaves(refused: Runner, folder: Path) -> None:
    (folder / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    refused(
        2,
        ("the plugin leaves.py does not import: SystemExit", "leaves.py:2: sys.exit(0)"),
        *COMPILE,
        "--plugin=leaves.py",
    )


def test_plugin_with_a_syntax_error(refused: Runner, folder: Path) -> None:
    (folder / "syntax.py").write_text("import anec\ndef f(:\n    pass\n")
    refused(
        2, ("the plugin syntax.py does not import: SyntaxError", "syntax.py:2: def f(:"), *COMPILE, "--plugin=syntax.py"
    )


def test_two_passes_of_one_name(refused: Runner, folder: Path) -> None:
    first, second = plugin(folder / "first.py"), plugin(folder / "second.py")
    parts = ("two passes are called 'mine'", str(folder / first), str(folder / second), "rename one of them")
    refused(2, parts, *COMPILE, "--plugin", first, "--plugin", second)


def test_pass_that_fails(refused: Runner, folder: Path) -> None:
    name = plugin(folder / "mine.py", "raise KeyError('axis')")
    parts = ("the pass mine failed: KeyError: 'axis'", "pass: mine", "mine.py:12", "replay:")
    refused(1, parts, *COMPILE, "--plugin", name, "--passes", "default,mine")


@pytest.mark.parametrize("name", ["", "."])
def test_plugin_that_is_no_file(refused: Runner, name: str) -> None:
    refused(2, ("the plugin", "my_passes.py or a module"), *COMPILE, "--plugin", name)


def test_lowering_without_what_prepares_it(refused: Runner) -> None:
    parts = ("aten.gelu.default has no lowering", "hint: `default`, in front of lower-to-mil")
    refused(1, parts, *COMPILE, "--passes", "cse")
