"""The predicted placement: shown, written as JSON, compared with Core ML's own plan on a Mac."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anec.cli import console
from anec.cli.console import megabytes
from anec.errors import AnecError, UsageError

if TYPE_CHECKING:
    from anec.ane.placement import FunctionPrediction, Placement, Prediction, Segment
    from anec.ane.rules import Finding
    from anec.ir.graph import Module


# Of the segments, as many as are read.
_SEGMENTS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction, or why there is none."""

    prediction: Prediction | None
    reason: str = ""

    def is_below(self, percent: float | None) -> bool:
        """Whether a share was asked for and is not reached."""
        return percent is not None and (self.prediction is None or 100 * self.prediction.share.ops < percent)

    def as_json(self) -> dict[str, Any]:
        if self.prediction is None:
            return {"kind": "prediction", "error": self.reason}
        return self.prediction.as_json()


def of(module: Module, options: argparse.Namespace, *, lowered: bool) -> Outcome:
    """Predict for what a command was given; ``lowered`` says that every op has a form on the target."""
    from anec.api.support import predicted

    if not lowered:
        return Outcome(None, f"not every op is supported on {options.target}")
    try:
        found = predicted(module, options.passes, options.target, options.ane_generation, options.compute_units)
    except UsageError:
        raise
    except AnecError as error:
        return Outcome(None, error.message)
    return Outcome(found)


def show(outcome: Outcome, options: argparse.Namespace) -> None:
    """What is predicted: totals, ops by device, what is off the Neural Engine and why, what else the rules say."""
    prediction = outcome.prediction
    if prediction is None:
        if options.fail_below is not None:
            console.say(f"no prediction: {outcome.reason}")
        return
    limits = prediction.limits
    sure = "" if limits.sure else "; its limits are themselves predicted"
    print(f"prediction for the Neural Engine of {limits.generation} ({limits.family}){sure}; nothing was measured")
    for function in prediction.functions:
        _show_function(function, len(prediction.functions) > 1)
    if outcome.is_below(options.fail_below):
        print(f"\n{100 * prediction.share.ops:.1f}% is below {options.fail_below:g}%")
    print()


def _show_function(function: FunctionPrediction, named: bool) -> None:
    if named:
        print(f"\nfunction {function.name}")
    share, could = function.share, function.supported_share
    segments = f"{function.segments} segment{'s' * (function.segments != 1)}"
    print(
        f"predicted on the Neural Engine: {_percent(share.ops)} of {len(function.placements)} ops, "
        f"{_percent(share.multiply_adds)} of multiply-adds, {_percent(share.bytes)} of bytes, in {segments}; "
        f"{_percent(could.ops)} of ops could"
    )
    print(
        f"weights {megabytes(function.weight_bytes)}, "
        f"moved by transposes and reshapes {megabytes(function.moved_bytes)}, "
        f"padding of rows {megabytes(function.wasted_bytes)}, largest tensor {megabytes(function.largest_bytes)}"
    )
    if function.segments:
        changes = sum(segment.transfer > 0 for segment in function.route)
        print(
            f"{changes} change{'s' * (changes != 1)} of device, {megabytes(function.taken_bytes)} taken over, "
            f"reckoned by Core ML with {function.transfer:.2f} ms; "
            f"runs on the Neural Engine take {function.floor:.2f} ms at least"
        )
    print()
    counts = Counter(
        (placement.op.name, ", ".join(device.value for device in placement.supported), placement.preferred.value)
        for placement in function.placements
    )
    rows = [(name, count, supported, device) for (name, supported, device), count in counts.items()]
    console.table(("op", "count", "supported", "predicted"), rows)
    if function.segments:
        _show_route(function.route)
    off = [placement for placement in function.placements if not placement.on_ane]
    # The first one decides; JSON has them all.
    blocked = _grouped((placement, finding) for placement in off for finding in placement.blockers[:1])
    if blocked:
        print("\noff the Neural Engine")
        console.table(("op", "count", "rule", "where", "source line", "reason", "remedy"), blocked)
    notes = _grouped((placement, finding) for placement in function.placements for finding in placement.lints)
    whole = [("function", 1, _label(finding), "", "-", *_why(finding)) for finding in function.findings]
    if notes or whole:
        print("\nnotes")
        # Of these it does not matter where in the program they are.
        shown = [(*row[:3], *row[4:]) for row in (*whole, *notes)]
        console.table(("op", "count", "rule", "source line", "reason", "remedy"), shown)


def _show_route(route: Sequence[Segment]) -> None:
    rows = [
        (
            segment.device.value,
            len(segment.placements),
            megabytes(segment.taken_bytes),
            f"{segment.transfer:.2f} ms",
            segment.placements[0].place,
        )
        for segment in route[:_SEGMENTS]
    ]
    print("\nsegments")
    console.table(("device", "ops", "taken over", "transfer", "from source line"), rows)
    if len(route) > _SEGMENTS:
        print(f"... and {len(route) - _SEGMENTS} more; --json has them")


def _grouped(found: Iterable[tuple[Placement, Finding]]) -> list[tuple[object, ...]]:
    """One row for an op's name and a rule, with the first place and reason; those inside the program first."""
    groups: dict[tuple[bool, str, str], list[tuple[Placement, Finding]]] = {}
    for placement, finding in found:
        groups.setdefault((placement.edge, placement.op.name, finding.rule.id), []).append((placement, finding))
    rows: list[tuple[object, ...]] = []
    for (edge, name, _), members in sorted(groups.items(), key=lambda item: item[0][0]):
        finding = members[0][1]
        where = "at the edge" if edge else "inside"
        places = console.few([placement.place for placement, _ in members])
        rows.append((name, len(members), _label(finding), where, places, *_why(finding)))
    return rows


def _label(finding: Finding) -> str:
    """A rule's name, effect and confidence, ``A01 CPU (A)``."""
    return f"{finding.rule.id} {finding.rule.effect.value} ({finding.rule.confidence.value})"


def _why(finding: Finding) -> tuple[str, str]:
    return finding.reason, finding.rule.remedy


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def compare(outcome: Outcome, options: argparse.Namespace) -> dict[str, Any]:
    """Compare with Core ML's own plan and save the disagreements.

    Raises:
        UsageError: the source is no package, or there is no prediction.
        UnsupportedError: off a Mac.
    """
    from anec.backend import compute_plan

    if not options.source.endswith(".mlpackage"):
        raise UsageError(
            "--compare needs a package", hint="anec compile first, then anec analyze X.mlpackage --compare"
        )
    if outcome.prediction is None:
        raise UsageError(f"there is no prediction to compare: {outcome.reason}")
    plans = compute_plan(options.source, options.compute_units)
    found: list[dict[str, Any]] = []
    count = 0
    for function in outcome.prediction.functions:
        plan = plans.get(function.name, {})
        for placement in function.placements:
            planned = plan.get(placement.name.removeprefix("%"))
            if planned is None:
                continue
            count += 1
            if planned.preferred != placement.preferred.value:
                supported = list(planned.supported)
                found.append({**placement.as_json(), "planned": planned.preferred, "planned_supported": supported})
    result = {"kind": "disagreements with the prediction", "compared": count, "disagreements": found}
    Path(options.compare).write_text(json.dumps(result, indent=1), encoding="utf-8")
    console.say(f"Core ML disagrees on {len(found)} of {count} ops; wrote {options.compare}")
    return result
