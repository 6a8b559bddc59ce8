"""What to-fp16 leaves in float32 because it says where to read."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import anec
import golden
from anec.check.metrics import compare
from anec.ir.facts import constants
from anec.passes.coordinates import coordinates
from anec.passes.to_fp16 import ToFp16
from anec.testing import run_pass


def body(signature: str, *lines: str, target: str = "iOS18") -> str:
    return f"anec 1\nmodule target={target}\n\nfunc main{signature} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def kept(signature: str, *lines: str) -> set[str]:
    module = golden.read(body(signature, *lines))
    return {op.result.name for op in coordinates(module.main, constants(module.main))}


def test_indices_and_what_is_made_of_them() -> None:
    found = kept(
        "(%x: f32[9], %p: f32[4]) -> (%y: f32[4])",
        "%scaled = mil.mul(%p, 8.0) : f32[4]",
        "%low = mil.floor(%scaled) : f32[4]",
        '%index = mil.cast(%low) {dtype="int32"} : i32[4]',
        "%part = mil.sub(%scaled, %low) : f32[4]",
        "%read = mil.gather(%x, %index) {axis=0} : f32[4]",
        "%y = mil.mul(%read, %part) : f32[4]",
        "return %y",
    )
    assert found == {"scaled", "low", "index", "part"}


def test_products_with_weights_end_it() -> None:
    found = kept(
        "(%x: f32[1,2,4,4], %f: f32[1,16,8]) -> (%y: f32[1,2,4,4])",
        '%w = weight "w" : f32[2,8]',
        '%b = weight "zeros" : f32[2]',
        "%points = mil.linear(%f, %w, %b) : f32[1,16,2]",
        '%turn = weight "turn" : f32[2,2]',
        "%turned = mil.matmul(%points, %turn) : f32[1,16,2]",
        "%grid = mil.reshape(%turned, [1, 4, 4, 2]) : f32[1,4,4,2]",
        '%y = mil.resample(%x, %grid) {sampling_mode="bilinear", padding_mode="border", padding_value=0.0, '
        'coordinates_mode="unnormalized", align_corners=true} : f32[1,2,4,4]',
        "return %y",
    )
    assert found == {"turned", "grid"}


def test_a_constant_map_of_points_is_no_prediction() -> None:
    found = kept(
        "(%x: f32[1,2,4,4], %f: f32[1,8]) -> (%y: f32[1,2,4,4])",
        '%w = weight "w" : f32[10,8]',
        '%b = weight "zeros" : f32[10]',
        "%predicted = mil.linear(%f, %w, %b) : f32[1,10]",
        "%controls = mil.reshape(%predicted, [1, 5, 2]) : f32[1,5,2]",
        '%spline = weight "spline" : f32[1,16,5]',
        "%points = mil.matmul(%spline, %controls) : f32[1,16,2]",
        "%grid = mil.reshape(%points, [1, 4, 4, 2]) : f32[1,4,4,2]",
        '%y = mil.resample(%x, %grid) {sampling_mode="bilinear", padding_mode="border", padding_value=0.0, '
        'coordinates_mode="unnormalized", align_corners=true} : f32[1,2,4,4]',
        "return %y",
    )
    assert found == {"controls", "points", "grid"}


def test_nothing_without_an_address() -> None:
    assert not kept(
        "(%x: f32[4]) -> (%y: f32[4])",
        "%f = mil.floor(%x) : f32[4]",
        "%y = mil.sub(%x, %f) : f32[4]",
        "return %y",
    )


def test_angles_that_inputs_make() -> None:
    found = kept(
        "(%t: f32[2,1], %p: i32[2,5,1], %x: f32[2,8], %k: f32[9,2]) -> (%y: f32[2,8], %z: f32[2,5,4], %u: f32[9,6])",
        '%frequencies = weight "frequencies" : f32[1,8]',
        "%angle = mil.mul(%t, %frequencies) : f32[2,8]",
        "%sine = mil.sin(%angle) : f32[2,8]",
        "%y = mil.mul(%x, %sine) : f32[2,8]",
        '%f = mil.cast(%p) {dtype="fp32"} : f32[2,5,1]',
        '%inverse = weight "inverse" : f32[1,1,4]',
        "%turn = mil.matmul(%f, %inverse) : f32[2,5,4]",
        "%z = mil.cos(%turn) : f32[2,5,4]",
        '%map = weight "map" : f32[6,2]',
        "%phase = mil.linear(%k, %map) : f32[9,6]",
        "%u = mil.sin(%phase) : f32[9,6]",
        "return %y, %z, %u",
    )
    assert found == {"angle", "sine", "f", "turn", "z", "phase", "u"}


def test_a_periodic_activation_is_no_angle() -> None:
    assert not kept(
        "(%x: f32[2,8], %t: f32[2,8]) -> (%y: f32[2,8], %z: f32[2,8])",
        '%w = weight "w" : f32[8,8]',
        "%h = mil.linear(%x, %w) : f32[2,8]",
        "%h30 = mil.mul(%h, 30.0) : f32[2,8]",
        "%y = mil.sin(%h30) : f32[2,8]",
        "%mixed = mil.mul(%h, %t) : f32[2,8]",
        "%z = mil.cos(%mixed) : f32[2,8]",
        "return %y, %z",
    )


@pytest.mark.parametrize("steps", [torch.tensor([999.0, 501.0]), torch.tensor([999, 501])], ids=["float", "int"])
def test_the_embedding_of_a_time_step_keeps_its_phase(steps: torch.Tensor) -> None:
    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(32, 16)

        def forward(self, step: torch.Tensor) -> torch.Tensor:
            frequencies = torch.exp(-math.log(10000) * torch.arange(16) / 16)
            angle = step[:, None].float() * frequencies
            return self.head(torch.cat([angle.cos(), angle.sin()], -1))

    torch.manual_seed(0)
    model = Embedding()
    (found,) = anec.compile(model, (steps,), precision="fp16").run({"step": steps}).values()
    assert compare("y", torch.as_tensor(found), model(steps).detach()).psnr > 65  # 32 with angles in float16


def test_counts_and_buckets() -> None:
    found = kept(
        "(%n: i32[4], %x: f32[4], %v: f32[4,8]) -> (%y: i32[4], %z: i32[4], %u: i32[4,2])",
        '%f = mil.cast(%n) {dtype="fp32"} : f32[4]',
        "%s = mil.cumsum(%f) {axis=0, exclusive=false, reverse=false} : f32[4]",
        '%y = mil.cast(%s) {dtype="int32"} : i32[4]',
        "%b = mil.mul(%x, 100.0) : f32[4]",
        '%z = mil.cast(%b) {dtype="int32"} : i32[4]',
        '%w = weight "w" : f32[2,8]',
        "%l = mil.linear(%v, %w) : f32[4,2]",
        '%u = mil.cast(%l) {dtype="int32"} : i32[4,2]',
        "return %y, %z, %u",
    )
    assert found == {"f", "s", "y", "b", "z"}


def test_coordinates_stay_float32_on_every_target() -> None:
    for target in ("iOS15", "iOS16", "iOS18"):
        module = golden.read(
            body(
                "(%x: f32[1,2,4,4], %g: f32[1,3,3,2]) -> (%y: f32[1,2,3,3])",
                '%y = mil.resample(%x, %g) {sampling_mode="bilinear", padding_mode="border", padding_value=0.0, '
                'coordinates_mode="normalized_minus_one_to_one", align_corners=false} : f32[1,2,3,3]',
                "return %y",
                target=target,
            )
        )
        run_pass(module, ToFp16())
        (op,) = [op for op in module.main if op.defn.root == "resample"]
        assert [str(op.value(name).tensor.dtype) for name in ("x", "coordinates")] == ["f16", "f32"]
        assert str(op.result.tensor.dtype) == "f16"


def test_coordinates_that_come_in_float16_are_widened() -> None:
    module = golden.read(
        body(
            "(%x: f32[1,2,4,4], %f: f32[1,3,3,8]) -> (%y: f32[1,2,3,3])",
            '%w = weight "w" : f32[2,8]',
            '%b = weight "zeros" : f32[2]',
            "%g = mil.linear(%f, %w, %b) : f32[1,3,3,2]",
            '%y = mil.resample(%x, %g) {sampling_mode="nearest", padding_mode="border", padding_value=0.0, '
            'coordinates_mode="normalized_minus_one_to_one", align_corners=false} : f32[1,2,3,3]',
            "return %y",
        )
    )
    run_pass(module, ToFp16())
    types = {op.defn.root: str(op.result.tensor.dtype) for op in module.main if op.defn.root != "cast"}
    assert types == {"linear": "f16", "resample": "f16"}
    (op,) = [op for op in module.main if op.defn.root == "resample"]
    assert str(op.value("coordinates").tensor.dtype) == "f32"
