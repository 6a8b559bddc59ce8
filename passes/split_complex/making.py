"""Where complex numbers come from and go to: pairs of real tensors, casts, fills."""

from __future__ import annotations

from anec.dialects import aten
from anec.ir.build import Builder
from anec.ir.graph import Op, Value
from anec.passes.algebra import in_dtype
from anec.passes.split_complex.parts import REAL, Parts, Split, Splitter, as_tensor, fit, handles, part_type, times
from anec.rewrite import reject

# Ops that treat every entry alike.
_ENTRYWISE = frozenset(
    "relu relu6 leaky_relu elu celu selu gelu silu mish softplus hardtanh hardswish hardsigmoid hard_swish "
    "hard_sigmoid clamp clamp_min clamp_max softshrink hardshrink threshold tanh sigmoid neg abs sign square exp "
    "add sub rsub mul div maximum minimum gt ge lt le eq ne where logical_and logical_or logical_not".split()
)


@handles("view_as_complex", "view_as_complex_copy")
def view_as_complex(op: Op, splitter: Splitter) -> Parts:
    """The two entries of the last axis; of two stacked tensors, those."""
    x, type_ = op.value("self"), part_type(op.results[0])
    known = splitter.stacks.get(x)
    if known is not None:
        return known
    maker = x.op
    if maker is not None and maker.defn is aten.stack.default and maker.attr("dim") in (-1, x.rank - 1):
        real, imag = maker.variadic("tensors")
        if isinstance(real, Value) and isinstance(imag, Value) and real.tensor == imag.tensor == type_:
            return Parts(real, imag, type_)
    real, imag = (aten.select.int(x, -1, index) for index in (0, 1))
    return Parts(real, imag, type_)


@handles("view_as_real", "view_as_real_copy")
def view_as_real(op: Op, splitter: Splitter) -> Value:
    """Both parts in a new last axis, remembered: taking one of them out again is free."""
    z = splitter.operand(op)
    found = aten.stack.default(list(z.both), -1)
    splitter.stacks[found] = z
    return found


def part_of_stack(op: Op, splitter: Splitter) -> Value | None:
    """One part, where ``op`` takes it out of both (z.real is exported so); else None."""
    z = splitter.stacks.get(op.inputs[0]) if op.defn in (aten.select.int, aten.select_copy.int) else None
    if z is None or op.attr("dim") not in (-1, op.inputs[0].rank - 1):
        return None
    index = op.attr("index")
    return z.both[index] if isinstance(index, int) else None


def on_both_parts(op: Op, splitter: Splitter) -> Value | None:
    """What ``op`` makes of every entry of stacks, made of each part: they are stacked to be complex again."""
    stacks = [splitter.stacks.get(value) for value in op.inputs]
    result = op.results[0].tensor
    if op.defn.root not in _ENTRYWISE or any(z is None or (*z.type.shape, 2) != result.shape for z in stacks):
        return None
    type_ = result.with_shape(result.shape[:-1])
    made: list[Value] = []
    for index in (0, 1):
        parts = {value: z.both[index] for value, z in zip(op.inputs, stacks, strict=True) if z is not None}
        bound = {n: parts[v] if isinstance(v, Value) else v for n, v in op.arguments().items() if v is not None}
        made.append(Builder.current(op.name).create(op.defn, {**bound, **op.attrs}, types=(type_,)).result)
    found = aten.stack.default(made, -1)
    splitter.stacks[found] = Parts(made[0], made[1], type_)
    return found


@handles("view.dtype", "view_copy.dtype")
def reinterpret(op: Op, splitter: Splitter) -> Split:
    """The memory of a complex tensor is that of pairs of real numbers."""
    x, result = op.value("self"), op.results[0].tensor
    if x.tensor.dtype is result.dtype:
        return splitter.operand(op)
    if x.tensor.dtype.is_complex and result.dtype is REAL[x.tensor.dtype]:
        return aten.reshape.default(aten.stack.default(list(splitter.operand(op).both), -1), result.shape)
    if not result.dtype.is_complex or x.tensor.dtype is not REAL[result.dtype]:
        reject(f"it reinterprets {x.tensor.dtype} as {result.dtype}")
    pairs = aten.reshape.default(x, (*result.shape, 2))
    real, imag = (aten.select.int(pairs, -1, index) for index in (0, 1))
    return Parts(real, imag, part_type(op.results[0]))


@handles("complex")
def complex_(op: Op, splitter: Splitter) -> Parts:
    """The operands are the parts."""
    type_ = part_type(op.results[0])
    real, imag = (fit(in_dtype(op.value(name), type_.dtype), type_) for name in ("real", "imag"))
    return Parts(real, imag, type_)


@handles("polar")
def polar(op: Op, splitter: Splitter) -> Parts:
    """The parts are abs * cos(angle) and abs * sin(angle)."""
    size, angle, type_ = op.value("abs"), op.value("angle"), part_type(op.results[0])
    return Parts(times(size, aten.cos.default(angle)), times(size, aten.sin.default(angle)), type_)


@handles("real")
def real(op: Op, splitter: Splitter) -> Value:
    """The first part."""
    return splitter.operand(op).both[0]


@handles("imag")
def imag(op: Op, splitter: Splitter) -> Value:
    """The second part."""
    return splitter.operand(op).both[1]


@handles("_to_copy", "to", "type_as")
def convert(op: Op, splitter: Splitter) -> Split:
    """A real tensor is its own real part; a complex one that becomes real loses the imaginary part, as in torch."""
    dtype = op.results[0].tensor.dtype
    if dtype.is_complex:
        return splitter.parts(op.operand("self"), REAL[dtype])
    source = splitter.operand(op).both[0]
    return in_dtype(source, dtype)


@handles("copy")
def copy(op: Op, splitter: Splitter) -> Split:
    """What is written over a whole tensor, in that tensor's dtype and shape."""
    result = op.results[0].tensor
    given = splitter.parts(op.operand("src"), REAL.get(result.dtype, result.dtype))
    if not result.dtype.is_complex:
        return as_tensor(fit(given.both[0], result))
    type_ = part_type(op.results[0])
    return Parts(fit(given.real, type_), fit(given.imag, type_), type_)


@handles("full", "zeros", "ones", "empty", "full_like", "zeros_like", "ones_like", "empty_like", "new_full")
@handles("new_zeros", "new_ones", "new_empty", "scalar_tensor", "zero")
def fill(op: Op, splitter: Splitter) -> Split:
    """One real number everywhere; a real tensor in the likeness of a complex one."""
    result = op.results[0].tensor
    type_ = part_type(op.results[0]) if result.dtype.is_complex else result
    root = op.defn.root
    name = next((name for name in ("fill_value", "s") if name in op.defn.by_name), None)
    number = op.attr(name) if name else int("ones" in root)
    if not isinstance(number, (bool, int, float)):
        reject(f"it is filled with {number}")
    if not type_.is_static and "self" in op.arguments() and op.value("self").tensor.shape == type_.shape:
        like = splitter.operand(op).both[0]
        found = aten.full_like.default(like, number, dtype=type_.dtype)
    else:
        found = aten.full.default(type_.shape, number, dtype=type_.dtype)
    return Parts(found, None, type_) if result.dtype.is_complex else found
