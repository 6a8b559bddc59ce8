"""Calls of the torch model, mapped to public names and back."""

from __future__ import annotations

import doctest
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from anec.errors import UsageError
from anec.frontend import Lifted, from_torch, names


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


class Net(nn.Module):
    def forward(
        self, x: torch.Tensor, batch: dict[str, torch.Tensor], pair: Pair | None = None, scale: int = 2
    ) -> dict[str, Any]:
        assert pair is not None
        y = x * scale + batch["a"] - batch["b"]
        return {"sum": y + pair.left, "parts": [y, pair.right * 2], "nothing": None}


def tensors(count: int) -> list[torch.Tensor]:
    return [torch.full((2,), float(i)) for i in range(count)]


@pytest.fixture
def net() -> Lifted:
    x, a, b, left, right = tensors(5)
    return from_torch(Net(), (x, {"a": a, "b": b}), {"pair": Pair(left, right), "scale": 3})


def test_inputs_by_position_or_name(net: Lifted) -> None:
    x, a, b, left, right = tensors(5)
    wanted = {"x": x, "batch_a": a, "batch_b": b, "pair_left": left, "pair_right": right}
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((x, {"a": a, "b": b}), {"pair": Pair(left, right), "scale": 3}),
        ((x, {"b": b, "a": a}, Pair(left, right)), {}),
        ((), {"pair": Pair(left, right), "batch": OrderedDict(b=b, a=a), "x": x}),
        ((x,), {"scale": 3, "pair": Pair(left, right), "batch": {"a": a, "b": b}}),
    ]
    for args, kwargs in calls:
        bound = net.bind_inputs(args, kwargs)
        assert list(bound) == list(wanted)
        assert all(bound[name] is tensor for name, tensor in wanted.items())


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (2, {}, r"the input pair\['left'\] is missing"),
        (1, {"pair": 1}, r"the input batch\['a'\] is missing"),
        (2, {"pair": 1, "scale": 4}, "scale=4, but the model was compiled with 3"),
        (2, {"pair": 1, "scales": 4}, "no argument 'scales'"),
        (2, {"pair": 1, "x": 1}, "'x' is given twice"),
        (5, {}, "5 arguments for 4"),
    ],
)
def test_wrong_calls(net: Lifted, args: int, kwargs: dict[str, Any], message: str) -> None:
    x, a, b, left, right = tensors(5)
    given = (x, {"a": a, "b": b}, Pair(left, right), 3, x)
    if "pair" in kwargs:
        kwargs["pair"] = Pair(left, right)
    with pytest.raises(UsageError, match=message):
        net.bind_inputs(given[:args], kwargs)


def test_another_structure_is_refused(net: Lifted) -> None:
    x, a, b, left, right = tensors(5)
    with pytest.raises(UsageError, match="batch has 3 parts; at export it had 2"):
        net.bind_inputs((x, [a, b, a]), {"pair": Pair(left, right)})
    with pytest.raises(UsageError, match="batch is a Tensor; at export it was a dict"):
        net.bind_inputs((x, a), {"pair": Pair(left, right)})
    with pytest.raises(UsageError, match=r"the input x is a float"):
        net.bind_inputs((1.0, {"a": a, "b": b}), {"pair": Pair(left, right)})


def test_outputs_by_name(net: Lifted) -> None:
    x, a, b, left, right = tensors(5)
    result = Net()(x, {"a": a, "b": b}, Pair(left, right), scale=3)
    named = net.name_outputs(result)
    assert list(named) == ["sum", "parts_0", "parts_1"]
    assert named["parts_1"] is result["parts"][1]
    with pytest.raises(UsageError, match="output is a Tensor; at export it was a dict"):
        net.name_outputs(x)
    with pytest.raises(UsageError, match=r"output\['sum'\] is a int, not a tensor"):
        net.name_outputs({**result, "sum": 1})


def test_defaults_may_be_left_out(net: Lifted) -> None:
    x, a, b, left, right = tensors(5)
    assert len(net.bind_inputs((x, {"a": a, "b": b}, Pair(left, right)))) == 5


def test_programs_that_do_not_carry_forwards_names() -> None:
    x, a, b, left, right = tensors(5)
    program = torch.export.export(Net(), (x, {"a": a, "b": b}), {"pair": Pair(left, right), "scale": 3})
    signature = program.module_call_graph[0].signature
    assert signature is not None
    signature.forward_arg_names = None
    bound = from_torch(program).bind_inputs((x, {"a": a, "b": b}), {"pair": Pair(left, right)})
    assert list(bound) == ["x", "batch_a", "batch_b", "pair_left", "pair_right"]


def test_documented_examples() -> None:
    assert doctest.testmod(names).failed == 0


@pytest.mark.parametrize(
    ("path", "op", "stem"),
    [
        ("model.layers.0.self_attn.q_proj", "linear", "layers_0_self_attn_q_proj_linear"),
        ("encoder.layers.encoder_layer_3.mlp.0", "linear", "encoder_layer_3_mlp_0_linear"),
        ("layer1.0.conv1", "convolution", "layer1_0_conv1_convolution"),
        ("0", "relu", "_0_relu"),
        ("bert.embeddings.LayerNorm", "layer_norm", "embeddings_LayerNorm_layer_norm"),
        ("", "_native_batch_norm_legit_no_training", "native_batch_norm_legit_no_training"),
        ("", "__and__", "and"),
    ],
)
def test_stems(path: str, op: str, stem: str) -> None:
    assert names.value_stem(path, op) == stem


def test_unique_names() -> None:
    unique: Callable[..., list[str]] = names.unique
    assert unique(["a", "a", "a_1", "b"], ["b"]) == ["a", "a_1", "a_1_1", "b_1"]
