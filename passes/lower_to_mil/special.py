"""Special functions that Core ML has no op for, as short fixed series.

    %y = aten.special_spherical_bessel_j0.default(%x)
        ->
    %1 = mil.equal(%x, 0.0)
    %2 = mil.sin(%x)
    %3 = mil.real_div(%2, %x)
    %y = mil.select(%1, 1.0, %3)

The gamma family is Lanczos' approximation (g = 7, 9 terms: rel 1e-15), its derivatives Euler and
Maclaurin's sum, the normal quantile Wichura's
AS 241 (PPND16: rel 1e-16), the Bessel functions and erfcx the polynomials of Abramowitz and Stegun
9.8.1 to 9.8.4 and of Numerical Recipes 6.2 (rel 2e-7). Coefficients are scaled to what float16 holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.power import product
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import choose
from anec.passes.lower_to_mil.typing import result_type, value
from anec.rewrite import Rule, reject, rewrite


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule."""
    total = mil.add(mil.mul(x, coefficients[-1]), coefficients[-2])
    for coefficient in coefficients[-3::-1]:
        total = mil.add(mil.mul(total, x), coefficient)
    return total


def where(condition: Value, a: Value | float, b: Value | float, like: Value) -> Value:
    """``a`` where the condition holds, else ``b``; of the type of ``like``."""
    left, right = (Literal(item) if isinstance(item, float) else item for item in (a, b))
    return choose(condition, left, right, like.tensor)


# -- the gamma family ------------------------------------------------------------------------------

_G = 7.0
_LANCZOS = (
    676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
)  # fmt: skip
_LANCZOS_0 = 0.99999999999980993
# sqrt(2 pi) e^-g: it goes into the coefficients, which makes them small.
_SCALE = math.sqrt(2 * math.pi) * math.exp(-_G)


def _lanczos(z: Value, order: int) -> tuple[Value, list[Value]]:
    """Shift z by g - 1/2; and the Lanczos sum at z > 0, with minus its derivative for order 1."""
    inverses = [mil.real_div(1.0, mil.add(z, float(k)) if k else z) for k in range(len(_LANCZOS))]
    sums = []
    powers = inverses
    for degree in range(order + 1):
        total: Value | None = None
        for coefficient, power in zip(_LANCZOS, powers, strict=True):
            term = mil.mul(power, coefficient * _SCALE)
            total = term if total is None else mil.add(total, term)
        assert total is not None
        sums.append(mil.add(total, _LANCZOS_0 * _SCALE) if degree == 0 else total)
        if degree < order:
            powers = [mil.square(inverse) for inverse in inverses]
    return mil.add(z, _G - 0.5), sums


def _reflected(x: Value) -> tuple[Value, Value, Value]:
    """Whether x < 0; then 1 - x, else x; and pi times the fraction of x."""
    below = mil.less(x, 0.0)
    return below, where(below, mil.sub(1.0, x), x, x), mil.mul(mil.sub(x, mil.floor(x)), math.pi)


def lgamma(x: Value) -> Value:
    """The logarithm of |Gamma(x)|; below 0 by Gamma(x) Gamma(1 - x) = pi / sin(pi x)."""
    below, z, angle = _reflected(x)
    shifted, (total,) = _lanczos(z, 0)
    steep = mil.mul(mil.sub(z, 0.5), mil.sub(mil.log(shifted, epsilon=0.0), 1.0))
    positive = mil.add(steep, mil.log(total, epsilon=0.0))
    negative = mil.sub(mil.log(mil.real_div(math.pi, mil.sin(angle)), epsilon=0.0), positive)
    return where(mil.equal(mil.abs(x), math.inf), math.inf, where(below, negative, positive, x), x)


def digamma(x: Value) -> Value:
    """The derivative of lgamma; -inf at 0, NaN at negative integers."""
    below, z, angle = _reflected(x)
    shifted, (total, first) = _lanczos(z, 1)
    logarithm = mil.sub(mil.log(shifted, epsilon=0.0), mil.real_div(_G, shifted))
    positive = mil.sub(logarithm, mil.real_div(first, total))
    # pi / tan(0) is NaN here, since torch has no limit there.
    tangent = mil.tan(angle)
    turned = where(mil.equal(angle, 0.0), math.nan, mil.real_div(math.pi, tangent), x)
    found = where(below, mil.sub(positive, turned), positive, x)
    return where(mil.equal(x, 0.0), -math.inf, where(mil.equal(x, math.inf), math.inf, found, x), x)


# Of the Euler-Maclaurin sum for the derivatives of digamma: terms written out, B(2j) / (2j)!, highest derivative.
_TERMS = 10
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)
_HIGHEST = 8


def derivative_of_digamma(x: Value, order: int) -> Value:
    """The sum of n! / (x + k)^(n + 1), times (-1)^(n + 1); the first terms, and an integral for the rest.

    Below 0 by psi(1 - x) = psi(x) + pi cot(pi x), derived.
    """
    below, z, angle = _reflected(x)
    total: Value | None = None
    for k in range(_TERMS):
        term = product(mil.real_div(1.0, mil.add(z, float(k)) if k else z), order + 1)
        total = term if total is None else mil.add(total, term)
    inverse = mil.real_div(1.0, mil.add(z, float(_TERMS)))
    series = [1 / order, 0.5]
    for j, number in enumerate(_BERNOULLI, 1):
        series += [number * math.prod(range(order + 1, order + 2 * j)), 0.0]
    rest = mil.mul(product(inverse, order), polynomial(inverse, series[:-1]))
    sign = -1.0 if order % 2 == 0 else 1.0
    positive = mil.mul(mil.add(total, rest), sign * math.factorial(order))
    cotangent = mil.real_div(1.0, mil.tan(angle))
    turned = mil.mul(polynomial(cotangent, _cotangent_derivative(order)), math.pi ** (order + 1))
    negative = mil.sub(mil.mul(positive, -sign), turned)
    negative = where(mil.equal(angle, 0.0), sign * math.inf, negative, x)
    return where(below, negative, positive, x)


def _cotangent_derivative(order: int) -> list[float]:
    """The coefficients of the derivative of cot as a polynomial in cot, whose own is -(1 + cot^2)."""
    found = [0.0, 1.0]
    for _ in range(order):
        slope = [power * coefficient for power, coefficient in enumerate(found)][1:]
        found = [-(a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return found


# -- the normal distribution -------------------------------------------------------------------------

# AS 241, of r = 0.180625 - q^2 (scaled by 8), of s - 1.6 and of s - 5 where s = sqrt(-log of the tail).
_MIDDLE = (
    (3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_OUTER = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_TAIL = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def _ratio(x: Value, coefficients: tuple[Sequence[float], Sequence[float]], scale: float = 1.0) -> Value:
    """The quotient of two polynomials in x / scale."""
    above, below = ([c / scale**k for k, c in enumerate(part)] for part in coefficients)
    return mil.real_div(polynomial(x, above), polynomial(x, below))


def _quantile(centred: Value, tail: Value) -> Value:
    """The normal quantile at p, of p - 1/2 and of the smaller of p and 1 - p."""
    distance = mil.mul(mil.sub(0.180625, mil.square(centred)), 8.0)
    middle = mil.mul(centred, _ratio(distance, _MIDDLE, 8.0))
    s = mil.sqrt(mil.mul(mil.log(tail, epsilon=0.0), -1.0))
    far = where(mil.greater(s, 5.0), _ratio(mil.sub(s, 5.0), _TAIL), _ratio(mil.sub(s, 1.6), _OUTER), s)
    # A tail of 0 is at infinity; a negative one is NaN, as its logarithm.
    far = mil.mul(mil.sign(centred), where(mil.equal(tail, 0.0), math.inf, far, far))
    return where(mil.less_equal(mil.abs(centred), 0.425), middle, far, centred)


def erfinv(x: Value) -> Value:
    """The quantile at (x + 1) / 2, over the root of 2."""
    tail = mil.mul(mil.sub(1.0, mil.abs(x)), 0.5)
    return mil.mul(_quantile(mil.mul(x, 0.5), tail), math.sqrt(0.5))


def ndtri(x: Value) -> Value:
    """The normal quantile."""
    return _quantile(mil.sub(x, 0.5), mil.minimum(x, mil.sub(1.0, x)))


_ERFCX = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


def erfcx(x: Value) -> Value:
    """Scale erfc by exp(x^2); below 0 that is 2 exp(x^2) less the value at -x."""
    t = mil.real_div(1.0, mil.add(mil.mul(mil.abs(x), 0.5), 1.0))
    positive = mil.mul(t, mil.exp(polynomial(t, _ERFCX)))
    negative = mil.sub(mil.mul(mil.exp(mil.square(x)), 2.0), positive)
    return where(mil.less(x, 0.0), negative, positive, x)


# -- Bessel functions --------------------------------------------------------------------------------

_I0 = (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813)
_I0_FAR = (
    0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281, -0.02057706, 0.02635537, -0.01647633, 0.00392377,
)  # fmt: skip
_I1 = (0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733, 0.00301532, 0.00032411)
_I1_FAR = (
    0.39894228, -0.03988024, -0.00362018, 0.00163801, -0.01031555, 0.02282967, -0.02895312, 0.01787654, -0.00420059,
)  # fmt: skip


def _modified_bessel(order: int, *, scaled: bool) -> Callable[[Value], Value]:
    """I0 or I1; times exp(-|x|) where ``scaled``."""
    near_series, far_series = (_I1, _I1_FAR) if order else (_I0, _I0_FAR)

    def function(x: Value) -> Value:
        size = mil.abs(x)
        # Each series on its own side only, so that neither overflows on the other.
        inner = mil.mul(mil.minimum(size, 3.75), 1 / 3.75)
        near = polynomial(mil.square(inner), near_series)
        outer = mil.maximum(size, 3.75)
        far = mil.mul(polynomial(mil.real_div(3.75, outer), far_series), mil.rsqrt(outer, epsilon=0.0))
        if scaled:
            near = mil.mul(near, mil.exp(mil.mul(size, -1.0)))
        else:
            far = mil.mul(far, mil.exp(outer))
        near = mil.mul(near, x) if order else near
        far = mil.mul(far, mil.sign(x)) if order else far
        return where(mil.less(size, 3.75), near, far, x)

    return function


def spherical_bessel_j0(x: Value) -> Value:
    """sin(x) / x, 1 at 0."""
    return where(mil.equal(x, 0.0), 1.0, mil.real_div(mil.sin(x), x), x)


_FUNCTIONS: dict[tuple[str, ...], Callable[[Value], Value]] = {
    ("lgamma", "special_gammaln"): lgamma,
    ("digamma", "special_digamma", "special_psi"): digamma,
    ("erfinv", "special_erfinv"): erfinv,
    ("special_ndtri",): ndtri,
    ("special_erfcx",): erfcx,
    ("i0", "special_i0", "special_modified_bessel_i0"): _modified_bessel(0, scaled=False),
    ("special_i0e",): _modified_bessel(0, scaled=True),
    ("special_i1", "special_modified_bessel_i1"): _modified_bessel(1, scaled=False),
    ("special_i1e",): _modified_bessel(1, scaled=True),
    ("special_spherical_bessel_j0",): spherical_bessel_j0,
}


def _of_floats(names: tuple[str, ...], function: Callable[[Value], Value]) -> Rule:
    @rewrite(each(*names), name=f"lower_{names[0]}")
    def lower(op: Op) -> Value:
        # Torch calls the operand self or x.
        return function(value(op.operand(op.defn.operand_params[0].name), result_type(op).dtype))

    return lower


@rewrite(each("polygamma", "special_polygamma"))
def polygamma(op: Op) -> Value:
    """Digamma and its derivatives."""
    order = op.attr("n")
    if not isinstance(order, int) or not 0 <= order <= _HIGHEST:
        reject(f"the derivative {order} of digamma; those up to {_HIGHEST} have a short series")
    x = value(op.operand("self"), result_type(op).dtype)
    return derivative_of_digamma(x, order) if order else digamma(x)


RULES: list[Rule] = [*(_of_floats(names, function) for names, function in _FUNCTIONS.items()), polygamma]
