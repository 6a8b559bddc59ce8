"""Determinants, inverses and linear systems of matrices up to 4 x 4."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import anec
from anec.errors import UnsupportedError
from anec.testing import check_lowering, check_module_lowering, single_op
from lowering import TARGETS, floats

BATCHES = ((), (2,), (2, 3), (3, 1, 2))


def lowered(name: str, *args: Any, used: int = 1, target: str = "iOS18", **kwargs: Any) -> None:
    """Compare the first results; the others are nobody's."""
    module, inputs = single_op(name, *args, target=target, **kwargs)
    graph = module.main
    del graph.outputs[used:], graph.signature.outputs[used:]
    check_module_lowering(module, inputs)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_determinant_and_inverse(size: int, batch: tuple[int, ...], target: str) -> None:
    for seed in range(2):
        a = floats(*batch, size, size, seed=seed)
        lowered("aten._linalg_det.default", a, target=target)
        lowered("aten._linalg_slogdet.default", a, used=2, target=target)
        lowered("aten.linalg_inv_ex.default", a, target=target)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_solve(size: int) -> None:
    a = floats(2, size, size)
    lowered("aten._linalg_solve_ex.default", a, floats(2, size, 3, seed=1))
    lowered("aten._linalg_solve_ex.default", a, floats(2, size, seed=1))
    lowered("aten._linalg_solve_ex.default", a, floats(5, 1, size, 2, seed=1))
    lowered("aten._linalg_solve_ex.default", a[0], floats(size, seed=1))
    lowered("aten._linalg_solve_ex.default", a, floats(2, 3, size, seed=1), left=False)


def test_the_spellings_of_torch() -> None:
    a = floats(2, 3, 3)
    for name in ("det", "linalg_det", "inverse", "linalg_inv", "slogdet", "linalg_slogdet"):
        check_lowering(f"aten.{name}.default", a)
    check_lowering("aten.linalg_solve.default", a, floats(2, 3, 2, seed=1))


def test_entries_of_any_size() -> None:
    """The fourth power of 1e12 is beyond float32; the inverse is not."""
    model = Module("inverse")
    compiled = anec.compile(model, (torch.eye(4),), precision="fp32")
    for scale in (1e-12, 1e12):
        a = floats(4, 4) * scale
        found = torch.as_tensor(compiled.run({"a": a})["output"])
        torch.testing.assert_close(found, torch.linalg.inv(a), rtol=1e-4, atol=1e-6 / scale)


class Module(torch.nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.fixed = torch.nn.Parameter(floats(6, 6) + 4 * torch.eye(6))

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        if self.kind == "inverse":
            return torch.inverse(a)
        if self.kind == "power":
            return torch.linalg.matrix_power(a, -2)
        return torch.linalg.solve(self.fixed, a)


def compiles(kind: str, a: torch.Tensor) -> None:
    model = Module(kind)
    found = anec.compile(model, (a,), precision="fp32", check="rewrites").run({"a": a})["output"]
    with torch.no_grad():
        # Of float32; the matrices have a condition below 100.
        torch.testing.assert_close(torch.as_tensor(found), model(a), rtol=1e-4, atol=1e-5)


def test_torchs_report_of_errors_is_no_side_effect() -> None:
    compiles("power", floats(2, 3, 3) + 2 * torch.eye(3))


def test_a_constant_matrix_of_any_size() -> None:
    compiles("constant", floats(6, 2))


def test_nearly_singular() -> None:
    """In float32, within ten times what torch's factorization is off by (it measures three times)."""
    generator = torch.Generator().manual_seed(0)
    compiled = anec.compile(Module("inverse"), (torch.eye(4).expand(50, 4, 4).contiguous(),), precision="fp32")
    left, right = (torch.linalg.qr(torch.randn(50, 4, 4, generator=generator).double())[0] for _ in range(2))
    a = ((left * torch.logspace(0, -4, 4)) @ right).float()
    exact = torch.linalg.inv(a.double())
    ours = (torch.as_tensor(compiled.run({"a": a})["output"]) - exact).abs().amax()
    assert ours < 10 * (torch.linalg.inv(a) - exact).abs().amax()


def test_a_larger_matrix_is_refused() -> None:
    for name in ("_linalg_det", "_linalg_slogdet", "linalg_inv_ex"):
        with pytest.raises(UnsupportedError) as error:
            lowered(f"aten.{name}.default", floats(5, 5))
        assert "a matrix of 5 x 5 is factorized step by step" in str(error.value)


def test_factors_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="factors"):
        check_lowering("aten._linalg_det.default", floats(3, 3))
