"""What Python code does to a traced tensor: `.data`, asserts, gradients.

Asserts stay as they are written: PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from anec.errors import AnecError, UnsupportedError
from anec.reference.evaluate import evaluate
from lifting import Call, Lift


def agrees(lifted: Lift, function: Callable[[torch.Tensor], torch.Tensor]) -> list[str]:
    """Compare with eager torch; returns the notes."""
    x = torch.tensor([[0.5, -2.0, 3.0], [1.5, -0.25, 4.0]])
    wanted = function(x.clone())
    found = lifted(Call(function).eval(), x)
    (got,) = evaluate(found.module, found.inputs).values()
    torch.testing.assert_close(got, wanted)
    return list(found.module.main.signature.notes)


def reads(x: torch.Tensor) -> torch.Tensor:
    return x.data * x.data.abs()


def writes(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y.data.clamp_(-1, 1)
    y.data[:, 0] += 5
    y.data.masked_fill_(x > 3.5, 9.0)
    return y + 1


@pytest.mark.parametrize("function", [reads, writes])
def test_data_is_the_same_memory(lifted: Lift, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert agrees(lifted, function) == []


def test_data_cannot_be_replaced(lifted: Lift) -> None:
    def replaces(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y.data = x + 1
        return y

    with pytest.raises(UnsupportedError, match=r"assigns to \.data.*\n.*test_traceable\.py:\d+\n.*copy_"):
        agrees(lifted, replaces)


def all_hold(x: torch.Tensor) -> torch.Tensor:
    assert torch.isfinite(x).all() and (x < 9).all(), f"{x}"
    return x + 1


def none_holds(x: torch.Tensor) -> torch.Tensor:
    assert not torch.isnan(x).any()
    assert not (x.isnan().any() or x.isinf().any()), "broken"
    return x + 1


@pytest.mark.parametrize("function", [all_hold, none_holds])
def test_an_assert_of_values_is_passed_with_a_note(
    lifted: Lift, function: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    notes = agrees(lifted, function)
    assert notes
    assert all("the assert at " in note and "test_traceable.py:" in note for note in notes)


def test_an_assert_of_what_is_known_is_tried(lifted: Lift) -> None:
    def wrong(x: torch.Tensor) -> torch.Tensor:
        assert x.shape[0] == 3, "three rows"
        return x

    with pytest.raises(AnecError, match="three rows"):
        lifted(Call(wrong), torch.ones(2))


def one_holds(x: torch.Tensor) -> torch.Tensor:
    assert (x > 0).all() or (x > -3).all()
    return x + 1


def branches(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if (x > 0).all() else x


def raises(x: torch.Tensor) -> torch.Tensor:
    if not (x < 9).all():
        raise ValueError("too large")
    return x


@pytest.mark.parametrize("function", [one_holds, branches, raises])
def test_other_code_still_asks_for_the_value(lifted: Lift, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(AnecError, match=r"--bind"):
        agrees(lifted, function)


def force(x: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad((x**2).sum(), x)[0]


def gradient(x: torch.Tensor) -> torch.Tensor:
    return torch.func.grad(lambda t: (t**2).sum())(x)


def jacobian(x: torch.Tensor) -> torch.Tensor:
    return torch.vmap(torch.func.jacrev(torch.tanh))(x)


@pytest.mark.parametrize("function", [force, gradient, jacobian])
def test_gradients_are_refused(lifted: Lift, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(UnsupportedError, match=r"computes a gradient.*\n.*test_traceable\.py:\d+"):
        agrees(lifted, function)


def test_a_derivative_along_a_direction_is_traced(lifted: Lift) -> None:
    agrees(lifted, lambda x: torch.func.jvp(torch.sin, (x,), (torch.ones_like(x),))[1])
