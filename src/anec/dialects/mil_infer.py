"""Type inference in plain Python for the ops that models are made of.

Running a kernel on fake tensors is the definition and takes 0.1 to 1 ms an op; these rules say the
same in microseconds, and with symbolic dimensions. Each returns None for a form it leaves to the
kernel. ``tests/dialects/test_mil_infer.py`` holds every rule against its kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from anec.errors import AnecError
from anec.ir.attrs import Attr, Literal
from anec.ir.build import bounds_of
from anec.ir.dims import Dim, Expr, floordiv
from anec.ir.graph import Op, Value
from anec.ir.known_sizes import known_sizes
from anec.ir.types import DType, TensorType, Type
from anec.ir.verify import same_size

Types = tuple[Type, ...] | None
Rule = Callable[[Op], Types]
Shape = tuple[Dim, ...]

_CAST = {
    "fp16": DType.F16, "fp32": DType.F32, "int8": DType.I8, "uint8": DType.U8, "int16": DType.I16,
    "uint16": DType.U16, "int32": DType.I32, "bool": DType.BOOL,
}  # fmt: skip


def broadcast(*shapes: Shape) -> Shape:
    """The broadcast shape.

    Raises:
        AnecError: the shapes do not broadcast.
    """
    rank = max(map(len, shapes), default=0)
    result: list[Dim] = []
    for axis in range(rank):
        sizes = {shape[axis - rank] for shape in shapes if rank - axis <= len(shape)} - {1}
        if len(sizes) > 1:
            raise AnecError("shapes do not broadcast: " + ", ".join(f"[{','.join(map(str, s))}]" for s in shapes))
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def _x(op: Op) -> TensorType | None:
    operand = op.operand("x")
    return operand.type if isinstance(operand, Value) and isinstance(operand.type, TensorType) else None


def _shape(operand: Value | Literal | None) -> Shape | None:
    if isinstance(operand, Value):
        return operand.tensor.shape
    if operand is None:
        return None
    sizes: list[Dim] = []
    value: Attr = operand.value
    while isinstance(value, tuple):
        if not value:
            return None
        sizes.append(len(value))
        value = value[0]
    return tuple(sizes)


def _same(op: Op) -> Types:
    x = _x(op)
    return None if x is None else (x,)


def _binary(dtype: DType | None) -> Rule:
    def infer(op: Op) -> Types:
        values = [op.operands[0], op.operands[1]]
        shapes = [_shape(value) for value in values]
        tensors = [value for value in values if isinstance(value, Value)]
        if not tensors or any(shape is None for shape in shapes):
            return None
        return (TensorType(dtype or tensors[0].tensor.dtype, broadcast(*(s for s in shapes if s is not None))),)

    return infer


def _select(op: Op) -> Types:
    operands = [op.operand(name) for name in ("cond", "a", "b")]
    shapes = [_shape(operand) for operand in operands]
    tensors = [operand for operand in operands[1:] if isinstance(operand, Value)]
    if not tensors or any(shape is None for shape in shapes):
        return None
    return (tensors[0].tensor.with_shape(broadcast(*(s for s in shapes if s is not None))),)


def _cast(op: Op) -> Types:
    x, dtype = _x(op), _CAST.get(str(op.attr("dtype")))
    return None if x is None or dtype is None else (x.with_dtype(dtype),)


def _axes(given: Attr, rank: int) -> list[int] | None:
    if given is None:
        return list(range(rank))
    items = given if isinstance(given, tuple) else (given,)
    axes = [axis for axis in items if isinstance(axis, int) and -rank <= axis < rank]
    return sorted({axis % rank for axis in axes}) if len(axes) == len(items) else None


def _reduce(op: Op) -> Types:
    x = _x(op)
    axes = None if x is None else _axes(op.attr("axes"), x.rank)
    if x is None or axes is None:
        return None
    keep = bool(op.attr("keep_dims"))
    shape = tuple(1 if i in axes else dim for i, dim in enumerate(x.shape) if keep or i not in axes)
    return (x.with_shape(shape),)


def _transpose(op: Op) -> Types:
    x, perm = _x(op), op.attr("perm")
    if x is None or not isinstance(perm, tuple) or len(perm) != x.rank:
        return None
    axes = [axis % x.rank for axis in perm if isinstance(axis, int)]
    if sorted(axes) != list(range(x.rank)):
        raise AnecError(f"mil.transpose: {list(perm)} is no permutation of {x.rank} axes")
    return (x.with_shape(tuple(x.shape[axis] for axis in axes)),)


def _reshape(op: Op) -> Types:
    x, shape = _x(op), op.operand("shape")
    if x is None:
        return None
    if not x.is_static or isinstance(shape, Value):
        return _reshape_symbolically(x, known_sizes(shape))
    if not isinstance(shape, Literal) or not isinstance(shape.value, tuple):
        return None
    sizes = [size for size in shape.value if isinstance(size, int)]
    if len(sizes) != len(shape.value) or 0 in sizes or 0 in x.shape:
        return None
    known = 1
    for size in sizes:
        known *= size if size != -1 else 1
    if sizes.count(-1) > 1 or (x.size % known if -1 in sizes else x.size != known):
        raise AnecError(f"mil.reshape: {x} cannot become {list(sizes)}")
    return (x.with_shape(tuple(x.size // known if size == -1 else size for size in sizes)),)


def _reshape_symbolically(x: TensorType, wanted: Dim | Shape | None) -> Types:
    """To sizes that are known over symbols; a -1 is what the others leave."""
    if not isinstance(wanted, tuple) or (0 in wanted and len(wanted) != x.rank):
        return None
    sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    left = list(x.shape)
    for size in [size for size in sizes if size in left and size != -1]:
        if size in left:
            left.remove(size)
            sizes[sizes.index(size)] = 1
    above, below = prod(left, start=1), prod((size for size in sizes if size != -1), start=1)
    rest: Dim = floordiv(above, below) if -1 in sizes else 1
    names = {name for size in (above, below) if isinstance(size, Expr) for name in size.symbols()}
    if sizes.count(-1) > 1 or not same_size(above, below * rest, {name: bounds_of(name) for name in names}):
        raise AnecError(f"mil.reshape: {x} cannot become [{', '.join(map(str, wanted))}]")
    shape = tuple(x.shape[i] if size == 0 else rest if size == -1 else size for i, size in enumerate(wanted))
    return (x.with_shape(shape),)


def _expand_dims(op: Op) -> Types:
    x, given = _x(op), op.attr("axes")
    if x is None or not isinstance(given, tuple):
        return None
    rank = x.rank + len(given)
    axes = _axes(given, rank)
    if axes is None or len(axes) != len(given):
        return None
    dims = iter(x.shape)
    return (x.with_shape(tuple(1 if i in axes else next(dims) for i in range(rank))),)


def _squeeze(op: Op) -> Types:
    x = _x(op)
    axes = None if x is None else _axes(op.attr("axes"), x.rank)
    if x is None or axes is None or any(x.shape[axis] != 1 for axis in axes if op.attr("axes") is not None):
        return None
    if op.attr("axes") is None:
        axes = [i for i, dim in enumerate(x.shape) if dim == 1]
    return (x.with_shape(tuple(dim for i, dim in enumerate(x.shape) if i not in axes)),)


def _ints(operand: Value | Literal | None) -> tuple[int, ...] | None:
    if not isinstance(operand, Literal) or not isinstance(operand.value, tuple):
        return None
    found = tuple(item for item in operand.value if isinstance(item, int))
    return found if len(found) == len(operand.value) else None


def _flags(op: Op, name: str, rank: int) -> tuple[bool, ...]:
    given = op.attr(name)
    return tuple(bool(item) for item in given) if isinstance(given, tuple) else (False,) * rank


def _slice_by_index(op: Op) -> Types:
    x, begin, end = _x(op), _ints(op.operand("begin")), _ints(op.operand("end"))
    if x is None or begin is None or end is None or not x.is_static:
        return None
    given = op.attr("stride")
    stride = (1,) * x.rank if given is None else _ints(Literal(given))
    lengths = {len(begin), len(end), len(stride or ())}
    if stride is None or lengths != {x.rank} or any(step <= 0 for step in stride):
        return None
    begins, ends = _flags(op, "begin_mask", x.rank), _flags(op, "end_mask", x.rank)
    drops = _flags(op, "squeeze_mask", x.rank)
    shape = []
    for i, size in enumerate(x.static_shape):
        span = slice(None if begins[i] else begin[i], None if ends[i] else end[i], stride[i])
        if not drops[i]:
            shape.append(len(range(size)[span]))
    return None if 0 in shape else (x.with_shape(tuple(shape)),)


def _slice_update(op: Op) -> Types:
    """Like ``x``, when the update is as large as the slice; a slice with computed bounds is taken to be."""
    x, update = _x(op), op.operand("update")
    if x is None or not x.is_static or not isinstance(update, Value):
        return None
    if any(isinstance(op.operand(bound), Value) for bound in ("begin", "end")):
        return (x,) if update.rank == x.rank else None
    return (x,) if _slice_by_index(op) == (update.type,) else None


def _concat(op: Op) -> Types:
    values, axis = op.variadic("values"), op.attr("axis")
    tensors = [value.tensor for value in values if isinstance(value, Value)]
    if not tensors or len(tensors) != len(values) or not isinstance(axis, int):
        return None
    first = tensors[0]
    if any(t.rank != first.rank for t in tensors) or not -first.rank <= axis < first.rank:
        return None
    axis %= first.rank
    total: Dim = 0
    for tensor in tensors:
        if any(a != b for i, (a, b) in enumerate(zip(tensor.shape, first.shape, strict=True)) if i != axis):
            return None
        total = total + tensor.shape[axis]
    return (first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :])),)


def _split(op: Op) -> Types:
    x, axis, sizes, count = _x(op), op.attr("axis"), op.attr("split_sizes"), op.attr("num_splits")
    if x is None or not isinstance(axis, int) or not x.is_static:
        return None
    size = x.static_shape[axis]
    if not isinstance(sizes, tuple):
        if not isinstance(count, int) or size % count:
            return None
        sizes = (size // count,) * count
    parts = [part for part in sizes if isinstance(part, int)]
    if sum(parts) != size:
        return None
    axis %= x.rank
    return tuple(x.with_shape((*x.shape[:axis], part, *x.shape[axis + 1 :])) for part in parts)


def _window(op: Op, x: TensorType, kernel: tuple[int, ...], dilations: tuple[int, ...]) -> Shape | None:
    """The space a window op gives, for the pad types `valid` and `custom`."""
    space = x.shape[2:]
    strides, pad, pad_type = op.attr("strides"), op.attr("pad"), op.attr("pad_type")
    steps = strides if isinstance(strides, tuple) else (1,) * len(space)
    if pad_type not in ("valid", "custom") or not x.is_static:
        return None
    pads = pad if pad_type == "custom" and isinstance(pad, tuple) else (0,) * (2 * len(space))
    result = []
    for i, size in enumerate(x.static_shape[2:]):
        before, after, step = pads[2 * i], pads[2 * i + 1], steps[i]
        if not (isinstance(before, int) and isinstance(after, int) and isinstance(step, int)):
            return None
        length = (size + before + after - dilations[i] * (kernel[i] - 1) - 1) // step + 1
        if length <= 0:
            return None
        result.append(length)
    return tuple(result)


def _conv(op: Op) -> Types:
    x, weight = _x(op), op.operand("weight")
    if x is None or not isinstance(weight, Value) or x.rank < 3 or weight.rank != x.rank:
        return None
    given = op.attr("dilations")
    dilations = tuple(d for d in given if isinstance(d, int)) if isinstance(given, tuple) else (1,) * (x.rank - 2)
    groups = op.attr("groups")
    if not isinstance(groups, int) or x.shape[1] != weight.tensor.shape[1] * groups:
        return None
    space = _window(op, x, weight.shape[2:], dilations)
    return None if space is None else (x.with_shape((x.shape[0], weight.tensor.shape[0], *space)),)


def _pool(op: Op) -> Types:
    x, given = _x(op), op.attr("kernel_sizes")
    if x is None or not isinstance(given, tuple) or op.attr("ceil_mode") or len(given) != x.rank - 2:
        return None
    kernel = tuple(size for size in given if isinstance(size, int))
    if not isinstance(op.attr("strides"), tuple):
        return None
    space = _window(op, x, kernel, (1,) * len(kernel))
    return None if space is None else (x.with_shape((*x.shape[:2], *space)),)


def _linear(op: Op) -> Types:
    x, weight = _x(op), op.operand("weight")
    if x is None or not isinstance(weight, Value) or not x.shape or weight.rank != 2:
        return None
    if x.shape[-1] != weight.tensor.shape[1]:
        raise AnecError(f"mil.linear: {x} has {x.shape[-1]} columns, the weight takes {weight.tensor.shape[1]}")
    return (x.with_shape((*x.shape[:-1], weight.tensor.shape[0])),)


def _matmul(op: Op) -> Types:
    left, right = op.operand("x"), op.operand("y")
    if not isinstance(left, Value) or not isinstance(right, Value) or min(left.rank, right.rank) < 2:
        return None
    if left.tensor.dtype is not right.tensor.dtype:
        return None
    a, b = left.tensor.shape, right.tensor.shape
    rows, inner = (a[-1], a[-2]) if op.attr("transpose_x") else (a[-2], a[-1])
    other, columns = (b[-1], b[-2]) if op.attr("transpose_y") else (b[-2], b[-1])
    if inner != other:
        raise AnecError(f"mil.matmul: {left.type} and {right.type} do not fit")
    return (left.tensor.with_shape((*broadcast(a[:-2], b[:-2]), rows, columns)),)


def _upsample(op: Op) -> Types:
    x = _x(op)
    rows, columns = op.attr("scale_factor_height"), op.attr("scale_factor_width")
    if x is None or x.rank < 2 or not isinstance(rows, (int, float)) or not isinstance(columns, (int, float)):
        return None
    if int(rows) != rows or int(columns) != columns:
        return None
    return (x.with_shape((*x.shape[:-2], x.shape[-2] * int(rows), x.shape[-1] * int(columns))),)


def _resize(op: Op) -> Types:
    x = _x(op)
    rows, columns = op.attr("target_size_height"), op.attr("target_size_width")
    if x is None or x.rank < 2 or not isinstance(rows, int) or not isinstance(columns, int):
        return None
    return (x.with_shape((*x.shape[:-2], rows, columns)),)


_SAME = (
    "abs acos asin atan atanh ceil clip cos cosh elu erf exp exp2 floor gelu identity inverse leaky_relu "
    "linear_activation log logical_not relu relu6 round rsqrt scaled_tanh sigmoid sigmoid_hard sign silu sin sinh "
    "softmax softplus softplus_parametric softsign sqrt square tan tanh threshold thresholded_relu clamped_relu prelu "
    "layer_norm batch_norm instance_norm l2_norm local_response_norm reverse"
).split()
_BINARY = "add sub mul real_div pow maximum minimum floor_div mod logical_and logical_or logical_xor".split()
_COMPARE = "equal not_equal greater greater_equal less less_equal".split()
_REDUCE = (
    "reduce_max reduce_mean reduce_min reduce_sum reduce_sum_square reduce_prod reduce_l1_norm reduce_l2_norm"
).split()

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_BINARY, _binary(None)),
    **dict.fromkeys(_COMPARE, _binary(DType.BOOL)),
    **dict.fromkeys(_REDUCE, _reduce),
    "select": _select,
    "cast": _cast,
    "transpose": _transpose,
    "reshape": _reshape,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "slice_by_index": _slice_by_index,
    "slice_update": _slice_update,
    "concat": lambda op: None if op.attr("interleave") else _concat(op),
    "split": _split,
    "conv": _conv,
    "max_pool": _pool,
    "avg_pool": _pool,
    "linear": _linear,
    "upsample_bilinear": _upsample,
    "upsample_nearest_neighbor": _upsample,
    "resize_bilinear": _resize,
    "resize_nearest_neighbor": _resize,
    "matmul": _matmul,
}
