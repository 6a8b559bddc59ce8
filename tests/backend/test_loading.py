"""Loading: what was saved comes back op by op, ours and coremltools' packages alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import coremltools.optimize as cto
import numpy as np
import pytest
import torch
from backend_programs import assert_round_trip, emitted_lines, files, given_attrs, program, read
from torch import nn

from anec.backend import load, save, to_spec
from anec.backend.paths import MODEL, WEIGHTS
from anec.backend.quiet import Builder as mb
from anec.backend.quiet import ct, quiet, types
from anec.errors import AnecError, UnsupportedError, UsageError
from anec.ir.attrs import Literal
from anec.ir.graph import Module
from anec.ir.signature import PortKind
from anec.ir.types import DType
from anec.ir.verify import verify
from anec.ir.weights import FileData
from anec.reference.evaluate import evaluate

CONV = program(
    """
    %w = weight "conv.weight" : f16[4,3,3,3]
    %b = weight "conv.bias" : f32[4]
    %scale = weight "norm.weight" : f16[8]
    %xh = mil.cast(%x) {dtype="fp16"} : f16[1,3,8,8]
    %bh = mil.cast(%b) {dtype="fp16"} : f16[4]
    %c = mil.conv(%xh, %w, %bh) {pad_type="custom", pad=[1,1,1,1]} : f16[1,4,8,8]
    %m = mil.mul(%c, 1.702) : f16[1,4,8,8]
    %r = mil.reshape(%m, [4,8,8]) : f16[4,8,8]
    %n = mil.layer_norm(%r, %scale) {axes=[-1], epsilon=1e-05} : f16[4,8,8]
    %y = mil.cast(%n) {dtype="fp32"} : f32[4,8,8]
    """,
    '%x: f32[1,3,8,8] {path="args[0]"}',
    "%y: f32[4,8,8]",
)
MANY = program(
    """
    %p = mil.pad(%im, [0, 0, 1, 1]) {mode="reflect"} : f32[1,3,4,7]
    %a, %s = mil.split(%im) {num_splits=2, axis=2} : f32[1,3,2,5], f32[1,3,2,5]
    %k = mil.concat([%s, %a]) {axis=-1, interleave=false} : f32[1,3,2,10]
    %b = mil.slice_by_index(%k, [0,0,0,1], [0,0,0,6]) {begin_mask=[true,true,true,false],
    end_mask=[true,true,true,false]} : f32[1,3,2,5]
    %v, %i = mil.topk(%k) {k=1, axis=-1} : f32[1,3,2,1], i32[1,3,2,1]
    %idx = mil.squeeze(%i) {axes=[-1]} : i32[1,3,2]
    %g = mil.greater(%k, [0.5, -inf, 1e-08, 0.1, 3.4e+38, -0.0, 2.0, 1.0, 7.0, 1e+30]) : bool[1,3,2,10]
    %sel = mil.select(%g, %k, -1.5) : f32[1,3,2,10]
    """.replace("\n    end_mask", " end_mask"),
    '%im: f32[1,3,4,5] {kind="image", scale=0.00392156862745098, bias=[0.5, 0.25, 0.125]}',
    "%a: f32[1,3,2,5]; %b: f32[1,3,2,5]; %idx: i32[1,3,2]; %sel: f32[1,3,2,10]",
    "iOS16",
)
STATE = program(
    """
    %old = mil.read_state(%cache) : f16[2,3]
    %sum = mil.add(%x, %old) : f16[2,3]
    %new = mil.coreml_update_state(%cache, %sum) : f16[2,3]
    %y = mil.mul(%new, 2.0) : f16[2,3]
    %unused = mil.coreml_update_state(%cache, %y) : f16[2,3]
    %z = mil.read_state(%cache) : f16[2,3]
    """,
    '%x: f16[2,3], %cache: state<f16[2,3]> {kind="state"}',
    "%y: f16[2,3]; %z: f16[2,3]",
)
SMALL_WEIGHTS = program(
    """
    %w = weight "w" : f32[3]
    %n = weight "n" : i32[2]
    %s = weight "s" : f32[]
    %a = mil.add(%x, %w) : f32[2,3]
    %b = mil.mul(%a, %s) : f32[2,3]
    %c = mil.mul(%b, 3.0) : f32[2,3]
    %y = mil.gather(%c, %n) {axis=0} : f32[2,3]
    """,
    "%x: f32[2,3]",
    "%y: f32[2,3]",
)


def functions_text() -> str:
    body = """
  %w = weight "w" : f32[4,8]
  %bh = weight "b" : f16[4,16]
  %b = mil.cast(%bh) {{dtype="fp32"}} : f32[4,16]
  %c = mil.reduce_sum(%b) {{axes=[1], keep_dims=false}} : f32[4]
  %y = mil.linear(%x, %w, %c) : f32[{n},4]
  return %y
}}
"""
    text = 'anec 1\nmodule target=iOS18\nmeta "pipeline" = "default"\n'
    for name, n in (("small", 2), ("large", 5)):
        text += f"\nfunc {name}(%x: f32[{n},8]) -> (%y: f32[{n},4]) {{" + body.format(n=n)
    return text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.mlpackage"


def there_and_back(module: Module, folder: Path) -> Module:
    """Save, load, save: the two packages must agree byte for byte."""
    save(module, folder / "a.mlpackage")
    found = load(folder / "a.mlpackage")
    save(found, folder / "b.mlpackage")
    assert files(folder / "a.mlpackage") == files(folder / "b.mlpackage")
    return found


@pytest.mark.parametrize(
    "text", [CONV, MANY, STATE, SMALL_WEIGHTS, functions_text()], ids=["conv", "many", "state", "small", "functions"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_round_trip_keeps_every_op(tmp_path: Path, text: str, seed: int) -> None:
    module = read(text, seed)
    found = there_and_back(module, tmp_path)
    verify(found, dialects={"mil"})
    assert_round_trip(module, found)
    assert found.meta == module.meta


def test_a_round_trip_keeps_the_numbers(tmp_path: Path) -> None:
    module = read(CONV)
    found = there_and_back(module, tmp_path)
    x = {"x": torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))}
    assert torch.equal(evaluate(module, x)["y"], evaluate(found, x)["y"])


def test_defaults_come_back_spelled_out(tmp_path: Path) -> None:
    found = there_and_back(read(CONV), tmp_path)
    assert given_attrs(found.main)["c"] == {
        "strides": "[1, 1]", "pad_type": '"custom"', "pad": "[1, 1, 1, 1]", "dilations": "[1, 1]", "groups": "1",
    }  # fmt: skip


def test_weights_stay_in_the_file(tmp_path: Path) -> None:
    found = there_and_back(read(CONV), tmp_path)
    data = found.weights["w"].data
    assert isinstance(data, FileData)
    assert data.path == tmp_path / "a.mlpackage" / WEIGHTS
    assert list(found.weights) == ["w", "bh", "scale"]


def test_functions_share_their_weights_again(tmp_path: Path) -> None:
    found = there_and_back(read(functions_text()), tmp_path)
    assert list(found.weights) == ["w", "c"]
    assert list(found.functions) == ["small", "large"]


def test_the_default_function_is_remembered(tmp_path: Path) -> None:
    module = read(functions_text())
    module.meta["default_function"] = "large"
    found = there_and_back(module, tmp_path)
    assert found.meta["default_function"] == "large"


def test_the_whole_signature_comes_back(tmp_path: Path) -> None:
    text = program(
        '%m = mil.cast(%mask) {dtype="fp32"} : f32[1,4]\n%y = mil.mul(%x, %m) : f32[1,4]',
        '%x: f32[1,4] {path="args[0]", type="f16[1,4]", boundary=f32}, '
        '%mask: i32[1,4] {path="kwargs[\'mask\']", type="i64[1,4]"}',
        '%y: f32[1,4] {path="logits", type="f16[1,4]"}',
    )
    module = read(text)
    module.main.signature.notes.append("the input labels is used by no op")
    found = there_and_back(module, tmp_path)
    assert found.main.signature == module.main.signature


def test_a_signature_that_no_longer_fits_is_left_aside(path: Path) -> None:
    save(read(CONV), path)
    model = ct.utils.load_spec(str(path))
    model.description.input[0].name = "pixels"
    function = model.mlProgram.functions["main"]
    function.inputs[0].name = "pixels"
    block = function.block_specializations[function.opset]
    for op in block.operations:
        for argument in op.inputs.values():
            for binding in argument.arguments:
                if binding.name == "x":
                    binding.name = "pixels"
    (path / MODEL).write_bytes(model.SerializeToString())
    port = load(path).main.signature.inputs[0]
    assert (port.name, port.path) == ("pixels", "")


# -- packages of coremltools -----------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.gelu(self.norm(self.conv(x)))
        x = torch.nn.functional.max_pool2d(x, 2).flatten(1)
        return torch.softmax(self.fc(x), dim=-1)


def small(seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(seed)
    model = Small()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model.eval(), torch.randn(2, 3, 8, 8)


def convert(model: nn.Module, x: torch.Tensor, target: str, precision: str = "FLOAT16", **options: Any) -> Any:
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(model, x)
        inputs = options.pop("inputs", [ct.TensorType(name="x", shape=x.shape)])
        return ct.convert(
            traced,
            inputs=inputs,
            minimum_deployment_target=ct.target[target],
            compute_precision=ct.precision[precision],
            skip_model_load=True,
            **options,
        )


@pytest.mark.parametrize(
    ("target", "precision", "tolerance"),
    [("iOS15", "FLOAT32", 1e-5), ("iOS16", "FLOAT16", 5e-3), ("iOS17", "FLOAT16", 5e-3), ("iOS18", "FLOAT32", 1e-5)],
)
def test_a_model_converted_by_coremltools_runs(path: Path, target: str, precision: str, tolerance: float) -> None:
    """Its tolerance is float16's: three roundings of sums over 27 and 128 terms."""
    model, x = small()
    convert(model, x, target, precision).save(str(path))
    module = load(path)
    verify(module, dialects={"mil"})
    assert module.target == target
    found = next(iter(evaluate(module, {"x": x}).values()))
    wanted = model(x).detach()
    assert (found - wanted).abs().max() / wanted.abs().max() < tolerance


def test_a_package_of_coremltools_settles_after_one_save(tmp_path: Path) -> None:
    model, x = small()
    convert(model, x, "iOS18").save(str(tmp_path / "theirs.mlpackage"))
    module = load(tmp_path / "theirs.mlpackage")
    found = there_and_back(module, tmp_path)
    assert emitted_lines(found.main) == emitted_lines(module.main)
    assert given_attrs(found.main) == given_attrs(module.main)


def test_float16_ports_of_others_pass_float16(path: Path) -> None:
    model, x = small()
    options = {"inputs": [ct.TensorType(name="x", shape=x.shape, dtype=np.float16)]}
    convert(model, x, "iOS17", **options).save(str(path))
    assert load(path).main.signature.inputs[0].boundary is DType.F16


def test_an_image_input_of_coremltools(path: Path) -> None:
    model, _ = small()
    x = torch.rand(1, 3, 8, 8)
    options = {"inputs": [ct.ImageType(name="x", shape=x.shape, scale=1 / 255)]}
    convert(model, x, "iOS16", **options).save(str(path))
    port = load(path).main.signature.inputs[0]
    assert port.kind is PortKind.IMAGE
    assert port.type.shape == (1, 3, 8, 8)


COMPRESSED = {
    "linear": lambda m, bits: cto.coreml.linear_quantize_weights(
        m, cto.coreml.OptimizationConfig(cto.coreml.OpLinearQuantizerConfig(weight_threshold=10))
    ),
    "int4-blocks": lambda m, bits: cto.coreml.linear_quantize_weights(
        m,
        cto.coreml.OptimizationConfig(
            cto.coreml.OpLinearQuantizerConfig(
                mode="linear", dtype="int4", granularity="per_block", block_size=4, weight_threshold=10
            )
        ),
    ),
    "palette": lambda m, bits: cto.coreml.palettize_weights(
        m, cto.coreml.OptimizationConfig(cto.coreml.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=10))
    ),
    "sparse": lambda m, bits: cto.coreml.prune_weights(
        m,
        cto.coreml.OptimizationConfig(cto.coreml.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=10)),
    ),
}


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_weights_stay_compressed(tmp_path: Path, target: str, kind: str) -> None:
    if kind == "int4-blocks" and target == "iOS16":
        pytest.skip("blocks came with iOS18")
    model, x = small()
    with quiet():
        # Tables of 8 entries, so indices that do not fill bytes, came with iOS18 as well.
        packed = COMPRESSED[kind](convert(model, x, target), 3 if target == "iOS18" else 4)
    packed.save(str(tmp_path / "theirs.mlpackage"))
    module = load(tmp_path / "theirs.mlpackage")
    constexpr = [op.name for op in module.ops() if "constexpr" in op.name]
    assert constexpr
    found = there_and_back(module, tmp_path)
    assert emitted_lines(found.main) == emitted_lines(module.main)
    # What coremltools decompresses in the original, op by op, is what the reference kernels give for ours.
    theirs = {
        op.outputs[0].name: op.materialized_val_inference()
        for op in packed._mil_program.functions["main"].operations
        if op.op_type.startswith("constexpr_")
    }
    seen: dict[str, torch.Tensor] = {}

    def observe(op: Any, results: tuple[torch.Tensor, ...]) -> None:
        if op.results[0].name in theirs:
            seen[op.results[0].name] = results[0]

    evaluate(found, {"x": x}, observer=observe)
    assert seen.keys() == theirs.keys()
    for name, wanted in theirs.items():
        np.testing.assert_allclose(seen[name].float().numpy(), np.asarray(wanted, np.float32), rtol=2e-3, atol=1e-4)
    biggest = max((tmp_path / name / WEIGHTS).stat().st_size for name in ("theirs.mlpackage", "b.mlpackage"))
    assert biggest < 8 * 16 * 5 * 4 * 2


def test_states_and_functions_of_coremltools(tmp_path: Path) -> None:
    @mb.program(
        input_specs=[mb.TensorSpec((2, 3), types.fp16), mb.StateTensorSpec((2, 3), types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def prog(x: Any, cache: Any) -> Any:
        old = mb.read_state(input=cache)
        new = mb.coreml_update_state(state=cache, value=mb.add(x=old, y=x))
        return mb.mul(x=new, y=np.float16(2), name="y")

    with quiet():
        model = ct.convert(
            prog, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18, skip_model_load=True
        )
    model.save(str(tmp_path / "one.mlpackage"))
    both = ct.utils.MultiFunctionDescriptor()
    both.add_function(str(tmp_path / "one.mlpackage"), "main", "first")
    both.add_function(str(tmp_path / "one.mlpackage"), "main", "second")
    both.default_function_name = "second"
    with quiet():
        ct.utils.save_multifunction(both, str(tmp_path / "two.mlpackage"))
    module = load(tmp_path / "two.mlpackage")
    assert sorted(module.functions) == ["first", "second"]
    assert module.meta.get("default_function", next(iter(module.functions))) == "second"
    state: dict[str, torch.Tensor] = {}
    x = torch.ones(2, 3, dtype=torch.float16)
    for times in (1, 2, 3):
        found = evaluate(module, {"x": x}, function="first", state=state)
        assert torch.equal(found["y"], torch.full((2, 3), 2.0 * times, dtype=torch.float16))
    found = there_and_back(module, tmp_path)
    for name in module.functions:
        assert emitted_lines(found.functions[name]) == emitted_lines(module.functions[name])


def test_a_value_written_inside_an_op(path: Path) -> None:
    """MIL allows it in place of a const op; coremltools does it for some ops."""
    save(read(CONV), path)
    model = ct.utils.load_spec(str(path))
    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    consts = {op.outputs[0].name: op.attributes["val"] for op in block.operations if op.type == "const"}
    for op in block.operations:
        for argument in op.inputs.values():
            for binding in argument.arguments:
                if binding.name in consts and consts[binding.name].WhichOneof("value") == "immediateValue":
                    binding.value.CopyFrom(consts[binding.name])
    kept = [op for op in block.operations if op.type != "const" or op.outputs[0].name == "w"]
    del block.operations[:]
    block.operations.extend(kept)
    (path / MODEL).write_bytes(model.SerializeToString())
    found = load(path)
    assert given_attrs(found.main)["c"]["pad"] == "[1, 1, 1, 1]"
    assert found.weights["c__bias"].type.shape == (4,)
    verify(found)


def test_a_float16_setting_beside_float32_keeps_its_number(path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1, 3, 4, 4))], opset_version=ct.target.iOS17)
    def prog(x: Any) -> Any:
        return mb.local_response_norm(x=x, size=2, alpha=np.float16(1e-4), beta=np.float16(0.75), k=np.float16(1))

    with quiet():
        ct.convert(prog, minimum_deployment_target=ct.target.iOS17, compute_precision=ct.precision.FLOAT32,
                   skip_model_load=True).save(str(path))  # fmt: skip
    op = load(path).main.first
    assert op is not None
    assert op.attrs["alpha"] == float(np.float16(1e-4))


def test_a_scalar_of_others_is_a_literal(path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((4,), types.fp16)], opset_version=ct.target.iOS17)
    def prog(x: Any) -> Any:
        return mb.add(x=mb.mul(x=x, y=np.float16(1.702)), y=np.ones(4, np.float16) * 3)

    with quiet():
        ct.convert(prog, minimum_deployment_target=ct.target.iOS17, skip_model_load=True,
                   pass_pipeline=ct.PassPipeline.EMPTY).save(str(path))  # fmt: skip
    first, second = load(path).main.ops()
    assert first.operand("y") == Literal(1.702)
    assert second.value("y").weight is not None


# -- what cannot be loaded -------------------------------------------------------------------------------


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


def test_a_model_file_alone_is_read_beside_its_weights(tmp_path: Path, path: Path) -> None:
    module = read(SMALL_WEIGHTS)
    file = tmp_path / "model.mlmodel"
    file.write_bytes(to_spec(module).SerializeToString())
    assert emitted_lines(load(file).main) == emitted_lines(module.main)


def test_moving_a_package_loses_nothing(path: Path) -> None:
    save(read(CONV), path)
    moved = path.with_name("moved.mlpackage")
    shutil.move(path, moved)
    assert load(moved).weights["w"].tensor().shape == (4, 3, 3, 3)


def test_foreign_metadata_is_kept(tmp_path: Path, path: Path) -> None:
    model, x = small()
    found = convert(model, x, "iOS17")
    found.short_description, found.license = "tiny", "MIT"
    found.user_defined_metadata["task"] = "digits"
    found.save(str(path))
    module = load(path)
    assert {key: module.meta[key] for key in ("short_description", "license", "task")} == {
        "short_description": "tiny", "license": "MIT", "task": "digits",
    }  # fmt: skip
    save(module, tmp_path / "again.mlpackage")
    assert load(tmp_path / "again.mlpackage").meta == module.meta
    assert json.loads((tmp_path / "again.mlpackage" / "Manifest.json").read_text())["fileFormatVersion"] == "1.0.0"
