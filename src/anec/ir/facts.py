"""Facts about values: constness, small constants, ranges and signs; computed when asked.

Facts hold over the real numbers the program can compute from any inputs, never from one example.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from anec.ir.attrs import Attr, Literal
from anec.ir.graph import Graph, Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType


def is_constant(value: Value) -> bool:
    """True for weights and for what effect-free ops compute from weights and literals alone."""
    return value.is_constant


def constants(graph: Graph) -> set[Value]:
    """Every constant value of a graph."""
    computed = (result for op in graph.ops() if op.is_constant for result in op.results)
    return {*graph.weights.values(), *computed}


def scalar_of(operand: Operand) -> float | int | bool | None:
    """The number of a literal scalar or of a weight with one element; None for anything else."""
    if isinstance(operand, Literal):
        return _single(operand.value)
    weight = operand.weight if isinstance(operand, Value) else None
    if weight is None or weight.data is None or weight.type.size != 1:
        return None
    number = weight.tensor().reshape(()).item()
    return number if isinstance(number, (bool, int, float)) else None


def _single(value: Attr) -> float | int | bool | None:
    while isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, (bool, int, float)) else None


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval that holds every finite value; ``finite`` says no inf or NaN occurs."""

    lower: float = -math.inf
    upper: float = math.inf
    finite: bool = False

    @property
    def nonnegative(self) -> bool:
        return self.lower >= 0


ANYTHING = Range()


class Facts:
    """Lazily computed facts of one graph; a listener that forgets what a change touched."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._ranges: dict[Value, Range] = {}
        graph.listeners.append(self)

    def close(self) -> None:
        """Stop listening."""
        self.graph.listeners.remove(self)

    def op_inserted(self, op: Op) -> None:
        self._forget(op)

    def op_erased(self, op: Op) -> None:
        self._forget(op)

    def op_changed(self, op: Op) -> None:
        self._forget(op)

    def _forget(self, op: Op) -> None:
        stack = [op]
        while stack:
            for result in stack.pop().results:
                if self._ranges.pop(result, None) is not None:
                    stack.extend(result.users)

    def range(self, value: Value) -> Range:
        """The interval a value lies in."""
        stack = [value]
        while stack:
            at = stack[-1]
            missing: list[Value] = []
            if at not in self._ranges and at.op is not None and _rule(at.op) is not None:
                missing = [operand for operand in at.op.inputs if operand not in self._ranges]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if at not in self._ranges:
                self._ranges[at] = self._compute(at)
        return self._ranges[value]

    def _compute(self, value: Value) -> Range:
        if value.weight is not None:
            return _weight_range(value)
        rule = _rule(value.op) if value.op is not None else None
        if rule is None or value.op is None:
            return ANYTHING
        found = rule([self._operand(operand) for operand in value.op.operands])
        return _within(found, value.tensor.dtype, computed=rule in _COMPUTING)

    def _operand(self, operand: Operand) -> Range:
        if isinstance(operand, Value):
            return self._ranges.get(operand, ANYTHING)
        number = scalar_of(operand)
        return ANYTHING if number is None else Range(float(number), float(number), math.isfinite(number))


def _weight_range(value: Value) -> Range:
    weight = value.weight
    if weight is None or weight.data is None or weight.type.size == 0 or weight.type.dtype.is_complex:
        return ANYTHING
    lower, upper = weight.extent()
    return Range(lower, upper, True) if math.isfinite(lower) and math.isfinite(upper) else ANYTHING


def _same(ranges: list[Range]) -> Range:
    return ranges[0]


def _fixed(lower: float, upper: float) -> Callable[[list[Range]], Range]:
    return lambda ranges: Range(lower, upper, ranges[0].finite)


def _relu(ranges: list[Range]) -> Range:
    return Range(max(0.0, ranges[0].lower), max(0.0, ranges[0].upper), ranges[0].finite)


def _abs(ranges: list[Range]) -> Range:
    low, high = abs(ranges[0].lower), abs(ranges[0].upper)
    inside = ranges[0].lower <= 0 <= ranges[0].upper
    return Range(0.0 if inside else min(low, high), max(low, high), ranges[0].finite)


def _add(ranges: list[Range]) -> Range:
    a, b = ranges[:2]
    lower, upper = a.lower + b.lower, a.upper + b.upper
    if math.isnan(lower) or math.isnan(upper):
        return ANYTHING
    return Range(lower, upper, a.finite and b.finite)


def _subtract(ranges: list[Range]) -> Range:
    a, b = ranges[:2]
    return _add([a, Range(-b.upper, -b.lower, b.finite)])


def _multiply(ranges: list[Range]) -> Range:
    a, b = ranges[:2]
    corners = [x * y for x in (a.lower, a.upper) for y in (b.lower, b.upper)]
    if any(math.isnan(corner) for corner in corners):
        return ANYTHING
    return Range(min(corners), max(corners), a.finite and b.finite and all(map(math.isfinite, corners)))


def _divide(ranges: list[Range]) -> Range:
    a, b = ranges[:2]
    if b.lower <= 0 <= b.upper:
        return ANYTHING
    ends = [1 / b.lower, 1 / b.upper]
    if not b.finite:
        ends.append(0.0)  # a number over infinity
    return _multiply([a, Range(min(ends), max(ends), b.finite)])


def _sqrt(ranges: list[Range]) -> Range:
    if ranges[0].lower < 0:
        return ANYTHING
    return Range(math.sqrt(ranges[0].lower), math.sqrt(ranges[0].upper), ranges[0].finite)


def _product(op: Op, ranges: list[Range]) -> Range:
    """Sums of as many products as the rows of x are long."""
    x = op.operand("x")
    summed = x.tensor.shape[-2 if op.attr("transpose_x") else -1] if isinstance(x, Value) and x.rank > 1 else None
    if not isinstance(summed, int):
        return ANYTHING
    left, right = (max(abs(found.lower), abs(found.upper)) for found in ranges)
    bound = summed * left * right
    return Range(-bound, bound, ranges[0].finite and ranges[1].finite) if math.isfinite(bound) else ANYTHING


def _rsqrt(op: Op, ranges: list[Range]) -> Range:
    """1 / sqrt(x + epsilon), where x is at least 0 (a variance) or known to be larger."""
    epsilon = op.attr("epsilon")
    # Smaller epsilons give larger results: the float16 rounding of 1e-5 is within 1 %.
    lowest = ranges[0].lower + (0.99 * epsilon if isinstance(epsilon, float) else 0.0)
    if ranges[0].lower < 0 or lowest <= 0:
        return ANYTHING
    return Range(0.0, 1 / math.sqrt(lowest), ranges[0].finite)


def _join(ranges: list[Range]) -> Range:
    return Range(min(r.lower for r in ranges), max(r.upper for r in ranges), all(r.finite for r in ranges))


def _select(ranges: list[Range]) -> Range:
    return _join(ranges[1:])


def _filled(op: Op, ranges: list[Range]) -> Range:
    """The one number of a fill."""
    number = op.attr("value")
    return Range(float(number), float(number), math.isfinite(number)) if isinstance(number, (int, float)) else ANYTHING


def _counted(ranges: list[Range]) -> Range:
    """Numbers from a start up to an end."""
    end, start, step = ranges
    return Range(start.lower, max(start.lower, end.upper), start.finite) if step.lower >= 0 else ANYTHING


def _square(ranges: list[Range]) -> Range:
    return Range(0.0, math.inf, False)


_BY_ROOT: dict[str, Callable[[list[Range]], Range]] = {
    "relu": _relu,
    "relu6": _fixed(0.0, 6.0),
    "sigmoid": _fixed(0.0, 1.0),
    "softmax": _fixed(0.0, 1.0),
    "_softmax": _fixed(0.0, 1.0),
    "tanh": _fixed(-1.0, 1.0),
    "erf": _fixed(-1.0, 1.0),
    "sin": _fixed(-1.0, 1.0),
    "cos": _fixed(-1.0, 1.0),
    "abs": _abs,
    "square": _square,
    "exp": _square,
    **dict.fromkeys(
        "reshape view permute transpose expand_dims squeeze unsqueeze slice_by_index slice slice_by_size clone alias "
        "max_pool reduce_max reduce_min reduce_mean expand identity split split_with_sizes".split(),
        _same,
    ),
    "range_1d": _counted,
    "concat": _join,
    "cat": _join,
    "stack": _join,
}


# Only as MIL has them: torch's carry alpha and rounding modes.
_OF_MIL: dict[str, Callable[[list[Range]], Range]] = {
    "mil.mul": _multiply,
    "mil.sub": _subtract,
    "mil.real_div": _divide,
    "mil.sqrt": _sqrt,
}
# These ask the op for more than its operands' ranges.
_ASKING: dict[str, Callable[[Op, list[Range]], Range]] = {
    "mil.rsqrt": _rsqrt,
    "mil.matmul": _product,
    "mil.fill": _filled,
}


# What can leave the operands' range, and so wrap around in whole numbers.
_COMPUTING = (_add, _square, _abs)
_LARGEST = {DType.F16: 65504.0, DType.BF16: 3.3895313892515355e38, DType.F32: 3.4028234663852886e38}


def _within(found: Range, dtype: DType, *, computed: bool) -> Range:
    """The range as far as the dtype goes: larger floats become infinite, larger whole numbers any."""
    if dtype.is_integer and computed:
        low, high = dtype.range
        return found if low <= found.lower and found.upper <= high else ANYTHING
    largest = _LARGEST.get(dtype, math.inf)
    if found.finite and (found.lower < -largest or found.upper > largest):
        return Range(found.lower, found.upper, False)
    return found


def _rule(op: Op) -> Callable[[list[Range]], Range] | None:
    if op.defn.root == "add" and not op.attrs and len(op.operands) == 2:
        return _add
    if op.name == "mil.select":  # torch's is another op
        return _select
    if all(value.tensor.dtype.is_float for value in op.inputs):
        if op.name in _OF_MIL:
            return _OF_MIL[op.name]
        if op.name in _ASKING:
            return partial(_ASKING[op.name], op)
    return _BY_ROOT.get(op.defn.root)
