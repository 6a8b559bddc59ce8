"""Pooling, plain and adaptive."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import UnsupportedError
from anec.ir.graph import Module
from anec.passes.lower_to_mil.adaptive_pool import Windows
from anec.testing import check_lowering, check_module_lowering, single_op
from lowering import TARGETS, Case, case, floats, integers, op_names

SPACE = {1: (11,), 2: (11, 8), 3: (7, 6, 5)}
FORMS = [
    {"kernel_size": [2]},
    {"kernel_size": [3], "stride": [2]},
    {"kernel_size": [3], "stride": [2], "padding": [1]},
    {"kernel_size": [3], "stride": [2], "padding": [1], "ceil_mode": True},
    {"kernel_size": [3], "stride": [3], "ceil_mode": True},
    {"kernel_size": [2], "stride": [3], "ceil_mode": True},
    {"kernel_size": [4], "stride": [3], "padding": [2], "ceil_mode": True},
    {"kernel_size": [3], "stride": [1], "padding": [1]},
]
DILATED = [
    {"kernel_size": [2], "stride": [1], "dilation": [2]},
    {"kernel_size": [3], "stride": [2], "padding": [1], "dilation": [2]},
    {"kernel_size": [2], "stride": [2], "padding": [1], "dilation": [2], "ceil_mode": True},
]


def first_result(name: str, *args: object, target: str = "iOS18", **kwargs: object) -> Module:
    """Lower an op of two results of which the second is not used."""
    module, inputs = single_op(name, *args, target=target, **kwargs)
    module.main.outputs = module.main.outputs[:1]
    module.main.signature.outputs = module.main.signature.outputs[:1]
    return check_module_lowering(module, inputs)


def wide(form: dict[str, object], count: int) -> dict[str, object]:
    return {key: given * count if isinstance(given, list) else given for key, given in form.items()}


CASES = [
    *(
        case(f"{kind}_pool{count}d", floats(*lead, *SPACE[count]), **wide(form, count))
        for count in (1, 2, 3)
        for lead in ((2, 3), (3,))
        for kind in ("max", "avg")
        for form in FORMS
    ),
    *(
        case(f"avg_pool{count}d", floats(1, 3, *SPACE[count]), count_include_pad=False, **wide(form, count))
        for count in (1, 2, 3)
        for form in FORMS
    ),
    *(
        case(f"avg_pool{count}d", floats(1, 3, *SPACE[count]), divisor_override=5, **wide(form, count))
        for count in (2, 3)
        for form in FORMS
    ),
    *(
        case(f"max_pool{count}d", floats(2, 3, *SPACE[count]), **wide(form, count))
        for count in (1, 2, 3)
        for form in DILATED
    ),
    case("max_pool2d", floats(1, 3, 9, 8), [3, 2], [2, 1], [1, 0], [1, 3]),
    case("avg_pool2d", floats(1, 3, 9, 8), [3, 2], [2, 1], [1, 0]),
    case("avg_pool2d", floats(1, 3, 9, 8), [3, 2], [2, 1], [1, 0], divisor_override=6),
    case("avg_pool2d", floats(1, 3, 9, 8).half(), [3, 2]),
    case("max_pool2d", torch.full((1, 1, 4, 4), -5.0), [3, 3], [2, 2], [1, 1]),
    *(
        case(f"adaptive_avg_pool{count}d", floats(*lead, *SPACE[count]), [size] * count)
        for count in (1, 2, 3)
        for lead in ((2, 3), (3,))
        for size in (1, 2, 3, 5, 7, 11, 13)
    ),
    case("adaptive_avg_pool2d", floats(1, 3, 8, 6), [8, 1]),
    case("adaptive_avg_pool2d", floats(1, 3, 8, 6), [8, 6]),
    case("adaptive_avg_pool2d", floats(1, 3, 8, 6), [4, 1]),
    case("adaptive_avg_pool2d", floats(1, 3, 8, 6), [5, 3]),
    case("adaptive_avg_pool2d", floats(2, 3, 1, 1), [7, 5]),
    case("adaptive_avg_pool2d", floats(2, 3, 1, 5), [7, 3]),
    case("adaptive_max_pool2d", floats(2, 3, 1, 1), [3, 7]),
    case("_adaptive_avg_pool2d", floats(1, 3, 8, 6), [1, 1]),
    case("_adaptive_avg_pool3d", floats(1, 3, 8, 6, 4), [3, 4, 2]),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("made", CASES, ids=str)
def test_equals_torch(made: Case, target: str) -> None:
    made.check(target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 13])
def test_adaptive_maximum(size: int, count: int, target: str) -> None:
    first_result(f"aten.adaptive_max_pool{count}d.default", floats(2, 3, *SPACE[count]), [size] * count, target=target)
    first_result(f"aten.adaptive_max_pool{count}d.default", floats(3, *SPACE[count]), [size] * count, target=target)


@pytest.mark.parametrize("count", [2, 3])
def test_unused_indices(count: int) -> None:
    name = f"aten.max_pool{count}d_with_indices.default"
    module = first_result(name, floats(2, 3, *SPACE[count]), [3] * count, [2] * count, [1] * count)
    assert op_names(module) == ["max_pool"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_used_indices(count: int, target: str) -> None:
    """Whole numbers tie: the first of equals is torch's."""
    x = integers(2, 3, *SPACE[count]).float()
    if count > 1:
        for form in (*FORMS, *DILATED):
            check_lowering(f"aten.max_pool{count}d_with_indices.default", x, target=target, **wide(form, count))
    for size in (1, 3, 5, 13):
        check_lowering(f"aten.adaptive_max_pool{count}d.default", x, [size] * count, target=target)
        check_lowering(f"aten.adaptive_max_pool{count}d.default", x[0], [size] * count, target=target)


@pytest.mark.parametrize("target", TARGETS)
def test_max_unpool(target: str) -> None:
    for count, function in ((2, torch.nn.functional.max_pool2d), (3, torch.nn.functional.max_pool3d)):
        x = floats(2, 3, *SPACE[count])
        best, places = function(x, 2, return_indices=True)
        more = ([2] * count, [0] * count) if count == 3 else ()
        name = f"aten.max_unpool{count}d.default"
        check_lowering(name, best, places, list(SPACE[count]), *more, target=target)
        check_lowering(name, best[0], places[0], list(SPACE[count]), *more, target=target)


def test_maximum_of_integers() -> None:
    x = integers(2, 3, 9, 8, low=-(2**30), high=2**30)
    for form in (*FORMS, *DILATED):
        check_lowering("aten.max_pool2d_with_indices.default", x, **wide(form, 2))


def test_integers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="pools floats only"):
        check_lowering("aten.avg_pool2d.default", integers(1, 3, 8, 8), [2, 2])


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(4, 12),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    ceil_mode=st.booleans(),
    counted=st.booleans(),
    data=st.data(),
)
def test_windows_of_every_kind(
    size: int, kernel: int, stride: int, ceil_mode: bool, counted: bool, data: st.DataObject
) -> None:
    padding = data.draw(st.integers(0, kernel // 2))
    dilation = data.draw(st.integers(1, 2))
    common = {"kernel_size": [kernel, 2], "stride": [stride, 1], "padding": [padding, 1], "ceil_mode": ceil_mode}
    x = floats(1, 2, size, 5)
    check_lowering("aten.avg_pool2d.default", x, count_include_pad=counted, **common)
    if size + 2 * padding >= (kernel - 1) * dilation + 1:
        check_lowering("aten.max_pool2d.default", x, dilation=[dilation, 1], **common)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 30), count=st.integers(1, 30))
def test_adaptive_windows_are_torchs(size: int, count: int) -> None:
    x = torch.arange(size, dtype=torch.float64)[None]
    windows = Windows.of(size, count)
    expected = torch.nn.functional.adaptive_avg_pool1d(x, count)[0]
    torch.testing.assert_close(torch.stack([x[0, start:end].mean() for start, end in windows.bounds]), expected)
    if windows.uniform is not None:
        length, step = windows.uniform
        assert [start for start, _ in windows.bounds] == [j * step for j in range(count)]
        assert {end - start for start, end in windows.bounds} == {length}


def test_global_pooling_is_a_mean() -> None:
    for name in ("adaptive_avg_pool2d", "_adaptive_avg_pool2d"):
        (op,) = check_lowering(f"aten.{name}.default", floats(1, 3, 8, 6), [1, 1]).main.ops()
        assert (op.name, op.attrs["axes"]) == ("mil.reduce_mean", (2, 3))
    (op,) = check_lowering("aten.adaptive_avg_pool2d.default", floats(1, 3, 8, 6), [1, 6]).main.ops()
    assert (op.name, op.attrs["axes"]) == ("mil.reduce_mean", (2,))


def test_equal_windows_are_a_pool_of_their_size() -> None:
    (op,) = check_lowering("aten.adaptive_avg_pool2d.default", floats(1, 3, 8, 6), [4, 1]).main.ops()
    assert (op.name, op.attrs["kernel_sizes"], op.attrs["strides"]) == ("mil.avg_pool", (2, 6), (2, 6))
    # [0, 2) and [1, 3) overlap, but are alike.
    (op,) = check_lowering("aten.adaptive_avg_pool1d.default", floats(1, 3, 3), [2]).main.ops()
    assert (op.name, op.attrs["kernel_sizes"]) == ("mil.avg_pool", (2,))


def test_the_count_of_ops_does_not_grow() -> None:
    def lowered(size: int, out: int) -> list[str]:
        return op_names(first_result("aten.adaptive_max_pool2d.default", floats(1, 2, size, size), [out, out]))

    assert lowered(11, 4) == lowered(29, 12) == ["gather", "gather", "max_pool"]


def test_equal_matrices_are_one_weight() -> None:
    module = check_lowering("aten.adaptive_avg_pool2d.default", floats(1, 2, 11, 11), [4, 4])
    assert len(module.weights) == 1
