"""Roots of lowering rules: one rule for several overloads and aliases of an op."""

from __future__ import annotations

from anec.dialects import aten
from anec.ir.opdef import Pattern
from anec.rewrite import any_of, rest


def each(*names: str) -> Pattern:
    """Any of the aten ops ``names``, whatever their arguments.

    ``each("add.Tensor", "add.Scalar")``; a name without an overload means ``default``.
    """
    full = (name if "." in name else f"{name}.default" for name in names)
    return any_of(*(aten.resolve(name)(rest) for name in full))
