"""Fourier transforms as products with constant matrices."""

from __future__ import annotations

import pytest
import torch

from anec.dialects import aten
from anec.errors import UnsupportedError
from anec.ir.graph import Module, Value
from anec.passes.split_complex import SplitComplex, dft
from anec.testing import check_module_lowering, module_of, run_pass
from lowering import floats

# Sums of thousands of terms in another order: torch's own float64 transform is good to a few 1e-13 of the
# largest entry, so entries near zero are held to that.
ATOL = 1e-9


def r2c(x: Value, dims: tuple[int, ...], mode: int = 0, onesided: bool = True) -> Value:
    return aten._fft_r2c.default(x, dims, mode, onesided)


def check(function: object, *tensors: torch.Tensor, target: str = "iOS18") -> Module:
    module, inputs = module_of(function, *tensors, target=target)  # type: ignore[arg-type]  # a lambda over values
    return check_module_lowering(module, inputs, atol=ATOL)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 30, 64])
@pytest.mark.parametrize(("mode", "onesided", "target"), [(0, True, "iOS15"), (1, False, "iOS17"), (2, True, "iOS18")])
def test_real_to_complex(size: int, mode: int, onesided: bool, target: str) -> None:
    check(lambda x: aten.view_as_real.default(r2c(x, (1,), mode, onesided)), floats(2, size), target=target)


@pytest.mark.parametrize("dims", [(0,), (1,), (2,), (3,), (2, 3), (1, 2), (3, 0), (0, 1, 2, 3)])
@pytest.mark.parametrize("forward", [True, False])
def test_any_axes(dims: tuple[int, ...], forward: bool) -> None:
    def both(x: Value, z: Value) -> Value:
        whole = aten._fft_c2c.default(aten.view_as_complex.default(z), dims, 2, forward)
        return aten.view_as_real.default(aten.mul.Tensor(whole, r2c(x, dims, 1, onesided=False)))

    check(both, floats(2, 3, 4, 5), floats(2, 3, 4, 5, 2, seed=1))


@pytest.mark.parametrize("dims", [(3,), (0,), (2, 3), (1, 2), (3, 1)])
@pytest.mark.parametrize("odd", [0, 1])
def test_complex_to_real(dims: tuple[int, ...], odd: int) -> None:
    z = floats(3, 4, 5, 6, 2)
    size = 2 * (z.shape[dims[-1]] - 1) + odd
    check(lambda z: aten._fft_c2r.default(aten.view_as_complex.default(z), dims, 1, size), z)


@pytest.mark.parametrize("size", [1500, 1536, 2048, 2 * 1031])
def test_long_axes_take_four_steps(size: int) -> None:
    lowered = check(lambda x: aten.view_as_real.default(r2c(x, (0,))), floats(size, 2))
    largest = max(weight.type.size for weight in lowered.weights.values())
    assert largest <= 1031 * 1031
    assert len(lowered.main) < 60
    half = floats(2, size // 2 + 1, 2, seed=1)
    check(lambda z: aten._fft_c2r.default(aten.view_as_complex.default(z), (1,), 2, size), half)


def test_a_long_axis_takes_no_more_ops_than_a_longer_one() -> None:
    counts = [
        len(check(lambda x: aten.abs.default(r2c(x, (1,))), floats(1, size)).main) for size in (1152, 4096, 16384)
    ]
    assert len(set(counts)) == 1


def test_both_factors_of_an_axis_are_short() -> None:
    assert [dft.short_factor(size) for size in (1024, 1025, 2048, 4096, 30000)] == [1, 25, 32, 64, 150]
    module, _ = module_of(lambda x: aten.abs.default(r2c(x, (1,))), floats(1, 4099))
    with pytest.raises(UnsupportedError, match="4099 entries has a factor above 2048; pad the axis"):
        run_pass(module, SplitComplex())


def test_matrices_are_shared() -> None:
    def twice(x: Value) -> Value:
        return aten.add.Tensor(*(aten.abs.default(r2c(v, (1,))) for v in (x, aten.neg.default(x))))

    module, _ = module_of(twice, floats(2, 16))
    run_pass(module, SplitComplex())
    assert len(module.weights) == 2


def test_only_the_asked_part_is_computed() -> None:
    lowered = check(lambda x: aten.real.default(r2c(x, (1, 2), 0, False)), floats(2, 6, 8))
    assert sum(op.defn.root in ("matmul", "linear") for op in lowered.main) == 4


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.fft.fft2(x).imag,
        lambda x: torch.view_as_real(torch.fft.rfftn(x, norm="ortho")),
        lambda x: torch.fft.irfft(torch.fft.rfft(x), n=9),
        lambda x: torch.fft.irfft(torch.fft.rfft(x), n=14, norm="forward"),
        lambda x: torch.view_as_real(torch.fft.rfft(x, n=5)),
        lambda x: torch.view_as_real(torch.fft.fft(x, n=20)),
        lambda x: torch.fft.hfft(torch.fft.ihfft(x)),
        lambda x: torch.view_as_real(torch.fft.ifftshift(torch.fft.fftshift(torch.fft.fft(x), dim=-1))),
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x).conj(), s=(6, 11)),
        lambda x: torch.fft.ifftn(torch.fft.fftn(x), dim=(0, 2)).real,
    ],
)
def test_what_torch_fft_exports(function: object, batch: int) -> None:
    from anec.frontend import from_torch

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)  # type: ignore[operator, no-any-return]  # a lambda over tensors

    lifted = from_torch(Model(), (floats(batch, 6, 11),))
    check_module_lowering(lifted.module, {"x": floats(batch, 6, 11, seed=1)}, atol=ATOL)


def test_a_batch_of_any_size_and_an_axis_of_none() -> None:
    import anec

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.rfft2(x).abs()

    batch = {"x": {0: torch.export.Dim("batch", min=1, max=8)}}
    compiled = anec.compile(Model(), (floats(2, 6, 8),), dynamic_shapes=batch, precision="fp32")
    x = floats(5, 6, 8)
    (found,) = compiled.run({"x": x}).values()
    torch.testing.assert_close(torch.as_tensor(found), Model()(x), rtol=1e-5, atol=1e-5)
    axis = {"x": {1: torch.export.Dim("rows", min=2, max=8)}}
    with pytest.raises(UnsupportedError, match="a Fourier transform along an axis of symbolic size"):
        anec.compile(Model(), (floats(2, 6, 8),), dynamic_shapes=axis)
