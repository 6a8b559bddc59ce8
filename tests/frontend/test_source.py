"""SOURCE strings: files, modules, factories and what can be wrong with them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

import anec
from anec.errors import UsageError
from anec.frontend import Source, from_torch, load_source

MODEL = """
    import torch
    import neighbour

    class Net(torch.nn.Module):
        def forward(self, x, scale=None):
            y = torch.relu(x) * neighbour.FACTOR
            return y if scale is None else y * scale

    def pair():
        return Net(), (torch.ones(2, 3),)

    def triple():
        return Net(), (torch.ones(2, 3),), {"scale": torch.ones(3)}

    def lone():
        return Net(), torch.ones(2, 3)

    def source():
        from anec.frontend import Source
        return Source(Net(), torch.ones(2, 3), output_names=["probability"])

    def program():
        return torch.export.export(Net(), (torch.ones(2, 3),))

    class Zoo:
        @staticmethod
        def make():
            return pair()

    def raises():
        number = 1
        raise ValueError("no such checkpoint")

    def module_alone():
        return Net()

    def nothing():
        pass

    def four():
        return 1, 2, 3, 4

    def swapped():
        return (torch.ones(2, 3),), Net()

    def mapping():
        return Net(), {"x": torch.ones(2, 3)}

    def bad_kwargs():
        return Net(), (), [1]

    def leaves():
        raise SystemExit(3)
"""


@pytest.fixture
def model_file(in_folder: Path) -> Path:
    path = in_folder / "model.py"
    path.write_text(textwrap.dedent(MODEL))
    (in_folder / "neighbour.py").write_text("FACTOR = 2.0\n")
    return path


@pytest.mark.parametrize("factory", ["pair", "lone", "source", "program", "Zoo.make"])
def test_factories(model_file: Path, factory: str) -> None:
    source = load_source(f"{model_file}:{factory}")
    lifted = from_torch(source.model, source.args, source.kwargs, output_names=source.output_names)
    assert [port.name for port in lifted.module.main.signature.inputs] == ["x"]
    assert lifted.inputs["x"].shape == (2, 3)


def test_keyword_inputs(model_file: Path) -> None:
    source = load_source("model.py:triple")
    assert source.kwargs is not None
    assert list(source.kwargs) == ["scale"]


def test_module_path(model_file: Path) -> None:
    (model_file.parent / "menagerie").mkdir()
    (model_file.parent / "menagerie" / "__init__.py").write_text("")
    (model_file.parent / "menagerie" / "small.py").write_text(model_file.read_text())
    assert load_source("menagerie.small:pair").args[0].shape == (2, 3)


def test_two_files_of_one_name_do_not_mix(model_file: Path) -> None:
    other = model_file.parent / "other"
    other.mkdir()
    (other / "model.py").write_text("import torch\ndef pair():\n    return torch.nn.ReLU(), (torch.ones(7),)\n")
    assert load_source("model.py:pair").args[0].shape == (2, 3)
    assert load_source("other/model.py:pair").args[0].shape == (7,)


def test_origin_lines_are_relative(model_file: Path) -> None:
    source = load_source("model.py:pair")
    lifted = from_torch(source.model, source.args)
    assert {op.origin.line for op in lifted.module.main} == {"model.py:7"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("model.py", "is not a source", "file.py:factory"),
        ("modle.py:pair", "there is no file", "model.py"),
        ("nowhere/model.py:pair", "there is no file", "does not exist"),
        ("model.py:piar", "has no 'piar'", "pair"),
        ("model.py:", "which factory", "pair"),
        ("no.such.module:pair", "there is no module", ".py"),
        ("missing.pt2", "there is no file", None),
        ("model.py:module_alone", "without example inputs", "return (module, args)"),
        ("model.py:nothing", "gives None", "return (module, args)"),
        ("model.py:four", "gives a tuple of 4", "return (module, args)"),
        ("model.py:swapped", "where the module belongs", "return (module, args)"),
        ("model.py:mapping", "gives a dict where args belong", "kwargs"),
        ("model.py:bad_kwargs", "where kwargs belong", "return (module, args)"),
        ("model.py:leaves", "SystemExit", None),
    ],
)
def test_wrong_calls(model_file: Path, text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")) as caught:
        load_source(text)
    assert caught.value.exit_code == 2
    if hint is not None:
        assert hint in str(caught.value)


def test_a_raising_factory_shows_its_own_line(model_file: Path) -> None:
    with pytest.raises(UsageError, match="ValueError: no such checkpoint") as caught:
        load_source("model.py:raises")
    assert caught.value.where is not None
    assert "model.py:" in caught.value.where
    assert 'raise ValueError("no such checkpoint")' in caught.value.where


def test_a_file_that_cannot_be_imported(in_folder: Path) -> None:
    (in_folder / "broken.py").write_text("x = 1\ny = = 2\n")
    (in_folder / "lacking.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(UsageError, match="SyntaxError") as caught:
        load_source("broken.py:f")
    assert str(caught.value.where).endswith("broken.py:2")
    with pytest.raises(UsageError, match="a_package_that_is_not_there") as caught:
        load_source("lacking.py:f")
    assert "lacking.py:1" in str(caught.value.where)


def test_interrupts_pass_through(in_folder: Path) -> None:
    (in_folder / "slow.py").write_text("def f():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_source("slow.py:f")


def test_source_is_public_and_normalises_arguments() -> None:
    assert anec.Source is Source
    x = torch.ones(2)
    assert Source(torch.nn.ReLU(), x).args[0] is x
    assert Source(torch.nn.ReLU(), [x]).args == (x,)
    with pytest.raises(UsageError, match="args is a dict"):
        Source(torch.nn.ReLU(), {"x": x})
