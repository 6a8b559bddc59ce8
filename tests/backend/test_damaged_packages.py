"""What cannot be loaded is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from backend_programs import CONV, read

from anec.backend import load, save
from anec.backend.paths import MODEL, WEIGHTS
from anec.backend.quiet import ct
from anec.errors import AnecError, UnsupportedError, UsageError


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no"):
        load(tmp_path / "absent.mlpackage")
    (tmp_path / "empty.mlpackage").mkdir()
    with pytest.raises(AnecError, match="is no model package"):
        load(tmp_path / "empty.mlpackage")
    (tmp_path / "m.mlmodelc").mkdir()
    with pytest.raises(UsageError, match="is compiled for a device"):
        load(tmp_path / "m.mlmodelc")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "Manifest.json").write_text("{"), "the Manifest.json of .* is damaged"),
        (lambda p: (p / "Manifest.json").write_text("{}"), "the Manifest.json of .* is damaged"),
        (lambda p: (p / MODEL).unlink(), "cannot read .*model.mlmodel: No such file"),
        (lambda p: (p / MODEL).write_bytes(b"not a protobuf"), "is damaged, or no Core ML model"),
        (lambda p: (p / MODEL).write_bytes(b""), "is damaged, or no Core ML model"),
        (lambda p: (p / WEIGHTS).unlink(), "cannot read the weights file .*: No such file"),
        (lambda p: (p / WEIGHTS).write_bytes((p / WEIGHTS).read_bytes()[:200]), "is cut off"),
        (lambda p: (p / WEIGHTS).write_bytes(bytes(500)), "is not a weights file"),
    ],
)
def test_a_damaged_package_is_one_clear_error(path: Path, damage: Any, message: str) -> None:
    save(read(CONV), path)
    damage(path)
    with pytest.raises(AnecError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_truncated_program_is_refused(path: Path) -> None:
    save(read(CONV), path)
    data = (path / MODEL).read_bytes()
    for end in range(10, len(data), len(data) // 20):
        (path / MODEL).write_bytes(data[:end])
        with pytest.raises(AnecError):
            load(path)


def test_flipped_bits_are_an_anec_error_or_harmless(path: Path) -> None:
    save(read(CONV), path)
    data = bytearray((path / MODEL).read_bytes())
    refused = 0
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        (path / MODEL).write_bytes(bytes(changed))
        try:
            load(path)
        except AnecError:
            refused += 1
    assert refused > len(data) / 7 / 4


def test_a_neural_network_is_no_ml_program(path: Path) -> None:
    model = ct.proto.Model_pb2.Model(specificationVersion=4)
    model.neuralNetwork.layers.add()
    file = path.with_suffix(".mlmodel")
    file.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="is a neuralNetwork, not an ML Program"):
        load(file)


def edited(path: Path, edit: Any) -> None:
    save(read(CONV), path)
    model = ct.utils.load_spec(str(path))
    function = model.mlProgram.functions["main"]
    edit(model, function, function.block_specializations[function.opset])
    (path / MODEL).write_bytes(model.SerializeToString())


def set_type(op: Any, name: str) -> None:
    op.type = name


EDITS = [
    (lambda m, f, b: set_type(b.operations[-1], "custom_layer"), "there is no op mil.custom_layer"),
    (lambda m, f, b: set_type(b.operations[-1], "while_loop"), "control flow is not supported"),
    (lambda m, f, b: b.operations[-1].blocks.add(), "control flow is not supported"),
    (lambda m, f, b: b.operations[-1].inputs["volume"].arguments.add(name="n"), "has no parameter 'volume'"),
    (lambda m, f, b: b.operations.pop(0), "is used before it is defined"),
    (lambda m, f, b: setattr(f, "opset", "CoreML99"), "has no program for its opset|unknown opset 'CoreML99'"),
    (lambda m, f, b: m.description.input.pop(), "the input 'x' is not described"),
    (lambda m, f, b: m.description.metadata.userDefined.update({"anec.signature": "{"}), "is damaged"),
]


@pytest.mark.parametrize(("edit", "message"), EDITS, ids=[row[1][:30] for row in EDITS])
def test_a_program_the_ir_cannot_hold_is_refused(path: Path, edit: Any, message: str) -> None:
    edited(path, edit)
    with pytest.raises(AnecError, match=message):
        load(path)


def test_the_error_names_the_op(path: Path) -> None:
    edited(path, lambda m, f, b: b.operations[-1].inputs["volume"].arguments.add(name="n"))
    with pytest.raises(UnsupportedError) as caught:
        load(path)
    assert caught.value.where == f"{path}: cast 'y'"
