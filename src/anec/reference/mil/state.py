"""Kernels of states, in functional form: a state is the value it holds.

Whoever runs a program keeps the values: what ``coreml_update_state`` returns is the state's
value from there on.
"""

from __future__ import annotations

from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel


@kernel("mil.read_state")
def read_state(input: Tensor) -> Tensor:
    """Return the value a state holds."""
    return input


@kernel("mil.coreml_update_state")
def coreml_update_state(state: Tensor, value: Tensor) -> Tensor:
    """Return the new value of a state: ``value``, which must have the shape of the state.

    On disk it is ``write_state`` followed by ``read_state``; loading joins the two.
    """
    if state.shape != value.shape:
        raise AnecError(
            f"a state of shape {tuple(state.shape)} takes no value of shape {tuple(value.shape)}",
            hint="reshape the value to the shape of the state",
        )
    return value
