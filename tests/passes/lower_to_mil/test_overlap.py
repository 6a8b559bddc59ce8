"""Overlapping windows: frames cut by strides, and windows added up again."""

from __future__ import annotations

import pytest
import torch

from anec.errors import UnsupportedError
from anec.testing import check_lowering
from lowering import TARGETS, floats, integers


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("shape", "dim", "size", "step"),
    [
        ((2, 50), 1, 8, 2),
        ((2, 50), -1, 7, 3),
        ((50,), 0, 8, 5),
        ((9, 3, 2), 0, 4, 1),
        ((2, 11, 3), 1, 3, 3),
        ((2, 11, 3), 1, 3, 4),
        ((2, 3, 2, 17), 3, 5, 5),
        ((1, 6), 1, 6, 2),
    ],
)
def test_windows_added_where_they_overlap(shape: tuple[int, ...], dim: int, size: int, step: int, target: str) -> None:
    windows = torch.zeros(shape).unfold(dim, size, step)
    lowered = check_lowering(
        "aten.unfold_backward.default", floats(*windows.shape), list(shape), dim, size, step, target=target
    )
    assert len(lowered.main) <= 10


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="adds i32; Core ML adds windows of floats only"):
        check_lowering("aten.unfold_backward.default", integers(1, 3, 4), [1, 8], 1, 4, 2)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [
        ((2, 50), (2, 8, 8), (50, 6, 1)),
        ((2, 50), (2, 4, 8), (50, 1, 1)),
        ((2, 3, 20), (2, 3, 5, 8), (60, 20, 3, 1)),
        ((1, 20), (1, 7, 8), (20, 2, 1)),
        ((20,), (7, 8), (2, 1)),
        ((8,), (3, 4), (2, 1)),
        ((12, 6), (5, 4, 6), (12, 6, 1)),
        ((3, 12, 6), (3, 6, 5, 4), (72, 1, 12, 6)),
        ((12, 6), (5, 3, 4, 3), (12, 1, 6, 1)),
    ],
)
def test_frames_cut_by_strides(
    shape: tuple[int, ...], size: tuple[int, ...], stride: tuple[int, ...], target: str
) -> None:
    lowered = check_lowering("aten.as_strided.default", floats(*shape), list(size), list(stride), target=target)
    assert "mil.sliding_windows" in [op.name for op in lowered.main]
