"""Reductions over axes: sums, means, extrema, products, tests, norms, log-sum-exp.

    %y = aten.mean.dim(%x) {dim=[-1]}     ->     %y = mil.reduce_mean(%x) {axes=[1], keep_dims=false}

MIL reduces numbers, not bools: those go through float32, as int32 is for the CPU alone.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Expr
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.ir.types import DType
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, carrier, choose
from anec.passes.lower_to_mil.symbolic import counted
from anec.passes.lower_to_mil.typing import INT32_MAX, axes, axis, cast, dtype_of, result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite


def reduced_axes(op: Op, rank: int) -> tuple[int, ...]:
    """The axes an op reduces, ascending; all when it names none. A scalar has none."""
    if rank == 0:
        return ()
    return axes(op.attr("dim"), rank) if "dim" in op.defn.by_name else tuple(range(rank))


def keeps(op: Op) -> bool:
    """True when the reduced axes stay, with size 1."""
    return "keepdim" in op.defn.by_name and bool(op.attr("keepdim"))


def reduced(target: OpDef, x: Value, over: tuple[int, ...], keep: bool) -> Value:
    """``target`` over axes of ``x``; a scalar has none, and each reduction of one number is itself."""
    if not over:
        return _of_scalar(target, x)
    return target(x, axes=over, keep_dims=keep)


def _of_scalar(target: OpDef, x: Value) -> Value:
    if target.root in ("reduce_l1_norm", "reduce_l2_norm"):
        return mil.abs(x)
    return mil.square(x) if target.root == "reduce_sum_square" else x


def _reduction(name: str, target: OpDef, *roots: str) -> Rule:
    @rewrite(each(*roots), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        dtype = result_type(op).dtype
        x = value(op.operand("self"), carrier(dtype))
        result = reduced(target, x, reduced_axes(op, x.rank), keeps(op))
        return as_value(cast(result, dtype))

    return lower


def _test(name: str, target: OpDef) -> Rule:
    @rewrite(each(name, f"{name}.dim", f"{name}.dims", *_TESTS_OF_BOOLS[name]), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        """The largest, or smallest, of 0 and 1. An empty list of axes reduces none in any.dims."""
        truth = value(op.operand("self"), DType.BOOL)
        over = reduced_axes(op, truth.rank)
        if op.name.endswith(".dims") and op.attr("dim") == ():
            over = ()
        if not over:
            return as_value(cast(truth, result_type(op).dtype))
        found = target(cast(truth, carrier(DType.BOOL)), axes=over, keep_dims=keeps(op))
        return as_value(cast(mil.cast(found, dtype="bool"), result_type(op).dtype))

    return lower


_TESTS_OF_BOOLS = {"any": ("_is_any_true",), "all": ("_is_all_true",)}


@rewrite(each("max.dim", "min.dim"))
def extremum_along(op: Op) -> tuple[Value, Value]:
    """The value and where it is."""
    dtype = result_type(op).dtype
    x = value(op.operand("self"), carrier(dtype))
    at, keep = axis(op.attr("dim"), x.rank), keeps(op)
    if x.rank == 0:
        return as_value(cast(x, dtype)), mil.fill(shape=(), value=0)
    best, where = (mil.reduce_max, mil.reduce_argmax) if op.defn.root == "max" else (mil.reduce_min, mil.reduce_argmin)
    found = best(x, axes=(at,), keep_dims=keep)
    return as_value(cast(found, dtype)), _place(where, x, at, keep, dtype)


@rewrite(each("aminmax", "_aminmax", "_aminmax.dim"))
def aminmax(op: Op) -> tuple[Value, Value]:
    """Both extrema, each by its own reduction."""
    dtype = result_type(op).dtype
    x = value(op.operand("self"), carrier(dtype))
    over = reduced_axes(op, x.rank)
    low, high = (reduced(target, x, over, keeps(op)) for target in (mil.reduce_min, mil.reduce_max))
    return as_value(cast(low, dtype)), as_value(cast(high, dtype))


def _place(target: OpDef, x: Value, at: int, keep: bool, given: DType | None) -> Value:
    """Where an extremum is along an axis: the first, in torch.

    Of equal numbers Core ML promises none ("the identity of the return value is not guaranteed", says
    ``reduce_argmax``). Among whole numbers and bools equal ones are common, as where a text ends by
    ``(ids == end).int().argmax(-1)``: there the least of the places that hold the extremum is taken.
    """
    if given is None or given.is_float:
        return target(x, axis=at, keep_dims=keep)
    best = (mil.reduce_max if target is mil.reduce_argmax else mil.reduce_min)(x, axes=(at,), keep_dims=True)
    places = mil.reshape(counted(x.tensor.shape[at]), shape=tuple(-1 if i == at else 1 for i in range(x.rank)))
    here = choose(mil.equal(x, best), places, Literal(INT32_MAX), x.tensor.with_dtype(DType.I32))
    return mil.reduce_min(here, axes=(at,), keep_dims=keep)


@rewrite(each("argmax", "argmin"))
def arg_extremum(op: Op) -> Value:
    """Without a dim, of all elements in a row."""
    given = dtype_of(op.operand("self"))
    x = value(op.operand("self"), carrier(given or DType.F32))
    target = mil.reduce_argmax if op.defn.root == "argmax" else mil.reduce_argmin
    if x.rank == 0:
        return mil.fill(shape=(), value=0)
    if op.attr("dim") is not None:
        return _place(target, x, axis(op.attr("dim"), x.rank), keeps(op), given)
    row = x if x.rank == 1 else mil.reshape(x, shape=(-1,))
    found = _place(target, row, 0, keeps(op), given)
    return mil.reshape(found, shape=(1,) * x.rank) if keeps(op) and x.rank > 1 else found


@rewrite(
    each(
        "linalg_vector_norm",
        "norm.Scalar",
        "norm.ScalarOpt_dim",
        "norm.ScalarOpt_dim_dtype",
        "norm.ScalarOpt_dtype",
    )
)
def norm(op: Op) -> Value:
    """Torch has the order as ``ord`` or ``p``; None is 2."""
    x = value(op.operand("self"), result_type(op).dtype)
    order = op.attr("ord" if "ord" in op.defn.by_name else "p")
    return norm_over(x, 2.0 if order is None else order, reduced_axes(op, x.rank), keeps(op))


def norm_over(x: Value, order: Attr, over: tuple[int, ...], keep: bool) -> Value:
    """(sum |x|^p)^(1/p), and its limits at 0, inf and -inf."""
    if not isinstance(order, (int, float)):
        reject(f"the order is {order}")
    if order in (1, 2):
        return reduced(mil.reduce_l1_norm if order == 1 else mil.reduce_l2_norm, x, over, keep)
    if order == 0:
        counted = as_value(cast(mil.not_equal(x, 0.0), x.tensor.dtype))
        return reduced(mil.reduce_sum, counted, over, keep)
    size = mil.abs(x)
    if math.isinf(order):
        return reduced(mil.reduce_max if order > 0 else mil.reduce_min, size, over, keep)
    total = reduced(mil.reduce_sum, mil.pow(size, float(order)), over, keep)
    return mil.pow(total, 1 / order)


@rewrite(each("cdist", "_cdist_forward"))
def distances(op: Op) -> Value:
    """The norm of every difference: a row of the one beside each row of the other."""
    dtype = result_type(op).dtype
    left, right = value(op.operand("x1"), dtype), value(op.operand("x2"), dtype)
    rows = mil.expand_dims(left, axes=(left.rank - 1,))
    columns = mil.expand_dims(right, axes=(right.rank - 2,))
    return norm_over(mil.sub(rows, columns), op.attr("p"), (max(left.rank, right.rank),), False)


@rewrite(each("dist"))
def distance(op: Op) -> Value:
    """The norm of the difference of all elements."""
    dtype = result_type(op).dtype
    difference = mil.sub(value(op.operand("self"), dtype), value(op.operand("other"), dtype))
    return norm_over(difference, op.attr("p"), tuple(range(difference.rank)), False)


@rewrite(each("_pdist_forward", "pdist"))
def distances_of_pairs(op: Op, ctx: Context) -> Value:
    """The norm of the difference of each row and every later one."""
    import torch

    x = value(op.operand("self"), result_type(op).dtype)
    count = static(x.tensor)[0]
    rows = torch.triu_indices(count, count, offset=1, dtype=torch.int32)
    first, second = (mil.gather(x, constant(ctx, op, row, "pairs", DType.I32), axis=0) for row in rows)
    return norm_over(mil.sub(first, second), op.attr("p"), (1,), False)


@rewrite(each("logsumexp", "special_logsumexp"))
def logsumexp(op: Op) -> Value:
    """The maximum is taken out first, so that exp never overflows; rows of -inf give -inf."""
    dtype = result_type(op).dtype
    x = value(op.operand("self"), dtype)
    over, keep = reduced_axes(op, x.rank), keeps(op)
    if not over:
        return x
    # An infinite maximum would give inf - inf.
    finite = dtype.largest
    most = mil.clip(mil.reduce_max(x, axes=over, keep_dims=True), alpha=-finite, beta=finite)
    rest = mil.reduce_log_sum_exp(mil.sub(x, most), axes=over, keep_dims=keep)
    return mil.add(rest, most if keep else mil.squeeze(most, axes=over))


@rewrite(
    each("var", "var.dim", "var.correction", "std", "std.dim", "std.correction"),
)
def variance(op: Op) -> Value:
    """The variance, or its root."""
    found, _ = _moments(op)
    return found


@rewrite(
    each("var_mean", "var_mean.dim", "var_mean.correction", "std_mean", "std_mean.dim", "std_mean.correction"),
)
def variance_and_mean(op: Op) -> tuple[Value, Value]:
    """The variance, or its root, and the mean it is taken about."""
    return _moments(op)


def _moments(op: Op) -> tuple[Value, Value]:
    """The mean of squared differences, times n / (n - correction): no sum that fp16 cannot hold."""
    x = value(op.operand("self"), result_type(op).dtype)
    over, keep = reduced_axes(op, x.rank), keeps(op)
    # A scalar has one element along no axis; give it one, so that it is reduced like others.
    if not over:
        x, over, keep = mil.expand_dims(x, axes=(0,)), (0,), False
    mean = mil.reduce_mean(x, axes=over, keep_dims=True)
    found = mil.reduce_mean(mil.square(mil.sub(x, mean)), axes=over, keep_dims=keep)
    correction = _correction(op)
    size = volume([x.tensor.shape[axis] for axis in over])
    if correction and isinstance(size, Expr):
        # n / (n - c) = 1 + c / (n - c), which stands a count that fp16 takes for infinite.
        left_over = cast(Literal(size - int(correction)), x.tensor.dtype)
        found = mil.mul(found, mil.add(mil.real_div(correction, left_over), 1.0))
    elif correction and isinstance(size, int):
        left = max(size - correction, 0)
        # torch divides 0 by 0 where nothing is left.
        found = mil.mul(found, size / left) if left else mil.real_div(mil.mul(found, float(size)), 0.0)
    if op.defn.root.startswith("std"):
        found = mil.sqrt(found)
    return found, mean if keep else mil.squeeze(mean, axes=over)


def _correction(op: Op) -> float:
    if "unbiased" in op.defn.by_name:
        return 1.0 if op.attr("unbiased") else 0.0
    given = op.attr("correction")
    return 1.0 if given is None else float(given)  # type: ignore[arg-type]  # torch's schema has a number


@rewrite(each("nansum"))
def nansum(op: Op) -> Value:
    """NaN counts as 0."""
    type_ = result_type(op)
    x = value(op.operand("self"), type_.dtype)
    if type_.dtype.is_float:
        x = choose(mil.equal(x, x), x, Literal(0.0), x.tensor)
    return reduced(mil.reduce_sum, x, reduced_axes(op, x.rank), keeps(op))


@rewrite(each("frobenius_norm.dim"))
def frobenius_norm(op: Op) -> Value:
    """The root of the sum of squares."""
    x = value(op.operand("self"), result_type(op).dtype)
    return reduced(mil.reduce_l2_norm, x, reduced_axes(op, x.rank), keeps(op))


@rewrite(each("trace"))
def trace(op: Op) -> Value:
    """The sum of what one band keeps."""
    dtype = result_type(op).dtype
    x = value(op.operand("self"), dtype)
    return mil.reduce_sum(mil.band_part(x, lower=0, upper=0), axes=(0, 1), keep_dims=False)


@rewrite(each("count_nonzero", "count_nonzero.dim_IntList"))
def count_nonzero(op: Op) -> Value:
    """A sum in int32."""
    truth = value(op.operand("self"), DType.BOOL)
    counted = value(truth, DType.I32)
    return reduced(mil.reduce_sum, counted, reduced_axes(op, counted.rank), False)


RULES: list[Rule] = [
    _reduction("sum", mil.reduce_sum, "sum", "sum.dim_IntList"),
    _reduction("mean", mil.reduce_mean, "mean", "mean.dim"),
    _reduction("prod", mil.reduce_prod, "prod", "prod.dim_int"),
    _reduction("amax", mil.reduce_max, "amax", "max"),
    _reduction("amin", mil.reduce_min, "amin", "min"),
    _test("any", mil.reduce_max),
    _test("all", mil.reduce_min),
    extremum_along,
    aminmax,
    arg_extremum,
    nansum,
    norm,
    distances,
    distances_of_pairs,
    distance,
    frobenius_norm,
    logsumexp,
    variance,
    variance_and_mean,
    trace,
    count_nonzero,
]
