"""Masks as models make them, through `default`: one finite weight for all layers, or one sum, or none."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import anec
from anec.api.compiling import compile_source
from anec.check.metrics import compare
from anec.frontend import Source
from anec.ir.graph import Module, Op, Value
from anec.passes.mask_bounds import HIDDEN, LEAST, lowest

HEADS, LENGTH, SIZE, LAYERS = 2, 9, 8, 2
Make = Callable[..., Tensor | None]
LOWEST = torch.finfo(torch.float32).min


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Layers(nn.Module):
    """Layers of attention, each of which makes its mask again."""

    def __init__(self, make: Make, *, causal: bool = False, eager: bool = False) -> None:
        super().__init__()
        self.make, self.causal, self.eager = make, causal, eager
        self.layers = nn.ModuleList(nn.Linear(HEADS * SIZE, 3 * HEADS * SIZE) for _ in range(LAYERS))

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        for layer in self.layers:
            heads = layer(x).view(*x.shape[:2], 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
            query, key, value = heads.unbind(0)
            mask = self.make(*given)
            if self.eager:
                scores = query @ key.transpose(-1, -2) * SIZE**-0.5
                y = torch.softmax(scores if mask is None else scores + mask, -1) @ value
            else:
                y = F.scaled_dot_product_attention(query, key, value, mask, is_causal=self.causal)
            x = x + y.transpose(1, 2).reshape(x.shape)
        return x


class All(nn.Module):
    """Several models on the same inputs; a result each."""

    def __init__(self, models: dict[str, nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleDict(models)

    def forward(self, x: Tensor, *given: Tensor) -> dict[str, Tensor]:
        return {name: model(x, *given) for name, model in self.models.items()}


def _causal_float() -> Tensor:
    return torch.triu(torch.full((LENGTH, LENGTH), -math.inf), 1)


def _causal_bool() -> Tensor:
    return torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()[None, None].expand(1, HEADS, -1, -1)


def _window() -> Tensor:
    i = torch.arange(LENGTH)
    return (i[:, None] - i[None, :]).abs() < 3


def _prefix() -> Tensor:
    i = torch.arange(LENGTH)
    return (i[None, :] <= i[:, None]) | (i[None, :] < 4)


def _blocks() -> Tensor:
    i = torch.arange(LENGTH) // 4
    return torch.where(i[:, None] == i[None, :], 0.0, LOWEST)


def _length() -> Tensor:
    return torch.where(torch.arange(LENGTH) < 6, 0.0, -1e9).view(1, 1, 1, LENGTH)


def _alibi() -> Tensor:
    slopes = torch.tensor([0.5, 0.125]).view(HEADS, 1, 1)
    i = torch.arange(LENGTH)
    return slopes * (i[None, :] - i[:, None]) + _causal_float()


def _relative() -> Tensor:
    i = torch.arange(LENGTH)
    table = torch.linspace(-1, 1, HEADS * (2 * LENGTH - 1)).view(-1, HEADS)
    return table[i[:, None] - i[None, :] + LENGTH - 1].permute(2, 0, 1)[None]


def _vmapped() -> Tensor:
    i = torch.arange(LENGTH)
    return torch.vmap(torch.vmap(lambda q, k: k <= q, (None, 0)), (0, None))(i, i)


def _twice() -> Tensor:
    return torch.triu(torch.full((LENGTH, LENGTH), LOWEST), 1) + _length()


STATIC: dict[str, Make] = {
    "causal_float": _causal_float,
    "causal_bool": _causal_bool,
    "window": _window,
    "prefix": _prefix,
    "blocks": _blocks,
    "length": _length,
    "alibi": _alibi,
    "relative": _relative,
    "vmapped": _vmapped,
    "twice": _twice,
}


def _bool_padding(kept: Tensor) -> Tensor:
    return kept[:, None, None, :].bool().expand(-1, 1, LENGTH, -1)


def _float_padding(kept: Tensor) -> Tensor:
    return (1.0 - kept[:, None, None, :].float()) * LOWEST


def _filled_padding(kept: Tensor) -> Tensor:
    hidden = 1.0 - kept[:, None, None, :].float()
    return hidden.masked_fill(hidden.bool(), LOWEST)


def _chosen_padding(kept: Tensor) -> Tensor:
    return torch.where(kept[:, None, None, :].bool(), 0.0, -math.inf)


def _padding_and_causal(kept: Tensor) -> Tensor:
    return kept[:, None, None, :].bool() & _causal_bool()


def _padding_and_bias(kept: Tensor) -> Tensor:
    return _alibi() + _float_padding(kept)


# The masks, and the op behind `default` that gives the one all layers share.
COMPUTED: dict[str, tuple[Make, str]] = {
    "bool_padding": (_bool_padding, "mul"),
    "float_padding": (_float_padding, "clamp_min"),
    "filled_padding": (_filled_padding, "clamp_min"),
    "chosen_padding": (_chosen_padding, "mul"),
    "padding_and_causal": (_padding_and_causal, "mul"),
    "padding_and_bias": (_padding_and_bias, "clamp_min"),
}


def default(model: nn.Module, *inputs: Tensor) -> Module:
    return compile_source(Source(model.eval(), inputs), finish=False, check="rewrites").module


def masks(output: Value) -> list[Value | None]:
    """The masks of the layers behind an output."""
    found: dict[Op, None] = {}
    stack = [output]
    while stack:
        op = stack.pop().op
        if op is not None and op not in found:
            found[op] = None
            stack.extend(op.inputs)
    given = [op.operand("mask") for op in found if op.name == "nn.attention"]
    assert len(given) == LAYERS
    return [mask if isinstance(mask, Value) else None for mask in given]


def assert_numbers(model: nn.Module, *inputs: Tensor) -> None:
    """float32 and float16 programs agree with torch, and nothing chooses between numbers in the layers."""
    with torch.no_grad():
        wanted = model.eval()(*inputs)
    program = torch.export.export(model, inputs, strict=False)
    for precision, rel, psnr in (("fp32", 1e-5, 90.0), ("fp16", 1.0, 50.0)):
        compiled = anec.compile(program, precision=precision)
        found = compiled.run({name: x.numpy() for name, x in zip(compiled.input_names, inputs, strict=True)})
        for name, reference in zip(compiled.output_names, wanted.values(), strict=True):
            metric = compare(name, torch.from_numpy(found[name]), reference)
            assert metric.rel < rel, (precision, metric)
            assert metric.psnr > psnr, (precision, metric)
        assert all(op.result.shape[-1] == LENGTH for op in compiled.module.main if op.name == "mil.select")


def embedded(batch: int) -> Tensor:
    return torch.randn(batch, LENGTH, HEADS * SIZE)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_constant_mask_is_one_weight(batch):
    eager = {"blocks", "length", "alibi", "twice"}
    models = {name: Layers(make, eager=name in eager) for name, make in STATIC.items()}
    model = All({**models, "causal": Layers(lambda: None, causal=True)})
    assert_numbers(model, embedded(batch))
    if batch == 1:
        return
    module = default(model, embedded(batch))
    found = {name: set(masks(output)) for name, output in zip(model.models, module.main.outputs, strict=True)}
    for (mask,) in found.values():
        assert mask is not None
        assert mask.tensor.dtype.is_float
        assert mask.weight is not None
        assert mask.weight.extent()[0] >= HIDDEN
        assert mask.shape == (1, *mask.shape[1:])
    # Whatever way it was made in.
    same = [found[name] for name in ("causal", "causal_float", "causal_bool", "vmapped")]
    assert all(one == same[0] for one in same)


@pytest.mark.parametrize("make", [lambda: torch.ones(LENGTH, LENGTH, dtype=torch.bool), lambda: torch.zeros(1, LENGTH)])
def test_a_mask_that_hides_nothing_goes(make):
    assert set(masks(default(Layers(make), embedded(1)).main.outputs[0])) == {None}


@pytest.mark.parametrize("batch", [1, 2])
def test_a_computed_mask_is_shared_by_all_layers(batch):
    kept = torch.ones(batch, LENGTH, dtype=torch.int32)
    kept[0, 6:] = 0
    model = All({name: Layers(make) for name, (make, _) in COMPUTED.items()})
    module = default(model, embedded(batch), kept)
    for (name, (_, last)), output in zip(COMPUTED.items(), module.main.outputs, strict=True):
        (mask,) = set(masks(output))
        assert mask is not None
        assert mask.op is not None
        assert mask.op.defn.root == last, name
        assert mask.shape[-2] == (LENGTH if name.startswith("padding_and") else 1), name
    assert_numbers(model, embedded(batch), kept)


def _nothing_chosen(kept: Tensor) -> Tensor:
    """-inf alone hides: the mask tells which queries see no key."""
    return _chosen_padding(kept) + _causal_float()


def _low_and_nothing(kept: Tensor) -> Tensor:
    """Both hide: rows of -inf give zeros, rows of lowest numbers see the keys evenly."""
    kept = kept[:, None, :, None].expand(-1, 1, -1, LENGTH)
    return torch.where(kept == 2, -math.inf, torch.where(kept.bool(), 0.0, LOWEST))


def test_queries_that_see_no_key_give_zeros():
    """A constant row without keys, left padding beneath a causal mask, and -inf in a mask of floats."""
    kept = torch.ones(2, LENGTH, dtype=torch.int32)
    kept[1, :3] = 0
    constant = Layers(lambda kept: torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril(-1))
    made = {"computed": _padding_and_causal, "chosen": _nothing_chosen, "both": _low_and_nothing}
    model = All({"constant": constant, **{name: Layers(make) for name, make in made.items()}})
    module = default(model, embedded(2), kept)
    (mask,) = set(masks(module.main.outputs[0]))
    assert mask is not None
    assert mask.weight is not None
    (chosen,) = set(masks(module.main.outputs[2]))
    assert chosen is not None
    # The layers share the mask and what it tells.
    assert sorted(op.name for op in chosen.users) == ["aten.amax.default"] + ["nn.attention"] * LAYERS
    kept[0, 4] = 2
    assert_numbers(model, embedded(2), kept)


def test_a_float_mask_that_is_an_input_may_hide_all_keys():
    model = All({"given": Layers(lambda mask: mask)})
    mask = _causal_float().expand(2, 1, -1, -1).clone()
    mask[0, 0, 4] = -math.inf
    default(model, embedded(2), mask)
    assert_numbers(model, embedded(2), mask)


def _no_key_in_some_rows() -> Tensor:
    """Rows that lowest numbers hide wholly; in one of them -inf hides some keys more than the others."""
    mask = torch.triu(torch.full((LENGTH, LENGTH), LOWEST), 1)
    mask[1], mask[4], mask[4, 5:] = LOWEST, LOWEST, -math.inf
    return mask


@pytest.mark.parametrize("eager", [True, False])
def test_queries_that_low_numbers_hide_all_keys_from_see_them_evenly(eager):
    rows = Layers(_no_key_in_some_rows, eager=eager)
    keys = Layers(lambda: torch.full((1, LENGTH), LOWEST), eager=eager)
    model = All({"of_rows": rows, "of_keys": keys})
    module = default(model, embedded(2))
    (mask,) = set(masks(module.main.outputs[0]))
    assert mask is not None
    assert mask.weight is not None
    assert set(masks(module.main.outputs[1])) == {None}
    assert_numbers(model, embedded(2))


def test_a_bias_beside_low_numbers_does_not_count_where_they_hide_all_keys():
    """Scores and bias drown in the lowest number, also where a view joins batch and heads in between."""
    bias = torch.randn(HEADS, LENGTH, LENGTH)

    def joined(kept: Tensor) -> Tensor:
        hidden = (kept[:, None, None, :] * kept[:, None, :, None]) == 0
        low = hidden.expand(-1, HEADS, -1, -1).to(torch.float32) * LOWEST
        return (low.reshape(-1, LENGTH, LENGTH) + bias.repeat(2, 1, 1)).view(2, HEADS, LENGTH, LENGTH)

    def filled(kept: Tensor) -> Tensor:
        hidden = (kept[:, None, None, :] * kept[:, None, :, None]) == 0
        low = torch.where(hidden, LOWEST, 0.0).expand(-1, HEADS, -1, -1)
        return (low.reshape(-1, LENGTH, LENGTH) - bias.abs().repeat(2, 1, 1)).view(2, HEADS, LENGTH, LENGTH)

    kept = torch.ones(2, LENGTH, dtype=torch.int32)
    kept[0, 5:] = 0
    for eager in (False, True):
        model = All({"joined": Layers(joined, eager=eager), "filled": Layers(filled, eager=eager)})
        assert_numbers(model, embedded(2), kept)


def _hidden_twice(kept: Tensor) -> Tensor:
    """Lowest numbers of padding and of order: where both hide, their sum is -inf."""
    return _chosen(kept, LOWEST) + torch.triu(torch.full((LENGTH, LENGTH), LOWEST), 1)


def _chosen(kept: Tensor, number: float) -> Tensor:
    """Keys that are padding, and whole rows of queries that are."""
    seen = kept[:, None, None, :].bool() & kept[:, None, :, None].bool()
    return torch.where(seen, 0.0, number)


def _lowest_padding_and_causal(kept: Tensor) -> Tensor:
    return _chosen(kept, LOWEST) + _causal_float()


def _computed_padding_and_causal(kept: Tensor) -> Tensor:
    return _float_padding(kept) + _causal_float()


def _padding_and_lowest_alibi(kept: Tensor) -> Tensor:
    return _float_padding(kept) + _alibi().clamp(min=LOWEST)


def test_what_hides_less_is_all_there_is_in_rows_without_a_key():
    """Left padding beneath a causal mask: the first queries see the padding before them evenly, nothing behind them."""
    kept = torch.ones(2, LENGTH, dtype=torch.int32)
    kept[1, :4] = 0
    made = [_hidden_twice, _lowest_padding_and_causal, _computed_padding_and_causal, _padding_and_lowest_alibi]
    model = All({make.__name__.strip("_"): Layers(make, eager=i % 2 == 0) for i, make in enumerate(made)})
    module = default(model, embedded(2), kept)
    (mask,) = set(masks(module.main.outputs[0]))
    assert mask is not None
    assert lowest(mask) == LEAST
    assert_numbers(model, embedded(2), kept)


def test_an_input_of_infinity_and_lowest_numbers():
    mask = _causal_float().expand(2, 1, -1, -1).clone()
    mask[mask == 0] = 0.25
    mask[1, 0, 3, :3] = LOWEST
    mask[1, 0, 3, 3] = -math.inf
    model = All({"given": Layers(lambda mask: mask, eager=True)})
    default(model, embedded(2), mask)
    with torch.no_grad():
        x = embedded(2)
        wanted = model(x, mask)["given"]
        compiled = anec.compile(torch.export.export(model, (x, mask), strict=False), precision="fp32")
    found = compiled.run(dict(zip(compiled.input_names, (x.numpy(), mask.numpy()), strict=True)))
    assert compare("given", torch.from_numpy(found["given"]), wanted).rel < 1e-5


KEYS: dict[str, Make] = {
    "bools": lambda kept: kept[:, None, None, :].bool(),
    "bool_expanded": _bool_padding,
    "infinite": _chosen_padding,
    "lowest": lambda kept: torch.where(kept[:, None, None, :].bool(), 0.0, LOWEST),
    "computed": _float_padding,
    "filled": lambda kept: _filled_padding(kept).expand(-1, 1, LENGTH, -1),
}


@pytest.mark.parametrize("passes", ["default", "default,ane"])
def test_an_item_of_padding_alone_attends_by_its_scores(passes):
    """No layer multiplies for it; items with a key are torch's, and nothing becomes NaN."""
    kept = torch.ones(2, LENGTH, dtype=torch.int32)
    kept[0, 5:], kept[1] = 0, 0
    x = embedded(2)
    model = All({name: Layers(make) for name, make in KEYS.items()}).eval()
    with torch.no_grad():
        wanted = model(x, kept)
        unmasked = model(x, torch.ones_like(kept))
    compiled = anec.compile(torch.export.export(model, (x, kept), strict=False), precision="fp32", passes=passes)
    found = compiled.run(dict(zip(compiled.input_names, (x.numpy(), kept.numpy()), strict=True)))
    for name in KEYS:
        actual = torch.from_numpy(found[name])
        assert compare(name, actual[0], wanted[name][0]).rel < 1e-5
        # Beside 40000 float32 holds a score to 1/256.
        assert compare(name, actual[1], unmasked[name][1]).rel < 2e-3
    assert any("hides all keys" in note for pass_ in compiled.report.passes for note in pass_.notes)


def test_low_numbers_that_do_not_drown_the_scores():
    """Beside -30000 float32 still tells scores apart."""
    model = All({"rows": Layers(lambda: torch.full((LENGTH, LENGTH), -3e4).tril(-1).mT - 3e4)})
    (mask,) = set(masks(default(model, embedded(1)).main.outputs[0]))
    assert mask is not None
    assert not any(op.defn.root == "mul" for op in mask.users)


def test_a_choice_smaller_than_what_moves():
    """What is chosen from has more axes than the condition, and a view joins them."""

    def make(kept: Tensor) -> Tensor:
        chosen = torch.where(kept[0].bool(), torch.zeros(2 * LENGTH, LENGTH), -math.inf)
        return chosen.view(2, LENGTH, LENGTH)[:, None]

    def expanded(kept: Tensor) -> Tensor:
        return torch.where(kept[0].bool(), torch.zeros(1, LENGTH), -math.inf).expand(LENGTH, -1)[None]

    kept = torch.ones(2, LENGTH, dtype=torch.int32)
    kept[0, 6:] = 0
    model = All({"view": Layers(make), "expand": Layers(expanded)})
    default(model, embedded(2), kept)
    assert_numbers(model, embedded(2), kept)


def test_a_mask_beyond_the_budget_stays_an_expression():
    passes = "raise-to-nn,canonicalize,attention,static-attention-mask{budget=64}"
    source = Source(Layers(_window).eval(), (embedded(1),))
    module = compile_source(source, passes=passes, finish=False).module
    assert all(mask is not None and mask.weight is None for mask in masks(module.main.outputs[0]))
