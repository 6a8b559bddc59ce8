"""Weights: references to the model's own tensors; states; what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from anec.errors import AnecError, UnsupportedError
from anec.frontend import Lifted, from_torch
from anec.frontend.weights import make_weight
from anec.ir.types import StateType
from anec.reference.evaluate import evaluate

Lift = Callable[..., Lifted]


class Holds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)
        self.register_buffer("kept", torch.randn(4))
        self.register_buffer("passing", torch.randn(4), persistent=False)
        self.plain = torch.randn(4)
        self.scalar = nn.Parameter(torch.tensor(2.0))
        self.unused = nn.Parameter(torch.ones(1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.kept + self.passing - self.plain * self.scalar + torch.tensor([1.0, 2, 3, 4])


def test_no_byte_is_copied(lifted: Lift) -> None:
    model = Holds()
    module = lifted(model, torch.randn(2, 6)).module
    own = {
        "linear.weight": model.linear.weight,
        "linear.bias": model.linear.bias,
        "kept": model.kept,
        "passing": model.passing,
        "plain": model.plain,
        "scalar": model.scalar,
    }
    assert set(module.weights) == {*own, "constant"}
    for name, tensor in own.items():
        weight = module.weights[name].tensor()
        assert weight.data_ptr() == tensor.data_ptr()
        assert weight.stride() == tensor.stride()
        assert not weight.requires_grad
    assert str(module.weights["scalar"].type) == "f32[]"


def test_views_stay_views(lifted: Lift) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            base = torch.randn(8, 3)
            self.register_buffer("turned", base.t())
            self.register_buffer("wide", base[:1].expand(8, 3))
            self.register_buffer("part", base[2:5])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ self.turned @ self.wide).sum() + self.part

    model = Views()
    module = lifted(model, torch.randn(2, 3)).module
    for name in ("turned", "wide", "part"):
        tensor, weight = getattr(model, name), module.weights[name].tensor()
        assert (weight.data_ptr(), weight.stride()) == (tensor.data_ptr(), tensor.stride())


def test_tied_weights_are_one(lifted: Lift) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(x))

    module = lifted(Tied(), torch.tensor([[1, 2]])).module
    assert len(module.weights) == 1


def test_constants_of_torch_are_named_after_their_place(lifted: Lift) -> None:
    class Part(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.tensor([1.0, 2.0]) + torch.tensor([3.0, 4.0])

    found = lifted(nn.Sequential(Part(), Part()), torch.randn(2))
    assert list(found.module.weights) == ["0.constant", "0.constant_1", "1.constant", "1.constant_1"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_nan_is_refused_by_name(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(3, 3)).to(dtype)
    with torch.no_grad():
        model[0].bias[1] = float("nan")
    with pytest.raises(AnecError, match=r"the weight '0\.bias' holds NaN"):
        from_torch(model, torch.ones(1, 3, dtype=dtype))
    assert from_torch(model, torch.ones(1, 3, dtype=dtype), check_nan=False).module.weights["0.bias"]


def test_infinities_are_allowed(lifted: Lift) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.tensor([0.0, float("-inf"), float("inf")]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.maximum(x, self.mask)

    lifted(Masked(), torch.randn(3))


def test_infinities_are_no_nan() -> None:
    make_weight("w", torch.full((70000,), 60000.0, dtype=torch.float16))
    make_weight("w", torch.tensor([float("inf"), float("-inf")]))
    make_weight("w", torch.tensor([1, 2]))
    make_weight("w", torch.empty(0))
    with pytest.raises(AnecError, match="holds NaN"):
        make_weight("w", torch.tensor([float("inf"), float("-inf"), float("nan")]))


def test_what_is_no_weight() -> None:
    with pytest.raises(AnecError, match="'w' has no data"):
        make_weight("w", torch.empty(3, device="meta"))
    with pytest.raises(UnsupportedError, match="not a dense tensor"):
        make_weight("w", torch.eye(3).to_sparse())
    with pytest.raises(UnsupportedError, match="not a dense tensor"):
        make_weight("w", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))
    with pytest.raises(UnsupportedError, match=r"'w': the dtype torch\.float8"):
        make_weight("w", torch.ones(2).to(torch.float8_e4m3fn))
    with pytest.raises(UnsupportedError, match="is a str"):
        make_weight("w", "text")
    with pytest.raises(AnecError, match="has no data"):
        from_torch(nn.Linear(2, 2, device="meta"), torch.ones(1, 2, device="meta"))


# -- states --------------------------------------------------------------------------------------------


class Cache(nn.Module):
    """Two buffers that are written, one through a view, and one that is only read."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Module()
        self.part.register_buffer("keys", torch.zeros(4, 3))
        self.register_buffer("count", torch.zeros((), dtype=torch.int32))
        self.register_buffer("offset", torch.ones(3))

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.part.keys[1:3] = x + self.offset
        return self.part.keys.sum(0) * self.count + position


def test_written_buffers_become_states() -> None:
    model = Cache()
    args = (torch.randn(2, 3), torch.ones(3))
    found = from_torch(model, args)
    graph = found.module.main
    states = {value.name: str(value.type) for value in graph.states()}
    assert states == {"part_keys": "state<f32[4,3]>", "count": "state<i32[]>"}
    assert [port.name for port in graph.signature.inputs][:2] == ["x", "position"]
    assert {port.kind.value for port in graph.signature.inputs[2:]} == {"state"}
    assert {port.path for port in graph.signature.inputs} >= {"part.keys", "count", "args[0]"}
    names = [op.name for op in graph]
    assert names.count("nn.read_state") == 2
    assert names[-2:] == ["nn.write_state"] * 2
    assert all(op.origin.place for op in graph if op.name.startswith("nn."))
    assert list(found.module.weights) == ["offset"]
    assert list(found.inputs) == ["x", "position"]


def test_states_carry_over_between_calls(lifted: Lift) -> None:
    from anec.dialects import registry
    from anec.ir import diff
    from anec.ir.parser import parse_module
    from anec.ir.verify import verify

    model = Cache()
    found = from_torch(model, (torch.randn(2, 3), torch.ones(3)))
    verify(found.module)
    assert diff.same(parse_module(str(found.module), registry), found.module)
    state: dict[str, torch.Tensor] = {}
    for _ in range(3):
        args = (torch.randn(2, 3), torch.randn(3))
        eager = found.name_outputs(model(*args))["output"]
        ours = evaluate(found.module, found.bind_inputs(args), state=state)["output"]
        torch.testing.assert_close(ours, eager, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(state["part_keys"], model.part.keys)
    assert int(state["count"]) == 3


def test_states_need_ios18() -> None:
    with pytest.raises(
        UnsupportedError, match=r"writes the buffer '(count|part\.keys)', and iOS17 has no states"
    ) as caught:
        from_torch(Cache(), (torch.randn(2, 3), torch.ones(3)), target="iOS17")
    assert "test_weights.py:" in str(caught.value.where)
    assert "iOS18" in str(caught.value.hint)


def test_states_start_at_zeros() -> None:
    model = Cache()
    model.part.keys.fill_(1.0)
    with pytest.raises(UnsupportedError, match=r"'part\.keys' does not start at zeros") as caught:
        from_torch(model, (torch.randn(2, 3), torch.ones(3)))
    assert "test_weights.py:" in str(caught.value.where)


def test_a_state_that_is_only_written(lifted: Lift) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.copy_(x)
            return x * 2

    found = from_torch(Last(), torch.ones(3))
    names = [op.name for op in found.module.main]
    assert names.count("nn.write_state") == 1
    assert "nn.read_state" not in names
    assert isinstance(found.module.main.inputs[-1].type, StateType)
