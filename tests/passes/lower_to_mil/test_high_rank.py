"""Tensors of rank 6 and more between tensors of rank 5 and less."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.dialects import aten
from anec.errors import UnsupportedError
from anec.ir.dims import symbol
from anec.ir.graph import Value
from anec.passes.lower_to_mil.permutation import MAX_RANK, Movement, divide, plan
from anec.testing import check_module_lowering, module_of
from lowering import TARGETS, bools, floats, integers, op_names

Function = Callable[..., Value | Sequence[Value]]


def ops_of(function: Function, *tensors: torch.Tensor, target: str = "iOS18") -> list[str]:
    """Lower, compare with torch, and name the ops."""
    return op_names(check_module_lowering(*module_of(function, *tensors, target=target)))


def partition(x: Value) -> Value:
    """Swin's windows of 4 x 4."""
    split = aten.view.default(x, (2, 2, 4, 3, 4, 6))
    return aten.view.default(aten.permute.default(split, (0, 1, 3, 2, 4, 5)), (12, 16, 6))


def reverse(x: Value) -> Value:
    """Swin's windows put together."""
    split = aten.view.default(x, (2, 2, 3, 4, 4, 6))
    copied = aten.clone.default(aten.permute.default(split, (0, 1, 3, 2, 4, 5)))
    return aten._unsafe_view.default(copied, (2, 8, 12, 6))


def patches(x: Value) -> Value:
    """einops "b c (h p) (w q) -> b (h w) (p q c)"."""
    split = aten.view.default(x, (2, 3, 4, 2, 6, 2))
    return aten.reshape.default(aten.permute.default(split, (0, 2, 4, 3, 5, 1)), (2, 24, 12))


def _patches_of_one(x: Value) -> Value:
    return aten.permute.default(aten.view.default(x, (1, 3, 4, 2, 6, 2)), (0, 2, 4, 3, 5, 1))


def shuffle(x: Value) -> Value:
    """nn.PixelShuffle, taken apart."""
    split = aten.view.default(x, (2, 3, 2, 2, 4, 5))
    return aten.reshape.default(aten.permute.default(split, (0, 1, 4, 2, 5, 3)), (2, 3, 8, 10))


def video(x: Value) -> Value:
    """The windows of video Swin: rank 8."""
    split = aten.view.default(x, (2, 2, 2, 2, 4, 3, 2, 5))
    return aten.view.default(aten.permute.default(split, (0, 1, 3, 5, 2, 4, 6, 7)), (24, 16, 5))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [floats, integers, bools], ids=lambda make: make.__name__)
def test_windows(make: Callable[..., torch.Tensor], target: str) -> None:
    assert ops_of(partition, make(2, 8, 12, 6), target=target) == ["reshape", "transpose", "reshape"]
    assert ops_of(reverse, make(12, 16, 6), target=target) == ["reshape", "transpose", "reshape"]
    assert ops_of(shuffle, make(2, 12, 4, 5), target=target) == ["reshape", "transpose", "reshape"]
    assert ops_of(video, make(2, 4, 8, 6, 5), target=target) == [
        "reshape",
        "transpose",
        "reshape",
        "transpose",
        "reshape",
    ]
    # Six parts of which no two stay together take two transposes, five (a batch of 1) take one.
    assert ops_of(patches, make(2, 3, 8, 12), target=target).count("transpose") == 2
    one = make(1, 3, 8, 12)
    assert ops_of(lambda x: aten.view.default(_patches_of_one(x), (1, 24, 12)), one).count("transpose") == 1


def test_a_view_across_the_parts_starts_again() -> None:
    def straddle(x: Value) -> Value:
        moved = aten.permute.default(aten.view.default(x, (2, 3, 2, 2, 2, 5)), (5, 1, 3, 0, 2, 4))
        again = aten.view.default(moved, (3, 5, 2, 4, 2, 1))
        return aten.view.default(aten.permute.default(again, (3, 1, 0, 4, 5, 2)), (20, 12))

    ops_of(straddle, floats(6, 4, 10))


def test_several_users() -> None:
    def two(x: Value) -> list[Value]:
        split = aten.view.default(x, (2, 2, 4, 3, 4, 6))
        turned = aten.permute.default(split, (0, 1, 3, 2, 4, 5))
        return [aten.view.default(turned, (12, 16, 6)), aten.view.default(turned, (6, 2, 16, 6))]

    ops_of(two, floats(2, 8, 12, 6))


@pytest.mark.parametrize(
    ("middle", "shape"),
    [
        (lambda x: aten.mean.dim(x, (2, 4)), (2, 2, 3, 6)),
        (lambda x: aten.sum.dim_IntList(x, (2, 4), keepdim=True), (2, 6, 6)),
        (lambda x: aten.amax.default(x, (-1,)), (2, 8, 12)),
        (lambda x: aten.relu.default(x), (2, 8, 12, 6)),
        (lambda x: aten.mul.Tensor(x, x), (2, 8, 12, 6)),
        (lambda x: aten.add.Tensor(x, 1.5), (2, 8, 12, 6)),
        (lambda x: aten.select.int(x, 2, 1), (2, 2, 3, 4, 6)),
        (lambda x: aten.select.int(x, -2, 3), (2, 2, 4, 3, 6)),
        (lambda x: aten.slice.Tensor(x, 4, 1, 3), (2, 8, 6, 6)),
        (lambda x: aten.flip.default(x, (2, 4)), (2, 8, 12, 6)),
        (lambda x: aten._softmax.default(x, 4, False), (2, 8, 12, 6)),
        (lambda x: aten.cumsum.default(x, -2), (2, 8, 12, 6)),
        (lambda x: aten.cat.default([x, x], 2), (2, 16, 12, 6)),
        (lambda x: aten.unbind.int.many(x, 4)[2], (2, 2, 4, 3, 6)),
        (lambda x: aten.split.Tensor.many(x, 2, 2)[1], (2, 4, 12, 6)),
        (lambda x: aten.var.correction(x, (2, 4), correction=1), (2, 2, 3, 6)),
    ],
)
def test_an_op_between_two_views(middle: Function, shape: tuple[int, ...]) -> None:
    def made(x: Value) -> Value:
        found = middle(aten.view.default(x, (2, 2, 4, 3, 4, 6)))
        assert isinstance(found, Value)
        return aten.view.default(found, shape)

    ops_of(made, floats(2, 8, 12, 6))


def test_broadcasting_at_rank_six() -> None:
    def made(x: Value, scale: Value, row: Value) -> Value:
        wide = aten.mul.Tensor(aten.view.default(x, (2, 2, 4, 3, 4, 6)), aten.view.default(scale, (1, 1, 4, 1, 4, 1)))
        return aten.view.default(aten.add.Tensor(wide, row), (2, 8, 12, 6))

    ops_of(made, floats(2, 8, 12, 6), floats(4, 4), floats(6))


def test_upsampling_by_expand() -> None:
    def made(x: Value) -> Value:
        wide = aten.expand.default(aten.view.default(x, (2, 3, 4, 1, 5, 1)), (2, 3, 4, 2, 5, 2))
        return aten.view.default(wide, (2, 3, 8, 10))

    assert ops_of(made, floats(2, 3, 4, 5)) == ["reshape", "tile", "reshape"]


def test_unfolding_twice() -> None:
    """The neighbourhoods of HaloNet."""

    def made(x: Value) -> Value:
        blocks = aten.unfold.default(aten.unfold.default(x, 2, 3, 2), 3, 3, 2)
        return aten.permute.default(aten.reshape.default(blocks, (2, 4, 9, 9)), (0, 2, 3, 1))

    ops_of(made, floats(2, 4, 7, 7))


def test_stacking_to_rank_six() -> None:
    def made(x: Value, y: Value) -> Value:
        stacked = aten.stack.default([x, y], 3)
        return aten.view.default(aten.permute.default(stacked, (0, 1, 2, 4, 5, 3)), (4, 3, 40))

    ops_of(made, floats(2, 2, 3, 4, 5), floats(2, 2, 3, 4, 5, seed=1))


def test_a_constant_of_rank_six() -> None:
    def made(x: Value, weight: Value) -> Value:
        return aten.add.Tensor(x, aten.view.default(weight, (2, 8, 12, 6)))

    module, inputs = module_of(made, floats(2, 8, 12, 6), floats(2, 2, 4, 3, 4, 6), weights=(1,))
    check_module_lowering(module, inputs)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda x: aten.view.default(x, (2, 2, 4, 3, 4, 6)), "rank 6"),
        (
            lambda x: aten.view.default(aten.lgamma.default(aten.view.default(x, (2, 2, 4, 3, 4, 6))), (2, 8, 12, 6)),
            "at most 5 axes",
        ),
    ],
)
def test_what_cannot_be_is_said(made: Function, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        ops_of(made, floats(2, 8, 12, 6))


# -- plans ---------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_permutation_is_planned_in_few_small_steps(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=8))
    order = tuple(data.draw(st.permutations(range(len(sizes)))))
    x = torch.arange(torch.Size(sizes).numel())
    at = x
    steps = Movement.of(sizes).permuted(order).steps()
    for shape, perm in steps:
        assert len(shape) <= MAX_RANK
        at = at.reshape(shape).permute(perm)
    assert len(steps) <= 3
    assert torch.equal(at.reshape(-1), x.reshape(sizes).permute(order).reshape(-1))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_views_of_permuted_tensors(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=6))
    order = tuple(data.draw(st.permutations(range(len(sizes)))))
    total = torch.Size(sizes).numel()
    shape: list[int] = []
    while total > 1 and len(shape) < 5:
        factor = data.draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0]))
        shape.append(factor)
        total //= factor
    shape.append(total)
    x = torch.arange(torch.Size(sizes).numel())
    expected = x.reshape(sizes).permute(order).reshape(shape)
    movement = Movement.of(sizes).permuted(order).viewed(shape)
    if movement is None:
        # Only sizes that do not divide each other may be refused.
        assert [size for size in sizes if size != 1] != [size for size in shape if size != 1] or order != tuple(
            sorted(order)
        )
        return
    at = x
    for parts, perm in movement.steps():
        at = at.reshape(parts).permute(perm)
    assert torch.equal(at.reshape(-1), expected.reshape(-1))
    assert [torch.Size([movement.parts[part] for part in axis]).numel() for axis in movement.axes] == shape


def test_six_axes_take_two_steps() -> None:
    assert len(plan((5, 3, 1, 4, 2, 0))) == 2
    assert plan((0, 2, 1)) == (((1, 2), (0, 2, 1)),)
    assert plan(()) == ()


def test_symbolic_sizes_divide() -> None:
    batch, length = symbol("B"), symbol("S")
    assert divide(batch * 12, batch * 4) == 3
    assert divide(batch * length, length) == batch
    assert divide(batch * 4 + 8, 4) == batch + 2
    assert divide(batch + 1, 2) is None
    assert divide(12, batch) is None
    windows = Movement.of((batch, 8, 12, 6)).viewed((batch, 2, 4, 3, 4, 6))
    assert windows is not None
    turned = windows.permuted((0, 1, 3, 2, 4, 5))
    assert turned.viewed((batch * 6, 16, 6)) is not None
    assert [shape for shape, _ in turned.steps()] == [(batch * 2, 4, 3, 24)]
