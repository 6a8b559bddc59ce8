"""The ops that work position by position, which go along with whatever a rule does to the positions."""

from __future__ import annotations

from anec.dialects import mil

# Finite where their operand is.
BOUNDED = (
    "relu relu6 leaky_relu elu gelu silu sigmoid sigmoid_hard tanh scaled_tanh softplus softsign clip clamped_relu "
    "thresholded_relu linear_activation erf abs square cast"
).split()
BOUNDED_PAIRS = (mil.add, mil.sub, mil.mul, mil.maximum, mil.minimum)
PAIRS = (*BOUNDED_PAIRS, mil.real_div)

__all__ = ["BOUNDED", "BOUNDED_PAIRS", "PAIRS"]
