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
from anec.ir.attrs import Literal
from anec.ir.dims import Expr
from anec.ir.dims import evaluate as evaluate_dim
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.ir.printer import print_module
from anec.ir.types import TensorType
from anec.ir.verify import verify
from anec.reference.evaluate import evaluate


def at_sizes(module: Module, inputs: dict[str, torch.Tensor]) -> Module:
    """A copy of ``module`` whose dimension expressions are the numbers that ``inputs`` give them."""
    copy = parse_module(print_module(module), registry)
    for name, weight in copy.weights.items():
        weight.data = module.weights[name].data
    graph = copy.main
    sizes: dict[str, int] = {}
    for value, port in zip(graph.inputs, graph.signature.inputs, strict=True):
        for dim, size in zip(value.tensor.shape, inputs[port.name].shape, strict=True):
            if isinstance(dim, Expr) and str(dim) in module.dims:
                assert sizes.setdefault(str(dim), size) == size
                bounds = module.dims[str(dim)]
                assert bounds.lower <= size <= (bounds.upper or size)

    def plain(attr: Any) -> Any:
        if isinstance(attr, tuple):
            return tuple(map(plain, attr))
        return evaluate_dim(attr, sizes) if isinstance(attr, Expr) else attr

    for op in graph.ops():
        op.attrs = {name: plain(attr) for name, attr in op.attrs.items()}
        for index, operand in enumerate(op.operands):
            if isinstance(operand, Literal):
                op.set_operand(index, Literal(plain(operand.value), operand.dtype))
    for value in graph.values.values():
        value.type = TensorType(value.tensor.dtype, plain(value.tensor.shape))
    copy.dims = {}
    return copy


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def lifted() -> Callable[..., Lifted]:
    """Lift a model and hold the result to every law: text, verifier, and eager PyTorch."""

    def run(model: torch.nn.Module, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Lifted:
        found = from_torch(model, args, kwargs, **options)
        text = print_module(found.module)
        read = parse_module(text, registry)
        assert diff.differences(read, found.module) == []
        assert print_module(read) == text
        verify(found.module, types=False)
        call = (args,) if isinstance(args, torch.Tensor) else tuple(args)
        with evaluating(model), torch.no_grad():
            eager = found.name_outputs(model(*call, **(kwargs or {})))
        inputs = found.bind_inputs(call, kwargs)
        static = at_sizes(found.module, inputs) if found.module.dims else found.module
        verify(static)
        ours = evaluate(static, inputs, function=found.function)
        assert list(ours) == [name for name in found.call.outputs if name is not None]
        for name, value in eager.items():
            assert ours[name].dtype is value.dtype
            # Not bit for bit: the IR drops memory formats, and strides decide the order of sums.
            exact = not value.is_floating_point()
            tight = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-6}
            torch.testing.assert_close(ours[name], value, equal_nan=True, **tight)
        return found

    return run


@pytest.fixture
def sized() -> Callable[[Module, dict[str, torch.Tensor]], Module]:
    """See :func:`at_sizes`."""
    return at_sizes


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
