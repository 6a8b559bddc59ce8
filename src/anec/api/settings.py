"""What a compilation is told, checked before any work starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from anec.errors import UsageError, nearest
from anec.passes.pipelines import PIPELINES, finish
from anec.pipeline import registry
from anec.pipeline.instruments import Dump, DumpWhen, ReplayHint, Verify
from anec.pipeline.manager import Instrument
from anec.pipeline.spec import Steps, build, flatten, parse_pipeline

Check = Literal["off", "rewrites", "numerics", "all"]
TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26")


def one_of(what: str, given: str, known: Sequence[str]) -> str:
    """Check a word against the known ones.

    Raises:
        UsageError: an unknown word; the nearest are in the hint.
    """
    if given not in known:
        raise UsageError(f"unknown {what} {given!r}", hint=nearest(given, known))
    return given


def load_plugins(plugins: Iterable[str | Path]) -> list[str]:
    """Import plugins and return their names for replay commands."""
    names = [str(plugin) for plugin in plugins]
    for name in names:
        registry.load_plugin(name)
    return names


def build_pipeline(passes: str, precision: str = "", io_dtype: str = "fp32") -> Steps:
    """The steps of a pipeline text; with a precision, `finish` is appended."""
    parse_pipeline(passes)  # an error points into the text as it was typed
    text = passes.strip().strip(",")
    parts = [text] if text else []
    if precision:
        given = {step.pass_.name for step in flatten(build(text, PIPELINES))}
        # A to-fp16 that the user placed, with what it keeps, is not undone by the one of `finish`.
        parts.append(finish("fp32" if given & {"to-fp16", "precision"} else precision, io_dtype))
    return build(",".join(parts), PIPELINES)


def instruments(
    check: Check,
    dump: str | Path | None,
    inputs: Mapping[str, Any] | None,
    reference: Mapping[str, Any] | None,
    plugins: Sequence[str],
    *,
    dump_on: DumpWhen = "change",
    extra: Sequence[Instrument] = (),
    lifted: bool = False,
    sizes: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any] | None]] = (),
) -> list[Instrument]:
    """The instruments of a run, in order: those that skip passes, checks, verification, dumps last.

    ``sizes`` are further inputs of a flexible program with eager PyTorch's outputs, and what to call them.

    Raises:
        UsageError: numeric checks without example inputs.
    """
    one_of("check", check, get_args(Check))
    found: list[Instrument] = [*extra, Verify(lifted=lifted)]
    if check in ("rewrites", "all"):
        from anec.pipeline.checks import CheckRewrites

        found.append(CheckRewrites())
    if check in ("numerics", "all"):
        from anec.pipeline.checks import CheckNumerics

        if inputs is None:
            raise UsageError("--check=numerics needs example inputs", hint="give them in the source or with --inputs")
        found.append(CheckNumerics(inputs, reference))
        found += [CheckNumerics(given, wanted, at) for at, given, wanted in sizes]
    if inputs is not None:
        from anec.pipeline.checks import MeasureLoss

        found.append(MeasureLoss(inputs))
    found.append(Dump(Path(dump), dump_on, inputs, plugins, check) if dump is not None else ReplayHint())
    return found
