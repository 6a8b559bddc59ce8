"""Lifting: what inputs, outputs and values are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from anec.errors import UsageError
from anec.frontend import from_torch
from lifting import Deep, Lift, Returns, inputs_of, outputs_of


class Nested(nn.Module):
    def forward(
        self,
        x: torch.Tensor,
        batch: dict[str, torch.Tensor],
        states: list[torch.Tensor],
        flag: bool = True,
        scale: float = 2.0,
        nothing: None = None,
        *rest: torch.Tensor,
        mask: torch.Tensor | None = None,
        **more: torch.Tensor,
    ) -> dict[str, Any]:
        y = x + batch["pixel_values"] * scale + states[0] - states[1] + rest[0] * rest[1]
        return {
            "logits": y if flag else -y,
            "hidden": (y * mask, y + more["extra"]),
            "none": None,
            "one": {"two": y - 1},
        }


def test_names_of_nested_inputs_and_outputs(lifted: Lift) -> None:
    def x() -> torch.Tensor:
        return torch.randn(2, 3)

    found = lifted(
        Nested().eval(),
        (x(), {"pixel_values": x()}, [x(), x()], True, 2.0, None, x(), x()),
        {"mask": x(), "extra": x()},
    )
    assert inputs_of(found) == [
        "x", "batch_pixel_values", "states_0", "states_1", "rest_0", "rest_1", "mask", "extra",
    ]  # fmt: skip
    assert outputs_of(found) == ["logits", "hidden_0", "hidden_1", "one_two"]
    signature = found.module.main.signature
    assert [port.path for port in signature.inputs][1:4] == ["args[1]['pixel_values']", "args[2][0]", "args[2][1]"]
    assert signature.inputs[-1].path == "kwargs['extra']"
    assert [port.path for port in signature.outputs] == ["logits", "hidden[0]", "hidden[1]", "one['two']"]
    assert signature.notes == ["flag=True is fixed", "scale=2.0 is fixed"]


@dataclass
class Result:
    boxes: torch.Tensor
    scores: torch.Tensor


torch.export.register_dataclass(Result, serialized_type_name="tests.frontend.Result")


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda y: y, ["output"]),
        (lambda y: (y,), ["output"]),
        (lambda y: (y, y * 2), ["output_0", "output_1"]),
        (lambda y: [y, (y * 2, y * 3)], ["output_0", "output_1_0", "output_1_1"]),
        (lambda y: Result(y, y * 2), ["boxes", "scores"]),
        (lambda y: {"x": y, "a.b": y * 2}, ["x_out", "a_b"]),
        (lambda y: {"class": y, "0": y * 2}, ["class", "_0"]),
        (lambda y: (None, y, None), ["output"]),
        (lambda y: {"a_b": y, "a": {"b": y * 2}}, ["a_b", "a_b_1"]),
        (torch.return_types.max, ["output_0", "output_1"]),
    ],
)
def test_names_of_outputs(lifted: Lift, function: Callable[[torch.Tensor], Any], names: list[str]) -> None:
    if function is torch.return_types.max:

        def function(y: torch.Tensor) -> Any:
            return y.max(1)

    assert outputs_of(lifted(Returns(function), torch.randn(2, 3))) == names


def test_names_can_be_given(lifted: Lift) -> None:
    model, args = Nested(), (torch.ones(2), {"pixel_values": torch.ones(2)}, [torch.ones(2), torch.ones(2)])
    rest = (True, 2.0, None, torch.ones(2), torch.ones(2))
    kwargs = {"mask": torch.ones(2), "extra": torch.ones(2)}
    by_name = {"batch_pixel_values": "image", "x": "query"}
    found = lifted(model, args + rest, kwargs, input_names=by_name, output_names=["a", "b", "c", "d"])
    assert inputs_of(found)[:2] == ["query", "image"]
    assert outputs_of(found) == ["a", "b", "c", "d"]
    assert "%image: f32[2]" in str(found.module)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_names": ["a", "b"]}, "2 input names for 1 inputs"),
        ({"input_names": {"y": "a"}}, "no input 'y' to rename"),
        ({"input_names": ["1st"]}, "not a legal input name"),
        ({"input_names": "x"}, "is a string"),
        ({"output_names": ["a", "a"]}, "two outputs would be called 'a'"),
        ({"output_names": ["a"]}, "1 output names for 2 outputs"),
    ],
)
def test_wrong_names(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_torch(Returns(lambda y: (y, y * 2)), torch.ones(2), **options)


def test_values_are_named_after_the_module_path(lifted: Lift) -> None:
    names = [op.result.name for op in lifted(Deep(), torch.randn(1, 3)).module.main]
    assert names == ["layers_0_0_linear", "layers_0_1_relu", "add", "layers_1_0_linear", "layers_1_1_relu", "add_1"]


def test_an_insertion_leaves_names_elsewhere_alone(lifted: Lift) -> None:
    class More(Deep):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.exp().sin())

    plain = {op.result.name for op in lifted(Deep(), torch.randn(1, 3)).module.main}
    more = {op.result.name for op in lifted(More(), torch.randn(1, 3)).module.main}
    assert plain < more


def test_an_input_called_like_a_weight(lifted: Lift) -> None:
    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3))

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * self.weight

    found = lifted(Clash(), torch.randn(3))
    assert inputs_of(found) == ["weight"]
    assert list(found.module.weights) == ["weight"]
