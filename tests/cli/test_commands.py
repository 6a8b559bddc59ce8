"""What the commands do, print and write."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import anec
from anec.cli.parser import make_parser
from cli.conftest import Runner, files_in, rows

NAMED = ("compile", "opt", "run", "check", "diff", "passes", "analyze", "explain")
FINISH = ["lower-to-mil", "mil-cleanup", "to-fp16", "legalize-target", "legalize-io"]


# -- compile -----------------------------------------------------------------------------------------


def test_compile_writes_a_package_of_the_source_s_name(run: Runner, folder: Path) -> None:
    found = run("compile", "models.py:tiny")
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines()[-1] == "wrote tiny.mlpackage"
    shown = rows(found.out)
    assert shown["pass"] == ["ops", "rules fired"]
    assert shown["raise-to-nn"] == ["3", "raise_gelu x1"]
    assert shown["to-fp16"][0] == "3 -> 7"
    assert anec.load("tiny.mlpackage").output_names == ["output"]


def test_dry_run_writes_nothing(run: Runner, folder: Path) -> None:
    before = files_in(folder)
    for emit in ("mlpackage", "mil", "anec"):
        found = run("compile", "models.py:tiny", "--dry-run", "--emit", emit)
        assert found.code == 0
        assert "wrote" not in found.out
    assert files_in(folder) == before


@pytest.mark.parametrize(("emit", "dialects"), [("anec", {"aten", "nn"}), ("mil", {"mil"})])
def test_emit_text(run: Runner, folder: Path, emit: str, dialects: set[str]) -> None:
    assert run("compile", "models.py:tiny", "--emit", emit).out.endswith("wrote tiny.anec\n")
    module = anec.read(folder / "tiny.anec")
    assert {op.defn.dialect for op in module.ops()} == dialects
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    np.savez("in.npz", x=x)
    assert run("run", "tiny.anec", "--inputs", "in.npz", "-o", "out.npz").code == 0
    assert np.load("out.npz")["output"].shape == (2, 3)


def test_stop_after(run: Runner, folder: Path) -> None:
    found = run("compile", "models.py:tiny", "--stop-after", "raise-to-nn", "-o", "out.mlpackage")
    assert found.out.splitlines()[-1] == "wrote out.anec", "what stops early is text"
    shown = rows(found.out)
    assert shown["canonicalize"][-1] == shown["to-fp16"][-1] == "skipped"
    assert not (folder / "out.mlpackage").exists()
    assert {op.name for op in anec.read(folder / "out.anec").ops()} == {
        "aten.linear.default",
        "nn.gelu",
        "aten.mul.Tensor",
    }


def test_disable(run: Runner) -> None:
    found = run("compile", "models.py:tiny", "--disable", "to-fp16", "--disable", "cse", "-o", "out.mlpackage")
    assert found.code == 0
    shown = rows(found.out)
    assert shown["to-fp16"][-1] == shown["cse"][-1] == "skipped"
    assert all("f16" not in str(v.type) for op in anec.load("out.mlpackage").module.ops() for v in op.results)


def test_compile_json(run: Runner) -> None:
    found = run("compile", "models.py:tiny", "--json", "--check", "numerics")
    data = json.loads(found.out)
    assert list(data) == ["output", "target", "requested", "pipeline", "passes", "notes", "losses", "checks"]
    assert data["requested"] == "default"
    assert (data["output"], data["target"]) == ("tiny.mlpackage", "iOS18")
    names = [entry["spec"] for entry in data["passes"]]
    assert ",".join(names) == data["pipeline"]
    assert [name for name in names if name in FINISH] == FINISH
    keys = "index spec changed skipped ops_before ops_after seconds fired places misses notes loss".split()
    assert all(list(entry) == keys for entry in data["passes"])
    fired = next(entry for entry in data["passes"] if entry["spec"] == "raise-to-nn")
    assert fired["fired"] == {"raise_gelu": 1}
    assert fired["places"]["raise_gelu"][0].startswith("models.py:")
    assert "numerics" in data["checks"]


def test_verbose_shows_rules_with_lines_and_no_miss_of_the_root_alone(run: Runner, folder: Path) -> None:
    found = run("compile", "models.py:tiny", "--dry-run", "-v")
    text = (folder / "models.py").read_text().splitlines()
    line = next(n for n, source in enumerate(text, 1) if "gelu(self.fc(x))" in source)
    assert f"raise-to-nn: raise_gelu fired 1x: models.py:{line}\n" in found.out
    # gelu(..) * 2 is a scale behind no op with weights: only the root of fold_scale fits, which is near to nothing.
    assert " nearly matched: " not in found.out
    assert "fired 1x" not in run("compile", "models.py:tiny", "--dry-run").out


def test_time(run: Runner) -> None:
    shown = rows(run("compile", "models.py:tiny", "--dry-run", "--time").out)
    assert shown["pass"][-1] == "seconds"
    assert all(float(cells[-1]) >= 0 for name, cells in shown.items() if name != "pass")
    assert "seconds" not in run("compile", "models.py:tiny", "--dry-run").out


def test_fp32_and_io_dtype(run: Runner) -> None:
    run("compile", "models.py:tiny", "--precision", "fp32", "-o", "a.mlpackage")
    assert {str(v.tensor.dtype) for op in anec.load("a.mlpackage").module.ops() for v in op.results} == {"f32"}
    run("compile", "models.py:tiny", "--io-dtype", "fp16", "-o", "b.mlpackage")
    assert [str(value.type) for value in anec.load("b.mlpackage").module.main.inputs] == ["f16[2,4]"]


# -- opt, diff ---------------------------------------------------------------------------------------


def test_opt_prints_what_it_writes(run: Runner, text: Path) -> None:
    passes = ("--passes", "lower-to-mil,mil-cleanup,cse,dce")
    printed = run("opt", "tiny.anec", *passes)
    written = run("opt", "tiny.anec", *passes, "-o", "out.anec")
    assert (printed.code, printed.err, written.code, written.err) == (0, "", 0, "")
    assert printed.out == Path("out.anec").read_text()
    assert "mil.linear" in printed.out
    assert written.out.endswith("wrote out.anec\n")
    data = json.loads(run("opt", "tiny.anec", *passes, "--json").out)
    assert data["pipeline"] == passes[1]
    assert data["output"] is None


def test_opt_checks_on_inputs(run: Runner, text: Path, made: Path) -> None:
    shutil.copy(made / "in.npz", "in.npz")
    arguments = ("--inputs", "in.npz", "--check", "all", "-o", "out.anec")
    found = run("opt", "tiny.anec", "--passes", "lower-to-mil", *arguments)
    assert found.code == 0
    assert "check numerics: " in found.out
    assert "check rewrites: " in found.out


def test_diff(run: Runner, text: Path) -> None:
    run("opt", "tiny.anec", "--passes", "lower-to-mil", "-o", "out.anec")
    same = run("diff", "tiny.anec", "tiny.anec")
    assert (same.code, same.out, same.err) == (0, "the same\n", "")
    other = run("diff", "tiny.anec", "out.anec")
    assert (other.code, other.err) == (1, "")
    removed = [line for line in other.out.splitlines() if line.startswith("func main: -") and "nn.gelu" in line]
    added = [line for line in other.out.splitlines() if line.startswith("func main: +") and "mil.gelu" in line]
    assert (len(removed), len(added)) == (1, 1)
    data = json.loads(run("diff", "tiny.anec", "out.anec", "--json").out)
    assert data == {"same": False, "differences": other.out.splitlines()}


def test_diff_of_names(run: Runner, text: Path) -> None:
    renamed = text.read_text().replace("%gelu", "%activation")
    Path("renamed.anec").write_text(renamed)
    assert run("diff", "tiny.anec", "renamed.anec").code == 0
    assert run("diff", "tiny.anec", "renamed.anec", "--names").code == 1


# -- run ---------------------------------------------------------------------------------------------


def test_run_shows_a_summary_or_writes(run: Runner, package: Path) -> None:
    shown = run("run", "tiny.mlpackage", "--inputs", "in.npz")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[0].split() == ["output", "dtype", "shape", "min", "max"]
    written = run("run", "tiny.mlpackage", "--inputs", "in.npz", "-o", "out.npz")
    assert written.out == shown.out + "wrote out.npz\n"
    output = np.load("out.npz")["output"]
    data = json.loads(run("run", "tiny.mlpackage", "--inputs", "in.npz", "--json").out)
    low, high = float(output.min()), float(output.max())
    assert data == {
        "output": None,
        "outputs": [{"name": "output", "dtype": "float32", "shape": [2, 3], "min": low, "max": high}],
    }


def test_run_precision(run: Runner, package: Path) -> None:
    for precision in ("declared", "double", "pessimistic"):
        arguments = ("--inputs", "in.npz", "--precision", precision, "-o", f"{precision}.npz")
        assert run("run", "tiny.mlpackage", *arguments).code == 0
    declared, double = np.load("declared.npz")["output"], np.load("double.npz")["output"]
    assert np.abs(declared - double).max() > 0, "the package computes in float16"
    assert np.allclose(declared, double, rtol=1e-2, atol=1e-3)


# -- passes ------------------------------------------------------------------------------------------


def test_passes(run: Runner) -> None:
    shown = run("passes")
    assert shown.code == 0
    for name in ("canonicalize", "lower-to-mil", "to-fp16", "default", "ane", "finish"):
        assert any(line.startswith(name + " ") for line in shown.out.splitlines()), name
    data = json.loads(run("passes", "--json").out)
    assert data["passes"]["cse"]["fidelity"] == "exact"
    assert set(data["pipelines"]) == {"default", "ane", "finish"}
    one = run("passes", "fold-constants")
    assert one.out.startswith("fold-constants: ")
    assert "option:   budget (int, default 1048576): the largest result in bytes that is folded; " in one.out
    found = json.loads(run("passes", "fold-constants", "--json").out)
    assert found["options"]["budget"]["type"] == "int"
    long = json.loads(run("passes", "cse", "--json").out)["options"]["weight-limit"]["doc"]
    assert long.endswith("larger ones are merged only when they are the same memory.")
    assert [rule["name"] for rule in json.loads(run("passes", "lower-to-mil", "--json").out)["rules"]]


def test_rules_show_their_ir(run: Runner) -> None:
    """On a page that holds it, else where it is asked for."""
    short, long = run("passes", "ane-layout").out, run("passes", "mil-cleanup").out
    assert "\nsplit_interleaved (mil.slice_by_index" in short
    assert "    %y = mil.slice_by_index(%2, " in short
    assert len(short.splitlines()) <= 100
    assert " -v shows " not in short
    assert long.endswith("\nanec passes mil-cleanup -v shows each rule's IR before and after\n")
    assert "%1 = mil.mul(%x, 2.0)" not in long
    for flag in ("-v", "--verbose"):
        shown = run("passes", "mil-cleanup", flag).out
        assert (
            "merge_scales (mil.mul, mil.real_div): Two constant factors become one.\n\n    %1 = mil.mul(%x, 2.0)\n"
            in shown
        )
        assert " -v shows " not in shown
    rules = json.loads(run("passes", "mil-cleanup", "--json").out)["rules"]
    assert all(f"\n{rule['name']} (" in shown for rule in rules)


def test_describe_a_pipeline(run: Runner) -> None:
    shown = run("passes", "finish")
    assert (shown.code, shown.out.startswith("finish: ")) == (0, True)
    data = json.loads(run("passes", "finish", "--json").out)
    assert data["passes"][0] == "lower-to-mil"
    assert all(f"\n{spec} " in shown.out for spec in data["passes"])


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_closed_and_full_output(folder: Path) -> None:
    anec = f"{sys.executable} -m anec passes dce"
    closed = subprocess.run(f"{anec} >&- 2>&-", shell=True, check=False)
    assert closed.returncode == 0
    # The reader is gone before anything is written.
    gone = subprocess.run(f"({anec}; echo code $? >&2) | true", shell=True, check=False, capture_output=True, text=True)
    assert gone.stderr == "code 1\n"
    if Path("/dev/full").exists():
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        command = f"{anec} > /dev/full"
        full = subprocess.run(command, shell=True, check=False, stderr=subprocess.PIPE, text=True, env=buffered)
        assert (full.returncode, full.stderr) == (
            1, "error: cannot write to standard output: No space left on device\n"
        )  # fmt: skip


# -- what a person sees ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", NAMED)
def test_help(run: Runner, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = run(command, "--help")
    assert (found.code, found.err) == (0, "")
    assert max(map(len, found.out.splitlines())) <= 106
    assert "exit codes: 0 done, 1 the model or a check failed, 2 the call was wrong" in found.out
    assert ("named pipelines:" in found.out) == ("--passes" in found.out)


def test_every_command_is_tested_here() -> None:
    actions = [action for action in make_parser()._actions if action.metavar == "COMMAND"]
    assert actions[0].choices is not None
    assert set(actions[0].choices) == set(NAMED)


HEAVY = """
import sys
from anec.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
heavy = sorted({{name.partition(".")[0] for name in sys.modules}} & {{"torch", "coremltools", "rich", "networkx"}})
print(heavy, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["passes"], ["passes", "lower-to-mil"], ["diff", "tiny.anec", "tiny.anec"]]
)
def test_light_commands_load_no_framework(text: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-c", HEAVY.format(arguments=arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["passes"], "Remove ops and weights that nothing uses."),
        (["run", "tiny.mlpackage", "--inputs", "in.npz"], "float32"),
    ],
)
def test_on_a_terminal(package: Path, arguments: list[str], shown: str) -> None:
    import pty

    main, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "140", "TERM": "xterm"}
    command = [sys.executable, "-m", "anec", *arguments]
    process = subprocess.Popen(command, stdout=child, stderr=child, stdin=child, env=environment)
    os.close(child)
    data = b""
    # A closed terminal reads as an error on Linux, as the end elsewhere.
    with contextlib.suppress(OSError):
        while part := os.read(main, 4096):
            data += part
    os.close(main)
    assert process.wait() == 0
    text = data.decode()
    assert shown in text
    assert "Warning" not in text
    assert "Traceback" not in text


def test_nothing_but_its_own_words_on_stderr(folder: Path) -> None:
    """Neither torch's nor coremltools' warnings, which appear at their first import."""
    command = [sys.executable, "-m", "anec", "compile", "models.py:tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.endswith("wrote tiny.mlpackage\n")
