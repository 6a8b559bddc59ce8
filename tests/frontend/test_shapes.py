"""Shapes of inputs as text: ranges, lists, and names for sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import anec
from anec.errors import AnecError, UnsupportedError, UsageError
from anec.frontend.shapes import Free, Shapes
from anec.ir.dims import Bounds


class Table(nn.Module):
    """A mean over the entries of a table that a mask keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (self.table(ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def table() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return Table().eval(), (torch.randint(0, 9, (1, 6)), torch.ones(1, 6))


def inputs(ids: int, mask: int) -> dict[str, torch.Tensor]:
    return {"ids": torch.arange(ids)[None] % 10, "mask": torch.ones(1, mask)}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("1x3x32..640x32..640", ((1, 3, Free(Bounds(32, 640)), Free(Bounds(32, 640))),)),
        ("1x480,1x640", ((1, 480), (1, 640))),
        ("1xS:2..8", ((1, Free(Bounds(2, 8), "S")),)),
        ("7", ((7,),)),
        ("4..4x2", ((4, 2),)),
        ([(1, 480), (1, 640)], ((1, 480), (1, 640))),
        ((1, (2, 8)), ((1, Free(Bounds(2, 8))),)),
        (["1x480", "1x640"], ((1, 480), (1, 640))),
    ],
)
def test_what_is_read(given: Any, wanted: Any) -> None:
    assert Shapes.read({"y": given}).inputs == {"y": wanted}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": "1xS"}, "the size S of y has no range"),
        ({"y": "1x9..3"}, "no size in 9..3"),
        ({"y": "0x3"}, "'0' is no size|0 is no size"),
        ({"y": "1x2,1x2x3"}, "different ranks"),
        ({"y": "1x2,1x4", "z": "1,2,3"}, "different numbers of shapes"),
        ({"y": "1x2..4,1x5"}, "has a range in it"),
        ({"y": "S:1..2", "z": "S:1..3"}, "S is 1..2 in one place and 1..3 in another"),
        ({"y": ""}, "is no size"),
    ],
)
def test_what_is_no_shape(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Shapes.read(given)


@pytest.mark.parametrize("shapes", [{"ids": "1xS:2..32", "mask": "1xS"}, {"ids": "1x2..32", "mask": "1x2..32"}])
def test_ranges_are_kept_and_checked(tmp_path: Path, shapes: dict[str, str]) -> None:
    model, args = table()
    compiled = anec.compile(model, args, shapes=shapes, precision="fp32", check="numerics")
    rows = compiled.report.checks["numerics"]
    assert isinstance(rows, list)
    assert len({row.get("at") for row in rows}) == 4  # the example, both bounds, and one between
    compiled.save(tmp_path / "m.mlpackage")
    found = anec.load(tmp_path / "m.mlpackage")
    (bounds,) = found.module.dims.values()
    assert (bounds, bounds.default) == (Bounds(2, 32), 6)
    for size in (2, 11, 32):
        given = inputs(size, size)
        torch.testing.assert_close(torch.from_numpy(found.run(given)["output"]), model(**given))
    with pytest.raises(UsageError, match=r"it must lie in 2\.\.32"):
        found.run(inputs(33, 33))
    with pytest.raises(UsageError, match="is 5 in one input and 6 in 'mask'"):
        found.run(inputs(5, 6))


def test_lists_pair_up(tmp_path: Path) -> None:
    model, args = table()
    shapes = {"ids": "1x4,1x8", "mask": "1x4,1x8"}
    compiled = anec.compile(model, args, shapes=shapes, precision="fp32", check="numerics")
    compiled.save(tmp_path / "m.mlpackage")
    found = anec.load(tmp_path / "m.mlpackage")
    assert [port.shapes for port in found.signature.inputs] == [((1, 4), (1, 8))] * 2
    for size in (4, 8):
        given = inputs(size, size)
        torch.testing.assert_close(torch.from_numpy(found.run(given)["output"]), model(**given))
    with pytest.raises(UsageError, match=r"\[1, 6\]; the model takes 1x4, 1x8"):
        found.run(inputs(6, 6))
    with pytest.raises(UsageError, match="do not belong together"):
        found.run(inputs(4, 8))
    assert str(anec.read(str(found.module))) == str(found.module)
    older = anec.compile(model, args, shapes=shapes, target="iOS17")
    with pytest.raises(UnsupportedError, match="before iOS18 one input may"):
        older.save(tmp_path / "older.mlpackage")


class Even(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0] // 2, 2).sum(1) if x.shape[0] != 6 else x


def test_listed_shapes_alone_must_hold() -> None:
    x = torch.ones(8)
    assert anec.compile(Even(), x, shapes={"x": "4,8"}).signature.inputs[0].shapes == ((4,), (8,))
    with pytest.raises(AnecError, match="every size that was asked for"):
        anec.compile(Even(), x, shapes={"x": "4,5,8"})
    with pytest.raises(AnecError, match="every size that was asked for"):
        anec.compile(Even(), x, shapes={"x": "4..8"})


def test_what_a_trace_assumes_of_auto_is_checked() -> None:
    with pytest.raises(AnecError, match="every size that was asked for") as caught:
        anec.compile(Even(), torch.ones(8), dynamic_shapes={"x": {0: Dim.AUTO}})
    assert "x_dim0=" in str(caught.value.hint)


def test_a_batch_of_one_is_free_too() -> None:
    model = nn.Linear(4, 3).eval()
    found = anec.compile(model, torch.randn(1, 4), shapes={"input": "1..8x4"}, precision="fp32")
    assert found.module.dims == {"input_dim0": Bounds(1, 8)}
    x = torch.randn(1, 4)
    torch.testing.assert_close(torch.from_numpy(found.run({"input": x})["output"]), model(x))


class CutToSize(nn.Module):
    """Halves, doubles and cuts to what came in: nothing is cut where the size is even."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = nn.functional.avg_pool2d(x, 2, ceil_mode=True)
        return nn.functional.interpolate(half, scale_factor=2.0)[..., : x.shape[-2], : x.shape[-1]] + x


@pytest.mark.parametrize("size", [(8, 12), (7, 11), (8, 11)])
def test_sizes_that_coincide_in_the_example_only(size: tuple[int, int]) -> None:
    model = CutToSize()
    found = anec.compile(model, torch.randn(1, 2, *size), shapes={"x": "1x2x4..16x4..16"}, precision="fp32")
    for height, width in ((4, 4), (5, 8), (16, 15)):
        x = torch.randn(1, 2, height, width)
        torch.testing.assert_close(torch.from_numpy(found.run({"x": x})["output"]), model(x))


class CutAfterLayers(nn.Module):
    """As an autoencoder for sound does; the layers are taken apart by torch, which traces the cut once more."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(1, 2, 8, stride=8), nn.ConvTranspose1d(2, 1, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.down(x)
        return self.up(torch.var(hidden, 1, keepdim=True) + hidden).squeeze(1)[..., : x.shape[-1]]


def test_a_cut_stays_a_cut_when_layers_are_taken_apart() -> None:
    model = CutAfterLayers().eval()
    found = anec.compile(model, torch.randn(2, 1, 64), shapes={"x": "2x1x32..128"}, precision="fp32")
    for length in (32, 128, 71):
        x = torch.randn(2, 1, length)
        torch.testing.assert_close(torch.from_numpy(found.run({"x": x})["output"]), model(x))


def test_an_example_of_size_one_leaves_a_dim_free() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)).eval()
    shapes = {"input": {0: Dim("B", min=1, max=8)}}
    found = anec.compile(model, torch.randn(1, 2, 5, 5), dynamic_shapes=shapes, precision="fp32")
    assert found.module.dims == {"B": Bounds(1, 8, default=1)}
    for batch in (1, 5):
        x = torch.randn(batch, 2, 5, 5)
        torch.testing.assert_close(torch.from_numpy(found.run({"input": x})["output"]), model(x))


def test_a_size_that_the_model_fixes() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.ones(8)

    with pytest.raises(AnecError, match=r"fixes axis 0 of the input 'x' to 8") as caught:
        anec.compile(Fixed(), torch.ones(8), shapes={"x": "4..16"})
    assert "x=8" in str(caught.value.hint)


def test_without_an_upper_bound(tmp_path: Path) -> None:
    compiled = anec.compile(nn.ReLU(), torch.ones(4, 2), dynamic_shapes={"input": {0: Dim("rows", min=2)}})
    with pytest.raises(UnsupportedError, match="rows has no upper bound") as caught:
        compiled.save(tmp_path / "m.mlpackage")
    assert "Dim('rows', max=...)" in str(caught.value.hint)


def test_the_length_of_a_recurrent_layer() -> None:
    with pytest.raises(AnecError) as caught:
        anec.compile(nn.LSTM(4, 8), torch.randn(6, 1, 4), dynamic_shapes={"input": {0: Dim("S", max=9)}})
    assert "sequence length of LSTM" in str(caught.value.hint)


def test_cdist_of_a_free_number_of_points() -> None:
    class Distances(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cdist(x, x[:, ::2])

    found = anec.compile(Distances(), torch.randn(1, 17, 3), shapes={"x": "1x8..40x3"}, precision="fp32")
    for points in (8, 40):
        x = torch.randn(1, points, 3)
        wanted = (x[:, :, None] - x[:, None, ::2]).norm(dim=-1)
        torch.testing.assert_close(torch.from_numpy(found.run({"x": x})["output"]), wanted)


def test_max_pool1d_of_a_free_length() -> None:
    model = nn.MaxPool1d(3, 2, 1, ceil_mode=True)
    shapes = {"input": {2: Dim("S", min=4, max=64)}}
    found = anec.compile(model, torch.randn(1, 3, 16), dynamic_shapes=shapes, precision="fp32")
    for size in (4, 9, 64):
        x = torch.randn(1, 3, size)
        torch.testing.assert_close(torch.from_numpy(found.run({"input": x})["output"]), model(x), rtol=0, atol=0)


def test_lists_and_ranges_belong_to_inputs_that_are_renamed() -> None:
    x = torch.ones(3, 4)
    listed = anec.compile(nn.ReLU(), x, shapes={"input": "2x4,5x4,8x4"}, input_names=["image"])
    assert listed.signature.inputs[0].shapes == ((2, 4), (5, 4), (8, 4))
    ranged = anec.compile(nn.ReLU(), x, shapes={"input": "1..8x4"}, input_names=["image"])
    assert list(ranged.module.dims.values()) == [Bounds(1, 8, default=3)]


def test_other_sizes_are_checked_beside_what_is_bound() -> None:
    class Gated(nn.Module):
        def forward(self, x: torch.Tensor, gate: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x * gate.sum() + y

    x, gate = torch.randn(3, 4), torch.ones(2)
    shapes = {"x": "S:2..8x4", "y": "Sx4"}
    found = anec.compile(Gated(), (x, gate, x), bind={"gate": gate}, shapes=shapes, check="numerics")
    assert found.input_names == ["x", "y"]


def test_checking_leaves_what_the_model_holds_as_it_was() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = {"cache": torch.zeros(2, 4)}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.held["cache"].add_(x)
            return self.held["cache"] * 2

    model = Cached()
    anec.compile(model, torch.ones(2, 4), check="numerics")
    assert not model.held["cache"].any()


@pytest.mark.parametrize("given", ["1x4,2x4", "1..2x4", "B:1..2x4"])
def test_sizes_of_one_and_two(given: str) -> None:
    """torch traces no size of 1; 2 alone would be a fixed size."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).eval()
    compiled = anec.compile(model, (torch.randn(2, 4),), shapes={"input": given}, precision="fp32")
    for rows in (1, 2):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(torch.from_numpy(compiled.run({"input": x})["output"]), model(x).detach())
    with pytest.raises(UsageError):
        compiled.run({"input": torch.randn(3, 4)})


def test_the_hint_of_a_tied_size_names_it() -> None:
    class Sum(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b

    with pytest.raises(AnecError, match="fixes axis 0") as caught:
        anec.compile(Sum(), (torch.ones(3, 2), torch.ones(3, 2)), shapes={"a": "2..4x2"})
    assert "give both one name: N:2..4" in (caught.value.hint or "")


def test_a_slice_from_the_end_that_the_smallest_sizes_do_not_hold() -> None:
    class Last(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, -2:] * 2

    with pytest.raises(AnecError) as caught:
        anec.compile(Last(), (torch.ones(2, 6),), shapes={"x": "2x1..9"})
    assert "differ at x_dim1=1: declare narrower bounds" in str(caught.value.hint)
    anec.compile(Last(), (torch.ones(2, 6),), shapes={"x": "2x2..9"}, check="numerics")
