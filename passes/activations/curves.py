"""Curves of exponentials and logarithms, which overflow as models spell them out.

    %1 = aten.exp.default(%x)
    %2 = aten.add.Tensor(%1, 1)
    %y = aten.log.default(%2)                  ->     %y = nn.softplus(%x) {threshold=40.0}

    %1 = aten.neg.default(%x)
    %2 = aten.exp.default(%1)
    %3 = aten.add.Tensor(%2, 1)
    %y = aten.reciprocal.default(%3)           ->     %y = aten.sigmoid.default(%x)

In float16 exp(12) is infinite.
"""

from __future__ import annotations

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.passes.algebra import close, number
from anec.rewrite import Rule, any_of, constant, reject, rewrite, var

x, beta = var("x"), constant("beta")
# Beyond it softplus(x) is x: they differ by exp(-40).
_THRESHOLD = 40.0
# Where float64 can take the exponential that is written; what replaces it goes on behind that.
_DOMAIN = {"x": (-300.0, 300.0)}

_exp, _exp_minus = aten.exp.default(x), aten.exp.default(aten.neg.default(x))


@rewrite(any_of(aten.log.default(aten.add.Tensor(_exp, 1)), aten.log1p.default(_exp)), domain=_DOMAIN)
def softplus(x: Value) -> Value:
    """The logarithm of 1 + exp(x).

    %1 = aten.exp.default(%x)
    %y = aten.log1p.default(%1)     ->     %y = nn.softplus(%x) {threshold=40.0}
    """
    return nn.softplus(x, threshold=_THRESHOLD)


_curve = nn.softplus(aten.mul.Tensor(x, beta), beta=1.0, threshold=var("threshold"))


@rewrite(any_of(aten.mul.Tensor(_curve, constant("scale")), aten.div.Tensor(_curve, constant("scale"))))
def softplus_of_beta(op: Op, x: Value, beta: Value, scale: Value, threshold: float) -> Value:
    """Softplus of beta x, divided by beta.

    %1 = aten.mul.Tensor(%x, 2.0)
    %2 = nn.softplus(%1)
    %y = aten.div.Tensor(%2, 2.0)              ->     %y = nn.softplus(%x) {beta=2.0}
    """
    slope, found = number(beta), number(scale)
    if slope is None or found is None or slope <= 0 or x.type != op.result.type:
        reject("the factors are no positive numbers")
    if not close(found, 1 / slope if op.defn.root == "mul" else slope):
        reject(f"softplus of {slope:g} x is multiplied by another number than its inverse")
    return nn.softplus(x, beta=slope, threshold=threshold)


@rewrite(
    any_of(
        aten.reciprocal.default(aten.add.Tensor(_exp_minus, 1)),
        aten.div.Tensor(_exp, aten.add.Tensor(_exp, 1)),
    ),
    domain=_DOMAIN,
)
def sigmoid(x: Value) -> Value:
    """One over 1 + exp(-x), or exp(x) over 1 + exp(x).

    %1 = aten.exp.default(%x)
    %2 = aten.add.Tensor(%1, 1)
    %y = aten.div.Tensor(%1, %2)     ->     %y = aten.sigmoid.default(%x)
    """
    return aten.sigmoid.default(x)


@rewrite(
    any_of(
        aten.log.default(aten.sigmoid.default(x)),
        aten.neg.default(nn.softplus(aten.neg.default(x), beta=1.0, threshold=var("threshold"))),
    ),
    domain=_DOMAIN,
)
def log_sigmoid(x: Value) -> Value:
    """The logarithm of a sigmoid, or -softplus(-x).

    %1 = aten.sigmoid.default(%x)
    %y = aten.log.default(%1)                  ->     %y = nn.log_sigmoid(%x)
    """
    return nn.log_sigmoid(x)


@rewrite(aten.div.Tensor(aten.sub.Tensor(_exp, _exp_minus), aten.add.Tensor(_exp, _exp_minus)), domain=_DOMAIN)
def tanh(x: Value) -> Value:
    """The quotient of exp(x) - exp(-x) and exp(x) + exp(-x).

    %1 = aten.exp.default(%x)
    %2 = aten.neg.default(%x)
    %3 = aten.exp.default(%2)
    %4 = aten.sub.Tensor(%1, %3)
    %5 = aten.add.Tensor(%1, %3)
    %y = aten.div.Tensor(%4, %5)               ->     %y = aten.tanh.default(%x)
    """
    return aten.tanh.default(x)


RULES: list[Rule] = [softplus, softplus_of_beta, sigmoid, log_sigmoid, tanh]
