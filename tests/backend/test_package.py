"""Packages: the same bytes for the same module, whole or not at all, weights written once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from backend_programs import files, operations, program, read, spec_of
from coremltools.converters.mil.frontend.milproto.load import load as coremltools_load

from anec.backend import check_output, load, mlmodel, save, to_spec
from anec.backend.paths import MODEL, WEIGHTS
from anec.backend.quiet import FeatureTypes_pb2, ct, quiet
from anec.errors import AnecError, UnsupportedError, UsageError
from anec.ir.weights import TensorData

TEXT = program(
    """
    %w = weight "conv.weight" : f32[4,3,3,3]
    %b = weight "conv.bias" : f32[4]
    %t = weight "table" : i32[12]
    %wh = mil.cast(%w) {dtype="fp16"} : f16[4,3,3,3]
    %bh = mil.cast(%b) {dtype="fp16"} : f16[4]
    %xh = mil.cast(%x) {dtype="fp16"} : f16[1,3,8,8]
    %c = mil.conv(%xh, %wh, %bh) {pad_type="same"} : f16[1,4,8,8]
    %y = mil.cast(%c) {dtype="fp32"} : f32[1,4,8,8]
    %z = mil.add(%i, %t) : i32[12]
    """,
    "%x: f32[1,3,8,8], %i: i32[12]",
    "%y: f32[1,4,8,8]; %z: i32[12]",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.mlpackage"


def array_dtype(name: str) -> int:
    return FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Value(name)


# -- bytes ---------------------------------------------------------------------------------------------


def test_the_same_module_gives_the_same_bytes(tmp_path: Path) -> None:
    save(read(TEXT), tmp_path / "a.mlpackage", metadata={"pipeline": "default", "loss": "none"})
    save(read(TEXT), tmp_path / "b.mlpackage", metadata={"loss": "none", "pipeline": "default"})
    first, second = files(tmp_path / "a.mlpackage"), files(tmp_path / "b.mlpackage")
    assert first == second
    assert set(first) == {str(MODEL), str(WEIGHTS), "Manifest.json"}


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from backend_programs import read
from anec.backend import save
save(read({TEXT!r}), sys.argv[1], metadata={{"b": "1", "a": "2"}})
"""
    found = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.mlpackage"
        env = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", code, str(out)], check=True, env=env, timeout=300)
        found.append(files(out))
    assert found[0] == found[1]


def test_coremltools_reads_the_package(path: Path) -> None:
    module = read(TEXT)
    save(module, path)
    with quiet():
        model = ct.models.MLModel(str(path), skip_model_load=True)
    found = coremltools_load(model.get_spec(), 9, str((path / WEIGHTS).parent))
    ops = [op for op in found.functions["main"].operations if op.op_type != "const"]
    assert [(op.op_type, op.outputs[0].name) for op in ops] == [
        ("cast", "xh"), ("conv", "c"), ("cast", "y"), ("add", "z"),
    ]  # fmt: skip
    assert np.array_equal(ops[1].weight.val, module.weights["conv.weight"].tensor().half().numpy())
    assert np.array_equal(ops[3].y.val, module.weights["table"].tensor().numpy())


def test_the_manifest_is_one_that_apples_library_takes(path: Path) -> None:
    from coremltools.libmodelpackage import ModelPackage

    save(read(TEXT), path)
    package = ModelPackage(str(path))
    assert Path(package.getRootModel().path()) == path / MODEL
    manifest = json.loads((path / "Manifest.json").read_text())
    assert {entry["path"] for entry in manifest["itemInfoEntries"].values()} == {
        "com.apple.CoreML/model.mlmodel",
        "com.apple.CoreML/weights",
    }


def test_a_package_without_weights_has_no_weights_file(path: Path) -> None:
    save(read(program("%y = mil.relu(%x) : f32[3]", "%x: f32[3]", "%y: f32[3]")), path)
    assert set(files(path)) == {str(MODEL), "Manifest.json"}
    assert len(operations(spec_of(path))) == 1


@pytest.mark.parametrize(("target", "in_file"), [("iOS17", False), ("iOS18", True)])
def test_integers_go_to_the_weights_file_from_ios18(path: Path, target: str, in_file: bool) -> None:
    save(read(TEXT.replace("iOS18", target)), path)
    const = next(op for op in operations(spec_of(path), consts=True) if op.outputs[0].name == "t")
    assert (const.attributes["val"].WhichOneof("value") == "blobFileValue") == in_file


def test_small_constants_stay_in_the_program(path: Path) -> None:
    save(read(TEXT), path)
    const = next(op for op in operations(spec_of(path), consts=True) if op.outputs[0].name == "bh")
    assert const.attributes["val"].WhichOneof("value") == "immediateValue"


def test_tied_weights_and_functions_share_bytes(path: Path) -> None:
    body = "  %w = weight {key} : f32[40,80]\n  %y = mil.linear(%x, %w) : f32[{n},40]\n  return %y\n}}\n"
    text = "anec 1\nmodule target=iOS18\n"
    for name, n, key in (("a", 2, '"w"'), ("b", 3, '"w"'), ("c", 4, '"tied"')):
        text += f"\nfunc {name}(%x: f32[{n},80]) -> (%y: f32[{n},40]) {{\n" + body.format(n=n, key=key)
    module = read(text)
    module.weights["tied"].data = TensorData(module.weights["w"].tensor())
    save(module, path)
    assert (path / WEIGHTS).stat().st_size == 128 + 40 * 80 * 4
    assert spec_of(path).description.defaultFunctionName == "a"


def test_no_weight_is_copied_into_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the writer is handed is the caller's own memory, except for what a constant op computed."""
    module = read(TEXT)
    handed: dict[int, str] = {}

    from anec.backend.blob import BlobWriter

    original = BlobWriter.append

    def append(self: BlobWriter, array: np.ndarray, dtype: object) -> int:
        handed[array.ctypes.data] = str(dtype)
        return original(self, array, dtype)

    monkeypatch.setattr(BlobWriter, "append", append)
    save(module, path)
    assert module.weights["table"].tensor().data_ptr() in handed
    assert sorted(handed.values()) == ["f16", "i32"]


# -- whole or not at all -------------------------------------------------------------------------------


def test_an_existing_package_is_kept_unless_asked(path: Path) -> None:
    save(read(TEXT), path)
    before = files(path)
    with pytest.raises(UsageError, match="exists already"):
        save(read(TEXT, seed=1), path)
    assert files(path) == before
    save(read(TEXT, seed=1), path, overwrite=True)
    assert files(path) != before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, AnecError])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_stays_behind_a_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], overwrite: bool
) -> None:
    before = {}
    if overwrite:
        save(read(TEXT), path)
        before = files(path)

    def fail(model: object) -> bytes:
        assert any(name != path.name for name in os.listdir(path.parent))
        raise error("stop")

    monkeypatch.setattr("anec.backend.package.serialize", fail)
    with pytest.raises(error):
        save(read(TEXT), path, overwrite=overwrite)
    assert os.listdir(path.parent) == ([path.name] if overwrite else [])
    assert not overwrite or files(path) == before


def test_the_old_package_comes_back_when_the_last_rename_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(read(TEXT), path)
    before = files(path)
    original = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target == path and self.parent == path.parent:
            raise OSError(28, "No space left on device")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(AnecError, match=r"cannot write .*: No space left on device"):
        save(read(TEXT, seed=1), path, overwrite=True)
    assert files(path) == before
    assert os.listdir(path.parent) == [path.name]


def test_an_emission_error_leaves_nothing(path: Path) -> None:
    with pytest.raises(UnsupportedError):
        save(read(TEXT.replace('"fp32"} : f32', '"fp32"} : f16')), path)
    assert os.listdir(path.parent) == []


def test_wrong_places_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not end in \.mlpackage"):
        check_output(tmp_path / "model.mlmodel")
    with pytest.raises(UsageError, match=r"the folder .* does not exist"):
        check_output(tmp_path / "absent" / "m.mlpackage")
    (tmp_path / "file.mlpackage").write_text("x")
    with pytest.raises(UsageError, match="is a file, not a package"):
        check_output(tmp_path / "file.mlpackage", overwrite=True)
    (tmp_path / "folder.mlpackage").mkdir()
    (tmp_path / "folder.mlpackage" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="no package; it is not replaced"):
        check_output(tmp_path / "folder.mlpackage", overwrite=True)
    assert check_output(tmp_path / "new.mlpackage") == tmp_path / "new.mlpackage"


def test_a_read_only_folder_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match=r"the folder .* cannot be written to"):
        save(read(TEXT), tmp_path / "m.mlpackage")


def test_the_package_is_as_readable_as_any_new_folder(path: Path) -> None:
    (path.parent / "other").mkdir()
    save(read(TEXT), path)
    mode = stat.S_IMODE((path.parent / "other").stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_package_can_replace_the_one_its_weights_lie_in(path: Path) -> None:
    text = TEXT.replace("iOS18", "iOS17")
    save(read(text), path)
    module = load(path)
    wanted = {name: weight.tensor().clone() for name, weight in load(path).weights.items()}
    conv = next(op for op in module.ops() if op.name == "mil.conv")
    extra = module.add_weight(type(module.weights["wh"])("first", module.weights["wh"].type, None))
    extra.data = TensorData(torch.zeros(extra.type.static_shape, dtype=torch.float16))
    conv.set_operand(1, module.main.add_weight(extra))
    save(module, path, overwrite=True)
    for name, tensor in wanted.items():
        assert torch.equal(module.weights[name].tensor(), tensor)


# -- description ---------------------------------------------------------------------------------------


def test_metadata_goes_where_core_ml_keeps_it() -> None:
    module = read(TEXT)
    module.meta["pipeline"] = "default"
    found = to_spec(module, {"short_description": "a test", "version": "2", "pipeline": "ane"}).description.metadata
    assert (found.author, found.shortDescription, found.versionString) == ("anec", "a test", "2")
    assert found.userDefined["pipeline"] == "ane"


def test_ports_are_described() -> None:
    text = program(
        """
        %s = mil.read_state(%cache) : f16[2,3]
        %y = mil.add(%x, %s) : f16[2,3]
        %i = mil.reduce_argmax(%y) {axis=-1, keep_dims=false} : i32[2]
        """,
        "%x: f16[2,3], %cache: state<f16[2,3]>",
        "%y: f16[2,3]; %i: i32[2]",
    )
    found = to_spec(read(text)).description
    assert [feature.name for feature in found.input] == ["x"]
    assert found.input[0].type.multiArrayType.dataType == array_dtype("FLOAT16")
    assert list(found.input[0].type.multiArrayType.shape) == [2, 3]
    assert [feature.name for feature in found.state] == ["cache"]
    assert list(found.state[0].type.stateType.arrayType.shape) == [2, 3]
    assert [feature.name for feature in found.output] == ["y", "i"]
    assert found.output[1].type.multiArrayType.dataType == array_dtype("INT32")


def test_flexible_inputs_have_ranges() -> None:
    text = program("%y = mil.relu(%x) : f32[1,2*S+1,3]", "%x: f32[1,2*S+1,3]", "%y: f32[1,2*S+1,3]", dims="S in 2..10")
    model = to_spec(read(text))
    array = model.description.input[0].type.multiArrayType
    assert list(array.shape) == [1, 5, 3]
    assert [(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges] == [(1, 1), (5, 21), (3, 3)]
    assert not model.description.output[0].type.multiArrayType.shape
    named = model.mlProgram.functions["main"].inputs[0]
    assert [dim.WhichOneof("dimension") for dim in named.type.tensorType.dimensions] == [
        "constant", "unknown", "constant",
    ]  # fmt: skip


def test_a_flexible_dimension_needs_an_upper_bound() -> None:
    text = program("%y = mil.relu(%x) : f32[S,3]", "%x: f32[S,3]", "%y: f32[S,3]", dims="S in 2..")
    with pytest.raises(UnsupportedError, match="S has no upper bound"):
        to_spec(read(text))


@pytest.mark.parametrize(("shape", "color"), [("1,3,4,5", "RGB"), ("1,1,4,5", "GRAYSCALE")])
def test_images_are_described(shape: str, color: str) -> None:
    text = program(f"%y = mil.relu(%im) : f32[{shape}]", f'%im: f32[{shape}] {{kind="image"}}', f"%y: f32[{shape}]")
    image = to_spec(read(text)).description.input[0].type.imageType
    assert (image.height, image.width) == (4, 5)
    assert image.colorSpace == FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value(color)


def test_a_flexible_image() -> None:
    text = program(
        "%y = mil.relu(%im) : f32[1,3,H,64]",
        '%im: f32[1,3,H,64] {kind="image"}',
        "%y: f32[1,3,H,64]",
        dims="H in 32..96",
    )
    image = to_spec(read(text)).description.input[0].type.imageType
    assert (image.height, image.width) == (32, 64)
    size = image.imageSizeRange
    assert (size.heightRange.lowerBound, size.heightRange.upperBound) == (32, 96)
    assert (size.widthRange.lowerBound, size.widthRange.upperBound) == (64, 64)


def test_what_is_no_image_is_refused() -> None:
    text = program("%y = mil.relu(%im) : f32[2,3,4,5]", '%im: f32[2,3,4,5] {kind="image"}', "%y: f32[2,3,4,5]")
    with pytest.raises(UnsupportedError, match=r"an image of f32 is \[1,1,H,W\] or \[1,3,H,W\]"):
        to_spec(read(text))


def test_a_spec_in_memory_holds_its_own_weights() -> None:
    module = read(TEXT)
    found = coremltools_load(to_spec(module), 9)
    conv = next(op for op in found.functions["main"].operations if op.op_type == "conv")
    assert np.array_equal(conv.weight.val, module.weights["conv.weight"].tensor().half().numpy())


def test_mlmodel_opens_a_package(path: Path) -> None:
    save(read(TEXT), path)
    model = mlmodel(path, "CPU_ONLY")
    assert model.get_spec().description.input[0].name == "x"
    assert model.compute_unit is ct.ComputeUnit.CPU_ONLY
