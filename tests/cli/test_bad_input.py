"""Bad input: one clear error, the documented exit code, and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from anec.passes.pipelines import DESCRIPTIONS, PIPELINES
from cli.conftest import Runner, files_in

COMPILE = ("compile", "models.py:tiny", "-o", "out.mlpackage")
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


# -- pipelines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passes", "parts"),
    [
        ("default,canonicalise", ("there is no pass 'canonicalise'", "did you mean 'canonicalize'?")),
        ("-canonicalise", ("there is no pass 'canonicalise'", "did you mean 'canonicalize'?")),
        ("fold-constants{budjet=1}", ("the pass fold-constants has no option 'budjet'", "did you mean 'budget'?")),
        ("default{budjet=1}", ("no pass of the pipeline default has the option 'budjet'", "did you mean 'budget'?")),
        ("dce{x=1}", ("the pass dce has no option 'x'", "dce takes no options")),
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


# -- interruptions -----------------------------------------------------------------------------------


def test_interrupted_in_a_pass(run: Runner, folder: Path) -> None:
    name = plugin(folder / "mine.py", "raise KeyboardInterrupt")
    before = files_in(folder)
    found = run(*COMPILE, "--plugin", name, "--passes", "default,mine")
    assert (found.code, found.err) == (130, "interrupted; the output was not written\n")
    assert files_in(folder) == before


@pytest.mark.parametrize("target", ["out.mlpackage", "out.anec"])
def test_interrupted_while_saving(run: Runner, folder: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """In the last write, when weights lie in the stage or beside the text already."""

    def interrupt(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupt)
    before = files_in(folder)
    found = run("compile", "models.py:tiny", "-o", target, "--emit", target.rpartition(".")[2])
    assert found.code == 130
    assert files_in(folder) == before


WAITING = '''
import time
from pathlib import Path

from anec import Pass, register


@register
class Mine(Pass):
    """Waits."""

    name = "mine"

    def run(self, graph, ctx):
        Path("begun").touch()
        time.sleep(60)
'''


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child there")
def test_control_c(folder: Path) -> None:
    (folder / "mine.py").write_text(WAITING)
    before = files_in(folder)
    command = [sys.executable, "-m", "anec", *COMPILE, "--plugin", "mine.py", "--passes", "mine"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so do their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        for _ in range(1200):
            if (folder / "begun").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "interrupted; the output was not written\n"
    (folder / "begun").unlink()
    assert files_in(folder) == before


# -- the command line itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("frobnicate",), "invalid choice: 'frobnicate'"),
        ((), "the following arguments are required: COMMAND"),
        (("compile",), "the following arguments are required: SOURCE"),
        (("compile", "models.py:tiny", "--precision", "fp8"), "invalid choice: 'fp8'"),
        (("run", "x.mlpackage"), "the following arguments are required: --inputs"),
        (("check", "a.npz", "b.npz", "--rtol", "small"), "invalid float value: 'small'"),
        (("check", "a.npz"), "check needs a second program to compare with"),
        (("passes", "canonicalise"), "did you mean 'canonicalize'?"),
    ],
)
def test_wrong_call(refused: Runner, arguments: tuple[str, ...], part: str) -> None:
    refused(2, (part,), *arguments)


def test_a_mistake_of_anec_asks_for_a_report(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from anec.cli import reports

    def broken(*, as_json: bool) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(reports, "list_passes", broken)
    found = run("passes")
    assert found.code == 1
    assert found.err.splitlines()[-1].startswith("error: anec itself failed (ZeroDivisionError); please report it")
    assert "Traceback" in found.err


def test_errors_as_json(run: Runner) -> None:
    import json

    found = run(*COMPILE, "--passes", "canonicalise", "--json")
    assert json.loads(found.out)["error"]["message"] == "there is no pass 'canonicalise'"
    assert found.err.startswith("error: there is no pass")


def test_check_with_what_is_not_there(refused: Runner, package: Path, folder: Path) -> None:
    np.savez(folder / "stored.npz", output=np.zeros((2, 3), np.float32))
    parts = ("stored.npz holds the outputs for inputs of its own", "--inputs")
    refused(2, parts, "check", "tiny.mlpackage", "stored.npz")
    metric = ("check", "tiny.mlpackage", "models.py:tiny", "--metric")
    refused(2, ("the metric file gone.py does not exist",), *metric, "gone.py:f")
    refused(2, ("models.py has no function 'nothing'",), *metric, "models.py:nothing")
    refused(2, ("--compile checks an .mlpackage",), "check", "in.npz", "--compile")
    shutil.rmtree(package)
    refused(2, ("tiny.mlpackage does not exist",), "check", "tiny.mlpackage", "--compile")
