"""Transposes and reshapes never write more behind ane than without it; rotary pairs become halves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn as tnn

import anec
from ane.ane_programs import made
from anec.dialects import mil
from anec.ir.graph import Module
from anec.passes.ane_layout import AneLayout
from anec.passes.ane_layout.moves import elements_given
from anec.passes.ane_layout.whole_attention import surplus
from anec.testing import run_pass

MIL = "ane-attention,lower-to-mil,mil-cleanup,cse"


def every_two(x: torch.Tensor) -> torch.Tensor:
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


class Rotary(tnn.Module):
    """Attention whose rotary positions lie in pairs of channels, in some of them or all."""

    def __init__(self, heads: int, size: int, turned: int, *, shows_keys: bool = False) -> None:
        super().__init__()
        self.heads, self.turned, self.shows_keys = heads, turned, shows_keys
        self.query, self.key, self.value, self.out = (tnn.Linear(heads * size, heads * size) for _ in range(4))

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        half = torch.arange(self.turned // 2, device=x.device)
        angles = torch.outer(torch.arange(x.shape[2], device=x.device), 0.3 ** half.to(x.dtype))
        cos, sin = (found.repeat_interleave(2, dim=-1).to(x.dtype) for found in (angles.cos(), angles.sin()))
        rest, x = x[..., self.turned :], x[..., : self.turned]
        return torch.cat([x * cos + every_two(x) * sin, rest], dim=-1)

    def forward(self, x: torch.Tensor) -> Any:
        shape = (x.shape[0], x.shape[1], self.heads, -1)
        query, key, value = (p(x).view(shape).transpose(1, 2) for p in (self.query, self.key, self.value))
        key = self.turn(key)
        mixed = tnn.functional.scaled_dot_product_attention(self.turn(query), key, value)
        result = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return (result, key) if self.shows_keys else result


def names(module: Module) -> list[str]:
    return [op.name.removeprefix("mil.") for op in module.main if not op.is_constant]


def compiled(model: tnn.Module, x: torch.Tensor, passes: str) -> Module:
    with torch.no_grad():
        wanted = model.eval()(x)
    made = anec.compile(model, (x,), passes=passes, precision="fp32")
    for found, expected in zip(made.run({made.input_names[0]: x}).values(), _each(wanted), strict=True):
        torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-5, atol=1e-5)
    return made.module


def _each(wanted: Any) -> tuple[torch.Tensor, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


@pytest.mark.parametrize(("batch", "length", "heads", "size", "turned"), [(2, 7, 3, 12, 8), (1, 16, 2, 10, 10)])
def test_rotary_pairs_are_halves(batch: int, length: int, heads: int, size: int, turned: int) -> None:
    torch.manual_seed(0)
    model, x = Rotary(heads, size, turned), torch.randn(batch, length, heads * size)
    module = compiled(model, x, "default,ane")
    assert "stack" not in names(module)
    assert not any("stride" in op.attrs for op in module.main if op.name == "mil.slice_by_index" and not op.is_constant)
    assert elements_given(module.main) <= elements_given(compiled(model, x, "default").main)
    assert "linear" not in names(module)


def test_keys_that_are_seen_keep_their_order() -> None:
    torch.manual_seed(0)
    model, x = Rotary(2, 8, 8, shows_keys=True), torch.randn(2, 5, 16)
    assert "stack" in names(compiled(model, x, "default,ane"))


def test_scores_may_be_bounded_by_tanh() -> None:
    class Capped(Rotary):
        def forward(self, x: torch.Tensor) -> Any:
            shape = (x.shape[0], x.shape[1], self.heads, -1)
            query, key, value = (p(x).view(shape).transpose(1, 2) for p in (self.query, self.key, self.value))
            scores = torch.tanh(query @ key.transpose(2, 3) / 50) * 50 + x.sum(-1)[:, None, None]
            return self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape))

    torch.manual_seed(0)
    found = names(compiled(Capped(2, 8, 8), torch.randn(2, 5, 16), "default,ane"))
    assert {"tanh", "einsum"} <= set(found)


def test_what_made_queries_may_be_deeper_than_the_stack() -> None:
    sums = "\n".join(f"  %s{at + 1} = aten.add.Tensor(%s{at}, %q) : f32[1,2,5,4]" for at in range(500))
    module = anec.read(f"""anec 1
module target=iOS18

func main(%q: f32[1,2,5,4], %k: f32[1,2,7,4]) -> (%y: f32[1,2,5,4]) {{
  %s0 = aten.neg.default(%q) : f32[1,2,5,4]
{sums}
  %y = nn.attention(%s500, %k, %k) : f32[1,2,5,4]
  return %y
}}
""")
    assert "attention" not in names(anec.opt(module, "ane-attention"))


def test_every_second_channel_of_a_projection_is_a_projection() -> None:
    class Pairs(tnn.Module):
        def __init__(self, *, bias: bool) -> None:
            super().__init__()
            self.inner = tnn.Linear(8, 12, bias=bias)

        def forward(self, x: torch.Tensor) -> Any:
            heads = self.inner(x).unflatten(-1, (3, 4))
            return heads[..., ::2] * 2, heads[..., 1::2].relu()

    torch.manual_seed(0)
    # A linear, and a product of rank 4.
    for shape in ((2, 5, 8), (2, 3, 5, 8)):
        found = names(
            compiled(Pairs(bias=len(shape) == 3), torch.randn(shape), "default,lower-to-mil,mil-cleanup,ane-layout")
        )
        assert found.count("linear") + found.count("matmul") == 2
        assert "slice_by_index" not in found


def test_slices_that_overlap_leave_the_projection_whole() -> None:
    module = made(
        lambda m: [
            mil.slice_by_index(x, [0, 0, 0, start], [2, 5, 3, 4], stride=(1, 1, 1, step))
            for x in [mil.reshape(mil.linear(m.x("f32[2,5,8]"), m.w("f32[12,8]")), (2, 5, 3, 4))]
            for start, step in ((0, 2), (1, 1))
        ]
    )
    assert not run_pass(module, AneLayout()).fired


class Feed(tnn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = tnn.Sequential(tnn.LayerNorm(16), tnn.Linear(16, 48), tnn.GELU(), tnn.Linear(48, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.layers(x)
        return out


def test_what_moves_nothing_stays_as_written() -> None:
    x = torch.randn(2, 7, 16)
    made = anec.compile(Feed().eval(), (x,), passes="default,ane", precision="fp32")
    assert "conv" not in names(made.module)
    assert not elements_given(made.module.main)
    (note,) = (note for ran in made.report.passes if ran.spec == "ane-layout" for note in ran.notes)
    assert "would write 448 elements" in note
    assert "where the program writes 0: all ops stay as written" in note
    free = compiled(Feed(), x, "default,ane{bounded=false}")
    assert names(free).count("conv") == 2
    assert elements_given(free.main) == 448


@pytest.mark.parametrize("masked", [False, True])
def test_the_bound_is_what_whole_heads_would_write(masked: bool) -> None:
    class Layer(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value, self.out = (tnn.Linear(24, 24) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            split = [p(x).view(2, 9, 4, 6).transpose(1, 2) for p in (self.query, self.key, self.value)]
            bias = (x @ x.transpose(1, 2))[:, None] if masked else None
            mixed = tnn.functional.scaled_dot_product_attention(*split, attn_mask=bias)
            out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(2, 9, 24))
            return out

    x = torch.randn(2, 9, 24)
    whole = anec.compile(Layer().eval(), (x,), passes="default", precision="fp32").module.main
    split = anec.compile(Layer().eval(), (x,), passes=f"default,{MIL}", precision="fp32").module.main
    assert elements_given(split) - surplus(split) == elements_given(whole)


@pytest.mark.parametrize("shapes", [((2, 7, 1, 5), (2, 5, 1, 6)), ((2, 7, 3, 5), (2, 5, 3, 4))])
def test_a_product_of_the_models_own_is_no_head(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    class Product(tnn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            x, y = x.transpose(1, 3) * 2, y.transpose(1, 3).tanh()
            return torch.einsum("nchw,nwhu->nchu", x.transpose(1, 3), torch.softmax(y.transpose(1, 3), 1))

    torch.manual_seed(0)
    x, y = map(torch.randn, shapes)
    made = anec.compile(Product().eval(), (x, y), passes="default,ane", precision="fp32")
    (found,) = made.run(dict(zip(made.input_names, (x, y), strict=True))).values()
    torch.testing.assert_close(torch.as_tensor(found), Product()(x, y), rtol=1e-5, atol=1e-5)
    plain = anec.compile(Product().eval(), (x, y), passes="default", precision="fp32").module.main
    assert elements_given(made.module.main) <= elements_given(plain)
