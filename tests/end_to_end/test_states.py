"""Models with memory, from PyTorch to packages on disk: what one call writes the next one reads."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import anec
from anec.errors import AnecError, UnsupportedError

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "llama_cache"))
STEPS = 5


class Memory(nn.Module):
    """A cache of eight rows."""

    rows = 1

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(1, 2, 8, 4))

    def arguments(self, step: int) -> dict[str, torch.Tensor]:
        x = torch.randn(1, 2, self.rows, 4, generator=torch.Generator().manual_seed(step))
        return {"x": x, "position": torch.tensor([step])}


class IndexCopy(Memory):
    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.cache.index_copy_(2, position, x)
        return self.cache.cumsum(2)


class Assigned(Memory):
    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.cache[:, :, position] = x
        return self.cache * 2


class FromTheEnd(Memory):
    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.cache[:, :, position[0] - 3] = x[:, :, 0]
        return self.cache * 2


class Sliced(Memory):
    rows = 2

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        start = position.item()
        torch._check(start >= 0)
        torch._check(start + 2 <= 8)
        self.cache[:, :, start : start + 2] = x
        visible = torch.arange(8) <= start
        return self.cache.masked_fill(~visible[:, None], -1.0)


class Chunk(Memory):
    rows = 3

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.cache.index_copy_(2, position + torch.arange(3), x)
        return self.cache * 2


class Rolled(Memory):
    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.cache.copy_(torch.cat([self.cache[:, :, 1:], x], 2))
        return self.cache + position


class Counting(Memory):
    """Integers beyond 2048, of both signs, small ones, and truths."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("large", torch.zeros(2, 3, dtype=torch.int64))
        self.register_buffer("bytes", torch.zeros(3, dtype=torch.uint8))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.bool))

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.cache.index_copy_(2, self.count + torch.arange(1), x)
        self.count += 1
        self.large += 123456789 * (position - 2) * torch.arange(6).reshape(2, 3) - 4097
        self.bytes += 99
        self.seen.copy_(self.seen | (position > 2))
        return self.cache * 1, self.count * 1, self.large * 1, self.bytes + 0, self.seen.float()


class Unregistered(Memory):
    """A cache in an object that torch knows nothing of, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.held = SimpleNamespace(rows=torch.zeros(1, 2, 8, 4), other=self.cache, count=torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.held.rows.index_copy_(2, torch.arange(1) + self.held.count, x)
            self.held.other.add_(x)
            self.held.count.add_(1)
        return self.held.rows * self.cache


class Uncounted(Memory):
    """Counters that nothing depends on but each other."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("twice", torch.tensor(0))

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.twice.copy_(self.calls * 2)
        self.cache += x
        return self.cache * position


class Mean(Memory):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.0))

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.mean.lerp_(x.abs().mean(), 0.25)
        return self.mean * position


def states(model: anec.CompiledModel) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.make_state().items()}


def difference(found: np.ndarray, wanted: torch.Tensor) -> float:
    scale = max(1e-3, float(wanted.double().abs().max()))
    return float((torch.as_tensor(found).double() - wanted.double()).abs().max()) / scale


CACHE = {"cache": [1, 2, 8, 4]}


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        (IndexCopy, CACHE),
        (Assigned, CACHE),
        (FromTheEnd, CACHE),
        (Sliced, CACHE),
        (Chunk, CACHE),
        (Rolled, CACHE),
        (Counting, {**CACHE, "count": [3], "large": [3, 2, 3], "bytes": [3], "seen": [2]}),
        (Unregistered, {**CACHE, "buffer": [3], "buffer_1": [1, 2, 8, 4]}),
        (Uncounted, CACHE),
        (Mean, {"mean": [1]}),
    ],
    ids=lambda given: getattr(given, "__name__", None),
)
def test_several_steps(kind: type[Memory], held: dict[str, list[int]], tmp_path: Path) -> None:
    model, eager = kind().eval(), kind().eval()
    takes = [name for name in ("x", "position") if name in kind.forward.__annotations__]
    first = {name: model.arguments(0)[name] for name in takes}
    compiled = anec.compile(model, (), first, passes="default,ane")
    compiled.save(tmp_path / "m.mlpackage")
    loaded = anec.load(tmp_path / "m.mlpackage")
    assert states(compiled) == states(loaded) == held
    assert loaded.input_names == takes
    assert sorted(loaded.state_names) == sorted(held)
    exact: dict[str, torch.Tensor] = {}
    rounded = loaded.make_state()
    for step in range(STEPS):
        given = {name: model.arguments(step)[name] for name in takes}
        wanted = eager(**given)
        wanted = [tensor.clone() for tensor in (wanted if isinstance(wanted, tuple) else (wanted,))]
        for found, one in zip(compiled.run(given, state=exact, precision="double").values(), wanted, strict=True):
            assert difference(found, one) < 1e-6  # eager is float32
        for found, one in zip(loaded.run(given, state=rounded).values(), wanted, strict=True):
            # float16 in program and states; integers are exact.
            assert difference(found, one) < (4e-3 if one.is_floating_point() else 1e-12)
    assert all(tensor.dtype is torch.float16 for tensor in rounded.values())


def test_the_model_is_left_as_it_was() -> None:
    model = Unregistered().eval()
    anec.compile(model, (model.arguments(0)["x"],))
    assert not model.held.count.any()
    assert not model.held.rows.any()


def test_what_is_written_goes_into_the_state_at_once() -> None:
    compiled = anec.compile(IndexCopy().eval(), (), IndexCopy().arguments(0), passes="default,ane,-ane-legalize")
    names = [op.defn.root for op in compiled.module.main]
    assert names == [
        "cast", "read_state", "mul", "add", "slice_update", "coreml_update_state", "cumsum", "cast",
    ]  # fmt: skip
    update = next(op for op in compiled.module.main if op.name == "mil.coreml_update_state")
    assert [user.name for user in update.result.users] == ["mil.cumsum"]


def test_counters_are_told_of() -> None:
    uncounted = anec.compile(Uncounted().eval(), (), Uncounted().arguments(0))
    notes = [note for done in uncounted.report.passes for note in done.notes]
    assert "the state calls only counts, and nothing depends on it: it was dropped" in notes
    counting = anec.compile(Counting().eval(), (), Counting().arguments(0))
    notes = [note for done in counting.report.passes for note in done.notes]
    assert "the state large holds integers: 3 digits of base 2048 in its first axis" in notes


@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
def test_before_ios18_the_error_names_buffer_and_line(target: str) -> None:
    with pytest.raises(UnsupportedError, match="the model writes the buffer 'cache'") as caught:
        anec.compile(IndexCopy().eval(), (), IndexCopy().arguments(0), target=target)
    assert "test_states.py" in str(caught.value.where)


def test_a_state_starts_at_zeros() -> None:
    model = IndexCopy().eval()
    model.cache.fill_(1.0)
    with pytest.raises(UnsupportedError, match="'cache' does not start at zeros"):
        anec.compile(model, (), model.arguments(0))


def test_an_input_that_is_stored_stays_the_callers() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("last", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            before = self.last.clone()
            self.last.copy_(x)
            return before

    x = torch.ones(3, dtype=torch.float16)
    compiled = anec.compile(Last().eval(), (torch.zeros(3),), io_dtype="fp16")
    state = compiled.make_state()
    compiled.run({"x": x}, state=state)
    x.zero_()
    assert compiled.run({"x": x}, state=state)["output"].tolist() == [1.0, 1.0, 1.0]


def test_a_part_of_written_memory_is_refused() -> None:
    class Parts(Memory):
        def __init__(self) -> None:
            super().__init__()
            self.held = SimpleNamespace(rows=torch.zeros(4, 2))
            self.held.first = self.held.rows[0]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.held.rows.add_(x.sum())
            return self.held.first * 2

    with pytest.raises(AnecError, match="shares a part of its memory") as caught:
        anec.compile(Parts().eval(), (torch.randn(1, 2, 1, 4),))
    assert "test_states.py" in str(caught.value.where)


# -- language models -----------------------------------------------------------------------------------


def language_model(kind: str) -> tuple[Any, Any]:
    """A model with grouped heads where it has them, and a step of it with transformers' static cache."""
    transformers = pytest.importorskip("transformers")
    executorch = pytest.importorskip("transformers.integrations.executorch")
    torch.manual_seed(3)
    shared: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
    }  # fmt: skip
    config = {
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2,
            bos_token_id=0, eos_token_id=0,
        ),
        "qwen2": lambda: transformers.Qwen2Config(**shared),
        "gemma3": lambda: transformers.Gemma3TextConfig(
            **shared, head_dim=8, sliding_window=8, layer_types=["sliding_attention", "full_attention"],
        ),
    }[kind]()  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.generation_config.use_cache = True
    model.generation_config.cache_implementation = "static"
    return model, executorch.TorchExportableModuleWithStaticCache(model, batch_size=2, max_cache_len=16)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "gemma3"])
def test_static_caches_of_transformers(kind: str, tmp_path: Path) -> None:
    """Ten tokens of two sequences, beyond gemma's window of eight."""
    model, step = language_model(kind)
    tokens = torch.randint(1, 64, (2, 10), generator=torch.Generator().manual_seed(1))
    example = {"input_ids": tokens[:, :1], "cache_position": torch.tensor([0])}
    compiled = anec.compile(step, (), example, passes="default,ane", precision="fp32")
    assert compiled.state_names == ["key_cache_0", "value_cache_0", "key_cache_1", "value_cache_1"]
    compiled.save(tmp_path / "m.mlpackage")
    loaded = anec.load(tmp_path / "m.mlpackage")
    exact: dict[str, torch.Tensor] = {}
    rounded = loaded.make_state()
    with torch.no_grad():
        wanted = model(tokens, use_cache=False).logits
    for position in range(10):
        given = {"input_ids": tokens[:, position : position + 1], "cache_position": [position]}
        one = wanted[:, position]
        (found,) = loaded.run(given, state=exact, precision="double").values()
        assert difference(found[:, 0], one) < 1e-4
        (found,) = loaded.run(given, state=rounded).values()
        assert difference(found[:, 0], one) < 5e-3  # the states round to float16


def test_the_example_decodes_what_pytorch_decodes(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    decode = pytest.importorskip("decode")
    found = decode.run(tmp_path / "llama.mlpackage", "fp16")
    assert found["states"] == ["key_cache_0", "value_cache_0", "key_cache_1", "value_cache_1"]
    assert found["tokens"] == found["eager tokens"]
    assert len(set(found["tokens"])) > 3
    assert found["psnr"] > 45
