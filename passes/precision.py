"""Lower to float16 all but what float16 cannot hold, found by running the program on the example inputs.

    %1 = mil.mul(%x, 60000.0)
    %2 = mil.mul(%1, 0.0001)
    %y = mil.relu(%2)
        ->
    %1 = mil.mul(%x, 60000.0)
    %2 = mil.mul(%1, 0.0001)
    %3 = mil.cast(%2) {dtype="fp16"}
    %4 = mil.relu(%3)
    %y = mil.cast(%4) {dtype="fp32"}

What ``fp16-safe`` can repair is repaired first. Then the float16 program runs beside the float32 one. Where
its outputs are off by more than ``min-psnr`` allows, the ops that lose most stay in float32, with those in
front of them whose rounding they amplify and those behind them up to a value that float16 holds; and so
on until the bound is reached. At last what turns out not to be needed is rounded after all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anec.errors import AnecError, UsageError
from anec.ir.facts import constants
from anec.ir.graph import Graph, Op
from anec.ir.opdef import Effect
from anec.ir.types import DType
from anec.passes.common import settle
from anec.passes.fp16_safe import Fp16Safe
from anec.passes.to_fp16 import convert
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register

if TYPE_CHECKING:
    import torch

    from anec.check.ranges import Loss, Measured

META = "float32"
# A loss below this is one rounding among others, not the fault of an op.
_LEAST_DROP = 3.0
# How often the program runs at most: to find what stays, to find where an island may start, to drop others.
_ROUNDS, _HALVINGS, _TRIALS = 7, 5, 8
# Islands that the report describes.
_TOLD = 12


@register
@dataclass
class Precision(Pass):
    """Compute in float16 what keeps the outputs within a bound, and the rest in float32.

    Attributes:
        min_psnr: what every output keeps in dB against float32, on the example inputs.
        keep: what stays in float32 in any case: op types (``softmax``), value names or module paths, with ``*``.
    """

    name = "precision"
    fidelity = Close(rtol=2**-10, atol=2**-14)
    dialects = frozenset({"mil"})
    rules = Fp16Safe.rules
    after = ("lower-to-mil",)
    requires = ("mil",)

    min_psnr: float = 50.0
    keep: tuple[str, ...] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        if ctx.inputs is None:
            hint = "give the source example inputs, or --inputs in.npz"
            raise UsageError("the pass precision needs example inputs to measure with", hint=hint)
        settle(ctx, self.rules, self)
        search = _Search(graph, ctx, self.keep, self.min_psnr, ctx.inputs)
        kept = search.run()
        islands = search.islands(kept)
        for island in islands[:_TOLD]:
            ctx.note("precision: float32 for " + search.told(island))
        if len(islands) > _TOLD:
            ctx.note(
                f"precision: float32 for {len(islands) - _TOLD} more islands; the metadata {META!r} lists all values"
            )
        ctx.note(f"precision: {search.reached:.1f} dB with {len(kept)} of {len(search.ops)} ops in float32")
        if kept:
            several = len(ctx.module.functions) > 1
            known = json.loads(ctx.module.meta.get(META, "[]"))
            names = [f"{graph.name}/{name}" if several else name for name in sorted(kept)]
            ctx.module.meta[META] = json.dumps([*known, *names])
        convert(graph, ctx, self.keep, frozenset(kept))


@dataclass
class _Search:
    """The search for what stays in float32, as names of values."""

    graph: Graph
    ctx: Context
    keep: tuple[str, ...]
    wanted: float
    inputs: dict[str, torch.Tensor]
    reached: float = -math.inf
    # Why an op was chosen, by its value.
    reasons: dict[str, str] = field(default_factory=dict)
    ops: list[Op] = field(init=False)
    by_name: dict[str, Op] = field(init=False)
    wide: dict[str, Measured] = field(init=False)
    reference: dict[str, torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        from anec.check.ranges import measure

        constant = constants(self.graph)
        self.ops = [op for op in self.graph.ops() if _rounds(op) and op.results[0] not in constant]
        self.by_name = {result.name: op for op in self.ops for result in op.results}
        self.wide, self.reference = measure(self.ctx.module, self.graph.name, self.inputs)

    def run(self) -> set[str]:
        """The values to keep.

        Raises:
            AnecError: the bound is out of reach.
        """
        kept: set[str] = set()
        for step in range(_ROUNDS):
            good, found = self.attempt(kept)
            if good:
                return self.without_needless(kept)
            worst = sorted((loss for loss in found if loss.drop >= _LEAST_DROP), key=lambda loss: -loss.drop)
            new = [loss for loss in worst if loss.name in self.by_name and loss.name not in kept][: 2**step]
            if not new:
                break
            for loss in new:
                kept |= self.island_of(loss)
        return self.suffix(kept)

    def attempt(self, kept: set[str]) -> tuple[bool, list[Loss]]:
        """Convert a copy that keeps these, and run it: whether it is good, and what its ops lose."""
        from anec.check.ranges import losses
        from anec.pipeline.clone import clone

        copy = clone(self.ctx.module)
        graph = copy.functions[self.graph.name]
        convert(graph, Context(copy, graph), self.keep, frozenset(kept))
        found, outputs = losses(self.wide, copy, graph.name, self.inputs)
        self.reached = _worst(outputs, self.reference)
        return self.reached >= self.wanted, found

    def island_of(self, loss: Loss) -> set[str]:
        """The value of an op that loses, what it amplifies, and what is computed up to a value float16 holds."""
        op = self.by_name[loss.name]
        names = {result.name for result in op.results}
        measured = self.wide[loss.name]
        self.reasons[loss.name] = _reason(measured, loss)
        if not measured.leaves:
            makers = [self.by_name[value.name] for value in op.inputs if value.name in self.by_name]
            names |= {result.name for made in makers for result in made.results}
        stack = [op]
        while stack:
            for result in stack.pop().results:
                there = self.wide.get(result.name)
                if there is None or not there.leaves:
                    continue
                for user in result.users:
                    new = {value.name for value in user.results} & self.by_name.keys()
                    if new - names:
                        names |= new
                        stack.append(user)
        return names

    def suffix(self, kept: set[str]) -> set[str]:
        """What no single op loses is lost little by little: float32 from some op on to the end.

        Raises:
            AnecError: float32 throughout does not reach the bound either.
        """
        names = [[result.name for result in op.results] for op in self.ops]

        def from_op(start: int) -> set[str]:
            return kept | {name for group in names[start:] for name in group}

        if not self.attempt(from_op(0))[0]:
            raise AnecError(
                f"float32 wherever it is possible reaches {self.reached:.1f} dB, not {self.wanted:g}",
                hint="states are float16 in any case; ask for less by min-psnr",
            )
        good, reached, bad = 0, self.reached, len(names)
        for _ in range(_HALVINGS):
            if bad - good < 2:
                break
            middle = (good + bad) // 2
            if self.attempt(from_op(middle))[0]:
                good, reached = middle, self.reached
            else:
                bad = middle
        self.reached = reached
        return from_op(good)

    def without_needless(self, kept: set[str]) -> set[str]:
        """Round again what the bound does not need, island by island."""
        islands, trials = self.islands(kept), 0
        if not islands:
            return kept
        reached = self.reached
        stack = [islands] if len(islands) > 1 else [[island] for island in islands]
        while stack and trials < _TRIALS:
            group = stack.pop()
            without = kept.difference(*group)
            trials += 1
            if self.attempt(without)[0]:
                kept, reached = without, self.reached
            elif len(group) > 1:
                middle = len(group) // 2
                stack += [group[:middle], group[middle:]]
            elif len(group[0]) > 1:
                # Of one island, what was added around its cause.
                causes = group[0] & self.reasons.keys()
                if causes and causes != group[0] and trials < _TRIALS:
                    trials += 1
                    if self.attempt(kept - group[0] | causes)[0]:
                        kept, reached = kept - group[0] | causes, self.reached
        self.reached = reached
        return kept

    def islands(self, kept: set[str]) -> list[set[str]]:
        """The kept values that hang together, in the order of the program."""
        found: list[set[str]] = []
        for op in self.ops:
            own = {result.name for result in op.results} & kept
            if not own:
                continue
            touching = [island for island in found if any(value.name in island for value in op.inputs)]
            found = [island for island in found if island not in touching] + [own.union(*touching)]
        return found

    def told(self, island: set[str]) -> str:
        """An island in one line: its ops, why, and where in the model."""
        ops = [op for op in self.ops if any(result.name in island for result in op.results)]
        names = list(dict.fromkeys(op.defn.root for op in ops))
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        causes = [op for op in ops if any(result.name in self.reasons for result in op.results)]
        reasons = [self.reasons.get(result.name, "") for op in causes for result in op.results]
        why = "; ".join(dict.fromkeys(filter(None, reasons))) or "rounding adds up"
        return f"{len(ops)} ops ({shown}): {why} {_places(causes or ops)}".rstrip()


def _rounds(op: Op) -> bool:
    """True for an op whose float results ``to-fp16`` would round."""
    return op.defn.effects is Effect.NONE and any(result.tensor.dtype is DType.F32 for result in op.results)


def _reason(measured: Measured, loss: Loss) -> str:
    if measured.overflows:
        return f"{loss.op.defn.root} reaches {measured.largest:.3g}"
    if measured.leaves:
        return f"{loss.op.defn.root} is 0 in float16 at {measured.flushed:.0%} of its elements"
    return f"{loss.op.defn.root} loses {'everything' if math.isinf(loss.drop) else f'{loss.drop:.0f} dB'}"


def _places(ops: Iterable[Op]) -> str:
    found = list(dict.fromkeys(op.origin.place for op in ops if op.origin.place))
    return ", ".join(found[:2]) + (f" and {len(found) - 2} more" if len(found) > 2 else "")


def _worst(outputs: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> float:
    """The lowest PSNR of the outputs; of those that vary, if one does."""
    from anec.check.numerics import compare_in_order

    metrics = compare_in_order(outputs, reference)
    told = [metric for metric in metrics if not metric.void or metric.problem] or metrics
    return min((metric.psnr for metric in told), default=math.inf)


__all__ = ["Precision"]
