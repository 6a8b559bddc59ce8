"""ane-layout: every op means the same in every form, and the forms chosen move less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn as tnn

import anec
from anec.dialects import mil
from anec.ir.graph import Value
from anec.ir.verify import verify
from anec.passes.ane_layout import AneLayout
from anec.passes.ane_layout.apply import Rebuilder
from anec.passes.ane_layout.forms import Form, forms_of, places
from anec.passes.ane_layout.problem import Problem
from anec.passes.dce import remove_dead_ops
from anec.pipeline.base import Context
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from anec.testing import run_pass
from laid_out import Program, compiled, counts

SHAPES = {2: (3, 4), 3: (2, 5, 4), 4: (2, 3, 5, 4)}


Make = Callable[[Program, Value], object]
OPS: dict[str, Make] = {
    "relu": lambda p, x: mil.relu(x),
    "add a row": lambda p, x: mil.add(x, p.weight(x.shape[-1])),
    "add a column": lambda p, x: mil.add(p.weight(*x.shape[-2:-1], 1), x),
    "add a number": lambda p, x: mil.add(x, 2.5),
    "mul by itself, broadcast": lambda p, x: mil.mul(x, mil.reduce_sum(x, axes=(-1,), keep_dims=True)),
    "add of a lower rank": lambda p, x: mil.add(x, mil.reduce_max(x, axes=(0,), keep_dims=False)),
    "select": lambda p, x: mil.select(mil.greater(x, 0.0), x, mil.exp(x)),
    "linear": lambda p, x: mil.linear(x, p.weight(6, x.shape[-1]), p.weight(6)),
    "linear without bias": lambda p, x: mil.linear(x, p.weight(6, x.shape[-1])),
    "matmul": lambda p, x: mil.matmul(x, p.weight(x.shape[-1], 6)),
    "matmul, transposed": lambda p, x: mil.matmul(x, p.weight(6, x.shape[-1]), transpose_y=True),
    "computed product": lambda p, x: mil.matmul(x, x, transpose_y=True),
    "computed product, left transposed": lambda p, x: mil.matmul(x, x, transpose_x=True),
    "computed product with a constant": lambda p, x: mil.matmul(p.weight(*[1] * (x.rank - 2), 6, x.shape[-2]), x),
    "layer_norm": lambda p, x: mil.layer_norm(x, axes=(-1,), gamma=p.weight(4), beta=p.weight(4), epsilon=1e-5),
    "layer_norm over two axes": lambda p, x: mil.layer_norm(x, axes=(-2, -1), epsilon=1e-5),
    "softmax": lambda p, x: mil.softmax(x, axis=-1),
    "softmax on axis 1": lambda p, x: mil.softmax(x, axis=1),
    "reduce, kept": lambda p, x: mil.reduce_mean(x, axes=(-2,), keep_dims=True),
    "reduce": lambda p, x: mil.reduce_mean(x, axes=(-1,), keep_dims=False),
    "argmax": lambda p, x: mil.reduce_argmax(x, axis=-1, keep_dims=True),
    "concat": lambda p, x: mil.concat([x, p.weight(*x.shape), mil.relu(x)], axis=-2),
    "concat with a constant": lambda p, x: mil.concat([p.weight(*[1] * x.rank), mil.reduce_sum(x, keep_dims=True)], axis=-1),
    "split": lambda p, x: mil.split.many(x, num_splits=2, axis=-1),
    "uneven split": lambda p, x: mil.split.many(x, num_splits=2, split_sizes=(1, 3), axis=-1),
    "slice": lambda p, x: mil.slice_by_index(
        x, [1] * x.rank, [0] * x.rank, stride=[2] * x.rank, end_mask=[True] * x.rank
    ),
    "slice from the end": lambda p, x: mil.slice_by_index(x, [0] * (x.rank - 1) + [-2], list(x.shape)),
    "first, squeezed": lambda p, x: mil.slice_by_index(
        x, [0, 0, *[0] * (x.rank - 2)], [0, 1, *x.shape[2:]], begin_mask=[True, *[False] * (x.rank - 1)],
        end_mask=[True, *[False] * (x.rank - 1)], squeeze_mask=[False, True, *[False] * (x.rank - 2)],
    ),
    "first by a mask, squeezed": lambda p, x: mil.slice_by_index(
        x, [0, 2, *[0] * (x.rank - 2)], [0, 3, *x.shape[2:]], begin_mask=[True] * x.rank,
        end_mask=[True, *[False] * (x.rank - 1)], squeeze_mask=[False, True, *[False] * (x.rank - 2)],
    ),
    "last, squeezed": lambda p, x: mil.slice_by_index(
        x, [0, -1, *[0] * (x.rank - 2)], [0, 0, *x.shape[2:]], end_mask=[True, *[False] * (x.rank - 1)],
        squeeze_mask=[False, True, *[False] * (x.rank - 2)],
    ),
    "slice_by_size": lambda p, x: mil.slice_by_size(x, [0] * (x.rank - 1) + [1], [2] * x.rank),
    "pad": lambda p, x: mil.pad(x, [1, 2, 0, 3], mode="constant", constant_val=0.5),
    "tile": lambda p, x: mil.tile(x, reps=(1,) * (x.rank - 1) + (2,)),
    "reverse": lambda p, x: mil.reverse(x, axes=(-1,)),
    "cumsum": lambda p, x: mil.cumsum(x, axis=-1),
    "topk": lambda p, x: mil.topk.many(x, k=2, axis=-1),
}  # fmt: skip


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.WRITTEN], ids=lambda form: form.value)
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("name", OPS)
def test_same_numbers_in_every_form(name: str, rank: int, form: Form) -> None:
    if form not in forms_of(rank):
        pytest.skip(f"rank {rank} has no such form")
    squeezes = name == "reduce" or name.endswith("squeezed")
    if rank == 2 and (squeezes or name in ("add of a lower rank", "argmax")):
        pytest.skip("it gives a tensor of rank 1")
    if form is not Form.CHANNELS_FIRST and squeezes and form not in forms_of(rank - 1):
        pytest.skip("a result of a lower rank has no such form")
    program = Program(*SHAPES[rank])
    # Neighbours, so that results are used in both forms.
    module = program.returns(lambda x: OPS[name](program, mil.tanh(x)))
    before = program.numbers()
    x = before.pop("x")
    problem = Problem.of(program.graph)
    movable = {op for op in problem.movable if form in problem.movable[op].forms}
    problem.form.update(dict.fromkeys(movable, form))
    if name in ("linear", "linear without bias", "matmul", "matmul, transposed") and places(form, rank)[-1] != 1:
        assert len(movable) == 1, "a product works with its channels on axis 1 only"
    elif name.startswith("computed product") and (form, rank) != (Form.SEQUENCE_LAST, 4):
        assert len(movable) == 1, "a product of computed matrices swaps the last two axes of heads, no others"
    else:
        assert len(movable) >= 2, "the op and its neighbour are movable"
    Rebuilder(program.graph, Context(module, program.graph), problem, movable).run()
    remove_dead_ops(program.graph)
    verify(module)
    after = evaluate(module, {"x": x}, precision=DOUBLE)
    assert list(after) == list(before)
    for key, wanted in before.items():
        torch.testing.assert_close(after[key], wanted, rtol=1e-10, atol=1e-12)


def test_a_feed_forward_block_moves_at_its_ends_only() -> None:
    model = tnn.Sequential(tnn.LayerNorm(16), tnn.Linear(16, 64), tnn.GELU(), tnn.Linear(64, 16), tnn.LayerNorm(16))
    found = compiled(model, 2, 7, 16)
    assert found["transpose"] == 2
    assert found["conv"] == 2
    assert not found["linear"] + found["reshape"]


def test_a_transformer_layer_turns_keys_only() -> None:
    class Layer(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.out = tnn.LayerNorm(24), tnn.Linear(24, 24)
            self.query, self.key, self.value = (tnn.Linear(24, 24) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.norm(x)
            split = [p(h).view(2, 9, 4, 6).transpose(1, 2) for p in (self.query, self.key, self.value)]
            mixed = tnn.functional.scaled_dot_product_attention(*split)
            out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(2, 9, 24))
            return x + out

    found = compiled(tnn.Sequential(Layer(), Layer()), 2, 9, 24)
    # One at each end, and one for the keys of each layer.
    assert found["transpose"] == 4
    assert not found["linear"] + found["reshape"] + found["matmul"]


def test_a_linear_attention_turns_nothing() -> None:
    class Linear(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.inner, self.out = tnn.LayerNorm(16), tnn.Linear(16, 48), tnn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.inner(self.norm(x)).view(2, 7, 3, 2, 8).permute(2, 0, 3, 1, 4)
            context = k.softmax(dim=-2).transpose(-1, -2) @ v
            out: torch.Tensor = self.out((q.softmax(dim=-1) @ context).transpose(1, 2).reshape(2, 7, 16))
            return x + out

    found = compiled(tnn.Sequential(Linear(), Linear()), 2, 7, 16)
    assert (found["matmul"], found["conv"], found["transpose"]) == (4, 8, 2), "at the ends only"


def test_rotary_heads_stay_views() -> None:
    class Rotary(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = tnn.Linear(16, 16), tnn.Linear(16, 16)
            self.register_buffer("angle", torch.rand(7, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            heads = self.inner(x).view(2, 7, 2, 8).transpose(1, 2)
            left, right = heads.chunk(2, dim=-1)
            cos, sin = self.angle.cos(), self.angle.sin()
            turned = torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
            out: torch.Tensor = self.out(turned.transpose(1, 2).reshape(2, 7, 16))
            return out

    found = compiled(Rotary(), 2, 7, 16)
    assert found["transpose"] == 2, "only at the ends"


def test_a_sequence_without_a_batch_is_laid_out_alike() -> None:
    class Block(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.inner, self.out = tnn.LayerNorm(16), tnn.Linear(16, 48), tnn.Linear(16, 16)
            self.register_buffer("angle", torch.rand(7, 1, 8))

        def turned(self, x: torch.Tensor) -> torch.Tensor:
            # Rotated as (S, H, E), in front of the transpose.
            left, right = x.chunk(2, dim=-1)
            return x * self.angle.cos() + torch.cat([-right, left], dim=-1) * self.angle.sin()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.inner(self.norm(x)).view(7, 3, 2, 8).unbind(1)
            heads = [h.transpose(0, 1)[None] for h in (self.turned(q), self.turned(k), v)]
            mixed = tnn.functional.scaled_dot_product_attention(*heads)
            out: torch.Tensor = self.out(mixed[0].transpose(0, 1).reshape(7, 16))
            return x + out

    found = compiled(tnn.Sequential(Block(), Block()), 7, 16)
    # One at each end, and one for the keys of each block; views of queries and keys as heads.
    assert found["transpose"] == 4
    assert found["reshape"] == 4
    assert found["conv"] == 8
    assert not found["linear"] + found["matmul"]


def test_flattened_products_are_those_of_a_sequence() -> None:
    class Flattened(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = tnn.LayerNorm(16)
            self.inner, self.outer = tnn.Parameter(torch.rand(16, 64)), tnn.Parameter(torch.rand(64, 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = tnn.functional.gelu(torch.mm(self.norm(x).view(-1, 16), self.inner).view(1, -1, 64))
            return x + torch.mm(h.view(-1, 64), self.outer).view(x.shape)

    found = compiled(tnn.Sequential(Flattened(), Flattened()), 1, 7, 16)
    assert (found["conv"], found["transpose"]) == (4, 2)
    assert not found["linear"] + found["reshape"]


def test_a_mask_of_each_query_lies_as_scores_do() -> None:
    class Masked(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.ones(7, 7, dtype=torch.bool).tril())
            self.layers = tnn.ModuleList(tnn.Linear(16, 16) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # Padding is read off the input, so that the mask is computed; two queries may see nothing.
            mask = self.seen & (x[:, None, None, :, 0] > 0)
            for layer in self.layers:
                heads = layer(x).view(2, 7, 2, 8).transpose(1, 2)
                mixed = tnn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=mask)
                x = x + mixed.transpose(1, 2).reshape(2, 7, 16)
            return x

    found = compiled(Masked(), 2, 7, 16, passes="default,ane")
    # The ends and the keys: keys of a mask are brought to axis 1 before queries, of which there are more.
    assert found["transpose"] == 4
    assert found["reshape"] <= 1


def test_a_convolutional_model_gains_no_transpose() -> None:
    model = tnn.Sequential(
        tnn.Conv2d(3, 8, 3, padding=1), tnn.BatchNorm2d(8), tnn.ReLU(), tnn.MaxPool2d(2), tnn.Conv2d(8, 8, 3),
        tnn.AdaptiveAvgPool2d(1), tnn.Flatten(), tnn.Linear(8, 5),
    )  # fmt: skip
    assert not compiled(model, 2, 3, 12, 12)["transpose"]


def test_norms_over_channels_last_lose_their_permutes() -> None:
    class Block(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depth, self.norm = tnn.Conv2d(8, 8, 3, padding=1, groups=8), tnn.LayerNorm(8)
            self.up, self.down = tnn.Linear(8, 32), tnn.Linear(32, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.norm(self.depth(x).permute(0, 2, 3, 1))
            out: torch.Tensor = self.down(tnn.functional.gelu(self.up(h)))
            return x + out.permute(0, 3, 1, 2)

    found = compiled(tnn.Sequential(Block(), Block()), 2, 8, 6, 6)
    assert not found["transpose"] + found["linear"]


def test_functions_of_flexible_shapes_are_left_alone() -> None:
    batch = torch.export.Dim("batch", min=1, max=4)
    model = tnn.Sequential(tnn.LayerNorm(4), tnn.Linear(4, 4)).eval()
    made = anec.compile(
        model, (torch.randn(2, 4),), dynamic_shapes=({0: batch},), passes="default,ane,ane-layout", precision="fp32"
    )
    assert counts(made.module)["linear"] == 1
    assert any("flexible" in note for ran in made.report.passes for note in ran.notes)


def test_a_function_whose_input_alone_is_flexible_is_left_alone() -> None:
    class Tail(tnn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, -2:].cumsum(-1).transpose(1, 2).reshape(2, 2, 8)

    length = torch.export.Dim("length", min=4, max=9)
    x = torch.randn(2, 6, 8)
    made = anec.compile(Tail().eval(), (x,), dynamic_shapes=({1: length},), passes="default,ane", precision="fp32")
    assert any("flexible" in note for ran in made.report.passes for note in ran.notes)
    torch.testing.assert_close(torch.as_tensor(next(iter(made.run({"x": x}).values()))), Tail()(x))


def test_products_of_windows_of_five_axes_stay() -> None:
    program = Program(2, 3, 2, 5, 4)
    module = program.returns(lambda x: mil.relu(mil.matmul(mil.tanh(x), program.weight(4, 6))))
    run_pass(module, AneLayout())
    assert counts(module) == {"tanh": 1, "matmul": 1, "relu": 1}


def test_the_pass_is_exact_and_finds_rest() -> None:
    program = Program(2, 5, 4)
    module = program.returns(lambda x: mil.linear(mil.gelu(mil.linear(x, program.weight(8, 4))), program.weight(4, 8)))
    run_pass(module, AneLayout(bounded=False))
    once = str(module)
    run_pass(module, AneLayout(bounded=False))
    assert str(module) == once
