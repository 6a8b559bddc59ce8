"""Drawn values: their dtypes, their domains, edges, and determinism."""

from __future__ import annotations

import math

import pytest
import torch

from anec import mil
from anec.check.draw import EDGES, SPECIAL, draw, edge
from anec.ir.build import Builder
from anec.ir.graph import Graph, Value
from anec.ir.types import DType, TensorType


def value(dtype: DType, *shape: int) -> Value:
    return Graph().add_input("x", TensorType(dtype, shape))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_the_same_seed_draws_the_same() -> None:
    for dtype in (DType.F32, DType.I32, DType.BOOL):
        at = value(dtype, 50)
        assert torch.equal(draw(at, generator()), draw(at, generator()))
        assert torch.equal(edge(at, generator(), EDGES[0]), edge(at, generator(), EDGES[0]))


def test_floats() -> None:
    numbers = draw(value(DType.F16, 1000), generator())
    assert numbers.dtype is torch.float64
    assert float(numbers.min()) < -2
    assert float(numbers.max()) > 2


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (0.0, math.inf), (-math.inf, -1.0), (-3.0, -3.0)])
def test_floats_stay_inside_their_domain(low: float, high: float) -> None:
    at = value(DType.F32, 500)
    drawn = [draw(at, generator(), (low, high))]
    drawn += [edge(at, generator(), numbers, (low, high)) for numbers in EDGES]
    for numbers in drawn:
        assert bool((numbers >= low).all())
        assert bool((numbers <= high).all())


def test_whole_numbers() -> None:
    at = value(DType.I32, 500)
    plain, signed = draw(at, generator()), draw(at, generator(), signed=True)
    assert 0 <= int(plain.min()) < int(plain.max()) < 8
    assert int(signed.min()) < 0 < int(signed.max())
    assert not bool((signed == 0).any()), "nothing divides by 0"
    assert int(draw(value(DType.U8, 500), generator(), signed=True).min()) >= 0
    assert set(draw(at, generator(), (2, 4)).tolist()) == {2, 3, 4}
    assert int(draw(at, generator(), (5, math.inf)).min()) >= 5


@pytest.mark.parametrize("dtype", [DType.I32, DType.U8])
def test_what_is_put_in_order_has_no_ties(dtype: DType) -> None:
    """Which of two equal experts comes first is nobody's promise."""
    graph = Graph()
    experts = graph.add_input("x", TensorType(dtype, (4, 10)))
    with Builder(graph).active():
        mil.topk.many(experts, k=10, axis=1)
    drawn = draw(experts, generator(), (0, 2), signed=True)
    assert drawn.shape == (4, 10)
    assert len(set(drawn.reshape(-1).tolist())) == 40
    assert (int(drawn.min()) < 0) == (dtype is DType.I32)


def test_positions_stay_within_what_they_index() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (3, 5)))
    indices = graph.add_input("i", TensorType(DType.I32, (200,)))
    with Builder(graph).active():
        mil.gather(x, mil.add(indices, 0), axis=0)
        mil.gather(x, indices, axis=1)
    drawn = draw(indices, generator(), signed=True)
    assert set(drawn.tolist()) == {0, 1, 2}


def test_truth_values() -> None:
    drawn = draw(value(DType.BOOL, 100), generator())
    assert drawn.dtype is torch.bool
    assert 20 < int(drawn.sum()) < 80


def test_edges_have_their_numbers() -> None:
    at = value(DType.F32, 400)
    found = edge(at, generator(), EDGES[0])
    assert set(found.tolist()) == set(EDGES[0])
    assert bool(torch.signbit(found[found == 0]).any()), "-0.0 is among them"
    special = edge(at, generator(), SPECIAL)
    assert bool(special.isnan().any())
    assert bool(special.isposinf().any())
    assert edge(value(DType.I32, 4), generator(), EDGES[0]).dtype is torch.int64
