"""Reading `.pt2` files: what torch saves is read, what would run code is refused."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

from anec.errors import UsageError
from anec.frontend import export, from_torch, load_source
from anec.ir.graph import Module
from anec.reference.evaluate import evaluate

Rewrite = Callable[..., Path]
MODERN = importlib.util.find_spec("torch.export.pt2_archive") is not None
modern = pytest.mark.skipif(not MODERN, reason="this torch writes the archives of 2.7")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.register_buffer("mask", torch.eye(4), persistent=False)
        self.table = torch.arange(4.0)

    def forward(self, x: torch.Tensor, extra: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        y = self.linear(x) @ self.mask + self.table
        return {"sum": y + extra["y"], "more": torch.cat([y, y[:1]]).reshape(-1)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt2"
    x = torch.randn(6, 4)
    rows = Dim("rows", min=4, max=64)
    shapes = {"x": {0: rows}, "extra": {"y": {0: rows}}}
    torch.export.save(export(Net(), (x, {"y": x + 1}), dynamic_shapes=shapes), path)
    return path


def test_a_saved_program_is_read(saved: Path, sized: Callable[..., Module]) -> None:
    source = load_source(str(saved))
    lifted = from_torch(source.model)
    assert list(lifted.inputs) == ["x", "extra_y"]
    assert [port.name for port in lifted.module.main.signature.outputs] == ["sum", "more"]
    assert {op.origin.path for op in lifted.module.main} >= {"linear"}
    result = evaluate(sized(lifted.module, lifted.inputs), lifted.inputs)
    x = lifted.inputs["x"]
    eager = source.model.module()(x, {"y": lifted.inputs["extra_y"]})
    torch.testing.assert_close(result["sum"], eager["sum"], rtol=0, atol=0)
    torch.testing.assert_close(result["more"], eager["more"], rtol=0, atol=0)


def _mark(tmp_path: Path) -> tuple[Path, str]:
    """A file that malicious text would make, and an expression that makes it."""
    mark = tmp_path / "pwned"
    return mark, f"__import__('pathlib').Path({str(mark)!r}).write_text('x')"


@modern
def test_code_in_a_shape_expression(saved: Path, rewrite: Rewrite, tmp_path: Path) -> None:
    mark, code = _mark(tmp_path)

    def change(data: bytes) -> bytes:
        text = json.dumps(json.loads(data))
        assert '"expr_str": "Symbol' in text
        return text.replace('"expr_str": "Symbol', f'"expr_str": "{code}*0+Symbol').encode()

    path = rewrite(saved, {"models/model.json": change})
    with pytest.raises(UsageError, match="shape expression") as caught:
        load_source(str(path))
    assert "trust" in str(caught.value)
    assert not mark.exists()
    # The check is not vacuous: torch itself runs it.
    load_source(str(path), trust=True)
    assert mark.exists()


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_in_the_example_inputs(saved: Path, rewrite: Rewrite, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"

    def change(data: bytes) -> bytes:
        buffer = io.BytesIO()
        torch.save((torch.ones(2), _Evil(mark)), buffer)
        return buffer.getvalue()

    path = rewrite(saved, {"sample_inputs/model.pt" if MODERN else "serialized_example_inputs.pt": change})
    with pytest.raises(UsageError, match="pickle of more than tensors"):
        load_source(str(path))
    assert not mark.exists()
    load_source(str(path), trust=True)
    assert mark.exists()


@modern
@pytest.mark.parametrize("config", ["model_weights_config.json", "model_constants_config.json"])
def test_a_pickled_payload(saved: Path, rewrite: Rewrite, config: str) -> None:
    def change(data: bytes) -> bytes:
        entries = json.loads(data)
        next(iter(entries["config"].values()))["use_pickle"] = True
        return json.dumps(entries).encode()

    with pytest.raises(UsageError, match="is stored as a pickle"):
        load_source(str(rewrite(saved, {config: change})))


@modern
@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.add.__class__",
        "torch.ops.higher_order.call_torchbind",
        "_operator.attrgetter",
        "#extension:thing",
        "builtins.eval",
    ],
)
def test_a_call_of_no_operator(saved: Path, rewrite: Rewrite, target: str) -> None:
    def change(data: bytes) -> bytes:
        program = json.loads(data)
        program["graph_module"]["graph"]["nodes"][0]["target"] = target
        return json.dumps(program).encode()

    with pytest.raises(UsageError, match="calls"):
        load_source(str(rewrite(saved, {"models/model.json": change})))


@modern
def test_a_class_in_the_signature(saved: Path, rewrite: Rewrite) -> None:
    def change(data: bytes) -> bytes:
        text = data.decode()
        spec = '[1, {"type": "collections.defaultdict", "context": {"default_factory_module": "antigravity"}}]'
        program = json.loads(text)
        program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec
        return json.dumps(program).encode()

    with pytest.raises(UsageError, match="names a Python class"):
        load_source(str(rewrite(saved, {"models/model.json": change})))


@modern
def test_guards_are_not_run(saved: Path, rewrite: Rewrite, tmp_path: Path) -> None:
    mark, code = _mark(tmp_path)

    def change(data: bytes) -> bytes:
        program = json.loads(data)
        program["guards_code"] = [f"{code} or True"]
        return json.dumps(program).encode()

    source = load_source(str(rewrite(saved, {"models/model.json": change})))
    lifted = from_torch(source.model)
    assert len(lifted.module.main) > 0
    assert not mark.exists()


@modern
def test_a_compiled_library(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("net/data/aotinductor/model/lib.so", b"\x7fELF")
    with pytest.raises(UsageError, match="compiled library"):
        load_source(str(saved))


@modern
def test_doubled_records(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("net/MODELS/model.json", b"{}")
    with pytest.raises(UsageError, match="two records"):
        load_source(str(saved))


def test_what_is_no_archive(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "text.pt2").write_text("hello")
    with pytest.raises(UsageError, match=r"is not a \.pt2 archive"):
        load_source(str(tmp_path / "text.pt2"))
    torch.save({"x": torch.ones(2)}, tmp_path / "state.pt2")
    with pytest.raises(UsageError, match=r"is not an archive of torch\.export\.save"):
        load_source(str(tmp_path / "state.pt2"))
    shutil.copy(saved, tmp_path / "cut.pt2")
    with (tmp_path / "cut.pt2").open("r+b") as file:
        file.truncate(saved.stat().st_size // 2)
    with pytest.raises(UsageError, match=r"is not a \.pt2 archive"):
        load_source(str(tmp_path / "cut.pt2"))


@pytest.mark.parametrize("divisor", [1, 2, 3])
def test_every_size_torch_writes_is_accepted(tmp_path: Path, divisor: int) -> None:
    """Sums, products, floors, remainders, extremes: the checks must not refuse honest programs."""

    class Sizes(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
            n, m = x.shape[0], y.shape[0]
            grown = torch.nn.functional.interpolate(x[None, None], scale_factor=1.5)
            return (
                torch.zeros(n // divisor + m % 5),
                torch.zeros(max(n, m), n * m),
                torch.cat([x, y]),
                torch.nn.functional.pad(x, (1, n - 1)),
                grown,
            )

    path = tmp_path / "sizes.pt2"
    args = (torch.ones(12), torch.ones(8))
    shapes = {"x": {0: Dim("n", min=4, max=99)}, "y": {0: Dim("m", min=4, max=99)}}
    torch.export.save(export(Sizes(), args, dynamic_shapes=shapes), path)
    source = load_source(str(path))
    assert len(from_torch(source.model).module.main.outputs) == 5
