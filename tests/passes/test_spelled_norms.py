"""Norms as models spell them, through `default`: one `nn` op is left, and the numbers hold in fp32 and fp16."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import anec
from anec.api.compiling import compile_source
from anec.check.metrics import compare
from anec.frontend import Source
from anec.ir.graph import Module, Op, Value
from spelled_norms import CHANNELS, IMAGES, SEQUENCES, TWICE, Norms

NORMS = {"layer_norm", "rms_norm", "l2_norm", "group_norm", "instance_norm", "global_response_norm"}
PARTS = {"mean", "sum", "var", "var_mean", "std", "linalg_vector_norm", "norm", "sqrt", "rsqrt", "pow", "permute"}


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


def default(model: nn.Module, *inputs: torch.Tensor) -> Module:
    """The model behind `default`, every rewrite checked."""
    return compile_source(Source(model.eval(), inputs), finish=False, check="rewrites").module


def assert_one_norm(output: Value, wanted: str) -> None:
    """Nothing of the spelling is left but one op, which reads the model's input."""
    roots = [op.defn.root for op in behind(output)]
    norms = [op for op in behind(output) if op.defn.dialect == "nn" and op.defn.root in NORMS]
    assert [op.name for op in norms] == ([wanted] if wanted else []), roots
    if wanted:
        assert not PARTS.intersection(roots), roots
        assert norms[0].value("x").op is None


def assert_numbers(model: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        wanted = model(x)
    for precision, rel, psnr in (("fp32", 1e-5, 90.0), ("fp16", 1.0, 50.0)):
        found = anec.compile(model, (x,), precision=precision).run({"x": x.numpy()})
        for name, reference in wanted.items():
            metric = compare(name, torch.from_numpy(found[name]), reference)
            assert metric.rel < rel, (precision, metric)
            assert metric.psnr > psnr, (precision, metric)


@pytest.mark.parametrize(
    ("norms", "shape"), [(SEQUENCES, (2, 5, CHANNELS)), (IMAGES, (2, CHANNELS, 4, 5))], ids=["sequences", "images"]
)
def test_spelled_norms(norms, shape):
    model, x = Norms(norms), torch.randn(shape) * 2 + 0.5
    module = default(model, x)
    names = [port.name for port in module.main.signature.outputs]
    for name, output in zip(names, module.main.outputs, strict=True):
        assert_one_norm(output, norms[name][1])
    assert_numbers(model.eval(), x)


def test_what_is_divided_twice():
    model, x = Norms(TWICE), torch.randn(2, 5, CHANNELS) * 2 + 0.5
    default(model, x)
    assert_numbers(model.eval(), x)


def test_a_batch_of_one_has_an_instance_norm_for_a_batch_norm():
    model = Norms({"batch_statistics": IMAGES["batch_statistics"]})
    (output,) = default(model, torch.randn(1, CHANNELS, 4, 4)).main.outputs
    assert_one_norm(output, "nn.instance_norm")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rms_norms_of_language_models(dtype):
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    for kind in (LlamaRMSNorm, Qwen3RMSNorm, T5LayerNorm, GemmaRMSNorm):
        norm = kind(8)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        module = default(norm.to(dtype), torch.randn(2, 3, 8).to(dtype))
        (output,) = module.main.outputs
        assert [op.name for op in behind(output)] == ["nn.rms_norm"], (kind, str(module))


def test_channels_first_layer_norms():
    from timm.layers import LayerNorm2d as OfTimm
    from torchvision.models.convnext import LayerNorm2d as OfTorchvision
    from transformers.models.convnext.modeling_convnext import ConvNextLayerNorm

    others = {"data_format": "channels_first"}
    for norm in (OfTimm(6), OfTorchvision(6), ConvNextLayerNorm(6, **others)):
        module = default(norm, torch.randn(2, 6, 4, 4))
        (output,) = module.main.outputs
        (op,) = behind(output)
        assert (op.name, op.attr("axes")) == ("nn.layer_norm", (1,)), str(module)
        assert op.operand("weight") is not None
        assert op.operand("bias") is not None


@pytest.mark.parametrize("channels_last", [True, False])
def test_global_response_norm(channels_last):
    from timm.layers.grn import GlobalResponseNorm

    norm = GlobalResponseNorm(6, channels_last=channels_last)
    nn.init.uniform_(norm.weight)
    x = torch.randn(2, 4, 5, 6) if channels_last else torch.randn(2, 6, 4, 5)
    (output,) = default(norm, x).main.outputs
    assert_one_norm(output, "nn.global_response_norm")


def test_a_weight_standardized_convolution_is_a_convolution():
    from timm.layers import StdConv2d

    conv = StdConv2d(4, 6, 3, padding=1)
    x = torch.randn(1, 4, 5, 5)
    compiled = anec.compile(conv.eval(), (x,), precision="fp32")
    assert [op.name for op in compiled.module.main if not op.is_constant] == ["mil.conv"]
    (found,) = compiled.run({compiled.input_names[0]: x.numpy()}).values()
    assert compare("y", torch.from_numpy(found), conv(x).detach()).rel < 1e-5


def test_a_value_of_the_spelling_that_is_used_elsewhere_stays():
    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            inverse = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            return x * inverse, inverse

    first, second = default(Model(), torch.randn(2, 8)).main.outputs
    assert [op.name for op in behind(first)] == ["nn.rms_norm"]
    assert len(behind(second)) == 4


def test_cosine_similarity_with_a_zero_vector():
    class Model(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return nn.functional.cosine_similarity(x, y, dim=-1)

    x, y = torch.randn(4, 64) * 300, torch.randn(4, 64)
    x[1], y[2] = 0, 0
    for scale in (1.0, 1e-3, 30.0):
        found = anec.compile(Model(), (x, y)).run({"x": (x * scale).numpy(), "y": y.numpy()})
        wanted = nn.functional.cosine_similarity(x * scale, y, dim=-1)
        (result,) = found.values()
        torch.testing.assert_close(torch.from_numpy(result), wanted, rtol=0, atol=2e-3)
