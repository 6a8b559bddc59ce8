"""What ``run`` takes and refuses at the boundary: shapes, dtypes, ranges, symbols, states, rank 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import anec
from anec.api import CompiledModel
from anec.errors import UsageError


def program(inputs: str, body: str, outputs: str, dims: str = "") -> CompiledModel:
    head = f"anec 1\nmodule target=iOS18\n{dims}\n"
    return CompiledModel(anec.read(f"{head}func main({inputs}) -> ({outputs}) {{\n{body}\n}}\n"))


@pytest.fixture(scope="module")
def whole() -> CompiledModel:
    """Doubles int32."""
    return program("%x: i32[3]", "  %y = mil.add(%x, %x) : i32[3]\n  return %y", "%y: i32[3]")


@pytest.fixture(scope="module")
def half() -> CompiledModel:
    return program("%x: f16[2]", "  %y = mil.relu(%x) : f16[2]\n  return %y", "%y: f16[2]")


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor([1, -2, 3]),
        torch.tensor([1, -2, 3], dtype=torch.int8),
        np.array([1, -2, 3], np.int16),
        [1, -2, 3],
        (1, -2, 3),
        np.array([9, 1, -2, 3], np.int64)[1:],
        np.array([3, -2, 1], np.int32)[::-1],
        torch.tensor([[1], [-2], [3]]).expand(3, 2)[:, 1],
    ],
)
def test_any_whole_dtype_stands_for_int32(whole: CompiledModel, given: Any) -> None:
    found = whole.run({"x": given})["y"]
    assert found.dtype == np.int32
    assert found.tolist() == [2, -4, 6]


def test_bool_and_unsigned_stand_for_int32(whole: CompiledModel) -> None:
    assert whole.run({"x": [True, False, True]})["y"].tolist() == [2, 0, 2]
    assert whole.run({"x": np.array([0, 200, 255], np.uint8)})["y"].tolist() == [0, 400, 510]
    assert whole.run({"x": np.array([0, 1, 2], np.uint64)})["y"].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    "given",
    [
        np.array([0, 0, 2**31]),
        np.array([0, 0, -(2**31) - 1]),
        np.array([0, 0, 2**31], np.uint32),
        np.array([0, 0, 2**63 + 5], np.uint64),
    ],
)
def test_numbers_beyond_int32(whole: CompiledModel, given: Any) -> None:
    with pytest.raises(UsageError, match=r"the input 'x' holds values beyond i32 \(-2147483648 to 2147483647\)"):
        whole.run({"x": given})


def test_the_ends_of_int32_pass() -> None:
    same = program("%x: i32[2]", "  %y = mil.identity(%x) : i32[2]\n  return %y", "%y: i32[2]")
    ends = [-(2**31), 2**31 - 1]
    assert same.run({"x": np.array(ends)})["y"].tolist() == ends


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(3), "the input 'x' is torch.float64; the model takes whole numbers"),
        (np.zeros(3, np.complex64), "the input 'x' is torch.complex64; the model takes i32"),
        (np.zeros(4, np.int32), r"the input 'x' has shape \[4\]; the model takes i32\[3\]"),
        (np.zeros((1, 3), np.int32), r"the input 'x' has shape \[1, 3\]; the model takes i32\[3\]"),
        (7, r"the input 'x' has shape \[\]; the model takes i32\[3\]"),
        (["a", "b", "c"], "the input 'x' is list, not an array of numbers"),
        ([[1, 2], [3]], "the input 'x' is list, not an array of numbers"),
        (None, "the input 'x' is NoneType, not an array of numbers"),
        ({"a": 1}, "the input 'x' is dict, not an array of numbers"),
    ],
)
def test_what_does_not_fit(whole: CompiledModel, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        whole.run({"x": given})


def test_names(whole: CompiledModel) -> None:
    with pytest.raises(UsageError, match="there is no input 'xx'") as unknown:
        whole.run({"xx": [1, 2, 3]})
    assert unknown.value.hint == "did you mean 'x'?" or unknown.value.hint == "known: x"
    with pytest.raises(UsageError, match="the input 'x' is missing"):
        whole.run({})
    with pytest.raises(UsageError, match="there is no function 'small'"):
        whole.run({"x": [1, 2, 3]}, function="small")
    with pytest.raises(UsageError, match="unknown precision 'exact'"):
        whole.run({"x": [1, 2, 3]}, precision="exact")


def test_the_inputs_stay_as_they_are(whole: CompiledModel) -> None:
    same = program("%x: i32[3]", "  %y = mil.identity(%x) : i32[3]\n  return %y", "%y: i32[3]")
    for model in (whole, same):
        given = np.array([1, 2, 3], np.int32)
        model.run({"x": given})["y"][0] = 99
        assert given.tolist() == [1, 2, 3]


def test_floats_beyond_float16(half: CompiledModel) -> None:
    assert half.run({"x": [1.5, 65504.0]})["y"].tolist() == [1.5, 65504.0]
    with pytest.raises(UsageError, match="the input 'x' holds values beyond f16"):
        half.run({"x": [1.0, 70000.0]})
    # What was infinite before is the caller's own.
    assert half.run({"x": [1.0, float("inf")]})["y"].tolist() == [1.0, float("inf")]
    assert np.isnan(half.run({"x": [float("nan"), 0.0]})["y"][0])


def test_whole_numbers_stand_for_floats(half: CompiledModel) -> None:
    assert half.run({"x": [3, -1]})["y"].tolist() == [3.0, 0.0]
    assert half.run({"x": torch.tensor([3, -1], dtype=torch.bfloat16)})["y"].tolist() == [3.0, 0.0]


def test_a_number_stands_for_a_tensor_of_one() -> None:
    model = program("%x: f32[1]", "  %y = mil.relu(%x) : f32[1]\n  return %y", "%y: f32[1]")
    for given in (2.5, [2.5], np.float32(2.5), torch.tensor(2.5)):
        assert model.run({"x": given})["y"].tolist() == [2.5]


def test_rank_0_comes_back_as_rank_0() -> None:
    class Total(torch.nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return (x * scale).sum()

    compiled = anec.compile(Total(), (torch.ones(3), torch.tensor(2.0)), precision="fp32")
    found = compiled.run({"x": [1.0, 2.0, 3.0], "scale": 2})
    assert found["output"].shape == ()
    assert float(found["output"]) == 12.0


def test_symbols_are_bounded_and_the_same_everywhere() -> None:
    model = program(
        "%a: f32[1,S], %b: f32[1,S]",
        "  %y = mil.add(%a, %b) : f32[1,S]\n  return %y",
        "%y: f32[1,S]",
        "dims S in 2..4",
    )
    assert model.run({"a": np.ones((1, 3)), "b": np.ones((1, 3))})["y"].tolist() == [[2.0, 2.0, 2.0]]
    for size in (1, 5):
        with pytest.raises(UsageError, match=rf"the input 'a' has S={size}; it must lie in 2..4"):
            model.run({"a": np.ones((1, size)), "b": np.ones((1, size))})
    with pytest.raises(UsageError, match="S is 3 in one input and 4 in 'b'"):
        model.run({"a": np.ones((1, 3)), "b": np.ones((1, 4))})
    with pytest.raises(UsageError, match=r"the input 'a' has shape \[2, 3\]"):
        model.run({"a": np.ones((2, 3)), "b": np.ones((2, 3))})


class Counter(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total += x
        return self.total * 1


def test_states_are_checked_and_updated() -> None:
    model = anec.compile(Counter(), (torch.ones(2),), target="iOS18")
    state = {"total": torch.tensor([10.0, 20.0], dtype=torch.float16)}
    assert model.run({"x": [1.0, 2.0]}, state=state)["output"].tolist() == [11.0, 22.0]
    assert model.run({"x": [1.0, 2.0]}, state=state)["output"].tolist() == [12.0, 24.0]
    assert model.run({"x": [1.0, 2.0]})["output"].tolist() == [1.0, 2.0], "absent ones start as zeros"
    with pytest.raises(UsageError, match="there is no state 'totl'") as unknown:
        model.run({"x": [1.0, 2.0]}, state={"totl": torch.zeros(2)})
    assert unknown.value.hint == "did you mean 'total'?"
    with pytest.raises(UsageError, match=r"the state 'total' is \[3\]; the model has a tensor f16\[2\]"):
        model.run({"x": [1.0, 2.0]}, state={"total": torch.zeros(3)})
    with pytest.raises(UsageError, match="the state 'total' is list"):
        model.run({"x": [1.0, 2.0]}, state={"total": [0.0, 0.0]})  # type: ignore[dict-item]
