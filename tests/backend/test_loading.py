"""Loading: what was saved comes back op by op, ours and coremltools' packages alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from backend_programs import CONV, assert_round_trip, emitted_lines, given_attrs, program, read, there_and_back

from anec.backend import load, save, to_spec
from anec.backend.paths import MODEL, WEIGHTS
from anec.backend.quiet import ct
from anec.ir.verify import verify
from anec.ir.weights import FileData
from anec.reference.evaluate import evaluate

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


def test_the_largest_numbers_stay_numbers(tmp_path: Path) -> None:
    lowest = "-3.4028234663852886e+38"
    text = program(f"%y = mil.fill_like(%x) {{value={lowest}}} : f32[2,3]", "%x: f32[2,3]", "%y: f32[2,3]")
    filled = evaluate(there_and_back(read(text), tmp_path), {"x": torch.zeros(2, 3)})["y"]
    assert torch.equal(filled, torch.full((2, 3), torch.finfo(torch.float32).min))


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
