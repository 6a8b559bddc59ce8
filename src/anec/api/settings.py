"""What a compilation is told, checked before any work starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from anec.ane.limits import GENERATIONS, limits_of
from anec.errors import UsageError, nearest
from anec.passes.pipelines import PIPELINES, finish
from anec.pipeline import registry
from anec.pipeline.instruments import Dump, DumpWhen, ReplayHint, Verify
from anec.pipeline.manager import Instrument
from anec.pipeline.spec import Steps, build, flatten, format_pipeline, parse_pipeline, with_option

Check = Literal["off", "rewrites", "numerics", "all"]
TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26")
MACOS = {"macos12": "iOS15", "macos13": "iOS16", "macos14": "iOS17", "macos15": "iOS18", "macos26": "iOS26"}


def one_of(what: str, given: str, known: Sequence[str]) -> str:
    """Check a word against the known ones.

    Raises:
        UsageError: an unknown word; the nearest are in the hint.
    """
    if given not in known:
        hint = nearest(str(given).rpartition(".")[2], known)
        mac = MACOS.get(str(given).casefold()) if what == "target" else None
        raise UsageError(f"unknown {what} {given!r}", hint=f"write {mac}: the two have one opset" if mac else hint)
    return given


def load_plugins(plugins: Iterable[str | Path] | str | Path) -> list[str]:
    """Import plugins, or one, and return their names for replay commands."""
    if isinstance(plugins, (str, Path)):
        plugins = [plugins]
    names = [str(plugin) for plugin in plugins]
    for name in names:
        registry.load_plugin(name)
    return names


def build_pipeline(passes: str, precision: str = "", io_dtype: str = "fp32") -> Steps:
    """The steps of a pipeline text; with a precision, `finish` is appended."""
    if not isinstance(passes, str):
        raise UsageError(f"passes is a {type(passes).__name__}, not text", hint="write 'default,ane'")
    parse_pipeline(passes)  # an error points into the text as it was typed
    text = passes.strip().strip(",")
    parts = [text] if text else []
    if precision:
        given = {step.pass_.name for step in flatten(build(text, PIPELINES))}
        # A to-fp16 that the user placed, with what it keeps, is not undone by the one of `finish`.
        parts.append(finish("fp32" if given & {"to-fp16", "precision"} else precision, io_dtype))
    return build(",".join(parts), PIPELINES)


def requested(passes: str) -> str:
    """A pipeline as it was asked for: named pipelines by their names, options in one spelling."""
    return format_pipeline(parse_pipeline(passes))


def for_generation(passes: str, generation: str) -> str | None:
    """A pipeline for a generation of the Neural Engine: ``ane`` as ``ane{generation=M3}``.

    Returns:
        The text; None when no pass in it asks for the generation.

    Raises:
        UsageError: an unknown generation, or the text names another one.
    """
    limits_of(generation)
    return with_option(passes, "generation", generation, PIPELINES)


def generation_of(passes: str) -> str:
    """The generation that a pipeline is for; M1 where no pass names one."""
    found = (getattr(step.pass_, "generation", None) for step in flatten(build(passes, PIPELINES)))
    return next(filter(None, found), GENERATIONS[0])


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
