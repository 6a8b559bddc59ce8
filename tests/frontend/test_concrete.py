"""What bound values decide is computed at export, and the rest is traced: forms of code against eager torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

import anec
from anec.errors import UnsupportedError
from anec.frontend import Constants, Lifted, from_torch
from anec.ir.graph import Module

Lift = Callable[..., Lifted]
GRID = [[1, 2, 3], [2, 2, 2]]
N = 14


class Model(nn.Module):
    """A linear layer, a buffer, a plain tensor, and the code under test."""

    def __init__(self, code: Callable[..., Any]) -> None:
        super().__init__()
        self.code = code
        self.linear = nn.Linear(4, 4)
        self.register_buffer("frequencies", torch.rand(2))
        self.table = torch.randn(30, 4)

    def forward(self, x: torch.Tensor, grid: torch.Tensor) -> Any:
        return self.code(self, x, grid)


def lengths(grid: torch.Tensor) -> torch.Tensor:
    return torch.repeat_interleave(grid[:, 1] * grid[:, 2], grid[:, 0])


def edges(grid: torch.Tensor) -> torch.Tensor:
    return F.pad(lengths(grid).cumsum(0, dtype=torch.int32), (1, 0))


def loop_over_rows(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    found = [torch.arange(h * w).reshape(h, w).t().flatten().repeat(t) for t, h, w in grid]
    positions = torch.cat(found)
    return self.linear(x) * torch.outer(positions.float(), self.frequencies).sum(-1, keepdim=True).cos()


def mask_filled_in_place(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    ends = edges(grid)
    for _ in range(2):
        mask = torch.zeros([1, len(x), len(x)], dtype=torch.bool)
        for i in range(1, len(ends)):
            mask[..., ends[i - 1] : ends[i], ends[i - 1] : ends[i]] = True
        x = F.scaled_dot_product_attention(x[None], x[None], x[None], mask)[0]
        mask.fill_(False)  # reaches back to what was traced already, unless that has a copy
    return x


def additive_mask(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    mask = torch.full((len(x), len(x)), torch.finfo(x.dtype).min)
    for begin, end in torch.stack([edges(grid)[:-1], edges(grid)[1:]], -1).tolist():
        mask[begin:end, begin:end] = 0
    return torch.softmax(x @ x.t() + mask, -1)


def branches_on_values(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    positions = torch.cat([torch.arange(n) for n in lengths(grid)])
    if (torch.diff(positions) != 1).any():
        x = x + positions.nonzero().shape[0]
    return x * int(grid.max()) + grid[0, 1].item()


def values_of_plain_constants(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    for factor in torch.tensor([2, 3]):
        if factor > 2:
            x = x * factor
    return x + self.table[grid[0, 1] : grid[0, 1] + 1]


def traced_writes(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    out = torch.zeros(N, 4)
    view = out[2:4]
    row = view[1]
    first, second = torch.ones(2, 4).unbind(0)
    out[: grid[0, 1] * grid[0, 2]] = x[:6]
    second.add_(x[0])
    view.mul_(2)
    torch.add(x, 1, out=(other := torch.empty(N, 4)))
    return {"out": out, "row": row, "first": first, "second": second, "other": other}


def sizes_as_tensors(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    t, h, w = grid[0]
    part = x[: h * w].view(t, h, w, -1).permute(0, 2, 1, 3).reshape(h * w, -1)
    start = grid[1, 1]
    resized = F.interpolate(self.table[None, None, :, :], size=(h * 2, w))
    return part + x.narrow(0, start, h * w), x.new_zeros(h, w) + 1, resized, x.expand(t, -1, -1), x[h]


def sizes_from_data(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    keep = torch.arange(N) % 3 == 0
    filled = x.clone()
    filled[keep] = x[: int(keep.sum())] * 2
    plain = x.clone()
    plain[keep] = 0.5
    repeated = torch.repeat_interleave(x[:2], grid[:, 1] + 1, dim=0)
    return (
        x[keep], x[keep, 1:3], torch.masked_select(x, keep[:, None]), x.masked_scatter(keep[:, None], x.flip(0)), filled,
        plain, repeated, torch.tensor_split(x, edges(grid)[1:-1].long())[1], x.split(lengths(grid).tolist())[2],
    )  # fmt: skip


def advanced_indexing(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    order = torch.argsort(-torch.arange(N) * 5 % N)
    return x[order] + self.linear(x)[torch.argsort(order)], x.index_select(0, order), x[order[:, None], order % 4]


def numbers_of_every_dtype(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    whole = torch.arange(N, dtype=torch.int32)
    return (
        x * whole[:, None],
        x[:, :1] + whole.to(torch.float32)[None],
        (x > 0) & (whole > 3)[:, None],
        whole + grid[0, 0],
    )


def results_of_values_alone(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    return {"x": x, "ends": edges(grid).clone(), "mask": torch.eye(3)[:2]}


def under_no_grad(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    with torch.no_grad():
        ends = edges(grid)
        return torch.stack([x[a:b].mean(0) for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)])


def mapped(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    allowed = torch.vmap(lambda i: torch.vmap(lambda j: (j <= i) & (i - j < 4))(torch.arange(N)))(torch.arange(N))
    return torch.vmap(lambda row: row * 2 + torch.ones(4))(x).masked_fill(~allowed[:, :1], 0.0)


def through_numpy(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
    return x + torch.as_tensor(grid.numpy()[:1, :1] * 2)


CASES = [
    loop_over_rows, mask_filled_in_place, additive_mask, branches_on_values, values_of_plain_constants, traced_writes,
    sizes_as_tensors, sizes_from_data, advanced_indexing, numbers_of_every_dtype, results_of_values_alone, under_no_grad,
    mapped, through_numpy,
]  # fmt: skip


@pytest.mark.parametrize("code", CASES, ids=lambda code: code.__name__)
def test_bound_code_is_computed(lifted: Lift, code: Callable[..., Any]) -> None:
    model, grid = Model(code), torch.tensor(GRID)
    found = lifted(model, (torch.randn(N, 4), grid), bind={"grid": GRID})
    assert [port.name for port in found.module.main.signature.inputs] == ["x"]
    assert grid.tolist() == GRID
    # Other numbers in x: nothing of it may have become a constant.
    from anec.reference.evaluate import evaluate

    x = torch.randn(N, 4)
    with torch.no_grad():
        wanted = found.name_outputs(model.eval()(x, grid))
    for name, tensor in evaluate(found.module, {"x": x}).items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-5, atol=1e-6)


def weights(module: Module) -> list[tuple[int, ...]]:
    return [weight.type.shape for weight in module.weights.values()]  # type: ignore[misc]


def test_equal_masks_are_one_weight() -> None:
    found = from_torch(Model(mask_filled_in_place), (torch.randn(N, 4), torch.tensor(GRID)), bind={"grid": GRID})
    assert weights(found.module).count((1, N, N)) == 1


def test_functions_share_what_is_equal() -> None:
    constants, module = Constants(), Module()
    model = Model(mask_filled_in_place)
    for name in ("a", "b"):
        from_torch(
            model,
            (torch.randn(N, 4), torch.tensor(GRID)),
            bind={"grid": GRID},
            function=name,
            module=module,
            constants=constants,
        )
    assert len(module.functions) == 2
    assert weights(module).count((1, N, N)) == 1


def test_tensors_of_the_module_are_not_copied() -> None:
    model = Model(lambda self, x, grid: x + self.table[:N] * grid[0, 0] + self.table.sum())
    found = from_torch(model, (torch.randn(N, 4), torch.tensor(GRID)), bind={"grid": GRID})
    held = [w.tensor().data_ptr() for w in found.module.weights.values()]
    assert model.linear.weight.data_ptr() not in held
    traced = Model(lambda self, x, grid: x @ self.table[: grid[0, 1] * 2].t() + x[:, :1] * self.table[:1, :1])
    assert weights(from_torch(traced, (torch.randn(N, 4), torch.tensor(GRID)), bind={"grid": GRID}).module)


def test_bound_values_are_written_in_copies(lifted: Lift) -> None:
    def writes(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
        grid = grid.clone()
        grid.add_(1)
        return x + grid[0, 0]

    def writes_its_input(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
        grid.add_(1)
        return x + grid[0, 0]

    model, grid = Model(writes_its_input), torch.tensor(GRID)
    found = from_torch(model, (torch.randn(N, 4), grid), bind={"grid": GRID})
    assert grid.tolist() == GRID
    assert "forward" not in vars(model)
    other = lifted(Model(writes), (torch.randn(N, 4), grid), bind={"grid": GRID})
    assert [op.name for op in found.module.ops()] == [op.name for op in other.module.ops()] == ["aten.add.Tensor"]


@pytest.mark.parametrize("whole", [True, False])
def test_tensors_the_module_holds_are_states(whole: bool) -> None:
    """Also where only bound values are written, and where they are read before."""

    def counts(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
        before = self.table[:2].sum()
        if whole:
            self.table.sub_(-1)
            self.table.add_(grid[0, 1])
        else:
            self.table[1:, 0] = x[0, 0] + grid[0, 1]
        return x + self.table[:1] + self.table[1:2] + before

    model, x = Model(counts), torch.randn(N, 4)
    model.table = torch.zeros(3, 4)
    found = from_torch(model, (x, torch.tensor(GRID)), bind={"grid": GRID})
    assert not model.table.any()
    assert [port.name for port in found.module.main.signature.inputs] == ["x", "table"]
    from anec.reference.evaluate import evaluate

    state: dict[str, torch.Tensor] = {}
    for _ in range(2):
        (ours,) = evaluate(found.module, {"x": x}, state=state).values()
        torch.testing.assert_close(ours, model(x, torch.tensor(GRID)))


def test_memory_that_nobody_filled_is_zeros(lifted: Lift) -> None:
    """What a model fills row by row was a constant of whatever the memory held, NaN among it."""

    def filled_by_rows(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
        padded = torch.empty(len(grid), 20, 4)
        for row, (t, h, w) in enumerate([(1, 2, 3), (1, 2, 4)]):
            padded[row, : t * h * w] = x[row]
            padded[row, t * h * w :] = grid[row, 0]
        return padded

    known = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # torch then fills such memory with NaN
    try:
        found = lifted(Model(filled_by_rows), (torch.randn(N, 4), torch.tensor(GRID)), bind={"grid": GRID})
    finally:
        torch.use_deterministic_algorithms(known)
    assert all(bool(w.tensor().isfinite().all()) for w in found.module.weights.values())


def test_random_numbers_are_no_constants() -> None:
    def draws(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
        return x + torch.rand(4) * grid[0, 0]

    state = torch.get_rng_state()
    found = from_torch(Model(draws), (torch.randn(N, 4), torch.tensor(GRID)), bind={"grid": GRID})
    assert "rand" in {op.defn.root for op in found.module.ops()}
    assert state.shape == torch.get_rng_state().shape


def test_dynamic_sizes_stay_beside_bound_values(lifted: Lift) -> None:
    def code(self: Model, x: torch.Tensor, grid: torch.Tensor) -> Any:
        for t, h, w in grid:
            x = x * (h * w) + t
        return x + torch.zeros(x.shape[0], 1) + torch.arange(x.shape[0])[:, None]

    shapes = {"x": {0: Dim("n", min=2, max=20)}}
    found = lifted(Model(code), (torch.randn(N, 4), torch.tensor(GRID)), dynamic_shapes=shapes, bind={"grid": GRID})
    assert str(found.module.main.inputs[0].type) == "f32[n,4]"


class Pieces(nn.Module):
    """A plain tensor, buffers, and the code under test."""

    def __init__(self, code: Callable[..., Any]) -> None:
        super().__init__()
        self.code = code
        self.plain = torch.tensor([2, 0, 3])
        self.register_buffer("sizes", torch.tensor([2, 0, 3]))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("shares", torch.tensor([1.0, 0.0]))

    def forward(self, x: torch.Tensor) -> Any:
        return self.code(self, x)


def counted_and_picked(self: Pieces, x: torch.Tensor) -> torch.Tensor:
    self.count += 1
    return x[:3][self.sizes > 0] * self.count


DECIDED: dict[str, Callable[..., Any]] = {
    "a plain tensor is read": lambda m, x: x.split([int(n) for n in m.plain])[::2],
    "a buffer is read": lambda m, x: x.split([int(n) for n in m.sizes])[::2],
    "a buffer is the mask": lambda m, x: x[:3][m.sizes.bool()],
    "a mask made in forward": lambda m, x: x[torch.arange(5) != 1],
    "masked_select": lambda m, x: x.masked_select(torch.eye(5, 2).bool()),
    "nonzero": lambda m, x: x[torch.nonzero(m.sizes)[:, 0]],
    "repeat_interleave": lambda m, x: x[:3].repeat_interleave(m.sizes, 0),
    "a float of a buffer is read": lambda m, x: x * 2 if m.shares[0] > 0.5 else x,
    "beside a state": counted_and_picked,
}


@pytest.mark.parametrize("code", DECIDED.values(), ids=DECIDED.keys())
def test_what_constants_decide_needs_no_binding(code: Callable[..., Any]) -> None:
    """The first attempt, which makes constants fake, fails or leaves a size open; the second computes them."""
    x, model = torch.randn(5, 2), Pieces(code)
    compiled = anec.compile(model, (x,), precision="fp32")
    assert compiled.state_names == ["count"] * (code is counted_and_picked)
    wanted = model(x)
    found = compiled.run({"x": x}).values()
    for one, other in zip(found, wanted if isinstance(wanted, tuple) else [wanted], strict=True):
        torch.testing.assert_close(torch.as_tensor(one), other)


EXPORTED = ("a buffer is the mask", "a mask made in forward", "nonzero", "repeat_interleave")


@pytest.mark.parametrize("name", EXPORTED)
def test_what_constants_decide_in_an_exported_program(name: str) -> None:
    """Its trace has a symbol for what a constant mask picks; the constant tells how much that is."""
    x, model = torch.randn(5, 2), Pieces(DECIDED[name])
    program = torch.export.export(model, (x,))
    compiled = anec.compile(program, precision="fp32")
    (found,) = compiled.run({"x": x}).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x))


@pytest.mark.parametrize(
    "code",
    [lambda m, x: x[(x * m.count > 0)[:, 0]], lambda m, x: x[torch.rand(5) > 0.5]],
    ids=["input", "chance"],
)
def test_what_no_constant_decides_in_an_exported_program_is_refused(code: Callable[..., Any]) -> None:
    program = torch.export.export(Pieces(code), (torch.randn(5, 2),))
    with pytest.raises(anec.AnecError, match="computed mask|rand"):
        anec.compile(program, precision="fp32")


def test_what_fails_behind_a_decided_branch_is_told() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("flag", torch.tensor([1.0]))
            self.register_buffer("total", torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.flag > 0:
                x = x * 2
            self.total.add_(x)
            return self.total * 1

    with pytest.raises(UnsupportedError, match="'total' does not start at zeros"):
        from_torch(Counting().eval(), torch.ones(2))
