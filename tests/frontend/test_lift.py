"""Lifting: ops, arguments, names, origins, notes and what has no place in the IR."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lifting
from anec.errors import AnecError, UnsupportedError
from anec.frontend import export, from_torch, lift
from anec.frontend.origins import short_path, user_line
from anec.ir.attrs import Literal
from anec.ir.types import DType
from lifting import Deep, Lift, Returns, inputs_of

# -- origins -------------------------------------------------------------------------------------------


def test_origins_tell_module_and_line(lifted: Lift, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(lifting.__file__)
    monkeypatch.chdir(here.parent)
    for op in lifted(Deep(), torch.randn(1, 3)).module.main:
        name, _, number = op.origin.line.rpartition(":")
        assert name == here.name
        wanted = "x = layer(x) + x"
        assert linecache.getline(str(here), int(number)).strip() == wanted
    paths = [op.origin.path for op in lifted(Deep(), torch.randn(1, 3)).module.main]
    assert paths[:3] == ["encoder.layers.0.0", "encoder.layers.0.1", ""]


def test_a_module_called_twice_keeps_its_path(lifted: Lift) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.shared(self.shared(x))

    found = lifted(Twice(), torch.randn(1, 3))
    assert [op.origin.path for op in found.module.main] == ["shared", "shared"]
    assert len(found.module.weights) == 2


def test_strict_export_gives_the_same_paths() -> None:
    loose = from_torch(Deep(), torch.ones(1, 3)).module.main
    strict = from_torch(export(Deep(), (torch.ones(1, 3),), strict=True)).module.main
    assert [op.origin.path for op in strict] == [op.origin.path for op in loose]


def test_lines_of_installed_packages_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = (
        f'  File "{tmp_path}/my models/net.py", line 7, in forward\n    return self.inner(x)\n'
        '  File "/usr/lib/python3/dist-packages/lib/net.py", line 3, in forward\n    return f(x)\n'
        '  File "/x/site-packages/torch/nn/functional.py", line 1, in relu\n    return g(x)\n'
    )
    assert user_line(trace) == "my_models/net.py:7"
    monkeypatch.chdir(tmp_path / "..")
    assert user_line(trace) == f"{tmp_path.name}/my_models/net.py:7"
    assert user_line('  File "/x/site-packages/timm/vit.py", line 3, in forward\n') == ""
    assert user_line("") == ""
    assert short_path("/a/b/c.py") == "b/c.py"


# -- arguments -----------------------------------------------------------------------------------------


def test_arguments_follow_the_schema(lifted: Lift) -> None:
    class Ops(nn.Module):
        def forward(self, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
            y = torch.add(x, 3, alpha=2)
            y = y.to(torch.float16).to(torch.float32, memory_format=torch.channels_last)
            y = torch.cat([y, x], 1)
            return y[:, i] + torch.zeros(2, dtype=torch.float32, device="cpu")[:1]

    found = lifted(Ops(), (torch.randn(2, 3, 4, 4), torch.tensor([0, 2])))
    ops = {op.name: op for op in found.module.main}
    add = ops["aten.add.Tensor"] if ops["aten.add.Tensor"].attrs else next(iter(found.module.main))
    assert add.operands[1] == Literal(3)
    assert add.attrs == {"alpha": 2}
    casts = [op.attrs for op in found.module.main if op.name == "aten._to_copy.default"]
    assert casts == [{"dtype": DType.F16}, {"dtype": DType.F32}]
    assert len(ops["aten.cat.default"].variadic("tensors")) == 2
    assert ops["aten.index.Tensor"].variadic("indices")[0] is None


def test_defaults_are_left_out(lifted: Lift) -> None:
    def function(y: torch.Tensor) -> torch.Tensor:
        return nn.functional.softplus(y, 1, 20) + torch.nn.functional.elu(y, 0.5)

    found = lifted(Returns(function), torch.randn(2))
    attrs = {op.defn.root: op.attrs for op in found.module.main}
    assert attrs["softplus"] == {}
    assert attrs["elu"] == {"alpha": 0.5}


def test_ops_with_several_results(lifted: Lift) -> None:
    def function(y: torch.Tensor) -> Any:
        values, indices = y.topk(2)
        a, _, c = y.split(2, 1)
        return values + a, indices, c

    found = lifted(Returns(function), torch.randn(2, 6))
    assert "getitem" not in str(found.module)
    counts = {op.defn.root: len(op.results) for op in found.module.main}
    assert counts["topk"] == 2
    assert [count for root, count in counts.items() if root.startswith("split")] == [3]


def test_inputs_and_constants_as_outputs(lifted: Lift) -> None:
    class Passes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.arange(3))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            return x, self.table, y + 1, y

    found = lifted(Passes(), (torch.ones(2), torch.ones(2)))
    outputs = found.module.main.outputs
    assert outputs[0] is found.module.main.inputs[0]
    assert outputs[1].weight is not None


def test_an_unused_input_is_dropped_with_a_note(lifted: Lift) -> None:
    class Ignores(nn.Module):
        def forward(self, x: torch.Tensor, text: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    args = tuple(torch.ones(2) for _ in range(3))
    found = lifted(Ignores().eval(), args)
    assert inputs_of(found) == ["x", "y"]
    assert found.module.main.signature.notes == ["the input text is not used and was dropped"]
    assert list(found.inputs) == ["x", "y"]
    assert inputs_of(lifted(Ignores(), args, input_names=["a", "b"])) == ["a", "b"]
    assert inputs_of(lifted(Ignores(), args, input_names=["a", "b", "c"])) == ["a", "c"]


def test_one_input_stays_though_nothing_uses_it(lifted: Lift) -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.ones(4)

    assert inputs_of(lifted(Constant().eval(), (torch.ones(2), torch.ones(3)))) == ["y"]


# -- what has no place ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "notes"),
    [
        (lambda y: (y, 3), ["the output [1] is 3 at every call: it is left out"]),
        (lambda y: {"scale": 0.5, "y": y, "none": None}, ["the output scale is 0.5 at every call: it is left out"]),
        (lambda y: (y.shape[0], y), ["the output [0] is 2 at every call: it is left out"]),
    ],
)
def test_numbers_are_no_outputs(function: Callable[[torch.Tensor], Any], notes: list[str]) -> None:
    lifted = from_torch(Returns(function).eval(), torch.ones(2))
    signature = lifted.module.main.signature
    assert signature.notes == notes
    (named,) = lifted.name_outputs(Returns(function)(torch.ones(2))).items()
    assert named[0] == signature.outputs[0].name
    assert isinstance(named[1], torch.Tensor)


def test_numbers_of_free_sizes_are_no_outputs() -> None:
    size = torch.export.Dim("size", min=2, max=8)
    with pytest.raises(UnsupportedError, match="a number computed from sizes") as caught:
        from_torch(Returns(lambda y: (y, y.shape[0])), torch.ones(3), dynamic_shapes={"x": {0: size}})
    assert "fix the sizes" in str(caught.value.hint)


def _line_in(method: Callable[..., Any], text: str) -> str:
    import inspect

    lines, first = inspect.getsourcelines(method)
    number = next(i for i, line in enumerate(lines) if text in line)
    return f"test_lift.py:{first + number}"


def test_control_flow_ops() -> None:
    class Loop(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.while_loop(lambda a: a.sum() < 9, lambda a: (a + 1,), (x,))[0]

    with pytest.raises(UnsupportedError, match="higher-order op 'while_loop'") as caught:
        from_torch(Loop(), torch.ones(3))
    assert str(caught.value.where).endswith(_line_in(Loop.forward, "torch.while_loop"))
    assert "torch.where" in str(caught.value.hint)


def test_writing_into_an_input() -> None:
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.mul_(2)
            return x + 1

    with pytest.raises(UnsupportedError, match="writes into its input 'x'") as caught:
        from_torch(Writes(), torch.ones(3))
    assert str(caught.value.where).endswith(_line_in(Writes.forward, "x.mul_"))
    assert "x.clone()" in str(caught.value.hint)


def test_training_programs_are_refused() -> None:
    class Drops(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(x, 0.5)

    with pytest.raises(UnsupportedError, match="training mode: dropout is active") as caught:
        from_torch(Drops(), torch.ones(3))
    assert str(caught.value.where).endswith(_line_in(Drops.forward, "dropout"))
    trained = torch.export.export(nn.BatchNorm1d(3).train(), (torch.ones(2, 3),))
    with pytest.raises(UnsupportedError, match="updates its statistics"):
        from_torch(trained)


def test_dtypes_the_ir_lacks() -> None:
    def function(y: torch.Tensor) -> torch.Tensor:
        return y.to(torch.float8_e4m3fn).to(torch.float32)

    with pytest.raises(UnsupportedError, match="float8") as caught:
        from_torch(Returns(function), torch.ones(3))
    assert caught.value.where is not None


def test_custom_ops_resolve_through_torch(lifted: Lift) -> None:
    @torch.library.custom_op("anec_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @twice.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    found = lifted(Returns(lambda y: twice(y)), torch.ones(3))
    assert [op.name for op in found.module.main][-1] == "anec_tests.twice.default"


def test_checks_leave_nothing(lifted: Lift) -> None:
    def function(y: torch.Tensor) -> torch.Tensor:
        torch._assert_async((y > -99).all())
        return nn.functional.one_hot(y.long().clamp(0, 3), 4).float()

    found = lifted(Returns(function), torch.ones(3))
    assert "assert" not in str(found.module)


def test_a_function_can_be_added_once(lifted: Lift) -> None:
    first = from_torch(nn.ReLU(), torch.ones(2), function="small")
    from_torch(nn.ReLU(), torch.ones(9), function="large", module=first.module)
    assert list(first.module.functions) == ["small", "large"]
    with pytest.raises(AnecError, match="a function 'large' already"):
        from_torch(nn.ReLU(), torch.ones(9), function="large", module=first.module)


def test_a_program_without_examples() -> None:
    program = export(nn.ReLU(), (torch.ones(2),)).run_decompositions({})
    program._example_inputs = None
    assert lift(program).inputs == {}
    assert list(lift(program, args=(torch.ones(2),)).inputs) == ["input"]
