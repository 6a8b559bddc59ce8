"""raise-to-nn: what fires and what must not, by text; then numbers, raised and lowered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import golden
from anec.dialects import registry
from anec.ir.build import Builder
from anec.ir.diff import differences
from anec.ir.graph import Graph, Module
from anec.ir.parser import parse_module
from anec.ir.printer import print_op
from anec.ir.types import DType, TensorType
from anec.passes.raise_nn import RULES, RaiseToNN
from anec.pipeline.base import Context
from anec.reference.evaluate import evaluate
from anec.testing import (
    DECLARED,
    DOUBLE,
    assert_same_numbers,
    check_module_lowering,
    run_pass,
    single_op,
)

TARGETS = ("iOS15", "iOS17", "iOS18")


def module(signature: str, *lines: str) -> Module:
    body = "\n".join(f"  {line}" for line in lines)
    return parse_module(f"anec 1\nmodule target=iOS18\n\nfunc main{signature} {{\n{body}\n}}\n", registry)


X = "(%x: f32[2,4,8]) -> (%y: f32[2,4,8])"
NORM = "%y, %m, %r = aten.native_layer_norm.default(%x) {normalized_shape=[8], eps=1e-05}"
NORM_TYPES = "f32[2,4,8], f32[2,4,1], f32[2,4,1]"
LSTM = (
    "%y, %h, %c = aten.lstm.input(%x, [%s, %s], [%u, %v]) {has_biases=false, num_layers=1, dropout=0.5, "
    "train=TRAIN, bidirectional=false, batch_first=false} : f32[4,2,3], f32[1,2,3], f32[1,2,3]"
)
LSTM_WEIGHTS = ('%u = weight "u" : f32[12,5]', '%v = weight "v" : f32[12,3]')
LSTM_SIGNATURE = "(%x: f32[4,2,5], %s: f32[1,2,3]) -> (%y: f32[4,2,3])"
QKV = "(%q: f32[2,4,8], %k: f32[2,4,8], %v: f32[2,4,8]) -> (%y: f32[2,4,8])"
TRAINED_NORM = (
    "%y = aten.batch_norm.default(%x, none, none, %m, %v) {training=true, momentum=0.1, eps=1e-05, "
    "cudnn_enabled=false} : f32[2,4,8]"
)
MAX_POOL = "%y, %i = aten.adaptive_max_pool1d.default(%x) {output_size=[4]} : f32[2,4,4], i64[2,4,4]"

STAYS = {
    "norms, a used mean": (
        "(%x: f32[2,4,8]) -> (%y: f32[2,4,8], %m: f32[2,4,1])",
        [f"{NORM} : {NORM_TYPES}", "return %y, %m"],
        "result 1 of aten.native_layer_norm.default is used",
    ),
    "norms, training": (
        "(%x: f32[2,4,8], %m: f32[4], %v: f32[4]) -> (%y: f32[2,4,8])",
        [
            TRAINED_NORM,
            "return %y",
        ],
        "eval mode",
    ),
    "activations, an integer softmax": (
        "(%x: i64[2,4]) -> (%y: i64[2,4])",
        ["%y = aten.log_softmax.int(%x) {dim=1} : i64[2,4]", "return %y"],
        "it gives i64",
    ),
    "attention, dropout": (
        QKV,
        ["%y = aten.scaled_dot_product_attention.default(%q, %k, %v) {dropout_p=0.1} : f32[2,4,8]", "return %y"],
        "dropout_p=0.0",
    ),
    "attention, a bool mask of an inner op": (
        "(%q: f32[2,4,8], %k: f32[2,4,8], %v: f32[2,4,8], %mask: bool[4,4]) -> (%y: f32[2,4,8])",
        [
            "%y, %w = aten._scaled_dot_product_attention_math.default(%q, %k, %v, %mask) : f32[2,4,8], f32[2,4,4]",
            "return %y",
        ],
        "bool",
    ),
    "pooling, used indices": (
        "(%x: f32[2,4,8]) -> (%y: f32[2,4,4], %i: i64[2,4,4])",
        [MAX_POOL, "return %y, %i"],
        "result 1",
    ),
    "recurrent, dropout while training": (
        LSTM_SIGNATURE,
        [*LSTM_WEIGHTS, LSTM.replace("TRAIN", "true"), "return %y"],
        "eval mode",
    ),
}


@pytest.mark.parametrize("path", golden.cases("raise-to-nn"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    assert outcome.fired.keys() == {path.stem}


def test_every_rule_has_a_golden():
    stems = {path.stem for path in golden.cases("raise-to-nn")}
    assert {rule.name for rule in RULES} - stems == {name for name, _ in ELSEWHERE}


# Kernels of GPUs, some of whose results are no tensors: nothing here can run or type them.
ELSEWHERE = [
    ("raise_scaled_dot_product_flash_attention", "aten._scaled_dot_product_flash_attention.default"),
    ("raise_scaled_dot_product_efficient_attention", "aten._scaled_dot_product_efficient_attention.default"),
    (
        "raise_scaled_dot_product_fused_attention_overrideable",
        "aten._scaled_dot_product_fused_attention_overrideable.default",
    ),
]


@pytest.mark.parametrize(("rule", "name"), ELSEWHERE)
def test_attention_of_other_devices(rule, name):
    graph = Graph("main")
    query, key, value = (graph.add_input(n, TensorType(DType.F16, (1, 2, 4, 8))) for n in "qkv")
    defn = registry.resolve(name)
    bound = {"query": query, "key": key, "value": value, "is_causal": True, "scale": 0.5}
    if "compute_log_sumexp" in defn.by_name:
        bound["compute_log_sumexp"] = False
    op = Builder(graph).create(defn, bound, types=(query.type,) * (defn.results or 1))
    graph.outputs = [op.results[0]]
    ctx = Context(Module({"main": graph}), graph)
    ctx.rewrite(RULES)
    assert ctx.fired == {rule: 1}
    (made,) = graph.ops()
    assert print_op(made, origin=False).endswith("nn.attention(%q, %k, %v) {scale=0.5, causal=true} : f16[1,2,4,8]")


@pytest.mark.parametrize("case", STAYS)
def test_stays_and_says_why(case):
    signature, lines, reason = STAYS[case]
    made = module(signature, *lines)
    ctx = run_pass(made, RaiseToNN())
    assert not differences(made, module(signature, *lines))
    assert any(reason in str(miss) for miss in ctx.misses.values())


def test_resizing_stays_without_a_rule():
    """Lanczos has no word in nn: the family must not take it for bicubic."""
    lines = ["%y = aten._upsample_lanczos2d_aa.default(%x) {output_size=[2, 2], align_corners=false} : f32[1,2,2,2]"]
    signature = "(%x: f32[1,2,4,4]) -> (%y: f32[1,2,2,2])"
    made = module(signature, *lines, "return %y")
    run_pass(made, RaiseToNN())
    assert not differences(made, module(signature, *lines, "return %y"))


def test_rule_names_are_unique():
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))


def raise_and_lower(
    name: str, *args: Any, weights: Sequence[str] = (), only: Sequence[int] | None = None, **kwargs: Any
) -> list[Module]:
    """Compare an ATen op with what it is raised to, and that with what it is lowered to, on every target.

    Args:
        only: the results that the module gives; all of them by default.
    """
    lowered = []
    for target in TARGETS:
        made, inputs = single_op(name, *args, weights=weights, target=target, **kwargs)
        if only is not None:
            made.main.outputs = [made.main.outputs[index] for index in only]
            made.main.signature.outputs = [made.main.signature.outputs[index] for index in only]
        before = evaluate(made, inputs, precision=DOUBLE)
        declared = evaluate(made, inputs, precision=DECLARED)
        run_pass(made, RaiseToNN())
        assert "nn" in {op.defn.dialect for op in made.ops()}, f"{name} stayed: {made}"
        assert_same_numbers(before, evaluate(made, inputs, precision=DOUBLE), rtol=1e-10, atol=1e-12)
        lowered.append(check_module_lowering(made, inputs))
        # As declared, in float32: the same up to rounding.
        assert_same_numbers(declared, evaluate(made, inputs, precision=DECLARED), rtol=2e-4, atol=2e-5)
    return lowered


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


X3, X4, X5 = (2, 6, 5), (1, 6, 4, 3), (2, 6, 2, 3, 4)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("shape", [(4, 8), (2, 3, 8), (1, 2, 3, 8)])
def test_layer_norms(shape, affine, constant):
    weight, bias = (randn(8), randn(8)) if affine else (None, None)
    weights = ("weight", "bias") if constant else ()
    settings = {"normalized_shape": [8], "eps": 1e-3, "weights": weights}
    raise_and_lower("aten.layer_norm.default", randn(*shape), weight=weight, bias=bias, **settings)
    raise_and_lower("aten.native_layer_norm.default", randn(*shape), weight=weight, bias=bias, only=[0], **settings)


@pytest.mark.parametrize("name", ["aten.rms_norm.default", "aten._fused_rms_norm.default"])
@pytest.mark.parametrize("weight", [None, randn(8)])
def test_rms_norms(name, weight):
    only = [0] if "fused" in name else None
    raise_and_lower(name, randn(2, 3, 8), normalized_shape=[8], weight=weight, eps=1e-3, only=only)


def test_an_absent_epsilon_is_the_machines():
    made, _ = single_op("aten.rms_norm.default", randn(2, 8).half(), normalized_shape=[8])
    run_pass(made, RaiseToNN())
    (op,) = made.ops()
    assert op.attr("epsilon") == torch.finfo(torch.float16).eps


@pytest.mark.parametrize("shape", [X3, X4, X5])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norms(shape, groups):
    x, weight, bias = randn(*shape), randn(6), randn(6)
    named = ("weight", "bias")
    raise_and_lower("aten.group_norm.default", x, groups, weight, bias, 1e-3, weights=named)
    sizes = {"N": shape[0], "C": 6, "HxW": math.prod(shape[2:])}
    raise_and_lower(
        "aten.native_group_norm.default", x, weight, bias, **sizes, group=groups, eps=1e-3, weights=named, only=[0]
    )


@pytest.mark.parametrize("shape", [X3, X4, X5])
@pytest.mark.parametrize("own", [True, False])
def test_instance_norms(shape, own):
    statistics = (None, None) if own else (randn(6), randn(6).abs() + 0.1)
    named = ("weight", "bias", "running_mean", "running_var")
    raise_and_lower(
        "aten.instance_norm.default", randn(*shape), randn(6), randn(6), *statistics,
        use_input_stats=own, momentum=0.1, eps=1e-3, cudnn_enabled=False, weights=named,
    )  # fmt: skip


BATCH_NORMS = {
    "aten.batch_norm.default": {"training": False, "cudnn_enabled": False},
    "aten.native_batch_norm.default": {"training": False},
    "aten._native_batch_norm_legit.default": {"training": False},
    "aten._native_batch_norm_legit_no_training.default": {},
}


@pytest.mark.parametrize("name", BATCH_NORMS)
@pytest.mark.parametrize("shape", [(3, 6), X3, X4, X5])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norms(name, shape, affine):
    weight, bias = (randn(6), randn(6)) if affine else (None, None)
    raise_and_lower(
        name, randn(*shape), weight, bias, randn(6), randn(6).abs() + 0.1, momentum=0.1, eps=1e-3,
        weights=("weight", "bias", "running_mean", "running_var"),
        only=None if name == "aten.batch_norm.default" else [0], **BATCH_NORMS[name],
    )  # fmt: skip


@pytest.mark.parametrize("shape", [X3, X4])
def test_batch_norm_by_batch_statistics(shape):
    """With a batch of one it is an instance norm; with more the sums and products are ATen's."""
    settings = {"training": True, "momentum": 0.1, "eps": 1e-3}
    made, inputs = single_op("aten._native_batch_norm_legit.no_stats", randn(*shape), randn(6), randn(6), **settings)
    made.main.outputs, made.main.signature.outputs = made.main.outputs[:1], made.main.signature.outputs[:1]
    before = evaluate(made, inputs, precision=DOUBLE)
    run_pass(made, RaiseToNN())
    root = "nn.instance_norm" if shape[0] == 1 else "nn.layer_norm"
    assert root in [op.name for op in made.ops()]
    assert_same_numbers(before, evaluate(made, inputs, precision=DOUBLE), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["silu", "mish", "hardswish", "hardsigmoid", "log_sigmoid", "gelu", "softplus"])
def test_activations(name):
    raise_and_lower(f"aten.{name}.default", torch.linspace(-40, 40, 81).reshape(3, 27))


def test_activations_with_settings():
    x = torch.linspace(-40, 40, 84).reshape(2, 42)
    raise_and_lower("aten.gelu.default", x, approximate="tanh")
    raise_and_lower("aten.softplus.default", x, beta=2, threshold=4)
    raise_and_lower("aten.glu.default", x, dim=-1)
    raise_and_lower("aten.glu.default", x, dim=0)
    raise_and_lower("aten.log_softmax.int", x, dim=0)
    raise_and_lower("aten._log_softmax.default", x, dim=1, half_to_float=False)
    raise_and_lower("aten.log_sigmoid_forward.default", x, only=[0])


def test_log_softmax_into_a_wider_dtype():
    x = randn(2, 5).half()
    made, _ = single_op("aten.log_softmax.int", x, dim=1, dtype=DType.F32)
    run_pass(made, RaiseToNN())
    assert [op.name for op in made.ops()] == ["aten._to_copy.default", "nn.log_softmax"]


ATTENTIONS = [
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention_for_cpu",
]


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("form", ["plain", "causal", "bool", "float", "scale"])
def test_attention(name, form):
    query, key, value = randn(2, 4, 5, 8), randn(2, 4, 7, 8), randn(2, 4, 7, 8)
    masks = {"bool": torch.rand(5, 7) > 0.4, "float": randn(5, 7)}
    settings: dict[str, Any] = {"is_causal": form == "causal"}
    if form in masks:
        settings["attn_mask"] = masks[form]
    if form == "scale":
        settings["scale"] = 0.7
    if form == "bool" and name.startswith("_"):
        # torch turns a bool mask into numbers before it calls these.
        settings["attn_mask"] = torch.zeros(5, 7).masked_fill(~masks["bool"], -math.inf)
    only = None if name == ATTENTIONS[0] else [0]
    raise_and_lower(f"aten.{name}.default", query, key, value, only=only, **settings)


def test_attention_with_fewer_key_heads():
    settings = {"enable_gqa": True}
    raise_and_lower(
        "aten.scaled_dot_product_attention.default", randn(2, 6, 5, 8), randn(2, 3, 7, 8), randn(2, 3, 7, 8), **settings
    )


SPACES = {1: (5,), 2: (5, 6), 3: (3, 4, 5)}
RESIZES = [
    *(("upsample_nearest", n) for n in (1, 2, 3)),
    *(("_upsample_nearest_exact", n) for n in (1, 2, 3)),
    ("upsample_linear", 1), ("upsample_bilinear", 2), ("upsample_trilinear", 3), ("upsample_bicubic", 2),
    ("_upsample_bilinear_aa", 2), ("_upsample_bicubic_aa", 2),
]  # fmt: skip


@pytest.mark.parametrize(("stem", "space"), RESIZES)
@pytest.mark.parametrize("factor", [2.0, 0.5, 1.3])
def test_resizes_in_every_overload(stem, space, factor):
    packet = f"{stem[:-3]}{space}d_aa" if stem.endswith("_aa") else f"{stem}{space}d"
    x = randn(1, 2, *SPACES[space])
    size = [int(n * factor) for n in SPACES[space]]
    for align in (None,) if "nearest" in stem else (False, True):
        settings = {} if align is None else {"align_corners": align}
        by_size = {"output_size": size, "scale_factors": None}
        by_scale = {"output_size": None, "scale_factors": [factor] * space}
        raise_and_lower(f"aten.{packet}.vec", x, **by_size, **settings)
        raise_and_lower(f"aten.{packet}.vec", x, **by_scale, **settings)
        raise_and_lower(f"aten.{packet}.default", x, output_size=size, **settings)
        scales = dict(zip(("scales_d", "scales_h", "scales_w")[-space:], itertools.repeat(factor), strict=False))
        scales = {"scales": factor} if space == 1 else scales
        raise_and_lower(f"aten.{packet}.default", x, output_size=size, **settings, **scales)


@pytest.mark.parametrize("name", ["grid_sampler", "grid_sampler_2d"])
@pytest.mark.parametrize(("mode", "padding"), list(itertools.product((0, 1), (0, 1, 2))))
@pytest.mark.parametrize("align", [False, True])
def test_grid_samplers(name, mode, padding, align):
    raise_and_lower(f"aten.{name}.default", randn(2, 3, 5, 6), randn(2, 4, 3, 2), mode, padding, align)


@pytest.mark.parametrize("form", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent(form, bidirectional, layers):
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(form, torch.nn.RNN)
    layer = kind(3, 4, layers, bidirectional=bidirectional)
    params = [w.detach() for w in layer._flat_weights]
    state = randn(layers * (2 if bidirectional else 1), 2, 4)
    settings = {
        "has_biases": True, "num_layers": layers, "dropout": 0.0, "train": False,
        "bidirectional": bidirectional, "batch_first": False,
    }  # fmt: skip
    hx = [state, randn(*state.shape)] if form == "lstm" else state
    raise_and_lower(f"aten.{form}.input", randn(5, 2, 3), hx, params, **settings, weights=("params",))


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("adaptive_avg_pool1d", (2, 3, 8), [4]),
        ("adaptive_avg_pool2d", (2, 3, 8, 7), [4, 3]),
        ("_adaptive_avg_pool2d", (2, 3, 8, 7), [1, 1]),
        ("adaptive_avg_pool3d", (1, 3, 4, 6, 5), [2, 3, 1]),
        ("_adaptive_avg_pool3d", (1, 3, 4, 6, 5), [2, 3, 1]),
        ("adaptive_max_pool1d", (2, 3, 8), [4]),
        ("adaptive_max_pool2d", (2, 3, 8, 6), [4, 3]),
        ("adaptive_max_pool3d", (1, 3, 4, 6, 5), [2, 3, 1]),
    ],
)
def test_adaptive_pools_are_raised(name, shape, size):
    made, inputs = single_op(f"aten.{name}.default", randn(*shape), output_size=size)
    made.main.outputs, made.main.signature.outputs = made.main.outputs[:1], made.main.signature.outputs[:1]
    before = evaluate(made, inputs, precision=DOUBLE)
    run_pass(made, RaiseToNN())
    assert [op.name for op in made.ops()] == ["nn.adaptive_max_pool" if "max" in name else "nn.adaptive_avg_pool"]
    assert_same_numbers(before, evaluate(made, inputs, precision=DOUBLE), rtol=1e-12)


def test_pixel_ops_are_raised():
    raise_and_lower("aten.pixel_shuffle.default", randn(2, 8, 3, 5), 2)
    raise_and_lower("aten.pixel_unshuffle.default", randn(2, 3, 4, 6), 2)
    raise_and_lower("aten.channel_shuffle.default", randn(2, 6, 4, 3), 3)
