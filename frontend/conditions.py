"""What a traced program demands of its dynamic sizes, checked over their bounds.

torch.export refuses a program when it cannot *prove* what the trace assumed, such as
``(n + 1) // 2 <= n``. Here the program is exported with the assumptions written down, and each is
tried for every size the bounds allow; only one that really breaks is an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy  # type: ignore[import-untyped]  # it has no stubs
import torch
from torch.export import ExportedProgram

from anec.errors import AnecError
from anec.frontend.boundary import argument_names, input_leaves
from anec.frontend.dims import Symbols, named_dims
from anec.frontend.shapes import Shapes
from anec.ir.dims import Bounds, evaluate
from anec.ir.types import DType, TensorType
from anec.reference.sizes import bind_sizes

_MOST_TRIALS = 50_000
_DENSE = 4096
_RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "Equality": lambda a, b: a == b,
    "Unequality": lambda a, b: a != b,
    "LessThan": lambda a, b: a <= b,
    "StrictLessThan": lambda a, b: a < b,
    "GreaterThan": lambda a, b: a >= b,
    "StrictGreaterThan": lambda a, b: a > b,
}


def broken_sizes(program: ExportedProgram, dynamic_shapes: Any, shapes: Shapes | None = None) -> str | None:
    """What breaks the program's assumptions within the bounds, with what to write instead.

    Every combination of sizes is tried where there are at most 50,000; of more, and of sizes without
    an upper bound, the edges, the small ones and the powers of two. Of listed ``shapes`` each is tried.

    Returns:
        None when all assumptions hold, else a sentence with the sizes that break one.

    Raises:
        AnecError: an assumption cannot be written over the sizes.
    """
    symbols = Symbols(program.range_constraints)
    types = _declare(symbols, program, dynamic_shapes)
    if shapes is not None and shapes.count > 1:
        return _broken_list(program, symbols, types, shapes)
    broken: dict[tuple[str, ...], set[tuple[int, ...]]] = {}
    for condition in _assumptions(program):
        names = tuple(sorted(symbols.names.get(str(free), str(free)) for free in condition.free_symbols))
        bounds = symbols.bounds(names)
        holds = _predicate(condition, symbols)
        trials = _trials([bounds.get(name, Bounds()) for name in names])
        broken.setdefault(names, set()).update(sizes for sizes in trials if not holds(names, sizes))
    for names, bad in broken.items():
        if bad:
            return _tell(names, sorted(bad), symbols.bounds(names))
    return None


def _broken_list(
    program: ExportedProgram, symbols: Symbols, types: Mapping[str, TensorType], shapes: Shapes
) -> str | None:
    """The first of the listed shapes that the program does not take."""
    conditions = [(condition, _predicate(condition, symbols)) for condition in _assumptions(program)]
    for index in range(shapes.count):
        listed, sizes = shapes.at(index), dict[str, int]()
        told = ", ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in listed.items())
        for name, shape in listed.items():
            bind_sizes(types[name], shape, sizes)
        for name, shape in listed.items():
            if types[name].at(sizes).shape != shape:
                return f"for {told} the model wants {name} to be {types[name].at(sizes)}"
        for condition, holds in conditions:
            names = [symbols.names[str(free)] for free in condition.free_symbols]
            if not holds(names, [sizes[name] for name in names]):
                return f"what was traced does not hold for {told}"
    return None


def _declare(symbols: Symbols, program: ExportedProgram, dynamic_shapes: Any) -> dict[str, TensorType]:
    """Name the symbols; the types of the inputs by their default names."""
    types = {}
    arguments = argument_names(program)
    dims = named_dims(program.call_spec.in_spec, arguments, dynamic_shapes)
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for number, leaf in enumerate(input_leaves(program, arguments)):
        if leaf.is_tensor:
            shape = nodes[leaf.node].meta["val"].shape
            for axis, size in enumerate(shape):
                symbols.declare(size, dims.get(number, {}).get(axis) or f"{leaf.default}_dim{axis}")
            types[leaf.default] = TensorType(DType.F32, tuple(symbols.dim(size) for size in shape))
    return types


def _assumptions(program: ExportedProgram) -> list[Any]:
    """The assumptions torch noted while it traced, as sympy relations."""
    for node in program.graph.nodes:
        val = node.meta.get("val")
        if node.op == "placeholder" and isinstance(val, torch._subclasses.FakeTensor):
            shape_env: Any = val.fake_mode.shape_env
            noted = getattr(shape_env, "deferred_runtime_asserts", {})
            # Symbols found equal meanwhile are replaced; what became plainly true demands nothing.
            relations = [shape_env.replace(one.expr) for many in noted.values() for one in many]
            return [relation for relation in relations if relation != sympy.true]
    return []


def _predicate(condition: Any, symbols: Symbols) -> Callable[[Sequence[str], Sequence[int]], bool]:
    """The relation as a function of symbol names and their sizes."""
    name = type(condition).__name__
    if isinstance(condition, (sympy.And, sympy.Or)):
        parts = [_predicate(part, symbols) for part in condition.args]
        some_or_all = all if isinstance(condition, sympy.And) else any
        return lambda names, sizes: some_or_all(part(names, sizes) for part in parts)
    if isinstance(condition, sympy.Not):
        inner = _predicate(condition.args[0], symbols)
        return lambda names, sizes: not inner(names, sizes)
    if name not in _RELATIONS:
        raise AnecError(f"the assumption {condition} cannot be checked")
    relation, left, right = _RELATIONS[name], symbols.dim(condition.lhs), symbols.dim(condition.rhs)

    def holds(names: Sequence[str], sizes: Sequence[int]) -> bool:
        known = dict(zip(names, sizes, strict=True))
        return relation(evaluate(left, known), evaluate(right, known))

    return holds


def _trials(bounds: Sequence[Bounds]) -> list[tuple[int, ...]]:
    """The combinations of sizes to try."""
    ranges = [_candidates(one, _DENSE) for one in bounds]
    if sum(1 for _ in itertools.islice(itertools.product(*ranges), _MOST_TRIALS + 1)) > _MOST_TRIALS:
        each = int(_MOST_TRIALS ** (1 / len(bounds))) - 60
        ranges = [_candidates(one, max(each, 8)) for one in bounds]
    return list(itertools.islice(itertools.product(*ranges), 4 * _MOST_TRIALS))


def _candidates(bounds: Bounds, dense: int) -> list[int]:
    last = bounds.upper if bounds.upper is not None else 2**24
    found = set(range(bounds.lower, min(last, bounds.lower + dense) + 1))
    found |= {2**k + offset for k in range(25) for offset in (-1, 0, 1)} | {last - 1, last}
    return sorted(size for size in found if bounds.lower <= size <= last)


def _tell(names: Sequence[str], bad: Sequence[tuple[int, ...]], bounds: Mapping[str, Bounds]) -> str:
    shown = ["(" + ", ".join(f"{n}={s}" for n, s in zip(names, sizes, strict=True)) + ")" for sizes in bad[:4]]
    more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
    text = f"what was traced does not hold for {', '.join(shown)}{more}"
    if len(names) != 1:
        return text
    limits, sizes = bounds[names[0]], [one for (one,) in bad]
    below = [size for size in sizes if size < limits.lower + len(sizes)]
    if len(below) == len(sizes):
        upper = "" if limits.upper is None else f", max={limits.upper}"
        return f"{text}; write Dim({names[0]!r}, min={max(sizes) + 1}{upper})"
    if limits.upper is not None and min(sizes) + len(sizes) - 1 == limits.upper:
        return f"{text}; write Dim({names[0]!r}, min={limits.lower}, max={min(sizes) - 1})"
    return text
