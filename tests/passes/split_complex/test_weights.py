"""Complex weights: two views of their memory, and nothing complex in a package."""

from __future__ import annotations

from pathlib import Path

import torch

import anec
from anec.dialects import aten
from anec.ir.graph import Value
from anec.passes.split_complex import SplitComplex
from anec.reference.evaluate import evaluate
from anec.testing import check_module_lowering, module_of, run_pass
from lowering import floats


def rotations(*shape: int) -> torch.Tensor:
    return torch.polar(torch.ones(shape), floats(*shape, seed=5))


def turned(x: Value, w: Value) -> Value:
    return aten.view_as_real.default(aten.mul.Tensor(aten.view_as_complex.default(x), w))


def test_parts_are_views_of_the_weight() -> None:
    weight = rotations(3, 4)
    module, _ = module_of(turned, floats(2, 3, 4, 2), weight, weights=[1])
    run_pass(module, SplitComplex())
    assert list(module.weights) == ["w1.real", "w1.imag"]
    for offset, part in enumerate(module.weights.values()):
        assert part.tensor().data_ptr() == weight.data_ptr() + 4 * offset


def test_strided_conjugated_and_double_weights() -> None:
    x = floats(2, 4, 3, 2)
    for weight in (rotations(3, 4).T, rotations(8, 3)[::2], rotations(4, 3).to(torch.complex128)):
        module, inputs = module_of(turned, x, weight, weights=[1])
        check_module_lowering(module, inputs)


def test_a_weight_without_an_imaginary_part() -> None:
    module, inputs = module_of(turned, floats(2, 4, 2), torch.randn(4).to(torch.complex64), weights=[1])
    lowered = check_module_lowering(module, inputs)
    assert list(lowered.weights) == ["w1.real"]
    module, inputs = module_of(turned, floats(2, 4, 2), torch.zeros(4, dtype=torch.complex64), weights=[1])
    check_module_lowering(module, inputs)


def test_constants_that_no_op_splits_are_computed() -> None:
    def function(x: Value, w: Value) -> Value:
        return turned(x, aten.cumprod.default(w, 0))

    module, inputs = module_of(function, floats(2, 3, 4, 2), rotations(3, 4), weights=[1])
    before = evaluate(module, inputs)
    after = evaluate(check_module_lowering(module, inputs, rtol=1e-6, atol=1e-6), inputs)
    # The product is rounded to the declared precision, as any folded constant is.
    for a, b in zip(before.values(), after.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


class Rotary(torch.nn.Module):
    """Rotary embeddings as the first Llama has them."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        frequencies = 1.0 / 10000 ** (torch.arange(0, width, 2) / width)
        angles = torch.outer(torch.arange(length).float(), frequencies)
        self.register_buffer("freqs_cis", torch.polar(torch.ones_like(angles), angles))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        turned = pairs * self.freqs_cis[: x.shape[1]].view(1, x.shape[1], 1, -1)
        return torch.view_as_real(turned).flatten(3).type_as(x)


def test_rotary_embeddings(tmp_path: Path) -> None:
    model, x = Rotary(16, 8), floats(2, 7, 3, 8)
    compiled = anec.compile(model, (x,), precision="fp32", check="all", dump=tmp_path / "dump")
    assert not [w for w in compiled.module.weights.values() if w.type.dtype.is_complex]
    (found,) = compiled.run({"x": x}).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x), rtol=1e-5, atol=1e-5)
    assert len(compiled.module.main) <= 12
    # The text in front of the first pass, with its complex weight, is enough to go on from.
    (first,) = (tmp_path / "dump").glob("000_*.anec")
    again = anec.opt(anec.read(first), "lower-to-mil")
    assert not [value for value in again.main.values.values() if value.tensor.dtype.is_complex]
    compiled.save(tmp_path / "rotary.mlpackage")
    (loaded,) = anec.load(tmp_path / "rotary.mlpackage").run({"x": x}).values()
    torch.testing.assert_close(torch.as_tensor(loaded), model(x), rtol=1e-5, atol=1e-5)


def test_rotary_embeddings_of_any_length() -> None:
    model, length = Rotary(16, 8), torch.export.Dim("length", min=2, max=16)
    compiled = anec.compile(model, (floats(2, 7, 3, 8),), dynamic_shapes={"x": {1: length}}, precision="fp32")
    for size in (3, 16):
        x = floats(2, size, 3, 8, seed=size)
        (found,) = compiled.run({"x": x}).values()
        torch.testing.assert_close(torch.as_tensor(found), model(x), rtol=1e-5, atol=1e-5)


class Numbers(torch.nn.Module):
    """Complex numbers written in the code."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned = torch.exp(-2j * torch.pi * x) + (1 + 2j)
        return torch.view_as_real(turned * 1j / (3 - 1j) * (2 + 0j))


def test_complex_numbers_in_the_code() -> None:
    model, x = Numbers(), floats(3, 5)
    (found,) = anec.compile(model, (x,), precision="fp32").run({"x": x}).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x), rtol=1e-5, atol=1e-5)


class Product(torch.nn.Module):
    """A product that is not written with real numbers, between two ops that are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumprod(torch.fft.rfft(x), 1).abs()


def test_analyze_blames_the_op_alone() -> None:
    from anec.api.support import analyze
    from anec.frontend import from_torch

    rows = {row.op: row for row in analyze(from_torch(Product(), (floats(2, 8),)).module)}
    assert rows["aten.cumprod.default"].reason == "nothing tells how to write it with real numbers"
    assert [name for name, row in rows.items() if not row.targets] == ["aten.cumprod.default"]
