"""The commands: each takes parsed arguments and returns an exit code."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anec.cli import console, reports
from anec.cli.bindings import read_functions, read_source, refuse_for_programs
from anec.errors import AnecError, UsageError

if TYPE_CHECKING:
    from anec.ir.graph import Module
    from anec.pipeline.manager import Instrument, Report


def compile_command(options: argparse.Namespace) -> int:
    """``anec compile``."""
    from anec.api.compiling import compile_source
    from anec.backend import check_output

    options.passes = _for_generation(options)
    functions = read_functions(options.function)
    emit = options.emit
    output = Path(options.output) if options.output else _default_output(options.source, emit)
    if not options.dry_run:
        if emit == "mlpackage":
            check_output(output, overwrite=options.force)
        else:
            _check_text_output(output, options.force)
    source = read_source(options.source, options)
    with console.progress(f"compiling {options.source}") as progress:
        model = compile_source(
            source,
            passes=options.passes,
            target=options.target,
            precision=options.precision,
            io_dtype=options.io_dtype,
            functions=functions,
            plugins=options.plugin,
            check=options.check,
            dump=options.dump,
            dump_on=options.dump_on,
            extra=[*_skips(options), progress],
            name=options.source,
            finish=emit != "anec",
        )
        if not options.dry_run:
            if emit == "mlpackage" and not options.stop_after:
                model.save(output, overwrite=options.force)
            else:
                output = _text_output(options, output)
                write_text(output, model.module)
    _show_report(options, model.report, model.module, None if options.dry_run else output)
    return 0


def _for_generation(options: argparse.Namespace) -> str:
    """The pipeline, for the generation of the Neural Engine that was asked for."""
    from anec.api.settings import for_generation, load_plugins

    passes: str = options.passes
    if options.ane_generation is None:
        return passes
    load_plugins(options.plugin)
    found = for_generation(passes, options.ane_generation)
    if found is None:
        raise UsageError(
            f"no pass of {passes!r} asks for the generation of the Neural Engine",
            hint="--passes default,ane, or leave out --ane-generation",
        )
    return found


def _default_output(source: str, emit: str) -> Path:
    name = source.rpartition(":")[2] if ":" in source else Path(source).stem
    return Path(f"{name}.{'mlpackage' if emit == 'mlpackage' else 'anec'}")


def _text_output(options: argparse.Namespace, output: Path) -> Path:
    """A run that stops early gives text, whatever the ending said."""
    if output.suffix == ".mlpackage":
        output = output.with_suffix(".anec")
        _check_text_output(output, options.force)
    return output


def _check_text_output(output: Path, force: bool) -> None:
    if output.exists() and not force:
        raise UsageError(f"{output} exists already", hint="--force replaces it")
    if output.is_dir():
        raise UsageError(f"{output} is a folder", hint="name a file in it")
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise UsageError(f"the folder {output.parent} cannot be written to")


def write_text(output: Path, module: Module) -> None:
    """Write IR text whose weights lie beside it; whole or not at all."""
    from anec.ir.printer import print_module
    from anec.pipeline.store import WeightStore, write_whole

    store = WeightStore(output.parent)
    try:
        write_whole(output, print_module(module, store.references(module)))
    except BaseException as error:
        store.undo()
        if isinstance(error, OSError):
            raise AnecError(f"cannot write {output}: {error.strerror or error}") from error
        raise


def _skips(options: argparse.Namespace) -> list[Instrument]:
    from anec.pipeline import registry
    from anec.pipeline.instruments import Disable, StopAfter

    found: list[Instrument] = []
    for plugin in options.plugin:
        registry.load_plugin(plugin)
    for name in (*options.disable, *([options.stop_after] if options.stop_after else [])):
        registry.find(name)
    if options.disable:
        found.append(Disable(options.disable))
    if options.stop_after:
        found.append(StopAfter(options.stop_after))
    return found


def _show_report(options: argparse.Namespace, report: Report, module: Module, output: Path | None) -> None:
    if options.json:
        from anec.api.settings import requested

        asked = {"output": str(output) if output else None, "target": module.target}
        console.show_json({**asked, "requested": requested(options.passes), **report.as_json()})
        return
    reports.passes(report, verbose=options.verbose, times=options.time)
    for note in report.notes:
        print(f"note: {note}")
    if output is not None:
        print(f"wrote {output}")


def opt_command(options: argparse.Namespace) -> int:
    """``anec opt``."""
    from anec.api.text import optimize, read
    from anec.check.arrays import load_npz
    from anec.ir.printer import print_module
    from anec.pipeline.store import WeightStore

    if options.output:
        if options.output.endswith(".mlpackage"):
            raise UsageError("opt writes IR text, not packages", hint="write -o X.anec; anec compile makes packages")
        _check_text_output(Path(options.output), options.force)
    module = read(Path(options.input))
    inputs = load_npz(Path(options.inputs)) if options.inputs else None
    with console.progress(f"optimizing {options.input}") as progress:
        result, report = optimize(
            module,
            options.passes,
            inputs=inputs,
            plugins=options.plugin,
            check=options.check,
            dump=options.dump,
            dump_on=options.dump_on,
            extra=[*_skips(options), progress],
        )
    if options.output:
        write_text(Path(options.output), result)
        _show_report(options, report, result, Path(options.output))
        return 0
    if options.json:
        _show_report(options, report, result, None)
        return 0
    # Weights made by a pass go beside the input, where the text on standard output finds them.
    print(print_module(result, WeightStore(Path(options.input).parent).references(result)), end="")
    return 0


def run_command(options: argparse.Namespace) -> int:
    """``anec run``."""
    from anec.check.arrays import load_npz, save_npz
    from anec.check.numerics import inputs_of

    output = Path(options.output) if options.output else None
    if output is not None:
        _check_text_output(output, options.force)
    inputs = load_npz(Path(options.inputs))
    model = reports.open_program(options.program)
    if any(name.startswith(f"{options.function}/") for name in inputs):
        inputs = inputs_of(model.module, options.function, inputs)
    with console.progress(f"running {options.program}"):
        outputs = model.run(inputs, function=options.function, precision=options.precision)
    if output is not None:
        save_npz(output, outputs)
    if options.json:
        found = [reports.output_json(name, array) for name, array in outputs.items()]
        console.show_json({"output": str(output) if output else None, "outputs": found})
    else:
        rows = [(name, array.dtype, list(array.shape), *reports.span(array)) for name, array in outputs.items()]
        console.table(("output", "dtype", "shape", "min", "max"), rows)
        if output is not None:
            print(f"wrote {output}")
    return 0


def check_command(options: argparse.Namespace) -> int:
    """``anec check``."""
    from anec.cli.checking import check_packages, compare_programs

    if options.compile:
        return check_packages(options)
    if options.reference is None:
        hint = "anec check A B, or anec check A --compile"
        raise UsageError("check needs a second program to compare with", hint=hint)
    return compare_programs(options)


def diff_command(options: argparse.Namespace) -> int:
    """``anec diff``; 1 when the texts differ."""
    from anec.api.text import read
    from anec.ir.diff import differences

    lines = differences(read(Path(options.first)), read(Path(options.second)), names=options.names)
    if options.json:
        console.show_json({"same": not lines, "differences": lines})
    else:
        print("\n".join(lines) if lines else "the same")
    return 1 if lines else 0


def passes_command(options: argparse.Namespace) -> int:
    """``anec passes``."""
    from anec.pipeline import registry

    with console.code_of_the_user():
        for plugin in options.plugin:
            registry.load_plugin(plugin)
    if options.name:
        reports.describe_pass(options.name, as_json=options.json, verbose=options.verbose)
    else:
        reports.list_passes(as_json=options.json)
    return 0


def analyze_command(options: argparse.Namespace) -> int:
    """``anec analyze``; 1 when something is not supported on the target, or too little runs on the Neural Engine."""
    from anec.api.settings import TARGETS, for_generation, generation_of, load_plugins, one_of
    from anec.api.support import analyze
    from anec.cli import prediction

    one_of("target", options.target, TARGETS)
    load_plugins(options.plugin)
    if options.ane_generation is None:
        options.ane_generation = generation_of(options.passes)
    else:
        options.passes = for_generation(options.passes, options.ane_generation) or options.passes
    module, lifted = opened(options)
    targets = [t for t in TARGETS if t != "iOS26" or options.target == "iOS26"]
    with console.progress(f"analyzing {options.source}"):
        rows = analyze(module, options.passes if lifted else "", targets)
        failing = [row for row in rows if not row.supported(options.target)]
        outcome = prediction.of(module, options, lowered=not failing)
    compared = prediction.compare(outcome, options) if options.compare else None
    if options.json:
        found: dict[str, Any] = {
            "target": options.target,
            "ops": sum(row.count for row in rows),
            "supported": not failing,
            "rows": [row.as_json() for row in rows],
            "prediction": outcome.as_json(),
        }
        console.show_json(found | ({"compared": compared} if compared is not None else {}))
    else:
        # Without a prediction it is the table of ops that says why.
        prediction.show(outcome, options)
        reports.support(rows, targets, options.target)
    return 1 if failing or outcome.is_below(options.fail_below) else 0


def opened(options: argparse.Namespace) -> tuple[Module, bool]:
    """The module to judge, and whether it was lifted just now."""
    path = Path(options.source)
    if path.suffix in (".mlpackage", ".anec"):
        refuse_for_programs(options, [options.source])
        module = reports.open_program(options.source).module
        return module, not all(op.defn.dialect == "mil" for op in module.ops())
    from anec.api.functions import function_sources, lift_functions

    sources = function_sources(read_source(options.source, options), None, options.target)
    return lift_functions(sources, options.target)["main"].module, True


def explain_command(options: argparse.Namespace) -> int:
    """``anec explain``."""
    from anec.cli.explaining import explain_layout

    return explain_layout(options)
