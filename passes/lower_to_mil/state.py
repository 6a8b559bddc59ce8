"""States: buffers that the model changes.

    %1 = nn.read_state(%cache)           ->     %1 = mil.read_state(%cache)
    nn.write_state(%cache, %new)         ->     %2 = mil.coreml_update_state(%cache, %new)

Core ML has states from iOS18 on, float16 only; legalize-io sees to both.
"""

from __future__ import annotations

from anec.dialects import mil, nn
from anec.ir.graph import Op, Value
from anec.ir.types import narrowed, tensor_type
from anec.passes.lower_to_mil.typing import result_type, value
from anec.rewrite import Rule, rewrite


@rewrite(nn.read_state)
def lower_read_state(op: Op) -> Value:
    """The state's value, in the dtype Core ML holds it in."""
    return value(mil.read_state(op.value("state")), result_type(op).dtype)


@rewrite(nn.write_state)
def lower_write_state(op: Op) -> None:
    """The op gives the value back; nobody asks for it."""
    state = op.value("state")
    mil.coreml_update_state(state, value(op.operand("value"), tensor_type(narrowed(state.type)).dtype))


RULES: list[Rule] = [lower_read_state, lower_write_state]
