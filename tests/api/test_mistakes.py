"""Mistakes in calls of the Python API: one clear error each, and what is no mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anec
from anec.errors import AnecError, UsageError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc(hidden).relu()


X = torch.ones(2, 4)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"passes": ["default", "ane"]}, "passes is a list, not text", "default,ane"),
        ({"passes": None}, "passes is a NoneType, not text", "default,ane"),
        ({"target": "macOS14"}, "unknown target 'macOS14'", "iOS17"),
        ({"target": "ios17"}, "unknown target 'ios17'", "did you mean 'iOS17'?"),
        ({"target": None}, "unknown target None", "iOS18"),
        ({"precision": torch.float16}, "unknown precision torch.float16", "did you mean 'fp16'?"),
        ({"check": True}, "unknown check True", "rewrites"),
        ({"bind": [1]}, "bind is a list, not a dict", "{"),
        ({"shapes": "1..8x4"}, "shapes is a str, not a dict", "{"),
        ({"functions": ["small"]}, "functions is no dict of dicts", "{"),
        ({"plugins": "gone.py"}, "the plugin gone.py does not exist", ""),
        ({"args": (), "kwargs": [X]}, "kwargs is a list, not a dict", "args"),
        ({"model": Net().state_dict()}, "the model is a dict", "load_state_dict"),
        ({"model": Net}, "the model is a class; pass an instance", ""),
    ],
)
def test_compile(options: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        anec.compile(**{"model": Net().eval(), "args": (X,), **options})
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_a_wrapped_model_keeps_the_names_of_its_inputs(wrap: Any) -> None:
    model = Net().eval()
    compiled = anec.compile(wrap(model), (X,), precision="fp32")
    assert compiled.input_names == ["hidden"]
    torch.testing.assert_close(torch.from_numpy(compiled.run({"hidden": X})["output"]), model(X).detach())


def test_a_source_is_a_model() -> None:
    source = anec.Source(Net().eval(), (X,), input_names=["x"])
    assert anec.compile(source).input_names == ["x"]
    with pytest.raises(UsageError, match="brings its own example inputs"):
        anec.compile(source, (X,))


def test_an_empty_tensor_at_the_boundary() -> None:
    with pytest.raises(AnecError, match="Core ML has no empty tensors"):
        anec.compile(nn.ReLU(), (torch.ones(0, 3),))


@pytest.mark.parametrize("given", [X, [X], None])
def test_run(given: Any) -> None:
    compiled = anec.compile(Net().eval(), X)
    with pytest.raises(UsageError, match="not a dict") as caught:
        compiled.run(given)
    assert caught.value.hint == "run({'hidden': ...})"


def test_text_and_packages(tmp_path: Path) -> None:
    compiled = anec.compile(Net().eval(), X)
    (tmp_path / "net.anec").write_text(str(compiled.module))
    (tmp_path / "net.mlpackage").mkdir()
    for wrong, hint in ((compiled, ".module"), ("net.anec", "anec.read")):
        with pytest.raises(UsageError, match="is no Module") as caught:
            anec.opt(wrong, "dce")  # type: ignore[arg-type]  # the mistake
        assert hint in (caught.value.hint or "")
    with pytest.raises(UsageError, match="is IR text, not a package"):
        anec.load(tmp_path / "net.anec")
    with pytest.raises(UsageError, match="is a folder, not a file of IR text"):
        anec.read(tmp_path / "net.mlpackage")
    with pytest.raises(UsageError, match="does not exist") as caught:
        anec.read("func main")
    assert "anec 1" in (caught.value.hint or "")
