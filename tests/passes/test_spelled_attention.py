"""Attention as models spell it, through `default`: one op of four axes is left, and the numbers hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import anec
from anec.api.compiling import compile_source
from anec.check.metrics import compare
from anec.frontend import Source
from anec.ir.graph import Module, Op, Value
from anec.pipeline.manager import PassReport
from spelled_attention import HEADS, KEYS, LENGTH, OTHERS, SIZE, SPELLINGS, Spelled


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def behind(value: Value) -> list[Op]:
    """The ops that an output is computed by from the inputs, constants aside."""
    found: dict[Op, None] = {}
    stack = [value]
    while stack:
        op = stack.pop().op
        if op is not None and op not in found and not op.is_constant:
            found[op] = None
            stack.extend(op.inputs)
    return list(found)


def attentions(module: Module) -> list[Op]:
    return [op for op in module.main if op.name == "nn.attention"]


def default(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> Module:
    """The model behind `default`, every rewrite checked."""
    return compile_source(Source(model.eval(), args, dict(kwargs or {})), finish=False, check="rewrites").module


def assert_numbers(model: nn.Module, inputs: dict[str, Tensor], targets: tuple[str, ...] = ("iOS18",)) -> None:
    """float32 and float16 programs agree with torch, in every output."""
    with torch.no_grad():
        wanted = model.eval()(**inputs)
    program = torch.export.export(model, (), inputs)
    for target in targets:
        for precision, rel, psnr in (("fp32", 1e-5, 90.0), ("fp16", 1.0, 50.0)):
            compiled = anec.compile(program, precision=precision, target=target)
            found = compiled.run({name: tensor.numpy() for name, tensor in inputs.items()})
            for name, reference in zip(compiled.output_names, wanted.values(), strict=True):
                metric = compare(name, torch.from_numpy(found[name]), reference)
                assert metric.rel < rel, (target, precision, metric)
                assert metric.psnr > psnr, (target, precision, metric)


def tokens(batch: int) -> dict[str, Tensor]:
    return {"x": torch.randn(batch, LENGTH, HEADS * SIZE), "y": torch.randn(batch, KEYS, HEADS * SIZE)}


@pytest.mark.parametrize("batch", [1, 2])
def test_spelled_attention(batch):
    model, inputs = Spelled(SPELLINGS), tokens(batch)
    module = default(model, (), inputs)
    for name, output in zip(SPELLINGS, module.main.outputs, strict=True):
        ops = behind(output)
        (attention,) = [op for op in ops if op.name == "nn.attention"]
        assert not {op.defn.root for op in ops} & {"softmax", "bmm", "einsum", "baddbmm", "exp"}, name
        assert sum(op.defn.root == "matmul" for op in ops) == 0, name
        assert attention.value("query").rank == 4, name
        assert attention.value("query").shape[1] == HEADS, name
        assert attention.value("key").shape[1] == (2 if name.endswith("_heads") else HEADS), name
    assert_numbers(model, inputs, ("iOS18",) if batch == 1 else ("iOS15",))


def test_the_scale_is_one_number_and_equal_attentions_are_one():
    model = Spelled(
        {name: SPELLINGS[name] for name in ("plain", "scaled_first", "scale_shared", "in_batch", "softcap")}
    )
    found = [op.attr("scale") for op in attentions(default(model, (), tokens(1)))]
    assert found == [None, 0.5, 0.25]


def report(model: nn.Module, inputs: dict[str, Tensor]) -> PassReport:
    compiled = compile_source(Source(model.eval(), (), inputs), finish=False, check="rewrites")
    assert not attentions(compiled.module)
    return next(found for found in compiled.report.passes if found.spec == "attention")


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_attention_stays(name):
    spelling, reason = OTHERS[name]
    assert reason in report(Spelled({name: spelling}), tokens(2)).misses.get("attention", "")


class Attending(nn.Module):
    """nn.MultiheadAttention, which hands out its weights or not."""

    def __init__(self, *, weights: bool, returned: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.weights, self.returned = weights, returned
        self.attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> dict[str, Tensor]:
        y, weights = self.attention(x, x, x, key_padding_mask=hidden, need_weights=self.weights)
        return {"y": y, "weights": weights} if self.returned else {"y": y}


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_multihead_attention(weights, batch_first, masked):
    hidden = torch.zeros(2, 9, dtype=torch.bool)
    hidden[0, 6:] = True
    x = torch.randn(2, 9, 16) if batch_first else torch.randn(9, 2, 16)
    inputs = {"x": x, **({"hidden": hidden} if masked else {})}
    model = Attending(weights=weights, batch_first=batch_first)
    (found,) = attentions(default(model, (), inputs))
    assert found.value("query").shape == (2, 2, 9, 8)
    mask = found.operand("mask")
    assert (mask.shape if isinstance(mask, Value) else None) == ((2, 1, 1, 9) if masked else None)
    if batch_first and weights == masked:
        assert_numbers(model, inputs)


def test_weights_that_are_returned_keep_the_spelling():
    found = report(Attending(weights=True, returned=True), {"x": torch.randn(2, 9, 16)})
    assert "used elsewhere" in found.misses["attention"]


class Named(nn.Module):
    """The first result of a module, by name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        found = self.model(**inputs)
        return {"y": found if isinstance(found, Tensor) else found[0]}


def test_transformer_layers():
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    assert len(attentions(default(encoder, (torch.randn(2, 5, 16),)))) == 1
    decoder = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    module = default(decoder, (torch.randn(2, 5, 16), torch.randn(2, 7, 16)), {"tgt_mask": causal})
    assert len(attentions(module)) == 2


def _transformer(name: str, implementation: str) -> tuple[nn.Module, dict[str, Tensor], int]:
    import transformers as t

    ids = torch.randint(1, 50, (2, 9))
    padding = torch.ones_like(ids)
    padding[1, 6:] = 0
    model: nn.Module
    if name == "bert":
        small = t.BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                             intermediate_size=32, attn_implementation=implementation)  # fmt: skip
        return t.BertModel(small), {"input_ids": ids, "attention_mask": padding}, 2
    if name == "gpt":
        gpt = t.OpenAIGPTConfig(vocab_size=50, n_positions=12, n_embd=16, n_layer=2, n_head=2)
        return t.OpenAIGPTModel(gpt), {"input_ids": ids, "attention_mask": padding}, 2
    if name == "gpt2":
        model = t.GPT2Model(t.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, use_cache=False, bos_token_id=1,
                                         eos_token_id=2, attn_implementation=implementation))  # fmt: skip
        return model, {"input_ids": ids}, 2
    if name == "llama":
        model = t.LlamaModel(t.LlamaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                           num_key_value_heads=2, intermediate_size=32, use_cache=False,
                                           attn_implementation=implementation))  # fmt: skip
        return model, {"input_ids": ids, "attention_mask": padding}, 2
    if name == "t5":
        model = t.T5Model(t.T5Config(vocab_size=50, d_model=16, d_kv=8, num_layers=1, num_heads=2, d_ff=32,
                                     use_cache=False, decoder_start_token_id=0,
                                     attn_implementation=implementation))  # fmt: skip
        return model, {"input_ids": ids, "attention_mask": padding, "decoder_input_ids": ids[:, :5]}, 3
    whisper = t.WhisperConfig(vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                              decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8,
                              max_source_positions=10, max_target_positions=12, use_cache=False, pad_token_id=0,
                              bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
                              attn_implementation=implementation)  # fmt: skip
    return t.WhisperModel(whisper), {"input_features": torch.randn(2, 8, 20), "decoder_input_ids": ids}, 3


@pytest.mark.parametrize(
    ("name", "implementation"),
    [*((name, "eager") for name in ("bert", "gpt", "gpt2", "llama", "t5", "whisper")), ("bert", "sdpa"), ("llama", "sdpa")],
)
def test_transformers(name, implementation):
    """A layer is one attention; masks are added, finite, and one for all layers that have the same."""
    model, inputs, count = _transformer(name, implementation)
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3 if parameter.dim() > 1 else parameter.data + 0.1
    named = Named(model.eval())
    found = attentions(default(named, (), inputs))
    assert len(found) == count
    masks = [op.value("mask") for op in found if op.operand("mask") is not None]
    assert all(mask.tensor.dtype.is_float for mask in masks)
    assert len(set(masks)) == {"bert": 1, "gpt": 1, "gpt2": 1, "llama": 1, "t5": 3, "whisper": 1}[name]
    if implementation == "eager" and name == "bert":
        assert_numbers(named, inputs)


def test_vision_transformers():
    import timm
    import torchvision

    vit = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32)
    assert len(attentions(default(vit, (torch.randn(1, 3, 32, 32),)))) == 2
    x = torch.randn(1, 3, 32, 32)
    for fused in (True, False):
        small = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2)
        swin = timm.models.SwinTransformer(
            img_size=32, patch_size=2, embed_dim=8, depths=(2,), num_heads=(2,), window_size=4, num_classes=0
        )
        for model in (small, swin):
            for module in model.modules():
                if hasattr(module, "fused_attn"):
                    module.fused_attn = fused
            found = attentions(default(model, (x,)))
            assert len(found) == 2
            assert all(op.value("query").rank == 4 for op in found)
    # Shifted windows: a bias of heads and a mask of windows, one weight.
    masks = [op.value("mask") for op in found]
    assert [mask.shape for mask in masks] == [(1, 2, 16, 16), (16, 2, 16, 16)]
    assert all(mask.weight is not None for mask in masks)


def test_sdpa_of_any_rank_has_four_axes():
    class Ranks(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(F.scaled_dot_product_attention(y, y * 2, y) for y in (x[0, 0, 0], x[0, 0], x[0], x))

    found = attentions(default(Ranks(), (torch.randn(2, 3, 4, 5, 8),)))
    assert [op.value("query").shape for op in found] == [(1, 1, 5, 8), (4, 1, 5, 8), (3, 4, 5, 8), (6, 4, 5, 8)]
