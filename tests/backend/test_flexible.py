"""Flexible shapes, saved and loaded: symbols and expressions come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from backend_programs import assert_round_trip, files, program, read

from anec.backend import check_package, load, save
from anec.backend.quiet import Builder as mb
from anec.backend.quiet import ct, quiet
from anec.ir.dims import Bounds, symbol
from anec.ir.types import DType, TensorType

TEXT = program(
    """
    %m = mil.cast(%mask) {dtype="fp32"} : f32[1,S]
    %e = mil.expand_dims(%m) {axes=[-1]} : f32[1,S,1]
    %p = mil.mul(%x, %e) : f32[1,S,8]
    %y = mil.concat([%p, %x]) {axis=1, interleave=false} : f32[1,2*S,8]
    """,
    '%x: f32[1,S,8], %mask: i32[1,S] {path="kwargs[\'mask\']", type="i64[1,S]"}',
    "%y: f32[1,2*S,8]",
    "iOS17",
    dims="S in 1..512",
)


def test_symbols_come_back(tmp_path: Path) -> None:
    module = read(TEXT)
    save(module, tmp_path / "a.mlpackage")
    found = load(tmp_path / "a.mlpackage")
    assert found.dims == {"S": Bounds(1, 512)}
    assert_round_trip(module, found)
    save(found, tmp_path / "b.mlpackage")
    assert files(tmp_path / "a.mlpackage") == files(tmp_path / "b.mlpackage")
    assert check_package(tmp_path / "a.mlpackage").ops == 4


def convert(path: Path, inputs: list[Any]) -> None:
    @mb.program(
        input_specs=[mb.TensorSpec((1, ct.converters.mil.mil.get_new_symbol(), 8))], opset_version=ct.target.iOS17
    )
    def prog(x: Any) -> Any:
        return mb.relu(x=mb.add(x=x, y=1.0), name="y")

    with quiet():
        ct.convert(prog, inputs=inputs, minimum_deployment_target=ct.target.iOS17,
                   compute_precision=ct.precision.FLOAT32, skip_model_load=True).save(str(path))  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "bounds"),
    [
        (lambda: (1, ct.RangeDim(2, 30, default=4), 8), Bounds(2, 30)),
        (lambda: ct.EnumeratedShapes([(1, 4, 8), (1, 9, 8)]), Bounds(4, 9)),
    ],
    ids=["range", "listed"],
)
def test_ranges_of_coremltools_become_symbols(tmp_path: Path, shape: Any, bounds: Bounds) -> None:
    path = tmp_path / "m.mlpackage"
    convert(path, [ct.TensorType(name="x", shape=shape())])
    found = load(path)
    assert found.dims == {"x_1": bounds}
    wanted = TensorType(DType.F32, (1, symbol("x_1"), 8))
    assert found.main.inputs[0].type == wanted
    assert found.main.outputs[0].type == wanted


def test_a_range_of_one_size_is_no_symbol(tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    convert(path, [ct.TensorType(name="x", shape=(1, ct.RangeDim(6, 6), 8))])
    found = load(path)
    assert found.dims == {}
    assert found.main.outputs[0].type == TensorType(DType.F32, (1, 6, 8))


def test_what_depends_on_values_gets_a_symbol_of_its_own(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((3, 4))], opset_version=ct.target.iOS17)
    def prog(x: Any) -> Any:
        return mb.relu(x=mb.cast(x=mb.non_zero(x=x, name="where"), dtype="fp32"), name="y")

    with quiet():
        ct.convert(prog, minimum_deployment_target=ct.target.iOS17, compute_precision=ct.precision.FLOAT32,
                   skip_model_load=True).save(str(tmp_path / "m.mlpackage"))  # fmt: skip
    found = load(tmp_path / "m.mlpackage")
    assert found.dims == {"where_0": Bounds(0)}
    assert found.main.outputs[0].type == TensorType(DType.F32, (symbol("where_0"), 2))
    save(found, tmp_path / "a.mlpackage")
    save(load(tmp_path / "a.mlpackage"), tmp_path / "b.mlpackage")
    assert files(tmp_path / "a.mlpackage") == files(tmp_path / "b.mlpackage")
