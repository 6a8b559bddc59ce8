"""Dynamic sizes: names, bounds, expressions, and what tracing assumed of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from anec.errors import AnecError, UnsupportedError
from anec.frontend import Lifted, from_torch
from anec.frontend.dims import Symbols
from anec.ir.dims import Bounds, evaluate, parse_dim

Lift = Callable[..., Lifted]
DEFERS = "prefer_deferred_runtime_asserts_over_guards" in inspect.signature(torch.export.export).parameters
defers = pytest.mark.skipif(not DEFERS, reason="this torch cannot write down what it assumes of sizes")


class Pyramid(nn.Module):
    """Strided convolutions, slices, an upsampling and a reshape over a dynamic length."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv1d(4, 4, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        half = self.down(x)
        quarter = self.down(half)
        up = nn.functional.interpolate(quarter, scale_factor=2.0)
        return half, up[..., 1:], x[..., : x.shape[-1] // 2] * (x.shape[-1] / (2 * x.shape[-1])), x.reshape(2, -1)


@defers
@pytest.mark.parametrize("length", [5, 8, 33, 64])
def test_one_program_for_every_length(lifted: Lift, length: int, sized: Any) -> None:
    shapes = {"x": {2: Dim("length", min=5, max=64)}}
    found = lifted(Pyramid(), torch.randn(1, 4, 16), dynamic_shapes=shapes)
    assert found.module.dims == {"length": Bounds(5, 64)}
    assert str(found.module.main.inputs[0].type) == "f32[1,4,length]"
    assert str(found.module.main.outputs[0].type) == "f32[1,4,(length-1)//2+1]"
    assert "aten.mul.Tensor(%slice_1, 0.5)" in str(found.module)
    from anec.reference.evaluate import evaluate as run

    model, x = Pyramid().eval(), torch.randn(1, 4, length)
    again = from_torch(model, torch.randn(1, 4, 16), dynamic_shapes=shapes)
    inputs = again.bind_inputs((x,))
    ours = run(sized(again.module, inputs), inputs)
    for name, eager in again.name_outputs(model(x)).items():
        torch.testing.assert_close(ours[name], eager, rtol=0, atol=0)


def test_names_come_from_dims_else_from_the_input(lifted: Lift) -> None:
    class Add(nn.Module):
        def forward(self, batch: dict[str, torch.Tensor], other: torch.Tensor) -> torch.Tensor:
            return batch["x"].sum(1) + other.sum()

    shapes = {"batch": {"x": {0: Dim("rows", max=9), 1: Dim.AUTO}}, "other": (Dim.AUTO,)}
    found = lifted(Add(), ({"x": torch.ones(3, 4)}, torch.ones(5)), dynamic_shapes=shapes)
    assert list(found.module.dims) == ["rows", "batch_x_dim1", "other_dim0"]
    assert found.module.dims["rows"].upper == 9
    assert found.module.dims["other_dim0"].upper is None


def test_derived_dims_take_the_name_of_their_root(lifted: Lift) -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, y])

    rows = Dim("rows", min=2, max=8)
    found = lifted(Pair(), (torch.ones(3), torch.ones(6)), dynamic_shapes={"x": {0: rows}, "y": {0: 2 * rows}})
    assert [str(value.type) for value in found.module.main.inputs] == ["f32[rows]", "f32[2*rows]"]
    assert str(found.module.main.outputs[0].type) == "f32[3*rows]"


def test_sizes_as_values(lifted: Lift) -> None:
    class Positions(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n = x.shape[0]
            return x * n + torch.arange(n) + torch.full((n,), 2.0)

    found = lifted(Positions(), torch.ones(6), dynamic_shapes={"x": {0: Dim("n", min=2, max=9)}})
    text = str(found.module)
    assert "aten.mul.Tensor(%x, (n))" in text
    assert "size=[(n)]" in text
    assert "sym_size" not in text


def test_an_input_that_only_tells_a_size_is_kept(lifted: Lift) -> None:
    class Zeros(nn.Module):
        def forward(self, like: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return torch.zeros(like.shape[0]) + scale

    found = lifted(
        Zeros(), (torch.ones(4), torch.ones(1)), dynamic_shapes={"like": {0: Dim("n", max=9)}, "scale": None}
    )
    assert [port.name for port in found.module.main.signature.inputs] == ["like", "scale"]


def test_sizes_that_depend_on_data_have_names_and_zero() -> None:
    class Where(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nonzero(x)

    module = from_torch(Where(), torch.ones(3)).module
    assert str(module.main.outputs[0].type) == "i64[nonzero_size,1]"
    assert module.dims["nonzero_size"].lower == 0


def test_a_number_read_from_a_tensor_names_its_line() -> None:
    class Reads(nn.Module):
        def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
            size = n.item()
            torch._check(size > 0)
            torch._check(size < 9)
            return torch.zeros(size) + x.sum()

    with pytest.raises(UnsupportedError, match="read out of a tensor") as caught:
        from_torch(Reads(), (torch.ones(3), torch.tensor(4)))
    line = Reads.forward.__code__.co_firstlineno + 1
    assert str(caught.value.where).endswith(f"test_dynamic.py:{line}")
    assert "--bind" in str(caught.value.hint)


class Halves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[: (x.shape[0] + 1) // 2].reshape(-1)


class Even(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + nn.functional.interpolate(x[None, None, : x.shape[0] // 2], scale_factor=2.0)[0, 0]


class Four(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[0] == 4 else x


@defers
def test_what_torch_cannot_prove_is_tried_instead(lifted: Lift) -> None:
    x, shapes = torch.ones(6), {"x": {0: Dim("n", min=2, max=64)}}
    with pytest.raises(Exception, match="Constraints violated"):
        torch.export.export(Halves(), (x,), dynamic_shapes=shapes)
    assert lifted(Halves(), x, dynamic_shapes=shapes).module.dims == {"n": Bounds(2, 64)}


@defers
@pytest.mark.parametrize(
    ("model", "bounds", "hint"),
    [
        (Four(), (2, 9), r"\(n=4\)$"),
        (Four(), (4, 9), r"\(n=4\); write Dim\('n', min=5, max=9\)"),
        (Four(), (2, 8), r"\(n=4\)$"),
        (Even(), (4, 16), r"\(n=5\), \(n=7\).*torch suggests _n = Dim\('_n', .*max=8\), n = 2\*_n"),
    ],
)
def test_what_breaks_is_told_with_the_bounds_to_write(model: nn.Module, bounds: tuple[int, int], hint: str) -> None:
    shapes = {"x": {0: Dim("n", min=bounds[0], max=bounds[1])}}
    with pytest.raises(AnecError, match="Constraints violated") as caught:
        from_torch(model, torch.ones(6), dynamic_shapes=shapes)
    assert caught.value.hint is not None
    assert re.search(hint, caught.value.hint), caught.value.hint


class Counts(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(x[i] * i for i in range(x.shape[0]))  # type: ignore[return-value]  # not the empty sum


@pytest.mark.parametrize("model", [Four(), Counts()])
def test_a_size_the_code_fixes(model: nn.Module) -> None:
    with pytest.raises(AnecError, match="to be a constant") as caught:
        from_torch(model, torch.ones(4), dynamic_shapes={"x": {0: Dim("n", min=2, max=9)}})
    assert "torch suggests n = 4" in str(caught.value.hint)
    line = type(model).forward.__code__.co_firstlineno + 1
    assert f"test_dynamic.py:{line}: return" in str(caught.value.where)


def _symbol(name: str) -> Any:
    import sympy

    return sympy.Symbol(name, positive=True, integer=True)


def test_expressions() -> None:
    import sympy
    from torch.utils._sympy import functions as f

    s, t = _symbol("s0"), _symbol("s1")
    symbols = Symbols({})
    symbols.names = {"s0": "S", "s1": "T"}
    cases = [
        (s + 2 * t - 1, "S+2*T-1"),
        (s * t * 3, "3*S*T"),
        (s**2, "S*S"),
        (f.FloorDiv(s - 1, 2) + 1, "(S-1)//2+1"),
        (f.CeilDiv(s, 4), "(S+3)//4"),
        (f.PythonMod(s, 8), "S%8"),
        (f.Mod(s, 8), "S%8"),
        (f.ModularIndexing(s, 2, 3), "(S//2)%3"),
        (f.Max(s, t), "max(S, T)"),
        (f.Min(s, sympy.Integer(7)), "min(S, 7)"),
        (f.CleanDiv(2 * s, 2), "S"),
        (sympy.floor(s / 3), "S//3"),
        (f.TruncToInt(1.5 * f.ToFloat(s)), "(3*S)//2"),
        (f.CeilToInt(f.IntTrueDiv(s, 2)), "(S+1)//2"),
        (sympy.Integer(5), "5"),
    ]
    for expr, wanted in cases:
        got = symbols.dim(sympy.sympify(expr))
        for sizes in ({"S": 12, "T": 5}, {"S": 7, "T": 9}, {"S": 1, "T": 1}):
            assert evaluate(got, sizes) == evaluate(parse_dim(wanted), sizes), (expr, got)


def test_what_is_no_expression() -> None:
    from torch.utils._sympy import functions as f

    symbols = Symbols({})
    with pytest.raises(UnsupportedError, match="no exact fraction"):
        symbols.dim(f.TruncToInt(0.1 * f.ToFloat(_symbol("s0"))))
    with pytest.raises(UnsupportedError, match="cannot be written"):
        symbols.dim(f.RoundToInt(f.IntTrueDiv(_symbol("s0"), 3)))


def test_functions_of_one_module_share_a_symbol_or_rename_it() -> None:
    model = nn.Linear(4, 2).eval()
    first = from_torch(model, torch.ones(3, 4), dynamic_shapes={"input": {0: Dim("rows", min=2, max=8)}})
    for name, upper in (("same", 8), ("larger", 32)):
        rows = Dim("rows", min=2, max=upper)
        from_torch(model, torch.ones(3, 4), dynamic_shapes={"input": {0: rows}}, function=name, module=first.module)
    assert first.module.dims == {"rows": Bounds(2, 8), "rows_1": Bounds(2, 32)}
    assert list(first.module.functions) == ["main", "same", "larger"]
    assert list(first.module.weights) == ["weight", "bias"]
