"""Fixtures of the frontend's tests."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from anec.dialects import registry
from anec.frontend import Lifted, evaluating, from_torch
from anec.ir import diff
from anec.ir.parser import parse_module
from anec.ir.printer import print_module
from anec.ir.verify import verify
from anec.reference.evaluate import evaluate


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def lifted() -> Callable[..., Lifted]:
    """Lift a model and hold the result to every law: text, verifier, and eager PyTorch bit for bit."""

    def run(model: torch.nn.Module, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Lifted:
        found = from_torch(model, args, kwargs, **options)
        text = print_module(found.module)
        read = parse_module(text, registry)
        assert diff.differences(read, found.module) == []
        assert print_module(read) == text
        verify(found.module, types=not found.module.dims)
        call = (args,) if isinstance(args, torch.Tensor) else tuple(args)
        with evaluating(model), torch.no_grad():
            eager = found.name_outputs(model(*call, **(kwargs or {})))
        ours = evaluate(found.module, found.bind_inputs(call, kwargs), function=found.function)
        assert list(ours) == [name for name in found.call.outputs if name is not None]
        for name, value in eager.items():
            assert ours[name].dtype is value.dtype
            torch.testing.assert_close(ours[name], value, rtol=0, atol=0, equal_nan=True)
        return found

    return run


@pytest.fixture
def rewrite() -> Callable[..., Path]:
    """Copy an archive with some records changed: ``rewrite(path, {"models/model.json": function})``."""

    def run(path: Path, changes: dict[str, Callable[[bytes], bytes]], name: str = "changed.pt2") -> Path:
        target = path.with_name(name)
        done: set[str] = set()
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as out:
            for record in source.namelist():
                data = source.read(record)
                for end, change in changes.items():
                    if record.endswith(end):
                        data = change(data)
                        done.add(end)
                out.writestr(record, data)
        assert done == set(changes)
        return target

    return run


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder; what is imported from it is forgotten behind the test."""
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
