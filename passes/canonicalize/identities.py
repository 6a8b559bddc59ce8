"""Ops that give back their operand: aliases, copies, dropout at inference, slices of everything.

    %y = aten.clone.default(%x)     ->     %x

Values have no memory layout in the IR, so a copy is its source and a view of the same shape too.
"""

from __future__ import annotations

from collections.abc import Sequence

from anec.dialects import aten
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand, Pattern
from anec.passes.common import holds, is_empty, tensor
from anec.rewrite import Rule, any_of, reject, rest, rewrite

x = tensor("x")


def forms(names: str, inner: Pattern) -> list[Pattern]:
    """A pattern for each op of ``names`` on ``inner``, whatever its other arguments."""
    return [aten.resolve(name)(inner, rest) for name in names.split()]


_ALIASES = (
    "alias.default alias_copy.default clone.default contiguous.default detach.default detach_copy.default "
    "lift.default lift_fresh.default lift_fresh_copy.default"
)
_DROPOUTS = "dropout.default native_dropout.default alpha_dropout.default feature_dropout.default"
_COPIES = "_to_copy.default to.dtype to.device to.other type_as.default"
_WRITES = (
    "slice_scatter.default index_put.default index_copy.default index_add.default index_fill.int_Scalar "
    "index_fill.int_Tensor scatter.src scatter.value scatter_add.default"
)
# With a result of the operand's type these move nothing.
_SAME = (
    "view.default _unsafe_view.default view_copy.default view_as.default reshape.default reshape_as.default "
    "expand.default expand_as.default expand_copy.default broadcast_to.default repeat.default tile.default "
    "squeeze.default squeeze.dim squeeze.dims squeeze_copy.default squeeze_copy.dim squeeze_copy.dims "
    "flatten.using_ints unflatten.int narrow.default slice.Tensor"
)


@rewrite(any_of(*forms(_ALIASES, x)))
def drop_alias(op: Op, x: Value) -> Value:
    """The IR's values have no storage to share or copy.

    %y = aten.clone.default(%x)     ->     %x
    """
    return x


@rewrite(any_of(*forms(_WRITES, x)))
def drop_empty_write(op: Op, x: Value) -> Value:
    """A write to no place; Core ML has no empty tensors to tell the places by.

    %x: f32[2,3], %i: i64[0], %v: f32[0,3]
    %y = aten.index_put.default(%x, [%i], %v)     ->     %x
    """
    places = [op.operand("src")] if op.defn.root == "slice_scatter" else _indices(op)
    if not any(is_empty(given) for given in places):
        reject("it writes to some place")
    return x if x.type == op.result.type else reject("it converts")


def _indices(op: Op) -> Sequence[Operand]:
    return op.variadic("indices") if "indices" in op.defn.by_name else [op.operand("index")]


@rewrite(any_of(*forms(_DROPOUTS, x)))
def drop_dropout(op: Op, x: Value) -> list[Value]:
    """Dropout drops nothing at inference.

    %y = aten.dropout.default(%x) {p=0.5, train=false}     ->     %x
    """
    if op.attr("train") is not False and op.attr("p") != 0:
        reject("it is training")
    if len(op.results) > 1 and (op.results[1].uses or op.results[1].is_output):
        reject("its mask is used")
    return [x]


@rewrite(any_of(*forms(_COPIES, x)))
def drop_copy(op: Op, x: Value) -> Value:
    """A cast to the dtype there is.

    %y = aten._to_copy.default(%x) {dtype=f32}     ->     %x
    """
    return x if x.type == op.result.type else reject("the dtype changes")


@rewrite(any_of(*(outer for inner in forms(_COPIES, x) for outer in forms(_COPIES, inner))))
def merge_copies(op: Op, x: Value) -> Value:
    """A cast through a dtype that holds every number of the first one.

    %x: f16[2,8]
    %1 = aten._to_copy.default(%x) {dtype=f32}
    %y = aten._to_copy.default(%1) {dtype=f16}     ->     %x
    """
    middle, wanted = op.value("self").tensor.dtype, op.result.tensor.dtype
    if not holds(middle, x.tensor.dtype):
        reject(f"{middle} does not hold every {x.tensor.dtype}")
    return x if wanted is x.tensor.dtype else aten._to_copy.default(x, dtype=wanted)


@rewrite(any_of(*forms(_SAME, x)))
def drop_same_shape(op: Op, x: Value) -> Value:
    """A view, expansion or slice that leaves the shape as it is.

    %y = aten.slice.Tensor(%x) {dim=1, start=0, end=9223372036854775807}     ->     %x
    """
    if x.type != op.result.type:
        reject("the shape changes")
    if op.defn.root == "slice" and op.attr("step") != 1:
        reject("the slice has a step")
    return x


@rewrite(any_of(*forms("constant_pad_nd.default pad.default", x)))
def drop_pad(op: Op, x: Value) -> Value:
    """A pad by nothing.

    %y = aten.constant_pad_nd.default(%x) {pad=[0, 0]}     ->     %x
    """
    pad = op.attr("pad")
    if not isinstance(pad, tuple) or any(amount != 0 for amount in pad):
        reject("it pads")
    return x


@rewrite(any_of(*forms("split.Tensor split_with_sizes.default split.sizes chunk.default", x)))
def drop_split(op: Op, x: Value) -> list[Value]:
    """A split into one part.

    %x: f32[4]
    %y = aten.split.Tensor(%x) {split_size=4}     ->     %x
    """
    return [x] if len(op.results) == 1 and op.results[0].type == x.type else reject("there are several parts")


RULES: list[Rule] = [
    drop_alias,
    drop_empty_write,
    drop_dropout,
    drop_copy,
    merge_copies,
    drop_same_shape,
    drop_pad,
    drop_split,
]
