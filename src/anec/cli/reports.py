"""What commands show: the passes of a run, one pass, support by op."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anec.cli import console
from anec.errors import UsageError
from anec.pipeline import registry
from anec.pipeline.base import Pass
from anec.pipeline.manager import Report
from anec.rewrite import Rule

if TYPE_CHECKING:
    import numpy as np

    from anec.api.model import CompiledModel
    from anec.api.support import Support


# The deepest near misses of a pass; what is beyond seldom helps.
_MISSES = 5
# A description of a pass that is longer than this leaves the IR of its rules to --verbose.
_PAGE = 100


def open_program(text: str) -> CompiledModel:
    """A saved package or IR text as something to run.

    Raises:
        UsageError: it is neither.
    """
    from anec.api.model import CompiledModel, load
    from anec.api.text import read

    path = Path(text)
    if path.suffix == ".mlpackage":
        return load(path)
    if path.suffix == ".anec":
        return CompiledModel(read(path))
    raise UsageError(
        f"{text} is neither an .mlpackage nor an .anec file",
        hint="anec compile makes one of a SOURCE" if ":" in text or path.suffix == ".pt2" else None,
    )


def span(array: np.ndarray) -> tuple[str, str]:
    """The smallest and largest number, as text."""
    if array.size == 0:
        return "-", "-"
    return f"{array.min():.6g}", f"{array.max():.6g}"


def output_json(name: str, array: np.ndarray) -> dict[str, Any]:
    """One output's type and range."""
    low, high = (array.min().item(), array.max().item()) if array.size else (None, None)
    return {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "min": low, "max": high}


def passes(report: Report, *, verbose: bool, times: bool) -> None:
    """The passes of a run: ops, rules that fired, and on request times, lines and near misses."""
    headers = ["pass", "ops", "rules fired"] + (["seconds"] if times else [])
    rows = []
    for done in report.passes:
        ops = f"{done.ops_before} -> {done.ops_after}" if done.ops_before != done.ops_after else str(done.ops_after)
        state = "skipped" if done.skipped else "changed" if done.changed else "no change"
        fired = ", ".join(f"{name} x{n}" for name, n in sorted(done.fired.items(), key=lambda item: -item[1])[:4])
        more = f", {len(done.fired) - 4} more" if len(done.fired) > 4 else ""
        rows.append([done.spec, ops, fired + more or state] + ([f"{done.seconds:.3f}"] if times else []))
    console.table(headers, rows)
    for done in report.passes:
        for note in done.notes:
            print(f"note: {note}")
        if done.loss is not None:
            print(f"loss: {done.spec}: {done.loss:.3g}")
    for name, found in report.checks.items():
        print(f"check {name}: {found}" if name == "rewrites" else f"check {name}: {len(found)} passes compared")
    if verbose:
        _verbose(report)


def _verbose(report: Report) -> None:
    for done in report.passes:
        for name, count in done.fired.items():
            print(f"{done.spec}: {name} fired {count}x: {', '.join(done.places.get(name, [])) or 'no source line'}")
        for name, miss in list(done.misses.items())[:_MISSES]:
            print(f"{done.spec}: {name} nearly matched: {miss}")
        if len(done.misses) > _MISSES:
            print(f"{done.spec}: {len(done.misses) - _MISSES} more rules nearly matched (--json has them)")


def list_passes(*, as_json: bool) -> None:
    """Every pass and pipeline."""
    from anec.passes.pipelines import DESCRIPTIONS, PIPELINES

    known = registry.passes()
    if as_json:
        found = {
            name: {"doc": _first_line(cls), "fidelity": str(cls.fidelity), "from": registry.owner(name)}
            for name, cls in known.items()
        }
        console.show_json({"passes": found, "pipelines": PIPELINES})
        return
    rows = [(name, cls.fidelity, _dialects(cls.works_on()), _first_line(cls)) for name, cls in known.items()]
    console.table(("pass", "fidelity", "works on", "what it does"), rows)
    print()
    console.table(
        ("pipeline", "passes", "what it does"),
        # Spaces are where a narrow terminal breaks the line.
        [(name, text.replace(",", ", "), DESCRIPTIONS[name]) for name, text in PIPELINES.items()],
    )


def _dialects(found: frozenset[str] | None) -> str:
    return ",".join(sorted(found)) if found else "any"


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def describe_pass(name: str, *, as_json: bool, verbose: bool = False) -> None:
    """One pass: what it does, IR before and after, options, fidelity, rules.

    Args:
        name: the pass or named pipeline.
        as_json: print JSON.
        verbose: show the IR of every rule, however long the page is.
    """
    import sys

    from anec.passes.pipelines import PIPELINES

    if name in PIPELINES:
        _describe_pipeline(name, as_json=as_json)
        return
    cls = registry.find(name)
    module = sys.modules.get(cls.__module__)
    doc = (getattr(module, "__doc__", None) or "").strip()
    options = {
        key: (str(field.type), "required" if _required(field) else _default(cls, field.name), _told(cls, field.name))
        for key, field in cls.options().items()
    }
    rules = _rules(cls)
    if as_json:
        console.show_json(
            {
                "name": name,
                "doc": (cls.__doc__ or "").strip(),
                "module": doc,
                "fidelity": str(cls.fidelity),
                "works_on": _dialects(cls.works_on()),
                "options": {key: {"type": t, "default": d, "doc": doc} for key, (t, d, doc) in options.items()},
                "rules": [{"name": rule.name, "doc": rule.doc, "place": rule.place} for rule in rules],
                "from": registry.owner(name),
            }
        )
        return
    page = [f"{name}: {_first_line(cls)}", ""]
    page += [*doc.splitlines(), ""] if doc else []
    page += [f"fidelity: {cls.fidelity}", f"works on: {_dialects(cls.works_on())}", f"from:     {registry.owner(name)}"]
    if cls.after:
        page.append(f"after:    {', '.join(cls.after)}")
    for key, (type_, default, told) in options.items():
        page.append(f"option:   {key} ({type_}, {default})" + (f": {told}" if told else ""))
    print("\n".join(page))
    if rules:
        print()
        _show_rules(name, rules, room=None if verbose else _PAGE - len(page) - 1)


def _show_rules(name: str, rules: Sequence[Rule], room: int | None) -> None:
    """Rules with the IR they show, if that takes at most ``room`` lines; else in a table."""
    told = [line for rule in rules for line in _told_of(rule)][:-1]
    if room is None or len(told) <= room:
        print("\n".join(told))
        return
    rows = [(rule.name, _roots(rule), rule.doc.partition("\n")[0]) for rule in rules]
    console.table(("rule", "root", "what it does"), rows)
    more = "each rule's IR before and after" if any("->" in rule.doc for rule in rules) else "more of each rule"
    print(f"\nanec passes {name} -v shows {more}")


def _told_of(rule: Rule) -> list[str]:
    """A rule's whole docstring, with its name and roots in front, and a blank line."""
    first, *further = rule.doc.splitlines() or [""]
    indented = (f"    {line}".rstrip() for line in further)
    return [f"{rule.name} ({_roots(rule)}): {first}", *indented, ""]


def _roots(rule: Rule) -> str:
    return console.few([*dict.fromkeys(root.name for root in rule.roots)], 2)


def _describe_pipeline(name: str, *, as_json: bool) -> None:
    """A named pipeline: what it is for, and its passes in order."""
    from anec.passes.pipelines import DESCRIPTIONS, PIPELINES
    from anec.pipeline.spec import build, flatten

    steps = [step.pass_ for step in flatten(build(name, PIPELINES))]
    if as_json:
        console.show_json(
            {"name": name, "doc": DESCRIPTIONS[name], "pipeline": PIPELINES[name], "passes": [p.spec() for p in steps]}
        )
        return
    print(f"{name}: {DESCRIPTIONS[name]}\n\npipeline: {PIPELINES[name]}\n")
    console.table(("pass", "what it does"), [(step.spec(), _first_line(type(step))) for step in steps])


def _told(cls: type, name: str) -> str:
    """What the docstring of a pass says of an option, under ``Attributes``."""
    _, _, attributes = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
    lines = iter(attributes.splitlines())
    for line in lines:
        if line.startswith(f"    {name}: "):
            more = itertools.takewhile(lambda further: further.startswith(" " * 8), lines)
            return " ".join([line.strip().removeprefix(f"{name}: "), *(further.strip() for further in more)])
    return ""


def _rules(cls: type[Pass]) -> Sequence[Rule]:
    """The rules of a pass; one that takes plugins' rules gathers them in ``all_rules``."""
    gather: Callable[[], Sequence[Rule]] | None = getattr(cls, "all_rules", None)
    return gather() if gather is not None else cls.rules


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(cls: type, name: str) -> str:
    from anec.pipeline.options import format_option

    return f"default {format_option(getattr(cls, name, None))}"


def support(rows: Sequence[Support], targets: Sequence[str], target: str) -> None:
    """Support by op, what is missing first."""
    shown = []
    for row in rows:
        since = row.targets[0] if row.targets else "none"
        since += "+" if row.targets and row.targets == list(targets)[targets.index(row.targets[0]) :] else ""
        place = console.few(row.places) or "-"
        reason = "; ".join(part for part in (row.reason, row.remedy) if part)
        shown.append((row.op, row.count, since, place, reason))
    console.table(("op", "count", "supported", "source line", "remedy"), shown)
    failing = [row for row in rows if not row.supported(target)]
    total = sum(row.count for row in rows)
    if failing:
        bad = sum(row.missing.get(target, row.count) for row in failing)
        print(f"\n{bad} of {total} {'ops is' if bad == 1 else 'ops are'} not supported on {target}")
    else:
        print(f"\n{f'all {total} ops are' if total != 1 else 'the only op is'} supported on {target}")
