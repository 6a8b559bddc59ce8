"""Lower the working precision to float16; the boundary stays float32.

    %y = mil.add(%x, 1e-05)     ->     %x_fp16 = mil.cast(%x) {dtype="fp16"} : f16[2,8]
                                       %y_fp16 = mil.add(%x_fp16, 1e-05) : f16[2,8]
                                       %y = mil.cast(%y_fp16) {dtype="fp32"} : f32[2,8]

Weights are cast by constant operations, which are computed at emission. A finite constant beyond
float16's 65504 would become infinite and poison what it meets (0 * inf is NaN), so it becomes
+-40000, which stays finite when a score is added to it. A bound or an addend too small for float16
would become 0 and no longer guard a division or a logarithm, so it becomes float16's smallest number.
What says where to read, an index or a coordinate, is computed in float32 still: see ``coordinates``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.attr_types import HALF_MAX, SMALLEST_HALF
from anec.ir.attrs import Attr, Literal
from anec.ir.build import infer_types
from anec.ir.facts import constants
from anec.ir.graph import Graph, Op, Value
from anec.ir.opdef import Effect, Kind
from anec.ir.types import DType, StateType
from anec.ir.weights import TensorData, Weight
from anec.passes.coordinates import PLACES, coordinates, places
from anec.passes.mask_bounds import HIDDEN
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register

if TYPE_CHECKING:
    import torch

MASK = -HIDDEN
# Where a tiny number keeps something away from 0, which a factor would not.
_GUARDED = frozenset({"add", "maximum", "clip"})
# Their numbers bound others; none is computed with.
_BOUNDS = frozenset({"clip", "clamped_relu"})


@register
@dataclass
class ToFp16(Pass):
    """Compute in float16.

    Attributes:
        keep: what stays in float32: op types (``softmax``), value names or module paths, with ``*``.
    """

    name = "to-fp16"
    # float16 holds 11 significant bits; through a whole model judge by dB, not by this.
    fidelity = Close(rtol=2**-10, atol=2**-14)
    dialects = frozenset({"mil"})
    after = ("lower-to-mil",)
    requires = ("mil",)

    keep: tuple[str, ...] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        convert(graph, ctx, self.keep)

    def kept(self, op: Op) -> bool:
        return _matches(op, self.keep)


def convert(graph: Graph, ctx: Context, keep: tuple[str, ...] = (), wide: frozenset[str] = frozenset()) -> None:
    """Convert one function, as ``to-fp16{keep=...}`` does; ops whose results are named in ``wide`` stay float32 too."""
    _Conversion(graph, ctx, keep, wide).run()


def _matches(op: Op, patterns: tuple[str, ...]) -> bool:
    names = (op.defn.root, op.origin.path, *(value.name for value in op.results))
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names if name)


class _Conversion:
    def __init__(self, graph: Graph, ctx: Context, keep: tuple[str, ...], wide: frozenset[str]) -> None:
        self.graph, self.ctx, self.keep, self.wide = graph, ctx, keep, wide
        self.constant = constants(graph)
        self.opset = ctx.module.opset
        # Each value in the other precision, made on first use.
        self.half: dict[Value, Value] = {}
        self.full: dict[Value, Value] = {}
        # Constants too small for float16, by what stands in for them where they guard.
        self.guards: dict[Value, Value] = {}

    def run(self) -> None:
        outputs = [value.type for value in self.graph.outputs]
        unused = {pattern for pattern in self.keep if not any(_matches(op, (pattern,)) for op in self.graph.ops())}
        for pattern in sorted(unused):
            self.ctx.note(f"to-fp16: nothing matches keep={pattern}")
        # Core ML's states are float16 in any case: left in float32 they would be cast twice.
        states = {state for state in self.graph.states() if state.tensor.dtype is DType.F32}
        for state in states:
            state.type = StateType(state.tensor.with_dtype(DType.F16))
        wide = coordinates(self.graph, self.constant)
        for op in list(self.graph.ops()):
            if all(result in self.constant for result in op.results) and op.results:
                continue
            if states.intersection(op.inputs):
                self.convert(op)
            elif op.defn.effects is not Effect.NONE or op in wide or self.keeps(op):
                self.keep_full(op)
            else:
                self.convert(op)
        for index, (value, type_) in enumerate(zip(self.graph.outputs, outputs, strict=True)):
            if value.type != type_:
                self.graph.outputs[index] = self.restore(value)

    def keeps(self, op: Op) -> bool:
        """True for an op that the user wants in float32, or that the target has in float32 only."""
        named = any(result.name in self.wide for result in op.results)
        return named or _matches(op, self.keep) or not _takes_half(op, self.opset)

    def convert(self, op: Op) -> None:
        """Let ``op`` take and give float16, but for what says where it reads."""
        where = places(op)
        for index, operand in enumerate(op.operands):
            if operand in where and isinstance(operand, Value):
                if operand.tensor.dtype is DType.F16:
                    op.set_operand(index, self.to_full(operand))
            elif isinstance(operand, Value) and operand.tensor.dtype is DType.F32 and not _is_state(operand):
                op.set_operand(index, self.to_half(self.guard(op, operand)))
            elif isinstance(operand, Literal):
                safe = Literal(self.safe(op, operand.value), None if operand.dtype is DType.F32 else operand.dtype)
                if safe != operand:
                    op.set_operand(index, safe)
        for name in ("dtype", "output_dtype"):
            if op.attrs.get(name) == "fp32":
                op.set_attr(name, "fp16")
        for name, attr in list(op.attrs.items()):
            if isinstance(attr, float) and (safe_attr := self.safe(op, attr)) != attr:
                op.set_attr(name, safe_attr)
        for value, type_ in zip(op.results, infer_types(op), strict=True):
            value.type = type_

    def safe(self, op: Op, value: Attr) -> Attr:
        """A number as float16 can hold it; see the module's docstring. A bound stays as wide as can be."""
        if isinstance(value, tuple):
            return tuple(self.safe(op, item) for item in value)
        if not isinstance(value, float) or not math.isfinite(value):
            return value
        # Half of the smallest number still rounds to 0, to even.
        if op.defn.root in _GUARDED and 0.0 < abs(value) <= SMALLEST_HALF / 2:
            return math.copysign(SMALLEST_HALF, value)
        if abs(value) <= HALF_MAX:
            return value
        safe = math.copysign(HALF_MAX if op.defn.root in _BOUNDS else MASK, value)
        self.ctx.note(f"to-fp16: {value:g} in {op.name} is beyond 65504 and became {safe:g} {op.origin.place}".rstrip())
        return safe

    def keep_full(self, op: Op) -> None:
        """Leave ``op`` in float32: cast back what its producers now give in float16."""
        for index, operand in enumerate(op.operands):
            if isinstance(operand, Value) and operand.tensor.dtype is DType.F16 and operand not in self.constant:
                op.set_operand(index, self.to_full(operand))
        if op.results and op.defn.effects is Effect.NONE:
            for value, type_ in zip(op.results, infer_types(op), strict=True):
                value.type = type_

    def to_half(self, value: Value) -> Value:
        found = self.half.get(value)
        if found is None:
            source = self.safe_constant(value) if value in self.constant else value
            found = self.half[value] = self.cast(source, "fp16", value.name + "_fp16")
        return found

    def to_full(self, value: Value) -> Value:
        found = self.full.get(value)
        if found is None:
            found = self.full[value] = self.cast(value, "fp32", value.name + "_fp32")
        return found

    def cast(self, value: Value, dtype: str, name: str) -> Value:
        """A cast right behind the definition of ``value``, so that every later user can share it."""
        before = value.op.next if value.op is not None else self.graph.first
        with self.ctx.builder(before=before) as builder:
            builder.name = name
            builder.origin = value.origin
            made = mil.cast(value, dtype=dtype)
        if value in self.constant:
            self.constant.add(made)
        return made

    def restore(self, value: Value) -> Value:
        """The output ``value`` in float32 again; the cast takes over its name."""
        name = value.name
        self.graph.rename(value, name + "_fp16")
        return self.cast(value, "fp32", name)

    def safe_constant(self, value: Value) -> Value:
        """The constant, or a copy in which finite numbers beyond float16 are finite still."""
        known = self.ctx.facts.range(value)
        if known.finite and max(abs(known.lower), abs(known.upper)) <= HALF_MAX:
            return value
        import torch

        from anec.reference.evaluate import evaluate_constant

        tensor = evaluate_constant(value, self.ctx.module)
        if not tensor.numel():
            return value
        low, high = (float(end) for end in tensor.aminmax())
        if low >= -HALF_MAX and high <= HALF_MAX:
            return value
        magnitude = tensor.abs()
        beyond = (magnitude > HALF_MAX) & torch.isfinite(tensor)
        if not bool(beyond.any()):
            return value
        # Only where nothing else is as large can 40000 stand for "as large as can be".
        others = magnitude[~beyond & torch.isfinite(tensor)]
        largest = float(others.max()) if others.numel() else 0.0
        bound = MASK if largest < MASK else HALF_MAX
        safe = torch.where(beyond, tensor.sign() * bound, tensor)
        place = next((op.origin.place for op in value.users if op.origin.place), "")
        self.ctx.note(f"to-fp16: {int(beyond.sum())} constants of %{value.name} beyond 65504 became {bound:g} {place}")
        return self.replaced(value, "finite", safe)

    def guard(self, op: Op, value: Value) -> Value:
        """The operand, or a copy of a constant that would vanish where it guards; see ``safe``."""
        if op.defn.root not in _GUARDED or value not in self.constant:
            return value
        known = self.ctx.facts.range(value)
        if not 0.0 < max(abs(known.lower), abs(known.upper)) <= SMALLEST_HALF / 2:
            return value
        if value not in self.guards:
            from anec.reference.evaluate import evaluate_constant

            tensor = evaluate_constant(value, self.ctx.module)
            self.guards[value] = self.replaced(value, "guard", tensor.sign() * SMALLEST_HALF)
        return self.guards[value]

    def replaced(self, value: Value, suffix: str, tensor: torch.Tensor) -> Value:
        """A new weight in the place of a constant."""
        weight = Weight(f"{self.graph.name}.{value.name}_{suffix}", value.tensor, TensorData(tensor))
        made = self.graph.add_weight(self.ctx.module.add_weight(weight))
        self.constant.add(made)
        return made


def _is_state(value: Value) -> bool:
    return isinstance(value.type, StateType)


def _takes_half(op: Op, opset: int) -> bool:
    """True when every float operand of the op may be float16 on the target."""
    params = op.defn.version(opset).params if op.defn.since <= opset else op.defn.params
    for param in params:
        if param.kind is Kind.ATTR or param.name in PLACES.get(op.defn.root, ()):
            continue
        if not param.dtypes or DType.F16 in param.dtypes or DType.F32 not in param.dtypes:
            continue
        operands = [op.operands[i] for i in op.slot(param.name)]
        if any(isinstance(operand, Value) and operand.tensor.dtype.is_float for operand in operands):
            return False
    return True
