"""The weights file: byte for byte what coremltools writes, and read back without a copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coremltools.libmilstoragepython import _BlobStorageWriter

from anec.backend.blob import BlobWriter, pack, reference, unpack
from anec.errors import AnecError
from anec.ir.types import DType, TensorType

WHOLE = {
    DType.F16: (np.float16, "write_fp16_data"),
    DType.F32: (np.float32, "write_float_data"),
    DType.I8: (np.int8, "write_int8_data"),
    DType.U8: (np.uint8, "write_uint8_data"),
    DType.I16: (np.int16, "write_int16_data"),
    DType.U16: (np.uint16, "write_uint16_data"),
    DType.I32: (np.int32, "write_int32_data"),
    DType.U32: (np.uint32, "write_uint32_data"),
}
PACKED = {
    DType.I4: "write_int4_data",
    DType.U1: "write_uint1_data",
    DType.U2: "write_uint2_data",
    DType.U3: "write_uint3_data",
    DType.U4: "write_uint4_data",
    DType.U6: "write_uint6_data",
}


def elements(dtype: DType, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.is_float:
        return rng.standard_normal(size).astype(WHOLE[dtype][0])
    low, high = dtype.range
    kind = WHOLE[dtype][0] if dtype in WHOLE else (np.int8 if low < 0 else np.uint8)
    return rng.integers(low, high, size, endpoint=True).astype(kind)


def test_the_file_is_what_coremltools_writes(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.bin", tmp_path / "theirs.bin"
    writer = _BlobStorageWriter(str(theirs))
    with BlobWriter(ours) as own:
        for seed, dtype in enumerate([*WHOLE, *PACKED, DType.F32]):
            array = elements(dtype, 10 + 7 * seed, seed)
            stored = array.view(np.uint16) if dtype is DType.F16 else array
            name = WHOLE[dtype][1] if dtype in WHOLE else PACKED[dtype]
            assert own.append(array, dtype) == getattr(writer, name)(stored)
    del writer
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("dtype", [*WHOLE, *PACKED], ids=str)
@pytest.mark.parametrize("size", [1, 8, 13])
def test_reading_gives_what_was_written(tmp_path: Path, dtype: DType, size: int) -> None:
    path = tmp_path / "weight.bin"
    first, second = elements(dtype, size, 1), elements(dtype, size, 2)
    with BlobWriter(path) as writer:
        records = [writer.append(array, dtype) for array in (first, second)]
    for record, array in zip(records, (first, second), strict=True):
        tensor = reference(path, record, TensorType(dtype, (size,))).tensor()
        assert np.array_equal(tensor.numpy(), array)


def test_a_strided_view_is_written_in_its_own_order(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T
    with BlobWriter(tmp_path / "w.bin") as writer:
        record = writer.append(array, DType.F32)
    read = reference(tmp_path / "w.bin", record, TensorType(DType.F32, (6, 4))).tensor()
    assert np.array_equal(read.numpy(), array)


def test_what_was_written_can_be_mapped_while_writing(tmp_path: Path) -> None:
    with BlobWriter(tmp_path / "w.bin") as writer:
        first = elements(DType.F16, 12, 0)
        record = writer.append(first, DType.F16)
        mapped = writer.mapped(record, DType.F16, (3, 4))
        writer.append(elements(DType.I32, 5, 1), DType.I32)
    assert mapped.shape == (3, 4)
    assert np.array_equal(mapped.reshape(-1), first)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_packing_large_tensors_in_chunks(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anec.backend.blob._CHUNK", 16)
    array = np.random.default_rng(bits).integers(0, 2**bits, 61).astype(np.uint8)
    stream = "".join(format(x, f"0{bits}b")[::-1] for x in array)
    wanted = [int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8)]
    packed = pack(array, bits)
    assert packed.tolist() == wanted
    assert np.array_equal(unpack(packed, bits, 61, signed=False), array)


def test_negative_elements_come_back_with_their_sign() -> None:
    array = np.arange(-8, 8, dtype=np.int8)
    assert np.array_equal(unpack(pack(array, 4), 4, 16, signed=True), array)


def test_no_tensor_no_file(tmp_path: Path) -> None:
    with BlobWriter(tmp_path / "weights" / "weight.bin"):
        pass
    assert not (tmp_path / "weights").exists()


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, int]:
    path = tmp_path / "weight.bin"
    with BlobWriter(path) as writer:
        return path, writer.append(elements(DType.F32, 20, 0), DType.F32)


@pytest.mark.parametrize(
    ("type_", "shift", "message"),
    [
        (TensorType(DType.F32, (20,)), 1, "has no record at offset"),
        (TensorType(DType.F32, (20,)), 1000, "ends before offset"),
        (TensorType(DType.F32, (21,)), 0, "does not hold f32"),
        (TensorType(DType.I32, (20,)), 0, "does not hold i32"),
    ],
)
def test_a_wrong_record_is_refused(written: tuple[Path, int], type_: TensorType, shift: int, message: str) -> None:
    path, record = written
    with pytest.raises(AnecError, match=message):
        reference(path, record + shift, type_)


def test_a_cut_off_file_is_refused(written: tuple[Path, int]) -> None:
    path, record = written
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(AnecError, match="is cut off"):
        reference(path, record, TensorType(DType.F32, (20,)))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(b"\x07" * 200)
    with pytest.raises(AnecError, match="is not a weights file"):
        reference(path, 64, TensorType(DType.F32, (1,)))
    with pytest.raises(AnecError, match="cannot read the weights file"):
        reference(tmp_path / "absent.bin", 64, TensorType(DType.F32, (1,)))
