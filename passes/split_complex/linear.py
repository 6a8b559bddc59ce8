"""Ops that do to each part what they do to the whole: views, permutations, joins, picks, sums.

A sum over an axis of z is the sum over its real part and that over its imaginary part. Operands that
say where (indices, conditions) are the same for both; a number put among complex ones is real.
"""

from __future__ import annotations

from collections.abc import Iterator

from anec.ir.attrs import Attr, Literal
from anec.ir.build import Builder
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType
from anec.passes.split_complex.parts import REAL, Parts, Split, Splitter, handles, part_type
from anec.rewrite import reject

LINEAR = (
    # one tensor in another order, or some of it
    "view view_copy view_as reshape reshape_as _unsafe_view _reshape_alias flatten unflatten ravel squeeze "
    "squeeze_copy unsqueeze unsqueeze_copy atleast_1d atleast_2d atleast_3d permute permute_copy transpose "
    "transpose_copy t t_copy numpy_T mT swapaxes swapdims movedim moveaxis expand expand_copy expand_as "
    "broadcast_to repeat tile repeat_interleave roll flip fliplr flipud rot90 slice slice_copy select select_copy "
    "narrow narrow_copy split split_copy split_with_sizes split_with_sizes_copy chunk unbind unbind_copy "
    "tensor_split unsafe_chunk unsafe_split unsafe_split_with_sizes diag diag_embed diagonal diagonal_copy unfold "
    "unfold_copy as_strided tril triu im2col constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d "
    # several tensors
    "cat concat concatenate stack hstack vstack dstack column_stack row_stack block_diag "
    # picked by whole numbers or truths
    "index index_select gather take take_along_dim where masked_fill index_put index_add index_copy index_fill "
    "scatter scatter_add select_scatter slice_scatter "
    # copies
    "clone alias alias_copy detach detach_copy contiguous lift lift_fresh lift_fresh_copy positive pin_memory "
    "resolve_conj resolve_neg _lazy_clone "
    # sums
    "sum mean cumsum trace diff col2im unfold_backward"
).split()
# Operands that say where, and stay what they are.
_PLACES = frozenset({"condition", "index", "indices", "mask", "repeats", "tensor_indices_or_sections"})
# Attributes that are numbers put among the tensor's.
_NUMBERS = frozenset({"value", "other", "self"})


@handles(*LINEAR)
def linear(op: Op, splitter: Splitter) -> list[Split]:
    """The op on the real parts, and the op on the imaginary parts."""
    if op.attrs.get("reduce") is not None:
        reject(f"it reduces by {op.attrs['reduce']}")
    if not all(result.tensor.dtype.is_complex for result in op.results):
        reject("nothing tells what it makes of complex numbers")
    dtype = part_type(op.results[0]).dtype
    given = {
        name: [splitter.parts(item, dtype) for item in (slot if isinstance(slot, list) else [slot])]
        for name, slot in op.arguments().items()
        if name not in _PLACES and slot is not None
    }
    real, imag = (_applied(op, given, imaginary=which) for which in (False, True))
    return [Parts(a, b, part_type(result)) for a, b, result in zip(real, imag, op.results, strict=True)]


def _applied(op: Op, given: dict[str, list[Parts]], *, imaginary: bool) -> list[Value | None]:
    """The op on one part of its operands; None for each result when that part is zero everywhere."""
    attrs = dict(_attrs(op, imaginary))
    everything = [part for parts in given.values() for part in parts]
    if not any(_part(z, imaginary) for z in everything) and not any(attrs.get(name) for name in _NUMBERS):
        return [None] * len(op.results)
    bound: dict[str, object] = {n: slot for n, slot in op.arguments().items() if n in _PLACES and slot is not None}
    for name, parts in given.items():
        filled = [_filled(part, imaginary) for part in parts]
        bound[name] = filled if isinstance(op.arguments()[name], list) else filled[0]
    types = tuple(part_type(result) for result in op.results)
    return list(Builder.current(op.name).create(op.defn, {**bound, **attrs}, types=types).results)


def _part(z: Parts, imaginary: bool) -> Operand:
    return z.imag if imaginary else z.real


def _filled(z: Parts, imaginary: bool) -> Value | Literal:
    part = _part(z, imaginary)
    if isinstance(part, (Value, Literal)):
        return part
    return Literal(0.0) if isinstance(z.real, Literal) else z.both[imaginary]


def _attrs(op: Op, imaginary: bool) -> Iterator[tuple[str, Attr]]:
    for name, attr in op.attrs.items():
        if isinstance(attr, DType):
            yield name, REAL.get(attr, attr)
        else:
            yield name, 0.0 if imaginary and name in _NUMBERS and isinstance(attr, (int, float)) else attr
