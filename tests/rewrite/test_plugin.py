"""The plugin of the documentation, whole: one pattern, one line, one pass."""

from __future__ import annotations

from pathlib import Path

import torch

import anec
from anec import mil
from anec.pipeline import registry
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from rewriting import module_of, roots

PLUGIN = '''"""Fuse the sigmoid form of GELU.

    %1 = mil.mul(%x, 1.702)
    %2 = mil.sigmoid(%1)             ->      %3 = mil.gelu(%x) {mode="SIGMOID_APPROXIMATION"}
    %3 = mil.mul(%x, %2)
"""
from anec import Pass, Value, mil, register, rewrite, var

x = var("x")


@rewrite(mil.mul(x, mil.sigmoid(mil.mul(x, 1.702))))
def gelu_sigmoid(x: Value) -> Value:
    return mil.gelu(x, mode="SIGMOID_APPROXIMATION")


@register
class FuseGelu(Pass):
    name = "fuse-gelu"
    rules = [gelu_sigmoid]
'''


def plugin(folder: Path) -> Path:
    registry._PASSES.pop("fuse-gelu", None)
    path = folder / "my_passes.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


def test_a_whole_plugin(tmp_path: Path) -> None:
    module = module_of(lambda a: mil.mul(mil.sigmoid(mil.mul(1.702, a)), a))
    fused = anec.opt(module, "fuse-gelu", plugins=[plugin(tmp_path)], check="rewrites")
    assert roots(fused) == ["gelu"]
    assert roots(module) == ["mul", "sigmoid", "mul"], "opt leaves its module alone"
    inputs = {"x0": torch.randn(2, 4)}
    before, after = (evaluate(m, inputs, precision=DOUBLE)["y0"] for m in (module, fused))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=0)


def test_what_nearly_fits_is_told(tmp_path: Path) -> None:
    module = module_of(lambda a: mil.mul(a, mil.sigmoid(mil.mul(a, 1.5))), line="model.py:41")
    registry.load_plugin(str(plugin(tmp_path)))
    from anec.api.text import optimize

    result, report = optimize(module, "fuse-gelu")
    assert roots(result) == ["mul", "sigmoid", "mul"]
    assert report.passes[0].misses == {"gelu_sigmoid": "wanted constant 1.702, got 1.5 at model.py:41 (net)"}
