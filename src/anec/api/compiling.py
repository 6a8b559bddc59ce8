"""``anec.compile``: a torch model in, a compiled model out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anec.api import settings
from anec.api.collector import young_objects_only
from anec.api.functions import eager_at, eager_outputs, example_inputs, function_sources, lift_functions
from anec.api.model import CompiledModel
from anec.api.settings import Check
from anec.errors import UsageError
from anec.ir.graph import Module
from anec.pipeline.instruments import DumpWhen
from anec.pipeline.manager import Instrument, Manager, Report
from anec.pipeline.spec import Steps

if TYPE_CHECKING:
    from anec.frontend import Lifted, Source

Names = Sequence[str] | Mapping[str, str] | None


def compile(  # noqa: A001  # the field's word, as in torch.compile; nobody imports it bare
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    shapes: Mapping[str, Any] | None = None,
    passes: str = "default",
    target: str = "iOS18",
    precision: Literal["fp16", "fp32", "mixed"] = "fp16",
    io_dtype: Literal["fp32", "fp16"] = "fp32",
    bind: Mapping[str, Any] | None = None,
    functions: Mapping[str, Mapping[str, Any]] | None = None,
    input_names: Names = None,
    output_names: Names = None,
    plugins: Sequence[str | Path] = (),
    check: Check = "off",
    dump: str | Path | None = None,
) -> CompiledModel:
    """Compile a torch model for Core ML.

    Args:
        model: an nn.Module, a torch.export.ExportedProgram, an fx.GraphModule, an anec.Source, or a SOURCE
            string (``file.py:factory``, ``package.module:factory``, ``model.pt2``).
        args: example inputs of forward, by position; a lone tensor is one input.
        kwargs: example inputs by name.
        dynamic_shapes: as torch.export.export takes them; a size that is free needs an upper bound.
        shapes: instead of them, the shapes of inputs by name: ``"1x3x32..640x32..640"`` is a range of heights
            and widths, ``"1x3x480x640,1x3x640x640"`` lists shapes, ``"1xS:2..128"`` names a size that several
            inputs share. Also as tuples, a pair for a range, and lists of them.
        passes: the pipeline; ``finish`` is always appended.
        target: ``iOS15`` to ``iOS18``, ``iOS26``.
        precision: what the program computes in; ``mixed`` is float16 but for what that cannot hold on the
            example inputs.
        io_dtype: the dtype of float inputs and outputs at the boundary; fp16 needs iOS16.
        bind: values of inputs by name, fixed before export; they are inputs no more.
        functions: several functions of one model by name; each binds further inputs, and a text such as
            ``784x588`` is the shape of its example input instead. They share the weights.
        input_names: public names of the inputs, in order, or new names by default name.
        output_names: the same for outputs.
        plugins: files or modules with passes, rules and ops.
        check: ``rewrites`` judges each rewrite, ``numerics`` the program behind each pass, ``all`` both.
        dump: a folder for the module behind each pass.

    Returns:
        The compiled model: run it, save it, read its report.

    Raises:
        UsageError: the call is wrong (an unknown pass, target or option, a bad source).
        UnsupportedError: an op has no lowering, or the target lacks something.
        AnecError: torch cannot export the model, a pass failed, or a check did.
    """
    return compile_source(
        _as_source(model, args, kwargs, dynamic_shapes, input_names, output_names, bind, shapes),
        passes=passes,
        target=target,
        precision=precision,
        io_dtype=io_dtype,
        functions=functions,
        plugins=plugins,
        check=check,
        dump=dump,
    )


def _as_source(
    model: Any, args: Any, kwargs: Mapping[str, Any] | None, dynamic_shapes: Any, inputs: Names, outputs: Names,
    bind: Mapping[str, Any] | None, shapes: Mapping[str, Any] | None,
) -> Source:  # fmt: skip
    from anec.frontend import Source, load_source

    if not isinstance(model, (str, Source)):
        return Source(model, args, kwargs, dynamic_shapes, inputs, outputs, bind, shapes)
    if (not isinstance(args, Sequence) or args) or kwargs:
        raise UsageError("a SOURCE brings its own example inputs", hint="leave out args and kwargs")
    found = model if isinstance(model, Source) else load_source(model)
    return Source(
        found.model, found.args, found.kwargs, dynamic_shapes or (None if shapes else found.dynamic_shapes),
        inputs or found.input_names, outputs or found.output_names, {**(found.bind or {}), **(bind or {})} or None,
        shapes or (None if dynamic_shapes else found.shapes),
    )  # fmt: skip


def compile_source(
    source: Source,
    *,
    passes: str = "default",
    target: str = "iOS18",
    precision: str = "fp16",
    io_dtype: str = "fp32",
    functions: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Sequence[str | Path] = (),
    check: Check = "off",
    dump: str | Path | None = None,
    dump_on: DumpWhen = "change",
    extra: Sequence[Instrument] = (),
    name: str = "",
    finish: bool = True,
) -> CompiledModel:
    """Compile a loaded source; what :func:`compile` and the command line share.

    ``extra`` are further instruments (progress, stop-after, disable), asked before the others;
    ``name`` is how metadata call the source; without ``finish`` the pipeline of that name is not
    appended, and the result is IR to look at, not a program. The rest is as for :func:`compile`.
    """
    settings.one_of("target", target, settings.TARGETS)
    settings.one_of("precision", precision, ("fp16", "fp32", "mixed"))
    settings.one_of("io_dtype", io_dtype, ("fp32", "fp16"))
    from anec.reference.threads import one_thread

    plugin_names = settings.load_plugins(plugins)
    steps = settings.build_pipeline(passes, precision if finish else "", io_dtype)
    sources = function_sources(source, functions, target)
    # Running the program wants all threads, looking at weights one.
    threads = nullcontext() if check in ("numerics", "all") else one_thread()
    with threads, young_objects_only():
        lifted = lift_functions(sources, target)
        model = _compile_lifted(sources, lifted, steps, check, dump, dump_on, plugin_names, extra, name)
    model.module.meta["requested"] = settings.requested(passes)
    return model


def _compile_lifted(
    sources: Mapping[str, Source],
    lifted: Mapping[str, Lifted],
    steps: Steps,
    check: Check,
    dump: str | Path | None,
    dump_on: DumpWhen,
    plugin_names: Sequence[str],
    extra: Sequence[Instrument],
    name: str,
) -> CompiledModel:
    """Run the passes over a lifted source, watched as asked for."""
    from anec.check.sizes import other_sizes

    reference = eager_outputs(sources, lifted) if check in ("numerics", "all") else None
    inputs = example_inputs(lifted) or None
    module = next(iter(lifted.values())).module
    sizes = other_sizes(module, inputs) if inputs and reference is not None else []
    watchers = settings.instruments(
        check, dump, inputs, reference, plugin_names, dump_on=dump_on, extra=extra, lifted=True,
        sizes=[(at, given, eager_at(sources, lifted, given)) for at, given in sizes],
    )  # fmt: skip
    manager = Manager(watchers, inputs)
    report = manager.run(module, steps)
    report.notes += _notes(module)
    _describe(module.meta, report, sources, lifted, name)
    return CompiledModel(module, report, inputs=inputs)


def _notes(module: Module) -> list[str]:
    """The notes of every function, told apart when there are several."""
    several = len(module.functions) > 1
    return [
        f"{name}: {note}" if several else note
        for name, graph in module.functions.items()
        for note in graph.signature.notes
    ]


def _describe(
    meta: dict[str, str], report: Report, sources: Mapping[str, Source], lifted: Mapping[str, Lifted], name: str
) -> None:
    from anec import __version__

    meta["author"] = "anec"
    meta["anec"] = __version__
    meta["pipeline"] = report.pipeline
    meta["source"] = name or type(next(iter(sources.values())).model).__name__
    if report.losses:
        meta["losses"] = json.dumps(report.losses, sort_keys=True)
    bound = {function: dict(one.bound) for function, one in lifted.items() if one.bound}
    if bound:
        meta["bound"] = json.dumps(bound if len(lifted) > 1 else next(iter(bound.values())), sort_keys=True)
