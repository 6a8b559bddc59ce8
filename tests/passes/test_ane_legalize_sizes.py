"""ane-legalize, sizes and convolutions: what a generation refuses comes out in a form it takes, with the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn as tnn

import anec
import golden
from anec.ane import Device, predict
from anec.dialects import mil
from anec.ir.graph import Module, Value
from anec.passes.ane_legalize import AneLegalize, axes, convolutions, frames, ranks, rows, transposed, volumes
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from anec.testing import assert_legal, assert_same_numbers, module_of, run_pass

MODULES = (axes, convolutions, frames, ranks, rows, transposed, volumes)
RULES = {rule.name for module in MODULES for rule in module.RULES} | {rule.name for rule in frames.LAST}
GOLDEN = [path for path in golden.cases("ane-legalize") if path.stem.split(".")[0] in RULES]
Build = Callable[..., Value]


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """float16, as programs are when they are placed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(torch.float16)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    if not path.stem.endswith(".not"):
        assert path.stem in outcome.fired, outcome.reasons


def test_every_rule_has_goldens() -> None:
    stems = {path.stem for path in GOLDEN}
    for name in RULES:
        assert {name, f"{name}.not"} <= stems


@dataclass(frozen=True)
class Case:
    """A program of one op or a few.

    Args:
        name: of the case.
        rule: that fires.
        build: makes the result of the input and the weights.
        shapes: of the input, then of the weights.
        inputs: how many of the shapes are inputs.
        left: ops that stay off the Neural Engine afterwards, at the edge.
        generation: for which it is rewritten.
        most: the most ops there may be afterwards.
    """

    name: str
    rule: str
    build: Build
    shapes: Sequence[tuple[int, ...]]
    inputs: int = 1
    left: frozenset[str] = frozenset()
    generation: str = "M1"
    most: int = field(default=16)

    def __str__(self) -> str:
        return f"{self.rule}-{self.name}"

    def module(self, target: str = "iOS18") -> tuple[Module, dict[str, torch.Tensor]]:
        tensors = [numbers(*shape, seed=index) for index, shape in enumerate(self.shapes)]
        return module_of(self.build, *tensors, weights=range(self.inputs, len(tensors)), target=target)


def conv(**attrs: object) -> Build:
    return lambda x, w, b=None: mil.conv(x, w, b, **{"pad_type": "custom" if "pad" in attrs else "valid", **attrs})


def conv_transpose(**attrs: object) -> Build:
    kind = "custom" if "pad" in attrs else "valid"
    return lambda x, w, b=None: mil.conv_transpose(x, w, b, **{"pad_type": kind, **attrs})


CASES = [
    # -- strides
    Case("patches", "stride_to_channels", conv(strides=[14, 14]), [(2, 3, 42, 56), (16, 3, 14, 14), (16,)]),
    Case("a patch beside the image", "stride_to_channels", conv(strides=[16, 16]), [(1, 3, 39, 50), (8, 3, 16, 16)]),
    Case("widened blocks", "stride_to_channels", conv(strides=[7, 7], pad=[3, 4, 0, 7]), [(2, 3, 27, 21), (8, 3, 7, 7), (8,)]),
    Case("widened pairs", "stride_to_channels", conv(strides=[10, 10]), [(1, 4, 47, 30), (8, 4, 20, 20)]),
    Case("blocks too many to widen", "stride_to_channels", conv(strides=[7, 7]), [(1, 1, 7, 7 * 300), (4, 1, 7, 7)]),
    Case("overlapping", "stride_to_channels", conv(strides=[4, 4], pad=[2, 2, 2, 2]), [(2, 3, 33, 30), (8, 3, 11, 11), (8,)]),
    Case("uneven padding", "stride_to_channels", conv(strides=[5, 5], pad=[3, 0, 1, 4]), [(1, 4, 23, 21), (8, 4, 7, 3)]),
    Case("groups", "stride_to_channels", conv(strides=[2, 2], pad=[4, 4, 4, 4], groups=3), [(2, 6, 17, 18), (9, 2, 9, 9), (9,)]),
    Case("depthwise", "stride_to_channels", conv(strides=[2, 2], pad=[4, 4, 4, 4], groups=4), [(1, 4, 16, 16), (4, 1, 9, 9)]),
    Case("a step beyond the kernel", "stride_to_channels", conv(strides=[5, 7]), [(1, 4, 23, 29), (8, 4, 3, 1), (8,)]),
    Case("a row", "stride_to_channels", conv(strides=[160]), [(2, 1, 4000), (8, 1, 400)]),
    Case("one axis", "stride_to_channels", conv(strides=[1, 5], pad=[1, 1, 2, 2], dilations=[2, 1]), [(1, 4, 9, 41), (8, 4, 3, 10)]),
    Case("steps of a row", "stride_to_channels", conv(strides=[16], pad=[5, 0], groups=2), [(2, 4, 200), (6, 2, 35), (6,)]),
    Case("steps of a column", "stride_to_channels", conv(strides=[12, 1], pad=[5, 0, 1, 1]), [(2, 3, 71, 5), (6, 3, 40, 3)]),
    Case("square steps of groups", "stride_to_channels", conv(strides=[8, 8], pad=[5, 0, 1, 1], groups=2), [(2, 4, 71, 33), (6, 2, 9, 13), (6,)]),
    Case("M2", "stride_to_channels", conv(strides=[16, 16]), [(1, 3, 32, 48), (8, 3, 16, 16)], generation="M2"),
    # -- kernels
    Case("wide", "split_kernel", conv(pad=[0, 0, 15, 15]), [(2, 4, 9, 40), (6, 4, 1, 31), (6,)]),
    Case("large depthwise", "split_kernel", conv(pad=[15, 15, 15, 15], groups=4), [(1, 4, 20, 17), (4, 1, 31, 31), (4,)], most=40),
    Case("a long row", "split_kernel", conv(pad=[64, 63], groups=2), [(2, 4, 50), (6, 2, 128), (6,)], most=48),
    Case("pieces in the padding", "split_kernel", conv(pad=[0, 0, 30, 30]), [(1, 4, 1, 9), (6, 4, 1, 61)], most=40),
    Case("without padding", "split_kernel", conv(), [(1, 4, 40, 40), (6, 4, 35, 14)], most=16),
    Case("wide for M4", "split_kernel", conv(pad=[0, 0, 8, 8]), [(1, 4, 4, 40), (6, 4, 1, 17)], generation="M4"),
    Case("dilated", "split_kernel", conv(pad=[12, 12, 12, 12], dilations=[12, 12]), [(2, 4, 17, 19), (6, 4, 3, 3), (6,)], most=48),
    Case("dilated and strided", "split_kernel", conv(strides=[2, 2], pad=[5, 5, 5, 5], dilations=[5, 5]), [(1, 4, 17, 19), (6, 4, 3, 3)], most=48),
    Case("a dilated row", "dilation_to_rows", conv(pad=[64, 64], dilations=[64]), [(2, 4, 300), (6, 4, 3), (6,)]),
    Case("a causal row", "dilation_to_rows", conv(pad=[0, 0, 512, 0], dilations=[1, 512]), [(1, 4, 1, 1000), (6, 4, 1, 2)]),
    # -- transposed
    Case("upsampling", "transposed_as_conv", conv_transpose(strides=[8], pad=[4, 4]), [(2, 4, 50), (4, 6, 16), (6,)]),
    Case("by five", "transposed_as_conv", conv_transpose(strides=[5, 5], pad=[1, 3, 2, 0]), [(1, 4, 6, 7), (4, 6, 9, 7), (6,)]),
    Case("groups up", "transposed_as_conv", conv_transpose(strides=[4, 4], pad=[2, 2, 2, 2], groups=2), [(2, 4, 6, 7), (4, 3, 8, 8), (6,)]),
    Case("a row by twelve", "transposed_as_conv", conv_transpose(strides=[12], pad=[5, 6], groups=2), [(2, 4, 17), (4, 3, 25), (6,)]),
    Case("a column by eight", "transposed_as_conv", conv_transpose(strides=[8, 1], pad=[3, 5, 2, 1]), [(2, 4, 9, 5), (4, 3, 33, 3), (3,)]),
    Case("square by twelve", "transposed_as_conv", conv_transpose(strides=[12, 12], pad=[3, 5, 2, 11]), [(2, 4, 7, 5), (4, 3, 25, 31), (3,)]),
    Case("gaps", "transposed_as_conv", conv_transpose(strides=[5, 5]), [(1, 4, 6, 7), (4, 6, 3, 3), (6,)]),
    Case("padded off", "transposed_as_conv", conv_transpose(strides=[2], pad=[9, 8]), [(1, 4, 30), (4, 6, 20), (6,)]),
    Case("cut to shape", "transposed_as_conv", conv_transpose(strides=[5], pad=[2, 2], output_shape=[1, 6, 51]), [(1, 4, 10), (4, 6, 11), (6,)]),
    Case("single steps", "transposed_as_conv", conv_transpose(), [(1, 4, 1, 30), (4, 6, 1, 9), (6,)]),
    Case("a long result", "transposed_as_conv", conv_transpose(strides=[8], pad=[4, 4]), [(1, 2, 2500), (2, 2, 16), (2,)], left=frozenset({"reshape", "slice_by_index"})),
    # -- volumes
    Case("flat", "volume_to_slices", conv(pad=[0, 0, 1, 1, 1, 1]), [(2, 4, 3, 8, 7), (6, 4, 1, 3, 3), (6,)]),
    Case("deep", "volume_to_slices", conv(pad=[1, 1, 1, 1, 1, 1], strides=[2, 1, 2]), [(2, 4, 6, 8, 7), (6, 4, 3, 3, 3), (6,)], most=18),
    Case("one slice", "volume_to_slices", conv(pad=[1, 1, 1, 1, 1, 1]), [(2, 4, 1, 8, 7), (6, 4, 3, 3, 3), (6,)]),
    Case("dilated depth", "volume_to_slices", conv(pad=[2, 1, 0, 0, 0, 0], dilations=[2, 1, 1]), [(1, 4, 6, 5, 5), (6, 4, 3, 1, 1)]),
    Case("grouped depth", "volume_to_slices", conv(pad=[1, 1, 1, 1, 1, 1], groups=2), [(2, 4, 5, 6, 6), (6, 2, 3, 3, 3), (6,)], most=18),
    Case("depthwise depth", "volume_to_slices", conv(pad=[1, 1, 1, 1, 1, 1], groups=4), [(1, 4, 5, 6, 6), (4, 1, 3, 3, 3)]),
    Case("along the width", "volume_to_slices", conv(pad=[4, 4, 2, 2, 0, 0]), [(2, 1, 6, 5, 7), (4, 1, 9, 5, 1), (4,)]),
    Case("along the height", "volume_to_slices", conv(strides=[1, 2, 1], groups=2), [(2, 4, 6, 5, 7), (6, 2, 3, 1, 3)]),
    Case("tubelets", "volume_to_slices", conv(strides=[2, 16, 16]), [(1, 3, 4, 32, 32), (8, 3, 2, 16, 16), (8,)], most=20),
    # -- outputs
    Case("linear", "split_outputs", lambda x, w, b: mil.linear(x, w, b), [(1, 3, 8), (50257, 8), (50257,)], left=frozenset({"concat"})),
    Case("softcapped", "work_on_pieces", lambda x, w: mil.mul(mil.tanh(mil.linear(x, w)), 30.0), [(2, 3, 8), (20001, 8)], left=frozenset({"concat"})),
    Case("with constants", "work_on_pieces", lambda x, w, m, v: mil.add(mil.mul(mil.linear(x, w), m), v), [(1, 2, 8), (20000, 8), (20000,), (1, 2, 1)], left=frozenset({"concat"})),
    Case("two of a kind", "work_on_pieces", lambda x, w, v: mil.maximum(mil.linear(x, w), mil.linear(x, v)), [(1, 2, 8), (20000, 8), (20000, 8)], left=frozenset({"concat"})),
    Case("matmul", "split_outputs", lambda x, w: mil.matmul(x, w), [(1, 2, 3, 8), (8, 20000)], left=frozenset({"concat"})),
    Case("channels", "split_outputs", conv(), [(1, 8, 1, 3), (70000, 8, 1, 1), (70000,)], left=frozenset({"concat"})),
    Case("channels last", "split_move", lambda x, w: mil.squeeze(mil.transpose(mil.conv(x, w), perm=[0, 3, 2, 1]), axes=[2]), [(1, 8, 1, 3), (30000, 8, 1, 1)], left=frozenset({"concat"})),
    Case("moved", "split_move", lambda x: mil.transpose(mil.relu(x), perm=[0, 3, 2, 1]), [(1, 20000, 1, 2)], left=frozenset({"concat"})),
    # -- rows
    Case("strided", "conv_in_rows", conv(strides=[5]), [(2, 1, 90001), (4, 1, 10), (4,)], left=frozenset({"pad", "reshape", "slice_by_index"})),
    Case("same", "conv_in_rows", conv(pad=[3, 3]), [(1, 2, 20011), (4, 2, 7)], left=frozenset({"pad", "reshape", "slice_by_index"})),
    Case("causal", "conv_in_rows", conv(pad=[0, 0, 4, 0], dilations=[1, 2]), [(1, 2, 1, 40000), (4, 2, 1, 3)], left=frozenset({"pad", "reshape", "slice_by_index"})),
    Case("grown", "conv_in_rows", conv(pad=[1, 1]), [(1, 2, 20000), (4, 2, 2)], left=frozenset({"pad", "reshape", "slice_by_index"})),
    Case("shrunk", "conv_in_rows", conv(), [(1, 2, 20490), (4, 2, 11)], left=frozenset({"pad", "reshape", "slice_by_index"})),
    # -- ranks
    Case("product", "product_in_four_axes", lambda x, y: mil.matmul(x, y), [(2, 4, 3, 16, 8), (2, 4, 1, 8, 16)], inputs=2),
    Case("product of many", "product_in_four_axes", lambda x, y: mil.matmul(x, y), [(12, 4, 3, 16, 8), (12, 4, 3, 8, 16)], inputs=2),
    Case("product along two axes", "product_in_four_axes", lambda x, y: mil.matmul(x, y), [(2, 1, 3, 16, 8), (1, 4, 1, 8, 16)], inputs=2),
    Case("leading one", "product_in_four_axes", lambda x, y: mil.matmul(x, y, transpose_y=True), [(1, 4, 3, 16, 8), (3, 16, 8)], inputs=2),
    Case("mask", "stretch_in_four_axes", lambda x, y: mil.add(x, y), [(1, 4, 3, 16, 8), (1, 1, 3, 16, 8)], inputs=2),
    Case("mask of windows", "stretch_in_four_axes", lambda x, y: mil.sub(y, x), [(2, 4, 3, 16, 8), (2, 1, 1, 16, 8)], inputs=2),
    Case("shuffle", "shuffle_as_transpose", lambda x: mil.pixel_shuffle(x, upscale_factor=5), [(2, 50, 3, 4)]),
    Case("unshuffle", "shuffle_as_transpose", lambda x: mil.pixel_unshuffle(x, downscale_factor=6), [(2, 3, 12, 18)]),
    Case("block-major", "shuffle_as_transpose", lambda x: mil.depth_to_space(x, block_size=5), [(1, 50, 3, 4)]),
    Case("to depth", "shuffle_as_transpose", lambda x: mil.space_to_depth(x, block_size=5), [(2, 3, 10, 15)]),
]  # fmt: skip


def off(module: Module, generation: str) -> Counter[str]:
    """The ops that could not run on the Neural Engine."""
    (function,) = predict(module, generation).functions
    return Counter(p.op.defn.root for p in function.placements if Device.ANE not in p.supported)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_was_refused_is_taken(case: Case) -> None:
    module, inputs = case.module()
    before = evaluate(module, inputs, precision=DOUBLE)
    context = run_pass(module, AneLegalize(case.generation))
    assert case.rule in context.fired, {name: str(miss) for name, miss in context.misses.items() if miss.reason}
    assert_legal(module)
    assert_same_numbers(before, evaluate(module, inputs, precision=DOUBLE), rtol=1e-9, atol=1e-9)
    assert set(off(module, case.generation)) <= case.left
    assert sum(not op.is_constant for op in module.ops()) <= case.most


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_fits_stays(case: Case) -> None:
    """On the rewritten program nothing fires again, on any generation that takes more."""
    module, _ = case.module()
    run_pass(module, AneLegalize(case.generation))
    text = str(module)
    assert not run_pass(module, AneLegalize(case.generation)).fired
    assert str(module) == text


@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
def test_legal_on_older_targets(target: str) -> None:
    shuffles = ("unshuffle", "cut to shape")
    for case in CASES:
        module, _ = case.module(target)
        if case.name not in shuffles:
            run_pass(module, AneLegalize(case.generation))
            assert_legal(module)


class Speech(tnn.Module):
    """The front end of wav2vec 2.0, with either norm."""

    def __init__(self, norm: tnn.Module) -> None:
        super().__init__()
        self.first, self.norm = tnn.Conv1d(1, 8, 10, stride=5), norm
        self.second, self.third = tnn.Conv1d(8, 8, 3, stride=2), tnn.Conv1d(8, 8, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        along = isinstance(self.norm, tnn.LayerNorm)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2) if along else self.norm(x)
        x = tnn.functional.gelu(self.second(tnn.functional.gelu(x)))
        return tnn.functional.gelu(self.third(x))


class Vocoder(tnn.Module):
    """An upsampling stage of HiFi-GAN that ends beyond the longest axis, with its residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.up = tnn.ConvTranspose1d(4, 4, 16, 8, 4)
        windows = ((3, 1), (7, 3), (11, 1))
        self.blocks = tnn.ModuleList([tnn.Conv1d(4, 4, k, padding=(k - 1) * d // 2, dilation=d) for k, d in windows])
        self.out = tnn.Conv1d(4, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(tnn.functional.leaky_relu(x, 0.1))
        for block in self.blocks:
            x = x + block(tnn.functional.leaky_relu(x, 0.1))
        return torch.tanh(self.out(x))


def head() -> tnn.Module:
    return tnn.Sequential(tnn.Linear(16, 16), tnn.GELU(), tnn.LayerNorm(16), tnn.Linear(16, 50257))


def large_kernels() -> tnn.Module:
    return tnn.Sequential(
        tnn.Conv2d(3, 8, 16, stride=16), tnn.Conv2d(8, 8, 31, padding=15, groups=8), tnn.BatchNorm2d(8), tnn.ReLU(),
        tnn.Conv2d(8, 8, 3, padding=9, dilation=9), tnn.ConvTranspose2d(8, 4, 10, stride=10), tnn.PixelShuffle(1),
    )  # fmt: skip


def video() -> tnn.Module:
    return tnn.Sequential(
        tnn.Conv3d(3, 8, (2, 8, 8), stride=(2, 8, 8)), tnn.BatchNorm3d(8), tnn.ReLU(), tnn.Conv3d(8, 8, 3, padding=1)
    )


MODELS: dict[str, tuple[Callable[[], tnn.Module], tuple[int, ...], set[str]]] = {
    "group norm": (lambda: Speech(tnn.GroupNorm(8, 8)), (1, 1, 170_001), {"pad", "slice_by_index", "reshape"}),
    "layer norm": (lambda: Speech(tnn.LayerNorm(8)), (1, 1, 170_003), {"pad", "slice_by_index", "reshape"}),
    "vocoder": (Vocoder, (1, 4, 2051), {"slice_by_index", "reshape"}),
    "vocabulary": (head, (2, 5, 16), {"concat"}),
    "large kernels": (large_kernels, (2, 3, 96, 80), set()),
    "video": (video, (1, 3, 6, 32, 24), set()),
}


@pytest.mark.parametrize("name", MODELS)
def test_no_later_pass_undoes_it(name: str) -> None:
    """Through the whole pipeline: what stays off the Neural Engine is at the edge, the numbers are torch's."""
    torch.manual_seed(0)
    make, shape, left = MODELS[name]
    model, x = make().eval(), torch.randn(shape)
    halves = anec.compile(model, (x,), passes="default,ane", io_dtype="fp16")
    assert set(off(halves.module, "M1")) <= left
    singles = anec.compile(model, (x,), passes="default,ane", precision="fp32").module
    (found,) = evaluate(singles, {singles.main.inputs[0].name: x}).values()
    with torch.no_grad():
        wanted = model(x)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5
    assert sum(not op.is_constant for op in singles.ops()) < 90


def test_what_is_left_is_told() -> None:
    module, _ = module_of(lambda x: mil.relu(x), numbers(1, 4, 20000))
    (note,) = run_pass(module, AneLegalize()).notes
    assert note == "ops with axes that M1 does not hold: 1; W of %x0 is 20000, beyond 16384"
    assert not run_pass(module, AneLegalize("M4")).notes


def test_windows_in_the_padding_stay() -> None:
    build = conv(strides=[2, 1, 1], pad=[1, 0, 0, 0, 0, 0], dilations=[1, 1, 1])
    module, _ = module_of(build, numbers(1, 2, 1, 4, 4), numbers(2, 2, 1, 1, 1), weights=[1])
    assert not run_pass(module, AneLegalize()).fired


def test_a_high_kernel_on_one_row_is_no_row() -> None:
    build = conv(pad=[1, 1, 1, 1])
    module, _ = module_of(build, numbers(1, 2, 1, 20000), numbers(2, 2, 3, 3), weights=[1])
    assert not run_pass(module, AneLegalize()).fired


def test_a_table_that_is_read_whole_too_is_told() -> None:
    def build(x: Value, table: Value) -> Value:
        return mil.matmul(mil.linear(mil.gather(table, x, axis=0), table), mil.relu(table))

    module, _ = module_of(build, torch.tensor([3, 5], dtype=torch.int32), numbers(20000, 8), weights=[1])
    assert "stored once for each" in run_pass(module, AneLegalize()).notes[0]
