"""Transposes that cancel, join, or move nothing.

    %1 = mil.transpose(%x) {perm=[0, 2, 1]}     %x: f32[2,3,4]
    %y = mil.transpose(%1) {perm=[0, 2, 1]}
        ->
    %x

Every one that is left costs a copy, unless it moves axes of size 1 only.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.common import only_use, rebuild, tensor
from anec.passes.mil_cleanup.reshapes import reshape_to
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x, y = tensor("x"), tensor("y")


def permutation(op: Op) -> tuple[int, ...]:
    """The perm of a transpose, counted from the front."""
    perm = op.attr("perm")
    assert isinstance(perm, tuple)
    return tuple(axis % len(perm) for axis in perm if isinstance(axis, int))


@rewrite(mil.transpose(x, rest))
def drop_transpose(op: Op, x: Value) -> Value:
    """A transpose that leaves every axis where it is.

    %x: f32[2,3,4]
    %y = mil.transpose(%x) {perm=[0, 1, 2]}     ->     %x
    """
    return x if permutation(op) == tuple(range(x.rank)) else reject("axes move")


@rewrite(mil.transpose(mil.transpose(x, perm=var("first")), rest))
def merge_transposes(op: Op, x: Value) -> Value:
    """Two transposes are one, or none.

    %x: f32[2,3,4]
    %1 = mil.transpose(%x) {perm=[1, 2, 0]}
    %y = mil.transpose(%1) {perm=[1, 0, 2]}     ->     %y = mil.transpose(%x) {perm=[2, 1, 0]}
    """
    inner = op.value("x").op
    assert inner is not None
    first = permutation(inner)
    perm = tuple(first[axis] for axis in permutation(op))
    return x if perm == tuple(range(x.rank)) else mil.transpose(x, perm=perm)


@rewrite(mil.transpose(x, rest))
def transpose_to_reshape(op: Op, x: Value) -> Value:
    """A transpose that only moves axes of size 1 moves no element.

    %x: f32[2,3,1]
    %y = mil.transpose(%x) {perm=[0, 2, 1]}     ->     %y = mil.reshape(%x, [2, 1, 3])
    """
    perm = permutation(op)
    moved = [axis for axis in perm if x.tensor.shape[axis] != 1]
    if moved != sorted(moved):
        reject("axes longer than 1 change places")
    if perm == tuple(range(x.rank)):
        reject("nothing moves")
    return reshape_to(x, op.result.tensor.shape)


_product = any_of(
    mil.matmul(mil.transpose(x, rest), tensor("other"), rest),
    mil.matmul(tensor("other"), mil.transpose(y, rest), rest),
)


def _turned(op: Op, x: Value | None, y: Value | None) -> tuple[str, Value, Op]:
    """Which operand of a matmul is transposed, what it is of, and the transpose."""
    name, source = ("x", x) if x is not None else ("y", y)
    turned = op.value(name).op
    assert source is not None
    assert turned is not None
    return name, source, turned


@rewrite(_product)
def absorb_transpose(op: Op, x: Value | None, y: Value | None) -> Value:
    """A matmul swaps the last two axes of an operand by itself.

    %q: f32[1,2,4,8], %k: f32[1,2,6,8]
    %1 = mil.transpose(%k) {perm=[0, 1, 3, 2]}
    %y = mil.matmul(%q, %1)
        ->
    %y = mil.matmul(%q, %k) {transpose_y=true}
    """
    name, source, turned = _turned(op, x, y)
    if not _swaps_last(turned):
        reject("the transpose does more than swap the last two axes")
    return rebuild(op, **{name: source, f"transpose_{name}": not op.attr(f"transpose_{name}")})


def _swaps_last(op: Op) -> bool:
    """Whether a transpose swaps the last two axes and leaves the others."""
    perm = permutation(op)
    return len(perm) > 1 and (*perm[:-2], perm[-1], perm[-2]) == tuple(range(len(perm)))


@rewrite(mil.transpose(mil.matmul(x, y, rest).named("product"), rest))
def swapped_product(op: Op, product: Value, x: Value, y: Value) -> Value:
    """A matmul whose last two axes are swapped is that of the operands in the other order.

    %q: f32[2,4,8], %k: f32[2,8,6]
    %1 = mil.matmul(%q, %k)
    %y = mil.transpose(%1) {perm=[0, 2, 1]}
        ->
    %y = mil.matmul(%k, %q) {transpose_x=true, transpose_y=true}
    """
    made = product.op
    if made is None or not only_use(product) or not _swaps_last(op) or min(x.rank, y.rank) < 2:
        reject("the transpose does more than swap its last two axes, or it has other users")
    flags = {"transpose_x": not made.attr("transpose_y"), "transpose_y": not made.attr("transpose_x")}
    return rebuild(made, x=y, y=x, **flags)


@rewrite(_product)
def share_transpose(op: Op, x: Value | None, y: Value | None) -> Value:
    """A matmul takes the other of two transposes of a tensor that differ by a swap of the last two axes.

    %x: f32[4,8,2,6], %q: f32[4,2,5,6], %r: f32[4,2,5,8]
    %1 = mil.transpose(%x) {perm=[0, 2, 3, 1]}
    %a = mil.matmul(%q, %1)
    %2 = mil.transpose(%x) {perm=[0, 2, 1, 3]}
    %b = mil.matmul(%r, %2)
    return %a, %b
        ->
    %1 = mil.transpose(%x) {perm=[0, 2, 3, 1]}
    %a = mil.matmul(%q, %1)
    %b = mil.matmul(%r, %1) {transpose_y=true}
    """
    name, source, turned = _turned(op, x, y)
    perm = permutation(turned)
    swapped = (*perm[:-2], perm[-1], perm[-2])
    for user in source.users:
        if user.defn is mil.transpose and permutation(user) == swapped and user.is_before(turned):
            return rebuild(op, **{name: user.result, f"transpose_{name}": not op.attr(f"transpose_{name}")})
    return reject("no transpose in front is the other one")


RULES: list[Rule] = [
    drop_transpose,
    merge_transposes,
    transpose_to_reshape,
    absorb_transpose,
    swapped_product,
    share_transpose,
]
