"""Level 2: the whole program before and after each pass, on the example inputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from anec.check.metrics import Metric, compare, compare_outputs, worst
from anec.errors import CheckError
from anec.ir.graph import Module, Op
from anec.ir.types import DType
from anec.pipeline.base import Close, Lossy, Pass
from anec.pipeline.manager import Instrument, PassReport, Report
from anec.pipeline.spec import Steps
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate

# What reordering float32 sums over a whole model may cost; rounding to float16 is judged in dB.
FLOAT32_REL = 1e-4
FLOAT16_PSNR = 40.0


class CheckNumerics(Instrument):
    """Runs the program around each pass that changed it and compares the outputs.

    Args:
        inputs: a tensor for each input by public name.
        reference: eager PyTorch's outputs, for the lifted program; None skips that comparison.
    """

    def __init__(
        self, inputs: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self.inputs, self.reference = dict(inputs), reference
        self.rows: list[dict[str, object]] = []

    def start(self, module: Module, steps: Steps) -> None:
        self.outputs = self.run(module)
        if self.reference is not None:
            metrics = compare_outputs(self.outputs, self.reference)
            self.judge("input", metrics, FLOAT32_REL, None)

    def run(self, module: Module) -> dict[str, torch.Tensor]:
        return evaluate(module, _at_boundary(module, self.inputs))

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        if not report.changed:
            return
        after = self.run(module)
        metrics = _compare(after, self.outputs)
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
        self.rows.append({"pass": report.spec, **worst(metrics).as_json()})
        self.outputs = after

    def judge(self, name: str, metrics: list[Metric], rel: float | None, psnr: float | None) -> None:
        for metric in metrics:
            far = metric.problem or (rel is not None and metric.rel > rel) or (psnr is not None and metric.psnr < psnr)
            if far and not (metric.void and metric.max_abs < 1e-6):
                wanted = f"rel at most {rel:g}" if rel is not None else f"psnr at least {psnr:g} dB"
                raise CheckError(
                    f"behind {name} the output {metric.name!r} is off: "
                    + (metric.problem or f"rel {metric.rel:.3g}, psnr {metric.psnr:.1f} dB")
                    + f"; wanted {wanted}",
                    hint="--check=rewrites blames the rule; `anec check` names the first value that differs",
                )

    def finish(self, module: Module, report: Report) -> None:
        report.checks["numerics"] = self.rows


class MeasureLoss(Instrument):
    """Measures what a lossy pass gives up on the example inputs, in float64, and holds it to its word."""

    def __init__(self, inputs: Mapping[str, torch.Tensor]) -> None:
        self.inputs = dict(inputs)

    def before(self, pass_: Pass, index: int, module: Module) -> None:
        if isinstance(pass_.fidelity, Lossy):
            self.outputs = evaluate(module, _at_boundary(module, self.inputs), precision=DOUBLE)

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        fidelity = pass_.fidelity
        if not isinstance(fidelity, Lossy) or not report.changed:
            return
        metrics = _compare(evaluate(module, _at_boundary(module, self.inputs), precision=DOUBLE), self.outputs)
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


def _compare(after: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor]) -> list[Metric]:
    """Outputs by position. Legalised boundaries hold rank 0 as (1,): the same numbers in another shape."""
    metrics = []
    for (name, a), b in zip(after.items(), before.values(), strict=True):
        metrics.append(compare(name, a.reshape(b.shape) if a.numel() == b.numel() else a, b))
    return metrics


def _at_boundary(module: Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The example inputs in the shapes of the function's boundary (rank 0 becomes (1,))."""
    graph = module.main
    shaped = {}
    for port, value in zip(graph.signature.inputs, graph.inputs, strict=True):
        if port.name not in inputs:
            continue
        tensor = inputs[port.name]
        if value.tensor.is_static and tuple(tensor.shape) != value.shape and tensor.numel() == value.tensor.size:
            tensor = tensor.reshape(value.shape)
        shaped[port.name] = tensor
    return shaped


def first_difference(
    before: Module, after: Module, inputs: Mapping[str, torch.Tensor], rel: float
) -> tuple[Op, Metric] | None:
    """The first op of ``after`` whose value, found in ``before`` under the same name, is off by more than ``rel``.

    Raises:
        AnecError: one of the programs cannot run.
    """
    known: dict[str, torch.Tensor] = {}

    def remember(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        for value, result in zip(op.results, results, strict=True):
            known[value.name] = result

    found: list[tuple[Op, Metric]] = []

    def judge(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        for value, result in zip(op.results, results, strict=True):
            other = known.get(value.name)
            if found or other is None or other.shape != result.shape:
                continue
            metric = compare(value.name, result, other)
            if metric.rel > rel and not metric.void:
                found.append((op, metric))

    evaluate(before, _at_boundary(before, inputs), observer=remember)
    evaluate(after, _at_boundary(after, inputs), observer=judge)
    return found[0] if found else None


__all__ = ["CheckNumerics", "first_difference"]
