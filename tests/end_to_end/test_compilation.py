"""What holds for every compilation: the same bytes twice, no weight moved, dumps that replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import anec
from anec.cli import main
from end_to_end.test_onnxruntime import Detector, Recogniser
from end_to_end.zoo import perturb


def recogniser() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return perturb(Recogniser(), 1), (torch.randn(1, 1, 16, 29),)


def files(package: Path) -> dict[str, bytes]:
    return {str(path.relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_twice_the_same_bytes(precision: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        model, args = recogniser()
        anec.compile(model, args, passes="default,ane", precision=precision).save(tmp_path / f"{name}.mlpackage")
    assert files(tmp_path / "a.mlpackage") == files(tmp_path / "b.mlpackage")


def test_no_weight_is_copied() -> None:
    model, args = recogniser()
    state = model.state_dict()
    compiled = anec.compile(model, args, passes="default,ane")
    held = {name: weight for name, weight in compiled.module.weights.items() if name in state}
    assert len(held) > 8, "the compiled module refers to the model's parameters by their names"
    for name, weight in held.items():
        assert weight.tensor().data_ptr() == state[name].data_ptr(), name


def test_every_dump_replays_to_the_next(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, args = perturb(Detector(), 1), (torch.randn(2, 3, 15, 18),)
    dump = tmp_path / "dump"
    anec.compile(model, args, passes="default,ane", dump=dump)
    index = json.loads((dump / "index.json").read_text())["passes"]
    previous = index[0]["file"]
    replayed = 0
    for entry in index[1:]:
        if entry["file"] is None:
            continue
        wanted = (dump / entry["file"]).read_bytes()
        out = dump / "replayed.anec"
        arguments = ["opt", str(dump / previous), "--passes", entry["pass"], "-o", str(out), "--force"]
        assert main([*arguments, "--inputs", str(dump / "inputs.npz")]) == 0
        assert out.read_bytes() == wanted, entry["pass"]
        previous = entry["file"]
        replayed += 1
    assert replayed >= 5


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18"])
def test_targets(target: str, tmp_path: Path) -> None:
    model, args = recogniser()
    with torch.no_grad():
        wanted = model(*args)
    path = tmp_path / "m.mlpackage"
    anec.compile(model, args, passes="default,ane", target=target, precision="fp32").save(path)
    loaded = anec.load(path)
    found = torch.from_numpy(loaded.run({"x": args[0]})["output"])
    assert loaded.module.target == target
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_a_constant_int64_output(target: str, tmp_path: Path) -> None:
    class Positions(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, torch.tril_indices(3, 3)

    anec.compile(Positions(), (torch.ones(2),), target=target).save(tmp_path / "m.mlpackage")
    outputs = list(anec.load(tmp_path / "m.mlpackage").run({"x": torch.ones(2)}).values())
    assert outputs[1].tolist() == torch.tril_indices(3, 3).tolist()
