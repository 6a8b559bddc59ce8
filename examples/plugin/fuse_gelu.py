"""Fuse the sigmoid form of GELU.

%1 = mil.mul(%x, 1.702)
%2 = mil.sigmoid(%1)             ->      %3 = mil.gelu(%x) {mode="SIGMOID_APPROXIMATION"}
%3 = mil.mul(%x, %2)
"""

from anec import Pass, Value, mil, register, rewrite, var

x = var("x")


@rewrite(mil.mul(x, mil.sigmoid(mil.mul(x, 1.702))))
def gelu_sigmoid(x: Value) -> Value:
    return mil.gelu(x, mode="SIGMOID_APPROXIMATION")


@register
class FuseGelu(Pass):
    """Use Core ML's gelu where the model spells out x * sigmoid(1.702 x)."""

    name = "fuse-gelu"
    rules = [gelu_sigmoid]
