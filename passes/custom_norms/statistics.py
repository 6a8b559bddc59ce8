"""Reading what a norm divides by: mean squares and variances of some axes, and what guards them against 0.

All spellings come to ``scale * mean(x^2)`` over axes: a sum has the number of elements as its scale,
an unbiased variance n / (n - 1), the square of 3 times a Euclidean norm 9 n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.algebra import Factor, aligned, line, maker, number, product, same, second, squared, uncast, unviewed
from anec.rewrite import reject

# Ops that a norm's near miss is worth telling about: how many of them were read.
FOLLOWED = 3


@dataclass(frozen=True, slots=True)
class Statistic:
    """``scale * mean(c^2)`` over ``axes``, where c is ``x``, or ``x - mean(x)``.

    Args:
        x: what it is measured of.
        axes: ascending, not negative.
        scale: the factor in front of the mean.
        centred: it is a variance.
    """

    x: Value
    axes: tuple[int, ...]
    scale: float
    centred: bool

    @property
    def count(self) -> int:
        """The number of elements in each mean."""
        return _count(self.x, self.axes)


@dataclass(frozen=True, slots=True)
class Divisor:
    """``sqrt(max(statistic, floor) + epsilon)``."""

    statistic: Statistic
    epsilon: float = 0.0
    floor: float = 0.0


def divisor(factor: Factor) -> Divisor | None:
    """What a factor of a product divides by, when it is the root of a mean square.

    Raises:
        Reject: it would be, but for the place of its epsilon.
    """
    value, exponent = factor.value, factor.exponent
    inner = unviewed(value)
    if inner is not value:
        # A reduction that dropped its axes gets them back anywhere behind it.
        parts = product(inner)
        if len(parts.factors) != 1 or parts.coefficient != 1:
            return None
        inner, exponent = parts.factors[0].value, parts.factors[0].exponent * exponent
    found = _guarded(inner) if exponent == -0.5 else _guarded_root(inner) if exponent == -1.0 else None
    if found is not None and not is_kept(value, found.statistic.x.tensor.shape, found.statistic.axes):
        reject("the mean of squares is repeated along another axis than it was taken over", followed=FOLLOWED)
    return found


def _guarded(value: Value) -> Divisor | None:
    """``max(statistic, floor) + epsilon`` beneath a root."""
    clamped = _clamped(value)
    if clamped is not None:
        inner, floor = clamped
        found = statistic(inner)
        return None if found is None else Divisor(found, floor=floor)
    read = line(unviewed(value))
    found = statistic(read.base)
    if found is None:
        return None
    if read.slope <= 0 or read.offset < 0:
        reject("a negative number is added to the mean of squares", followed=FOLLOWED)
    return Divisor(replace(found, scale=found.scale * read.slope), epsilon=read.offset)


def _guarded_root(value: Value) -> Divisor | None:
    """``max(root, floor)``; an epsilon added to the root is another function."""
    clamped = _clamped(value)
    inner, floor = clamped if clamped is not None else (value, 0.0)
    read = line(unviewed(inner))
    found = root(read.base)
    if found is None:
        return None
    if read.offset != 0:
        reject("the epsilon stands outside of the root", followed=FOLLOWED)
    if read.slope <= 0:
        reject("the root is negative", followed=FOLLOWED)
    return Divisor(replace(found, scale=found.scale * read.slope**2), floor=floor**2)


def kept(shape: tuple[Dim, ...], axes: tuple[int, ...]) -> tuple[Dim, ...]:
    """The shape of a reduction that keeps its axes."""
    return tuple(1 if axis in axes else dim for axis, dim in enumerate(shape))


def is_kept(value: Value, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> bool:
    """True when ``value`` lies along ``shape`` as a reduction that keeps its axes would."""
    return value.rank <= len(shape) and aligned(value, len(shape)) == kept(shape, axes)


def _clamped(value: Value) -> tuple[Value, float] | None:
    """What is bounded from below by a number, and the number."""
    op = unviewed(value).op
    if op is None or op.defn.dialect != "aten":
        return None
    if op.defn.root == "maximum" or op.name == "aten.max.other":
        sides = (op.operand("self"), op.operand("other"))
        for one, other in (sides, sides[::-1]):
            floor = number(other)
            if floor is not None and isinstance(one, Value):
                return (one, floor) if floor >= 0 else None
        return None
    if op.defn.root not in ("clamp", "clamp_min", "clip"):
        return None
    if "max" in op.defn.by_name and second(op, "max") is not None:
        return None
    floor = number(second(op, "min"))
    return (op.value("self"), floor) if floor is not None and floor >= 0 else None


def statistic(value: Value) -> Statistic | None:
    """``value`` as a mean square or a variance."""
    value = unviewed(value)
    read = line(value)
    if read.offset == 0 and read.slope > 0 and read.base is not value:
        found = statistic(read.base)
        return None if found is None else replace(found, scale=found.scale * read.slope)
    base = squared(value)
    if base is not None:
        return root(base)
    op = value.op
    if op is None or op.defn.dialect != "aten":
        return None
    if op.defn.root in ("var", "var_mean") and value.index == 0:
        return _variance(op)
    if op.defn.root == "sub":
        return _difference(op)
    total = _reduced(value)
    if total is None:
        return None
    of, axes, scale = total
    base = squared(of)
    if base is None:
        return None
    centre = centred(base)
    if centre is not None and centre[1] == axes:
        return Statistic(centre[0], axes, scale, centred=True)
    return Statistic(base, axes, scale, centred=False)


def root(value: Value) -> Statistic | None:
    """The statistic that ``value`` is the root of: a mean square, a sum of squares (a norm), a variance."""
    value = unviewed(value)
    op = value.op
    if op is None or op.defn.dialect != "aten":
        return None
    if op.defn.root == "sqrt" or (op.name == "aten.pow.Tensor_Scalar" and number(second(op, "exponent")) == 0.5):
        return statistic(op.value("self"))
    if op.defn.root == "std" or (op.defn.root == "std_mean" and value.index == 0):
        return _variance(op)
    if op.defn.root not in ("linalg_vector_norm", "norm") or not _is_euclidean(op):
        return None
    x = uncast(op.value("self"))
    axes = _axes(op, x)
    if axes is None:
        return None
    centre = centred(x)
    if centre is not None and centre[1] == axes:
        return Statistic(centre[0], axes, float(_count(x, axes)), centred=True)
    return Statistic(x, axes, float(_count(x, axes)), centred=False)


def _is_euclidean(op: Op) -> bool:
    name = "ord" if op.defn.root == "linalg_vector_norm" else "p"
    order = number(second(op, name)) if name in op.defn.by_name else 2.0
    return order == 2.0 or (order is None and op.attr(name) is None)


def _variance(op: Op) -> Statistic | None:
    x = uncast(op.value("self"))
    axes = _axes(op, x)
    if axes is None:
        return None
    if "correction" in op.defn.by_name:
        given = op.attr("correction")
        correction = 1.0 if given is None else float(given) if isinstance(given, (int, float)) else math.nan
    else:
        correction = float(bool(op.attr("unbiased")))
    count = _count(x, axes)
    if not correction < count:
        return None
    return Statistic(x, axes, count / (count - correction), centred=True)


def _difference(op: Op) -> Statistic | None:
    """mean(x^2) - mean(x)^2, which is the variance."""
    left, right = op.operand("self"), op.operand("other") if op.name == "aten.sub.Tensor" else None
    if not isinstance(left, Value) or not isinstance(right, Value) or op.attr("alpha") != 1:
        return None
    square, root = statistic(left), squared(unviewed(right))
    mean = None if root is None else mean_of(root)
    if square is None or mean is None or square.centred or square.scale != 1:
        return None
    if square.axes != mean[1] or not same(square.x, mean[0]) or left.tensor.shape != right.tensor.shape:
        return None
    return replace(square, centred=True)


def mean_of(value: Value) -> tuple[Value, tuple[int, ...]] | None:
    """What ``value`` is the mean of, and over which axes."""
    value = unviewed(value)
    op = value.op
    if op is not None and op.name.startswith("aten.var_mean.") and value.index == 1:
        x = uncast(op.value("self"))
        axes = _axes(op, x)
        return None if axes is None else (x, axes)
    read = line(value)
    total = _reduced(unviewed(read.base)) if read.offset == 0 else None
    if total is None or not math.isclose(total[2] * read.slope, 1.0, rel_tol=1e-12):
        return None
    return total[0], total[1]


def centred(value: Value) -> tuple[Value, tuple[int, ...]] | None:
    """What ``value`` is without its mean, and over which axes that was taken."""
    op = uncast(value).op
    if op is None or op.name != "aten.sub.Tensor" or op.attr("alpha") != 1:
        return None
    x, mean = op.operand("self"), op.operand("other")
    if not isinstance(x, Value) or not isinstance(mean, Value):
        return None
    inner = maker(mean)
    if inner is not None and inner.name in ("aten.expand.default", "aten.expand_as.default"):
        mean = inner.value("self")
    found = mean_of(mean)
    if found is None or not same(found[0], x):
        return None
    return (uncast(x), found[1]) if is_kept(mean, x.tensor.shape, found[1]) else None


def _reduced(value: Value) -> tuple[Value, tuple[int, ...], float] | None:
    """What ``value`` is the mean of, over which axes, and the factor in front: a sum is n means."""
    op = value.op
    if op is None or op.name not in _REDUCTIONS:
        return None
    x = uncast(op.value("self"))
    axes = _axes(op, x)
    if axes is None:
        return None
    return x, axes, float(_count(x, axes)) if op.defn.root == "sum" else 1.0


_REDUCTIONS = frozenset(("aten.mean.dim", "aten.mean.default", "aten.sum.dim_IntList", "aten.sum.default"))


def _axes(op: Op, x: Value) -> tuple[int, ...] | None:
    """The axes an op reduces; None when the number of elements along them is not known."""
    given = op.attr("dim") if "dim" in op.defn.by_name else None
    items = (given,) if isinstance(given, int) else given if isinstance(given, tuple) and given else range(x.rank)
    axes = tuple(sorted(axis % x.rank for axis in items if isinstance(axis, int))) if x.rank else ()
    sizes: list[Dim] = [x.tensor.shape[axis] for axis in axes]
    return axes if axes and all(isinstance(size, int) and size > 0 for size in sizes) else None


def _count(x: Value, axes: tuple[int, ...]) -> int:
    sizes = (x.tensor.shape[axis] for axis in axes)
    return math.prod(size for size in sizes if isinstance(size, int))
