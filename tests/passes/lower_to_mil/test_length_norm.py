"""RMS, L2 and response norms: exact in every form, and safe in float16 from 1e-7 to 6e4."""

from __future__ import annotations

import pytest
import torch

from anec.ir.facts import is_constant
from anec.ir.graph import Module
from anec.passes.legalize_target import LegalizeTarget
from anec.passes.lower_to_mil import LowerToMil
from anec.passes.to_fp16 import ToFp16
from anec.reference.evaluate import evaluate
from anec.testing import DECLARED, DOUBLE, assert_legal, assert_same_numbers, check_lowering, run_pass, single_op

TARGETS = ("iOS15", "iOS17", "iOS18")
FORMS = ("auto", "layernorm", "maxscale", "plain")
each_target = pytest.mark.parametrize("target", TARGETS)
each_form = pytest.mark.parametrize("form", FORMS)
HALF_ULPS = 2.0**-9  # four roundings to float16


def ops(module: Module) -> list[str]:
    """What is left to run: ops that are not constant."""
    return [op.defn.root for op in module.ops() if not all(is_constant(result) for result in op.results)]


def lowered(name: str, *args: torch.Tensor | None, form: str = "auto", target: str = "iOS18", **attrs: object) -> Module:
    """A module of one op, lowered in a form and compared with what it was."""
    module, inputs = single_op(name, *args, target=target, **attrs)
    before = evaluate(module, inputs, precision=DOUBLE)
    run_pass(module, LowerToMil(norms=form))
    assert_legal(module)
    assert_same_numbers(before, evaluate(module, inputs, precision=DOUBLE), rtol=1e-10, atol=1e-12)
    return module


@each_target
@each_form
@pytest.mark.parametrize("axes", [(-1,), (1,), (1, 2), (0,), (0, 2)])
def test_rms_norm(axes, form, target):
    x = torch.randn(2, 3, 8)
    weight = torch.randn([x.shape[axis] for axis in axes])
    for epsilon in (1e-6, 3e-3, 0.0, 7.0):
        lowered("nn.rms_norm", x, weight, form=form, target=target, axes=axes, epsilon=epsilon)
    x[1] = 0
    lowered("nn.rms_norm", x, form=form, target=target, axes=axes, epsilon=1e-5)


def test_the_target_decides_on_the_form():
    x, weight = torch.randn(2, 8), torch.randn(8)
    for target, wanted in (("iOS16", "reduce_max"), ("iOS17", "layer_norm")):
        module = lowered("nn.rms_norm", x, weight, target=target, axes=[-1])
        assert wanted in ops(module)
        assert len(ops(module)) == {"layer_norm": 5, "reduce_max": 13}[wanted]
    assert ops(lowered("nn.rms_norm", x, weight, form="plain", axes=[-1])) == ["mul", "reduce_mean", "rsqrt", "mul", "mul"]


@each_target
@each_form
@pytest.mark.parametrize("axes", [(-1,), (1,), (0, 2)])
def test_l2_norm(axes, form, target):
    x = torch.randn(3, 4, 5)
    for epsilon in (1e-12, 1e-4, 2.0, 0.0):
        lowered("nn.l2_norm", x, form=form, target=target, axes=axes, epsilon=epsilon)
    x[1] = 0
    assert len(ops(lowered("nn.l2_norm", x, form=form, target=target, axes=axes))) == (3 if form == "plain" else 7)


@each_target
@each_form
def test_global_response_norm(form, target):
    for epsilon in (1e-6, 0.5, 0.0):
        settings = {"axes": [1, 2], "axis": -1, "epsilon": epsilon}
        lowered("nn.global_response_norm", torch.randn(2, 4, 5, 3), form=form, target=target, **settings)


def test_symbolic_axes_take_the_form_that_needs_no_size():
    from anec.dialects import registry
    from anec.ir.parser import parse_module

    text = """anec 1
module target=iOS18
dims S in 1..64

func main(%x: f32[2,S,8]) -> (%y: f32[2,S,8], %z: f32[2,S,8]) {
  %y = nn.rms_norm(%x) {axes=[-1]} : f32[2,S,8]
  %z = nn.rms_norm(%x) {axes=[1]} : f32[2,S,8]
  return %y, %z
}
"""
    module = parse_module(text, registry)
    x = {"x": torch.randn(2, 7, 8)}
    before = evaluate(module, x, precision=DOUBLE)
    run_pass(module, LowerToMil())
    assert ops(module).count("layer_norm") == 1
    assert ops(module).count("reduce_max") == 1
    assert_same_numbers(before, evaluate(module, x, precision=DOUBLE), rtol=1e-10)


def rows(size: int, seed: int) -> torch.Tensor:
    """Rows of zeros and of every magnitude float16 has."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(9, size, generator=generator) * 2 - 1
    scale = torch.tensor([0.0, 1e-7, 2.0**-20, 1e-5, 1e-3, 1e-2, 1.0, 300.0, 6e4])
    # Tiny ones are a few steps of float16 apart: signs alone, so that a row is not all zeros.
    base[1] = base[1].sign()
    return (base * scale[:, None]).half()


def in_half(name: str, x: torch.Tensor, target: str, **attrs: object) -> torch.Tensor:
    """The op as compiled: in float16, on the target."""
    module, inputs = single_op(name, x.float(), target=target, **attrs)
    for step in (LowerToMil(), ToFp16(), LegalizeTarget()):
        run_pass(module, step)
    (found,) = evaluate(module, inputs, precision=DECLARED).values()
    return found.double()


@each_target
@pytest.mark.parametrize("epsilon", [1e-5, 1e-6, 1e-8, 1e-12])
@pytest.mark.parametrize("size", [7, 64, 4096])
def test_rms_norm_in_float16(size, epsilon, target):
    for seed in range(2):
        x = rows(size, seed)
        wide = x.double()
        wanted = wide * (wide.pow(2).mean(-1, keepdim=True) + epsilon).rsqrt()
        found = in_half("nn.rms_norm", x, target, axes=[-1], epsilon=epsilon)
        assert found[0].count_nonzero() == 0
        assert bool(((found - wanted).abs().amax(-1) <= HALF_ULPS * wanted.abs().amax(-1)).all())


@each_target
@pytest.mark.parametrize("epsilon", [1e-5, 1e-12, 1e-20])
@pytest.mark.parametrize("size", [7, 4096])
def test_l2_norm_in_float16(size, epsilon, target):
    x = rows(size, 0)
    wanted = torch.nn.functional.normalize(x.double(), dim=-1, eps=epsilon)
    found = in_half("nn.l2_norm", x, target, axes=[-1], epsilon=epsilon)
    assert found[0].count_nonzero() == 0
    assert bool(((found - wanted).abs().amax(-1) <= HALF_ULPS * wanted.abs().amax(-1)).all())


@each_target
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 5e4])
def test_global_response_norm_in_float16(scale, target):
    x = (torch.randn(2, 4, 5, 3).clamp(-1, 1) * scale).half()
    norm = x.double().norm(dim=(1, 2), keepdim=True)
    wanted = norm / (norm.mean(-1, keepdim=True) + 1e-6)
    found = in_half("nn.global_response_norm", x, target, axes=[1, 2], axis=-1)
    assert float((found - wanted).abs().max()) <= HALF_ULPS * float(wanted.abs().max())


def test_half_precision_stays_half():
    for name in ("nn.rms_norm", "nn.l2_norm"):
        module = check_lowering(name, torch.randn(2, 8).half(), axes=(-1,), epsilon=1e-3)
        assert all(str(value.tensor.dtype) == "f16" for op in module.ops() for value in op.results)
