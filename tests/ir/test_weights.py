"""Weights: references to numbers that live elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anec.dialects import registry
from anec.errors import AnecError
from anec.ir.graph import Graph, Module
from anec.ir.parser import parse_module
from anec.ir.printer import print_module
from anec.ir.types import DType, TensorType, narrowed
from anec.ir.weights import FileData, TensorData, Weight, torch_dtype
from anec.pipeline.clone import clone
from anec.pipeline.store import WeightStore

F23 = TensorType(DType.F32, (2, 3))


def test_a_tensor_is_not_copied() -> None:
    tensor = torch.nn.Parameter(torch.rand(2, 3))
    weight = Weight("w", F23, TensorData(tensor))
    assert weight.tensor().data_ptr() == tensor.data_ptr()
    assert not weight.tensor().requires_grad
    module = Module()
    graph = module.functions["main"] = Graph("main")
    graph.add_weight(module.add_weight(weight))
    copy = clone(module)
    assert copy.weights["w"] is not weight
    assert copy.weights["w"].tensor().data_ptr() == tensor.data_ptr()
    assert copy.weights["w"].identity == weight.identity


def test_identity_is_memory_and_view() -> None:
    tensor = torch.rand(3, 3)
    same = [TensorData(tensor).identity, TensorData(tensor).identity]
    assert same[0] == same[1]
    for other in (tensor.t(), tensor[:2], tensor[1:], tensor.clone(), tensor.view(torch.int32)):
        assert TensorData(other).identity != same[0]


def test_the_digest_is_of_dtype_shape_and_bytes() -> None:
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    digest = Weight("a", F23, TensorData(tensor)).digest()
    assert Weight("b", F23, TensorData(tensor.t().contiguous().t())).digest() == digest
    assert Weight("c", TensorType(DType.F32, (3, 2)), TensorData(tensor.reshape(3, 2))).digest() != digest
    assert Weight("d", TensorType(DType.I32, (2, 3)), TensorData(tensor.view(torch.int32))).digest() != digest
    empty = Weight("e", TensorType(DType.F32, (0,)), TensorData(torch.empty(0)))
    assert len(empty.digest()) == 64
    single = torch.arange(6).reshape(2, 3)[:, :1].t()[:, :1]
    assert single.stride() != (1, 1)
    digests = {
        Weight("f", TensorType(DType.I64, (1, 1)), TensorData(given)).digest() for given in (single, single.clone())
    }
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", [d for d in DType if d.bits >= 8], ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (2, 3)])
def test_files_hold_every_dtype(tmp_path: Path, dtype: DType, shape: tuple[int, ...]) -> None:
    held = torch_dtype(dtype)
    tensor = torch.rand(shape, dtype=torch.float64).mul(3).to(held)
    if dtype.is_complex:
        tensor = tensor * (1 - 2j)
    weight = Weight("w", TensorType(dtype, shape), TensorData(tensor))
    module = Module({"main": Graph("main")}, {"w": weight})
    module.main.add_weight(weight)
    text = print_module(module, WeightStore(tmp_path).references(module))
    read = parse_module(text, registry, folder=tmp_path)
    found = read.weights["w"]
    assert found.digest() == weight.digest()
    assert torch.equal(found.tensor(), tensor)
    assert found.tensor().dtype is held
    again = WeightStore(tmp_path).references(read)
    assert again == WeightStore(tmp_path).references(module)
    assert len(list((tmp_path / "weights").iterdir())) == 1


def test_a_file_is_mapped_at_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(bytes(64) + torch.arange(6, dtype=torch.float32).numpy().tobytes())
    data = FileData(path, 64, F23)
    assert data.tensor().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert data.tensor() is data.tensor()
    unaligned = tmp_path / "odd.bin"
    unaligned.write_bytes(b"x" + torch.arange(6, dtype=torch.float32).numpy().tobytes())
    assert FileData(unaligned, 1, F23).tensor().tolist() == [[0, 1, 2], [3, 4, 5]]
    data.tensor().add_(1)
    assert path.read_bytes()[64:] == torch.arange(6, dtype=torch.float32).numpy().tobytes(), "writing must not reach it"


def test_a_file_is_mapped_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(torch.arange(12, dtype=torch.float32).numpy().tobytes())
    first, second = FileData(path, 0, F23), FileData(path, 24, F23)
    assert second.tensor().data_ptr() - first.tensor().data_ptr() == 24
    path.unlink()
    path.write_bytes(torch.ones(13).numpy().tobytes())
    assert FileData(path, 0, F23).tensor().tolist() == [[1, 1, 1], [1, 1, 1]]
    assert first.tensor().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_file_too_short_or_missing(tmp_path: Path) -> None:
    (tmp_path / "short.bin").write_bytes(bytes(20))
    for name in ("short.bin", "none.bin"):
        with pytest.raises(AnecError, match=r"missing or too short \(need 24 bytes\)"):
            FileData(tmp_path / name, 0, F23).tensor()


def test_no_data() -> None:
    weight = Weight("w", F23)
    with pytest.raises(AnecError, match="the weight 'w' has no data"):
        weight.tensor()
    assert weight.identity == ("w",)


def test_the_store_writes_each_weight_once(tmp_path: Path) -> None:
    tensor = torch.rand(2, 3)
    module = Module({"main": Graph("main")})
    for name in ("a", "b", "c"):
        data = None if name == "c" else TensorData(tensor)
        module.add_weight(Weight(name, F23, data))
    found = WeightStore(tmp_path).references(module)
    assert sorted(found) == ["a", "b"]
    assert found["a"] == found["b"]
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [found["a"].digest + ".bin"]


def test_dtypes() -> None:
    assert [d.bits for d in (DType.BOOL, DType.I4, DType.U6, DType.BF16, DType.C128)] == [8, 4, 6, 16, 128]
    assert (DType.I4.range, DType.U1.range, DType.I64.range) == ((-8, 7), (0, 1), (-(2**63), 2**63 - 1))
    with pytest.raises(AnecError, match="no integer range"):
        _ = DType.F16.range
    assert TensorType(DType.U3, (3, 3)).bytes == 4
    assert narrowed(TensorType(DType.I64, (2,))) == TensorType(DType.I32, (2,))
    assert not DType.BOOL.is_integer
    assert DType.C64.is_complex
