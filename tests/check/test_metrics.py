"""The metrics: what counts as equal, as far, as void, as broken."""

from __future__ import annotations

import json
import math

import pytest
import torch

from anec.check.metrics import compare, compare_outputs, worst
from anec.errors import AnecError

INF, NAN = math.inf, math.nan


def tensor(*numbers: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(numbers, dtype=dtype)


def test_equal() -> None:
    metric = compare("y", tensor(1, 2, INF, NAN), tensor(1, 2, INF, NAN))
    assert (metric.rel, metric.psnr, metric.max_abs, metric.void, metric.problem) == (0.0, INF, 0.0, "", "")


def test_rel_and_psnr() -> None:
    metric = compare("y", tensor(1, 2, 4, 8.5), tensor(1, 2, 4, 8))
    assert metric.rel == pytest.approx(0.5 / 8)
    assert metric.psnr == pytest.approx(20 * math.log10(8 / 0.25))
    assert metric.max_abs == 0.5


def test_differences_are_taken_in_float64() -> None:
    a, b = torch.tensor([60000.0], dtype=torch.float16), torch.tensor([-60000.0], dtype=torch.float16)
    assert compare("y", a, b).max_abs == 120000.0
    tiny = compare("y", torch.tensor([1 + 1e-12, 3.0], dtype=torch.float64), torch.tensor([1.0, 3.0], dtype=torch.float64))
    assert tiny.rel == pytest.approx(1e-12 / 3, rel=1e-3)


@pytest.mark.parametrize(
    ("actual", "reference", "problem"),
    [
        ((1, NAN), (1, 2), "NaN: 1 more and 0 fewer places than the reference"),
        ((1, 2), (NAN, 2), "NaN: 0 more and 1 fewer places than the reference"),
        ((NAN, 2), (1, NAN), "NaN: 1 more and 1 fewer places than the reference"),
        ((INF, 2), (-INF, 2), "+inf: 1 more and 0 fewer places than the reference"),
        ((1, 2), (1, -INF), "-inf: 0 more and 1 fewer places than the reference"),
    ],
)
def test_special_values_at_other_places(actual: tuple[float, ...], reference: tuple[float, ...], problem: str) -> None:
    metric = compare("y", tensor(*actual), tensor(*reference))
    assert (metric.problem, metric.rel) == (problem, INF)


@pytest.mark.parametrize(
    ("reference", "void"),
    [
        ((1e-4, -5e-4), "the reference's largest magnitude is 5.0e-04"),
        ((0, 0), "the reference's largest magnitude is 0.0e+00"),
        ((3, 3, 3), "the reference does not vary"),
        ((NAN, NAN), "no finite number"),
        ((2,), ""),
        ((2, 3), ""),
    ],
)
def test_void_references(reference: tuple[float, ...], void: str) -> None:
    assert compare("y", tensor(*reference), tensor(*reference)).void == void


def test_a_wrong_answer_to_zeros_is_far() -> None:
    metric = compare("y", tensor(1, 1), tensor(0, 0))
    assert metric.rel == INF
    assert metric.psnr == -INF


def test_shapes_and_kinds_must_agree() -> None:
    assert compare("y", torch.ones(2, 1), torch.ones(2)).problem == "shape (2, 1), reference (2,)"
    complex_ones = torch.ones(2, dtype=torch.complex64)
    assert "reference torch.float32" in compare("y", complex_ones, torch.ones(2)).problem


def test_complex_numbers_have_two_parts() -> None:
    reference = torch.tensor([1 + 2j, 3 - 4j])
    metric = compare("y", reference + torch.tensor([0, 1j]), reference)
    assert metric.max_abs == 1.0
    assert metric.rel == 0.25
    assert compare("y", reference.conj(), reference).max_abs == 8.0


def test_whole_numbers_are_equal_or_not() -> None:
    same = compare("y", torch.tensor([1, 2]), torch.tensor([1, 2]))
    assert (same.rel, same.problem) == (0.0, "")
    off = compare("y", torch.tensor([1, 5]), torch.tensor([1, 4]))
    assert (off.problem, off.rel, off.max_abs) == ("1 of 2 integers differ", 0.25, 1.0)
    truth = compare("y", torch.tensor([True, False]), torch.tensor([True, True]))
    assert truth.problem == "1 of 2 integers differ"


def test_empty_outputs() -> None:
    assert compare("y", torch.empty(0), torch.empty(0)).rel == 0.0
    assert compare("y", torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)).problem == ""


def test_outputs_pair_by_name_or_by_position() -> None:
    a, b = torch.ones(1), torch.zeros(1) + 2
    by_name = compare_outputs({"p": a, "q": b}, {"q": b, "p": a})
    assert [(metric.name, metric.rel) for metric in by_name] == [("q", 0.0), ("p", 0.0)]
    by_position = compare_outputs({"x": a, "y": b}, {"p": a, "q": b})
    assert [(metric.name, metric.rel) for metric in by_position] == [("p", 0.0), ("q", 0.0)]
    with pytest.raises(AnecError, match="1 outputs against 2"):
        compare_outputs({"x": a}, {"p": a, "q": b})


def test_the_worst_metric_and_its_json() -> None:
    metrics = [compare("near", tensor(1, 2.001), tensor(1, 2)), compare("lost", tensor(NAN, 2), tensor(1, 2))]
    assert worst(metrics).name == "lost"
    assert json.loads(json.dumps(worst(metrics).as_json()))["rel"] == "inf"
