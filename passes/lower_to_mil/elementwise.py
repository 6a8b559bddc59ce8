"""Elementwise ATen ops.

    %y = aten.add.Tensor(%a, %b) {alpha=2}     ->     %1 = mil.mul(%b, 2.0)
                                                      %y = mil.add(%a, %1)
"""

from __future__ import annotations

from anec.dialects import aten, mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.passes.lower_to_mil.typing import cast, number, result_type, value
from anec.rewrite import Rule, rewrite

_UNARY: dict[str, OpDef] = {"relu": mil.relu, "tanh": mil.tanh, "sigmoid": mil.sigmoid}


def _unary(name: str, target: OpDef) -> Rule:
    @rewrite(getattr(aten, name).default, name=f"lower_{name}")
    def lower(op: Op) -> Value:
        return target(value(op.operand("self"), result_type(op).dtype))

    return lower


@rewrite(aten.add.Tensor)
def add(op: Op) -> Value:
    dtype = result_type(op).dtype
    left, right = cast(op.operand("self"), dtype), cast(op.operand("other"), dtype)
    alpha = number(op.attr("alpha"), dtype)
    return mil.add(left, right if alpha == 1 else mil.mul(right, alpha))


RULES: list[Rule] = [add, *(_unary(name, target) for name, target in _UNARY.items())]
