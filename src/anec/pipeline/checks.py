"""The checks as instruments: each rewrite, each pass, and what lossy passes lose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from anec.check.fidelity import Close, Lossy
from anec.check.metrics import Metric, compare_outputs, worst
from anec.check.numerics import compare_in_order, run_functions
from anec.check.rewrites import check_rewrite
from anec.errors import AnecError, CheckError
from anec.ir.facts import Facts
from anec.ir.graph import Module
from anec.ir.types import DType
from anec.pipeline.base import Pass
from anec.pipeline.manager import Instrument, PassReport, Report
from anec.pipeline.spec import Steps
from anec.reference.call import DOUBLE
from anec.rewrite.records import Rewrite


@dataclass(slots=True)
class Counts:
    """How many rewrites were checked, and why others were not."""

    checked: int = 0
    unchecked: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        self.unchecked[reason] = self.unchecked.get(reason, 0) + 1


class CheckRewrites(Instrument):
    """Judges each rewrite while both of its sides are in the graph.

    Args:
        seed: of the drawn values; the same seed draws the same values.
        draws: plain draws a rewrite.
    """

    wants_rewrites = True

    def __init__(self, seed: int = 0, draws: int = 2) -> None:
        self.seed, self.draws = seed, draws
        self.counts = Counts()
        # Kept through a pass: each rewrite forgets only what it changed.
        self.facts: dict[str, Facts] = {}

    def rewritten(self, pass_: Pass, rewrite: Rewrite, module: Module) -> None:
        if isinstance(pass_.fidelity, Lossy):
            self.counts.skip("lossy pass")
            return
        facts = self.facts.get(rewrite.graph.name)
        if facts is None or facts.graph is not rewrite.graph:
            facts = self.facts[rewrite.graph.name] = Facts(rewrite.graph)
        reason = check_rewrite(rewrite, module, pass_.fidelity, seed=self.seed, draws=self.draws, facts=facts)
        if reason:
            self.counts.skip(reason)
        else:
            self.counts.checked += 1

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        self._close()

    def failed(self, pass_: Pass, index: int, module: Module, error: AnecError) -> None:
        self._close()

    def _close(self) -> None:
        for facts in self.facts.values():
            facts.close()
        self.facts = {}

    def finish(self, module: Module, report: Report) -> None:
        report.checks["rewrites"] = {"checked": self.counts.checked, "unchecked": self.counts.unchecked}


# What reordering float32 sums over a whole model may cost; rounding to float16 is judged in dB.
FLOAT32_REL = 1e-4
FLOAT16_PSNR = 40.0


class CheckNumerics(Instrument):
    """Runs the program around each pass that changed it and compares the outputs.

    Args:
        inputs: a tensor for each input by public name.
        reference: eager PyTorch's outputs, for the lifted program; None skips that comparison.
        at: which of a flexible program's sizes the inputs have; empty for the example's.
    """

    def __init__(
        self, inputs: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor] | None = None, at: str = ""
    ) -> None:
        self.inputs, self.reference, self.at = dict(inputs), reference, at
        self.rows: list[dict[str, object]] = []

    def start(self, module: Module, steps: Steps) -> None:
        self.outputs = run_functions(module, self.inputs)
        if self.reference is not None:
            metrics = compare_outputs(self.outputs, self.reference)
            self.judge("input", metrics, FLOAT32_REL, None)

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        if not report.changed:
            return
        after = run_functions(module, self.inputs)
        metrics = compare_in_order(after, self.outputs)
        fidelity = pass_.fidelity
        if isinstance(fidelity, Lossy):
            self.outputs = after
            return  # MeasureLoss judges it
        if pass_.name == "to-fp16":
            self.judge(report.spec, metrics, None, FLOAT16_PSNR)
        else:
            rel = max(FLOAT32_REL, fidelity.rtol) if isinstance(fidelity, Close) else FLOAT32_REL
            half = any(v.tensor.dtype is DType.F16 for op in module.ops() for v in op.results)
            self.judge(report.spec, metrics, None if half else rel, FLOAT16_PSNR if half else None)
        self.rows.append({"pass": report.spec, **({"at": self.at} if self.at else {}), **worst(metrics).as_json()})
        self.outputs = after

    def judge(self, name: str, metrics: list[Metric], rel: float | None, psnr: float | None) -> None:
        for metric in metrics:
            far = metric.problem or (rel is not None and metric.rel > rel) or (psnr is not None and metric.psnr < psnr)
            if far and not (metric.void and metric.max_abs < 1e-6):
                wanted = f"rel at most {rel:g}" if rel is not None else f"psnr at least {psnr:g} dB"
                hint = "--check=rewrites blames the rule; `anec check` names the first value that differs"
                if name.startswith("to-fp16"):
                    hint = f"--precision mixed keeps in float32 what float16 cannot hold; {hint}"
                raise CheckError(
                    f"behind {name} the output {metric.name!r} is off{' at ' + self.at if self.at else ''}: "
                    + (metric.problem or f"rel {metric.rel:.3g}, psnr {metric.psnr:.1f} dB")
                    + f"; wanted {wanted}",
                    hint=hint,
                )

    def finish(self, module: Module, report: Report) -> None:
        earlier = report.checks.get("numerics")
        report.checks["numerics"] = [*earlier, *self.rows] if isinstance(earlier, list) else self.rows


class MeasureLoss(Instrument):
    """Measures what a lossy pass gives up on the example inputs, in float64, and holds it to its word."""

    def __init__(self, inputs: Mapping[str, torch.Tensor]) -> None:
        self.inputs = dict(inputs)

    def before(self, pass_: Pass, index: int, module: Module) -> None:
        if isinstance(pass_.fidelity, Lossy):
            self.outputs = run_functions(module, self.inputs, DOUBLE)

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        fidelity = pass_.fidelity
        if not isinstance(fidelity, Lossy) or not report.changed:
            return
        metrics = compare_in_order(run_functions(module, self.inputs, DOUBLE), self.outputs)
        if fidelity.measure == "psnr":
            report.loss = min(metric.psnr for metric in metrics)
            kept = report.loss >= fidelity.at_least
        else:
            report.loss = worst(metrics).rel
            kept = report.loss <= fidelity.at_least
        if not kept:
            raise CheckError(
                f"{report.spec} loses too much: {fidelity.measure} {report.loss:.3g}, at least {fidelity.at_least:g} "
                "is wanted"
            )


