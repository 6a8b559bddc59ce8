"""Binding by name: which inputs there are, what values become, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from anec.errors import UsageError
from anec.frontend import ExampleCall, Lifted, bind_call, from_torch
from anec.frontend.bound_values import describe

Lift = Callable[..., Lifted]


class Nested(nn.Module):
    def forward(
        self,
        batch: dict[str, torch.Tensor],
        sizes: list[int],
        scale: float = 1.0,
        mask: Any = None,
        *,
        flag: bool = True,
    ) -> torch.Tensor:
        x = batch["x"]
        for n in batch["grid"].flatten().tolist():
            x = x + n
        if mask is not None:
            x = x[torch.as_tensor(mask) > 0]
        return x.reshape(sizes) * scale if flag else x


def call() -> tuple[dict[str, torch.Tensor], list[int]]:
    return {"x": torch.randn(4, 3), "grid": torch.tensor([[0, 0]], dtype=torch.int32)}, [3, 4]


def inputs(found: Lifted) -> list[str]:
    return [port.name for port in found.module.main.signature.inputs]


def test_names_are_the_signature_s() -> None:
    found = from_torch(Nested(), call(), bind={"batch_grid": [[1, 2, 3]], "scale": 2, "flag": False})
    assert inputs(found) == ["batch_x"]
    assert found.bound == {"batch_grid": "[[1, 2, 3]]", "scale": "2", "flag": "False"}
    assert "batch_grid is bound to [[1, 2, 3]]" in found.module.main.signature.notes


def test_an_argument_may_be_bound_as_a_whole(lifted: Lift) -> None:
    args = call()
    grid = {"x": args[0]["x"], "grid": args[0]["grid"]}
    found = from_torch(Nested(), args, bind={"batch": grid, "sizes": [2, 6]})
    assert inputs(found) == []
    assert found.module.main.outputs[0].shape == (2, 6)


def test_an_argument_the_example_leaves_out(lifted: Lift) -> None:
    found = from_torch(Nested(), call(), bind={"batch_grid": [[1]], "mask": [1, 0, 1, 0], "sizes": [6, 1]})
    assert inputs(found) == ["batch_x"]
    assert found.module.main.outputs[0].shape == (6, 1)


@pytest.mark.parametrize(
    ("example", "given", "dtype"),
    [
        (torch.zeros(1, dtype=torch.int32), [[1, 2]], torch.int32),
        (torch.zeros(1, dtype=torch.int64), np.array([3], np.int32), torch.int64),
        (torch.zeros(1, dtype=torch.bool), [1, 0], torch.bool),
        (torch.zeros(1), [1, 2], torch.float32),
        (torch.zeros(1, dtype=torch.float16), 0.1, torch.float16),
        (None, [1, 2], torch.int64),
        (None, [1.5, 2], torch.float32),
        (None, [True], torch.bool),
        (None, np.array([1.5]), torch.float64),
    ],
)
def test_dtypes_come_from_the_example(example: Any, given: Any, dtype: torch.dtype) -> None:
    found = bind_call(Nested(), ({}, [], 1.0, example), {}, {"mask": given}).values["mask"]
    assert found.dtype is dtype
    assert found.shape == np.shape(given)


@pytest.mark.parametrize(
    ("bind", "message", "hint"),
    [
        ({"batch_gird": 1}, "no input 'batch_gird' to bind", "did you mean 'batch_grid'"),
        ({"zzz": 1}, "no input 'zzz' to bind", "inputs: batch_x, batch_grid, sizes_0, sizes_1, scale, mask, flag"),
        ({"batch_grid": [[1.5]]}, r"bound to \[\[1.5\]\], but the example is torch.int32", ""),
        ({"batch_grid": [[2**40]]}, "but the example is torch.int32", ""),
        ({"batch_grid": "many"}, "no numbers of one shape", ""),
        ({"batch_grid": [[1], [1, 2]]}, "no numbers of one shape", ""),
        ({"sizes": [1, 2, 3]}, "the example has 2 parts", ""),
    ],
)
def test_what_does_not_fit(bind: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        from_torch(Nested(), call(), bind=bind)
    assert hint in str(caught.value.hint)


class Plain(nn.Module):
    def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        return x * int(n[0])


@pytest.mark.parametrize(
    "shapes", [{"x": None, "n": {0: Dim("k", min=2)}}, (None, {0: Dim("k", min=2)}), {"n": (Dim("k"),)}]
)
def test_bound_and_dynamic(shapes: Any) -> None:
    with pytest.raises(UsageError, match="n is bound and dynamic"):
        from_torch(Plain(), (torch.ones(3), torch.tensor([2, 3])), dynamic_shapes=shapes, bind={"n": [2, 2]})


@pytest.mark.parametrize(
    "shapes", [{"x": {0: Dim("k", min=2)}}, {"x": {0: Dim("k", min=2)}, "n": None}, ({0: Dim("k", min=2)}, None)]
)
def test_dynamic_shapes_need_not_name_what_is_bound(shapes: Any) -> None:
    found = from_torch(Plain(), (torch.ones(3), torch.tensor([2])), dynamic_shapes=shapes, bind={"n": [2]})
    assert str(found.module.main.inputs[0].type) == "f32[k]"


def test_an_exported_program_binds_nothing() -> None:
    program = torch.export.export(nn.ReLU(), (torch.ones(2),))
    with pytest.raises(UsageError, match="exported already"):
        from_torch(program, bind={"input": 1})


def test_a_forward_of_the_instance_s_own_comes_back() -> None:
    model = Plain()
    model.forward = own = lambda x, n: x + int(n[0])  # type: ignore[method-assign]
    assert inputs(from_torch(model, (torch.ones(3), torch.tensor([2])), bind={"n": [3]})) == ["x"]
    assert model.forward is own


def test_examples_take_other_shapes() -> None:
    example = ExampleCall.of(Nested(), call(), None)
    before = example.args[0]["x"]
    example.resize("batch_x", (5, 3))
    assert torch.equal(example.args[0]["x"], torch.cat([before, before[:1]]))
    example.resize("batch_grid", ())
    assert example.args[0]["grid"].shape == ()
    for name, message in (("batch_y", "no input 'batch_y' to resize"), ("sizes_0", "is no tensor")):
        with pytest.raises(UsageError, match=message):
            example.resize(name, (2,))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor([[1, 28, 28]]), "[[1, 28, 28]]"),
        (np.array(2.5), "2.5"),
        (None, "None"),
        ("mean", "'mean'"),
        (list(range(1000)), "a list of 1000"),
    ],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert describe(value) == text


def test_many_numbers_are_told_by_their_digest() -> None:
    one, other = describe(torch.zeros(100)), describe(torch.arange(100.0))
    assert one.startswith("float32[100] ")
    assert one != other
    assert describe(torch.zeros(100)) == one
