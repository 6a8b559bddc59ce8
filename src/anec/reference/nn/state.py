"""Kernels of states: the evaluator keeps the states themselves, so these only give types."""

from __future__ import annotations

from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel


@kernel("nn.read_state")
def read_state(state: Tensor) -> Tensor:
    """Return the value of the state."""
    return state


@kernel("nn.write_state")
def write_state(state: Tensor, value: Tensor) -> None:
    """Check that the value fits the state.

    Raises:
        AnecError: it has another shape.
    """
    if tuple(state.shape) != tuple(value.shape):
        raise AnecError(f"a value of shape {tuple(value.shape)} for a state of shape {tuple(state.shape)}")
