"""Type inference with dimension symbols: the kernel runs on fake tensors whose sizes are symbolic.

torch asks a question of a size (is it 1? is it even?) by adding a guard. The shape a kernel gives is
good for all sizes only if no guard matters, so each is tried at sizes that break it: the op is typed
there with plain integers, and both answers must agree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

import sympy  # type: ignore[import-untyped]  # it has no stubs
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.overrides import TorchFunctionMode
from torch.utils._sympy.printers import PythonPrinter
from torch.utils._sympy.value_ranges import ValueRanges

from anec.errors import AnecError, UnsupportedError
from anec.ir.build import bounds_of
from anec.ir.dims import Dim
from anec.ir.graph import Op
from anec.ir.types import TensorType, Type
from anec.ir.weights import torch_dtype
from anec.reference.infer import dtype_of, quiet, run_fake, run_kernel
from anec.reference.sizes import dim_of, expression, size_of

# How many sizes a guard is tried at, and the largest of an unbounded symbol.
_TRIALS = 6
_LARGE = 4096


def infer_symbolic(op: Op, symbols: Sequence[str]) -> tuple[Type, ...]:
    """The types of the results of ``op``, whose arguments hold ``symbols``.

    Raises:
        AnecError: the arguments do not fit the op for every size; names op and guard.
    """
    shapes = ShapeEnv()
    names: dict[str, str] = {}
    sizes = {name: _size(shapes, name, index, names) for index, name in enumerate(symbols)}
    # Without the dispatcher torch 2.7 types composites such as matmul in C++, where sizes are numbers.
    fakes = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
    with fakes, enable_python_dispatcher(), quiet(), _Symbolic():
        fake = {
            value: torch.empty(
                [size_of(dim, sizes) for dim in value.tensor.shape], dtype=torch_dtype(value.tensor.dtype)
            )
            for value in op.inputs
        }
        before = len(shapes.guards)
        try:
            results = run_kernel(op, fake, sizes)
        except AnecError as error:
            error.message = _readable(error.message, names)
            error.args = (error.message,)
            raise
        types = tuple(
            TensorType(dtype_of(result.dtype), tuple(_dim(size, names, op) for size in result.shape))
            for result in results
        )
    for guard in shapes.guards[before:]:
        _try_guard(op, guard.expr, types, symbols, names)
    return types


def _dim(size: Any, names: Mapping[str, str], op: Op) -> Dim:
    free = getattr(expression(size), "free_symbols", ())
    if any(str(symbol) not in names for symbol in free):
        raise UnsupportedError(f"the shape of {op.name}'s result depends on values", where=op.origin.place or None)
    return dim_of(size, names)


def _size(shapes: ShapeEnv, name: str, index: int, names: dict[str, str]) -> Any:
    """A symbolic size within the symbol's bounds; a plain one where they leave no choice."""
    bounds = bounds_of(name)
    # A size of 1 broadcasts, and says so by its type; a symbol never does.
    lower = max(bounds.lower, 2)
    if bounds.upper is not None and bounds.upper <= bounds.lower:
        return bounds.upper
    # Of 1..2 that would leave one size, which torch takes for a plain one.
    most = None if bounds.upper is None else max(bounds.upper, lower + 1)
    upper = sympy.oo if most is None else most
    hint = _hint(lower, most, index)
    source = ConstantSource(name)
    made = shapes.create_symbol(
        hint, source, DimDynamic.DYNAMIC, None, positive=True, do_not_specialize_zero_one=True
    )
    shapes.var_to_range[made] = ValueRanges(lower, upper)
    names[str(made)] = name
    return shapes.create_symintnode(made, hint=hint, source=source)


def _hint(lower: int, upper: int | None, index: int) -> int:
    """What a symbol is while torch asks: a prime, so that no kernel finds it even; different for each symbol."""
    hint = int(sympy.prime(169 + index) if upper is None else sympy.nextprime((lower + upper) // 2 - 1, index + 1))
    while upper is not None and hint > upper:
        hint = int(sympy.prevprime(hint)) if hint > 3 else 2
    return max(hint, lower)


class _Symbolic(TorchFunctionMode):
    """Takes ways through torch that keep sizes symbolic where the usual one makes numbers of them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.pad and kwargs.get("mode", "constant") == "constant" and len(args) == 2:
            tensor, pad = args
            return torch._refs.constant_pad_nd(tensor, pad, kwargs.get("value") or 0)
        return func(*args, **kwargs)


def _try_guard(op: Op, guard: Any, types: tuple[Type, ...], symbols: Sequence[str], names: Mapping[str, str]) -> None:
    """Type the op at sizes that break the guard.

    Raises:
        AnecError: the answer is another there.
    """
    holds = _predicate(guard)
    breaking = (
        sizes for sizes in _samples(symbols) if not holds({raw: sizes[readable] for raw, readable in names.items()})
    )
    for sizes in islice(breaking, _TRIALS):
        wanted = tuple(type_.at(sizes) for type_ in types if isinstance(type_, TensorType))
        try:
            found = run_fake(op, {value: value.tensor.at(sizes) for value in op.inputs}, sizes)
        except AnecError:
            found = ()
        if found != wanted:
            at = ", ".join(f"{name}={size}" for name, size in sizes.items())
            raise AnecError(
                f"{op.name} cannot be typed for every size: it holds only where {_readable(str(guard), names)}, "
                f"not at {at}",
                where=op.origin.place or None,
                hint="declare narrower `dims`, or make the size static",
            )


def _predicate(guard: Any) -> Callable[[dict[str, int]], bool]:
    """A guard as a function of torch's symbols; as Python, since sympy takes milliseconds a size."""
    code = compile(PythonPrinter().doprint(guard), "<guard>", "eval")
    return lambda sizes: bool(eval(code, {"math": math}, sizes))  # noqa: S307  # torch printed it


def _samples(symbols: Sequence[str]) -> Iterator[dict[str, int]]:
    """Sizes within the bounds: all the small ones, and some large."""
    each = []
    for name in symbols:
        bounds = bounds_of(name)
        lower = max(bounds.lower, 1)
        upper = _LARGE if bounds.upper is None else bounds.upper
        spread = [*range(lower, lower + 18), upper // 2, upper - 1, upper]
        each.append(list(bounds.only) or sorted({size for size in spread if lower <= size <= upper}))
    return (dict(zip(symbols, sizes, strict=True)) for sizes in islice(product(*each), 4096))


def _readable(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\b[su]\d+\b", lambda match: names.get(match.group(), match.group()), text)
