"""States made what Core ML accepts: float16, rank 1 to 5, integers in digits, counters dropped."""

from __future__ import annotations

import pytest
import torch

import anec
from anec.dialects import registry
from anec.errors import AnecError
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.passes.legalize_io import LegalizeIo
from anec.reference.evaluate import evaluate
from anec.testing import assert_legal, run_pass


def module(boundary: str, *lines: str, target: str = "iOS18") -> Module:
    body = "\n".join(f"  {line}" for line in lines)
    return parse_module(f"anec 1\nmodule target={target}\n\nfunc main{boundary} {{\n{body}\n}}\n", registry)


def legal(made: Module) -> list[str]:
    run_pass(made, LegalizeIo())
    assert_legal(made)
    return [line.split("  ;")[0].strip() for line in str(made).splitlines()[3:-1]]


def accumulator(dtype: str, shape: str, torch_dtype: str = "") -> Module:
    type_ = f', type="state<{torch_dtype}{shape}>"' if torch_dtype else ""
    return module(
        f'(%x: {dtype}{shape}, %s: state<{dtype}{shape}> {{kind="state"{type_}}}) -> (%y: {dtype}{shape})',
        f"%old = mil.read_state(%s) : {dtype}{shape}",
        f"%y = mil.add(%old, %x) : {dtype}{shape}",
        f"%new = mil.coreml_update_state(%s, %y) : {dtype}{shape}",
        "return %y",
    )


@pytest.mark.parametrize("shape", ["[]", "[1]", "[3]", "[2,3]", "[1,2,1,3]"])
def test_integers_of_32_bits_survive(shape: str) -> None:
    made = accumulator("i32", shape)
    size = eval(shape)  # a list of the sizes
    legal(made)
    (state,) = made.main.states()
    assert list(state.shape) == [3, *size]
    assert str(state.tensor.dtype) == "f16"
    kept: dict[str, torch.Tensor] = {}
    total = torch.zeros(size, dtype=torch.int64)
    for number in (1, 2047, 1, -2050, -(2**31) + 1, 2**31 - 1, 2**31 - 1, -1, -(2**31)):
        total = total + number
        assert -(2**31) <= int(total.min()) <= 2**31 - 1
        given = torch.full(size or [1], number, dtype=torch.int32)
        assert evaluate(made, {"x": given}, state=kept)["y"].reshape(size).tolist() == total.tolist()
    assert kept["s"].dtype is torch.float16


def test_integers_of_8_bits_need_no_digits() -> None:
    made = accumulator("i32", "[2]", "u8")
    legal(made)
    assert [str(state.tensor) for state in made.main.states()] == ["f16[2]"]


def test_rank_0() -> None:
    made = accumulator("f32", "[]")
    lines = legal(made)
    assert "%s: state<f16[1]>" in lines[0]
    kept: dict[str, torch.Tensor] = {}
    for wanted in (1.5, 3.0):
        assert evaluate(made, {"x": torch.tensor([1.5])}, state=kept)["y"].tolist() == [wanted]


def test_truths() -> None:
    made = module(
        '(%x: bool[2], %s: state<bool[2]> {kind="state"}) -> (%y: bool[2])',
        "%old = mil.read_state(%s) : bool[2]",
        "%y = mil.logical_or(%old, %x) : bool[2]",
        "%new = mil.coreml_update_state(%s, %y) : bool[2]",
        "return %y",
    )
    legal(made)
    kept: dict[str, torch.Tensor] = {}
    for given, wanted in (([0, 1], [0, 1]), ([1, 0], [1, 1]), ([0, 0], [1, 1])):
        assert evaluate(made, {"x": torch.tensor(given, dtype=torch.int32)}, state=kept)["y"].tolist() == wanted


COUNTERS = (
    '(%x: f32[2], %a: state<i32[]> {kind="state"}, %b: state<i32[]> {kind="state"}) -> (%y: f32[2])',
    "%old = mil.read_state(%a) : i32[]",
    "%more = mil.add(%old, 1) : i32[]",
    "%unused = mil.coreml_update_state(%a, %more) : i32[]",
    "%other = mil.read_state(%b) : i32[]",
    "%sum = mil.add(%other, %more) : i32[]",
    "%unused_1 = mil.coreml_update_state(%b, %sum) : i32[]",
)


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_counters_that_nothing_depends_on_go(target: str) -> None:
    made = module(*COUNTERS, "%y = mil.relu(%x) : f32[2]", "return %y", target=target)
    assert legal(made)[1:] == ["%y = mil.relu(%x) : f32[2]", "return %y"]
    assert [port.name for port in made.main.signature.inputs] == ["x"]


def test_a_counter_that_takes_what_another_stored_goes_too() -> None:
    made = module(
        '(%x: f32[2], %a: state<i32[]> {kind="state"}, %b: state<i32[]> {kind="state"}) -> (%y: f32[2])',
        "%old = mil.read_state(%a) : i32[]",
        "%more = mil.add(%old, 1) : i32[]",
        "%stored = mil.coreml_update_state(%a, %more) : i32[]",
        "%sum = mil.add(%stored, 1) : i32[]",
        "%unused = mil.coreml_update_state(%b, %sum) : i32[]",
        "%y = mil.relu(%x) : f32[2]",
        "return %y",
    )
    assert legal(made)[1:] == ["%y = mil.relu(%x) : f32[2]", "return %y"]


def test_a_counter_behind_an_output_stays_and_so_does_what_it_depends_on() -> None:
    lines = (*COUNTERS, '%float = mil.cast(%other) {dtype="fp32"} : f32[]', "%y = mil.add(%x, %float) : f32[2]")
    made = module(*lines, "return %y")
    legal(made)
    assert [state.name for state in made.main.states()] == ["a", "b"]
    kept: dict[str, torch.Tensor] = {}
    found = [evaluate(made, {"x": torch.zeros(2)}, state=kept)["y"][0].item() for _ in range(4)]
    assert found == [0.0, 1.0, 3.0, 6.0]


def test_a_state_of_numbers_stays_though_nothing_reads_it() -> None:
    made = module(
        '(%x: f32[2], %s: state<f32[2]> {kind="state"}) -> (%y: f32[2])',
        "%y = mil.relu(%x) : f32[2]",
        "%unused = mil.coreml_update_state(%s, %y) : f32[2]",
        "return %y",
    )
    legal(made)
    kept: dict[str, torch.Tensor] = {}
    evaluate(made, {"x": torch.tensor([-1.0, 2.0])}, state=kept)
    assert kept["s"].tolist() == [0.0, 2.0]


def test_no_write_passes_a_read() -> None:
    """The old value is used behind the place where the new one is known."""
    made = module(
        '(%x: f16[2], %s: state<f16[2]> {kind="state"}) -> (%y: f32[2])',
        "%new = mil.relu(%x) : f16[2]",
        "%sign = mil.sign(%new) : f16[2]",
        "%old = mil.read_state(%s) : f16[2]",
        "%sum = mil.add(%old, %sign) : f16[2]",
        "%double = mil.mul(%new, 2.0) : f16[2]",
        "%both = mil.add(%sum, %double) : f16[2]",
        '%y = mil.cast(%both) {dtype="fp32"} : f32[2]',
        "%unused = mil.coreml_update_state(%s, %new) : f16[2]",
        "return %y",
    )
    legal(made)
    roots = [op.defn.root for op in made.main]
    assert roots == ["cast", "relu", "sign", "read_state", "coreml_update_state", "add", "mul", "add", "cast"]
    assert [user.name for user in made.main.values["new"].users] == ["mil.sign", "mil.coreml_update_state"]
    kept: dict[str, torch.Tensor] = {}
    for wanted in (7.0, 10.0):
        assert evaluate(made, {"x": torch.tensor([3.0, 3.0])}, state=kept)["y"].tolist() == [wanted, wanted]


def test_a_read_behind_the_update_reads_the_new_value() -> None:
    made = module(
        '(%x: f16[2], %s: state<f16[2]> {kind="state"}) -> (%y: f32[2])',
        "%old = mil.read_state(%s) : f16[2]",
        "%new = mil.add(%old, %x) : f16[2]",
        "%unused = mil.coreml_update_state(%s, %new) : f16[2]",
        "%again = mil.read_state(%s) : f16[2]",
        "%double = mil.mul(%again, 2.0) : f16[2]",
        '%y = mil.cast(%double) {dtype="fp32"} : f32[2]',
        "return %y",
    )
    legal(made)
    kept: dict[str, torch.Tensor] = {}
    for wanted in (4.0, 8.0):
        assert evaluate(made, {"x": torch.tensor([2.0, 2.0])}, state=kept)["y"].tolist() == [wanted, wanted]


def test_several_writes_stay_where_they_are() -> None:
    made = module(
        '(%x: f32[2], %s: state<f16[2]> {kind="state"}) -> (%y: f32[2])',
        '%half = mil.cast(%x) {dtype="fp16"} : f16[2]',
        "%first = mil.coreml_update_state(%s, %half) : f16[2]",
        "%twice = mil.mul(%first, 2.0) : f16[2]",
        "%second = mil.coreml_update_state(%s, %twice) : f16[2]",
        '%y = mil.cast(%second) {dtype="fp32"} : f32[2]',
        "return %y",
    )
    before = [op.defn.root for op in made.main]
    legal(made)
    assert [op.defn.root for op in made.main] == before


@pytest.mark.parametrize(("type_", "rank"), [("f32[1,1,1,1,1,2]", 6), ("i32[1,1,1,1,2]", 6)])
def test_too_many_axes(type_: str, rank: int) -> None:
    dtype, shape = type_[:3], type_[3:]
    with pytest.raises(AnecError, match=f"the state 's' has rank {rank}"):
        legal(accumulator(dtype, shape))


def test_the_numbers_are_those_of_before_by_the_pipelines_own_check() -> None:
    dropped = module(*COUNTERS, "%y = mil.relu(%x) : f32[2]", "return %y")
    x = torch.tensor([-1.0, 2.0])
    assert anec.opt(dropped, "legalize-io", inputs={"x": x}, check="numerics").main.states() == []
    held = anec.opt(accumulator("i32", "[2]"), "legalize-io", inputs={"x": x.int()}, check="numerics")
    assert [str(state.tensor) for state in held.main.states()] == ["f16[3,2]"]
