"""Dumps: what a folder holds, and that every text in it replays to the next one, byte for byte."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import anec
from anec import Context, Pass, mil, register, rewrite, var
from anec.cli import main
from anec.errors import AnecError
from anec.ir.graph import Graph
from anec.pipeline.instruments import Dump, Verify
from anec.pipeline.manager import Manager
from anec.pipeline.spec import build
from rewriting import module_of

x = var("x")


class Net(torch.nn.Module):
    """Convolution, norm, attention, an embedding of int64 tokens, a bool mask, a shared weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.words = torch.nn.Embedding(11, 8)
        self.query = torch.nn.Linear(8, 8)
        self.out = torch.nn.Linear(8, 11, bias=False)
        self.out.weight = self.words.weight
        self.register_buffer("offset", torch.arange(6) - 2)

    def forward(self, image: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.relu(self.norm(self.conv(image))).flatten(2).transpose(1, 2)
        query = self.query(self.words(tokens + self.offset.clamp(min=0)[:4]))
        seen = torch.nn.functional.scaled_dot_product_attention(query, features, features, attn_mask=mask)
        return {"logits": self.out(torch.nn.functional.gelu(seen)), "count": mask.sum()}


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dump of a whole compilation, a module behind every pass."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("dump")
    example = (torch.rand(1, 3, 4, 6), torch.tensor([[1, 0, 5, 2]]), torch.rand(1, 4, 24) > 0.3)
    anec.compile(Net().eval(), example, passes="default,fix(canonicalize,cse),ane", dump=folder)
    return folder


def entries(folder: Path) -> list[dict[str, Any]]:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert index["version"] == 1
    return list(index["passes"])


def test_a_dump_holds_what_the_index_says(dumped: Path) -> None:
    listed = entries(dumped)
    assert [entry["index"] for entry in listed] == list(range(len(listed)))
    files = {entry["file"] for entry in listed if entry["file"]}
    assert files == {path.name for path in dumped.glob("*.anec")}
    assert all((entry["file"] is not None) == entry["changed"] for entry in listed)
    assert {"pass", "fired", "misses", "notes", "ops", "seconds"} <= set(listed[1])
    assert {path.name for path in dumped.iterdir()} == files | {"index.json", "trace.json", "inputs.npz", "weights"}


def test_the_trace_tells_every_rewrite(dumped: Path) -> None:
    trace = json.loads((dumped / "trace.json").read_text(encoding="utf-8"))
    fired: dict[str, int] = {}
    for record in trace:
        fired[record["rule"]] = fired.get(record["rule"], 0) + 1
    counted: dict[str, int] = {}
    for entry in entries(dumped)[1:]:
        for rule, times in entry["fired"].items():
            counted[rule] = counted.get(rule, 0) + times
    assert fired == counted
    assert all(record["before"] for record in trace)


def test_inputs_and_weights_are_there(dumped: Path) -> None:
    with np.load(dumped / "inputs.npz", allow_pickle=False) as inputs:
        assert sorted(inputs.files) == ["image", "mask", "tokens"]
        assert inputs["tokens"].dtype == np.int64
    module = anec.read(dumped / "000_input.anec")
    shared = [weight for name, weight in module.weights.items() if name in ("words.weight", "out.weight")]
    assert len({weight.tensor().data_ptr() for weight in shared}) == 1
    for path in (dumped / "weights").iterdir():
        assert path.suffix == ".bin"


def steps_of(folder: Path) -> list[tuple[str, str, str]]:
    """Each written text, the passes that follow it up to the next one, and that one."""
    found, previous, passes = [], "", []
    for entry in entries(folder):
        passes.append(entry["pass"])
        if entry["file"] is None:
            continue
        if previous:
            found.append((previous, ",".join(passes), entry["file"]))
        previous, passes = entry["file"], []
    return found


def test_every_text_replays_to_the_next(dumped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = steps_of(dumped)
    assert len(steps) >= 8
    weights = sorted((dumped / "weights").iterdir())
    for before, passes, after in steps:
        assert main(["opt", str(dumped / before), "--passes", passes]) == 0
        assert capsys.readouterr().out == (dumped / after).read_text(encoding="utf-8"), f"{before} --passes {passes}"
    assert sorted((dumped / "weights").iterdir()) == weights, "a replay finds its weights written already"


def test_a_replay_from_the_start_is_the_same_too(dumped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, last = entries(dumped)[0], [entry for entry in entries(dumped) if entry["file"]][-1]
    passes = ",".join(entry["pass"] for entry in entries(dumped)[1:])
    assert main(["opt", str(dumped / first["file"]), "--passes", passes]) == 0
    assert capsys.readouterr().out == (dumped / last["file"]).read_text(encoding="utf-8")


def test_a_replay_of_a_copied_folder_is_the_same_too(
    dumped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(dumped, moved)
    before, passes, after = steps_of(dumped)[0]
    output = moved / "again.anec"
    assert main(["opt", str(moved / before), "--passes", passes, "-o", str(output)]) == 0
    capsys.readouterr()
    assert output.read_text(encoding="utf-8") == (dumped / after).read_text(encoding="utf-8")


def test_two_dumps_of_one_model_are_the_same(dumped: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    example = (torch.rand(1, 3, 4, 6), torch.tensor([[1, 0, 5, 2]]), torch.rand(1, 4, 24) > 0.3)
    anec.compile(Net().eval(), example, passes="default,fix(canonicalize,cse),ane", dump=tmp_path)
    for path in sorted(dumped.glob("*.anec")):
        assert (tmp_path / path.name).read_text() == path.read_text(), path.name


# -- failures ------------------------------------------------------------------------------------------

PLUGIN = """
from anec import Pass, Value, mil, register, rewrite, var

x = var("x")

@rewrite(mil.relu(x))
def absolute(x: Value) -> Value:
    return mil.abs(x)

@register
class ToAbs(Pass):
    name = "to-abs"
    rules = [absolute]

@rewrite(mil.tanh(x))
def wrong(x: Value, opts: object) -> Value:
    return mil.reshape(x, [8])

@register
class Wrong(Pass):
    name = "wrong"
    rules = [wrong]
    depth: int = 1
"""


@pytest.mark.parametrize("when", ["failure", "change", "all"])
def test_a_failure_ends_with_the_command_that_repeats_it(
    when: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "my passes.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    anec.pipeline.registry.load_plugin(str(plugin))  # type: ignore[attr-defined]
    module = module_of(lambda a: mil.tanh(mil.relu(a)))
    folder = tmp_path / "dump"
    inputs = {"x0": torch.ones(2, 4)}
    dump = Dump(folder, when, inputs, [str(plugin)])
    with pytest.raises(AnecError) as caught:
        Manager([Verify(), dump], inputs).run(module, build("to-abs,wrong{depth=2}", {}))
    error = caught.value
    assert error.replay is not None
    assert str(error).endswith(f"  replay: {error.replay}")
    command = shlex.split(error.replay)
    assert command[:2] == ["anec", "opt"]
    text = Path(command[2])
    assert text.parent == folder
    names = sorted(path.name for path in folder.glob("*.anec"))
    assert names == (["001_before_wrong.anec"] if when == "failure" else ["000_input.anec", "001_to-abs.anec"])
    assert "mil.abs" in text.read_text(encoding="utf-8")
    assert entries(folder)[-1] == {"index": 2, "pass": "wrong{depth=2}", "failed": error.message}
    assert main(command[1:]) == 1
    assert error.message in capsys.readouterr().err


def test_the_command_repeats_the_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "passes.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    module = module_of(lambda a: mil.tanh(mil.relu(a)))
    with pytest.raises(AnecError, match="the rule absolute changes the numbers") as caught:
        anec.opt(module, "to-abs", plugins=[plugin], check="rewrites", dump=tmp_path / "dump")
    command = shlex.split(caught.value.replay or "")
    assert command[-2:] == ["--check", "rewrites"]
    assert main(command[1:]) == 1
    assert "the rule absolute changes the numbers" in capsys.readouterr().err


def test_weights_made_in_front_of_a_failure_are_dumped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from anec.ir.types import DType, TensorType
    from anec.ir.weights import TensorData, Weight

    def add_weight(self: Pass, graph: Graph, ctx: Context) -> None:
        made = Weight("made", TensorType(DType.F32, (4,)), TensorData(torch.arange(4.0)))
        assert graph.first is not None
        value = graph.add_weight(ctx.module.add_weight(made))
        with ctx.builder(before=graph.first):
            graph.first.set_operand(0, mil.add(graph.inputs[0], value))

    def fail(self: Pass, graph: Graph, ctx: Context) -> None:
        raise AnecError("no further")

    for name, action in (("add-weight", add_weight), ("fail", fail)):
        register(type("Made", (Pass,), {"name": name, "run": action, "__doc__": "."}))
    module = module_of(mil.relu)
    with pytest.raises(AnecError) as caught:
        Manager([Verify(), Dump(tmp_path, "failure")]).run(module, build("add-weight,fail", {}))
    text = Path(shlex.split(caught.value.replay or "")[2])
    read = anec.read(text)
    assert read.weights["made"].tensor().tolist() == [0, 1, 2, 3]
    assert main(["opt", str(text), "--passes", "dce"]) == 0
    assert '%made = weight "made" : f32[4]' in capsys.readouterr().out


def test_without_a_dump_the_message_says_how_to_get_one() -> None:
    @register
    @dataclass
    class Fail(Pass):
        """Fails."""

        name: ClassVar[str] = "fail"

        def run(self, graph: Graph, ctx: Context) -> None:
            raise AnecError("no further")

    with pytest.raises(AnecError) as caught:
        anec.opt(module_of(mil.relu), "fail")
    assert "--dump DIR --dump-on failure" in (caught.value.replay or "")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(AnecError, match="cannot write the dump folder"):
        anec.opt(module_of(mil.relu), "dce", dump=blocked)


def test_a_rule_in_a_dump_keeps_names(tmp_path: Path) -> None:
    rule = rewrite(mil.relu(x), name="two")(lambda x: mil.mul(mil.abs(x), 0.5))
    register(type("Two", (Pass,), {"name": "two", "rules": (rule,), "__doc__": "."}))
    anec.opt(module_of(lambda a: mil.tanh(mil.relu(a))), "two", dump=tmp_path)
    text = (tmp_path / "001_two.anec").read_text(encoding="utf-8")
    assert "%relu_abs = mil.abs(%x0)" in text
    assert "%relu = mil.mul(%relu_abs, 0.5)" in text
