"""Loading packages that coremltools made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import coremltools.optimize as cto
import numpy as np
import pytest
import torch
from backend_programs import CONV, emitted_lines, given_attrs, read, there_and_back
from torch import nn

from anec.backend import load, save
from anec.backend.paths import MODEL, WEIGHTS
from anec.backend.quiet import Builder as mb
from anec.backend.quiet import ct, quiet, types
from anec.ir.attrs import Literal
from anec.ir.signature import PortKind
from anec.ir.types import DType
from anec.ir.verify import verify
from anec.reference.evaluate import evaluate


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
