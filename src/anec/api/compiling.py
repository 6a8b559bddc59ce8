"""``anec.compile``: a torch model in, a compiled model out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anec.api import settings
from anec.api.model import CompiledModel
from anec.api.settings import Check
from anec.errors import UnsupportedError, UsageError
from anec.pipeline.instruments import DumpWhen
from anec.pipeline.manager import Instrument, Manager, Report
from anec.pipeline.spec import Steps

if TYPE_CHECKING:
    import torch

    from anec.frontend import Lifted, Source

Names = Sequence[str] | Mapping[str, str] | None


def compile(  # noqa: A001  # the field's word, as in torch.compile; nobody imports it bare
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    passes: str = "default",
    target: str = "iOS18",
    precision: Literal["fp16", "fp32"] = "fp16",
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
        model: an nn.Module, a torch.export.ExportedProgram, an fx.GraphModule, or a SOURCE string
            (``file.py:factory``, ``package.module:factory``, ``model.pt2``).
        args: example inputs of forward, by position; a lone tensor is one input.
        kwargs: example inputs by name.
        dynamic_shapes: as torch.export.export takes them.
        passes: the pipeline; ``finish`` is always appended.
        target: ``iOS15`` to ``iOS18``, ``iOS26``.
        precision: what the program computes in.
        io_dtype: the dtype of float inputs and outputs at the boundary; fp16 needs iOS16.
        bind: values for inputs, fixed before export.
        functions: several functions of one model by name.
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
        _as_source(model, args, kwargs, dynamic_shapes, input_names, output_names, bind),
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
    bind: Mapping[str, Any] | None,
) -> Source:  # fmt: skip
    from anec.frontend import Source, load_source

    if not isinstance(model, str):
        return Source(model, args, kwargs, dynamic_shapes, inputs, outputs, bind)
    if args != () or kwargs:
        raise UsageError("a SOURCE brings its own example inputs", hint="leave out args and kwargs")
    found = load_source(model)
    return Source(
        found.model, found.args, found.kwargs, dynamic_shapes or found.dynamic_shapes,
        inputs or found.input_names, outputs or found.output_names, bind or found.bind,
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
    settings.one_of("precision", precision, ("fp16", "fp32"))
    settings.one_of("io_dtype", io_dtype, ("fp32", "fp16"))
    from anec.reference.threads import one_thread

    plugin_names = settings.load_plugins(plugins)
    steps = settings.build_pipeline(passes, precision if finish else "", io_dtype)
    if source.bind or functions:
        what = "bind" if source.bind else "functions"
        hint = "close over the values in the module, so that forward does not take them"
        raise UnsupportedError(f"{what}= is not supported yet", hint=hint)
    # Running the program wants all threads, looking at weights one.
    threads = nullcontext() if check in ("numerics", "all") else one_thread()
    with threads:
        return _compile_lifted(
            source, lift_source(source, target), steps, check, dump, dump_on, plugin_names, extra, name
        )


def _compile_lifted(
    source: Source,
    lifted: Lifted,
    steps: Steps,
    check: Check,
    dump: str | Path | None,
    dump_on: DumpWhen,
    plugin_names: Sequence[str],
    extra: Sequence[Instrument],
    name: str,
) -> CompiledModel:
    """Run the passes over a lifted source, watched as asked for."""
    reference = eager_outputs(source, lifted) if check in ("numerics", "all") else None
    inputs = lifted.inputs or None
    watchers = settings.instruments(
        check, dump, inputs, reference, plugin_names, dump_on=dump_on, extra=extra, lifted=True
    )
    module = lifted.module
    manager = Manager(watchers, inputs)
    report = manager.run(module, steps)
    report.notes += [note for graph in module.functions.values() for note in graph.signature.notes]
    _describe(module.meta, report, source, name)
    return CompiledModel(module, report, inputs=lifted.inputs)


def lift_source(source: Source, target: str) -> Lifted:
    """Export and lift a source."""
    from anec.frontend import from_torch

    return from_torch(
        source.model,
        source.args,
        source.kwargs,
        dynamic_shapes=source.dynamic_shapes,
        target=target,
        input_names=source.input_names,
        output_names=source.output_names,
    )


def eager_outputs(source: Source, lifted: Lifted) -> dict[str, torch.Tensor]:
    """What the torch model itself gives for the example inputs, by public output name.

    It runs in eval mode, as export sees it, and on copies of its buffers: one that forward writes
    (a counter, a cache) is for the caller as it was.
    """
    import torch

    from anec.frontend import evaluating

    model = source.model
    args, kwargs = source.args, dict(source.kwargs or {})
    if isinstance(model, torch.export.ExportedProgram):
        args, kwargs = model.example_inputs or ((), {})
        model = model.module()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad(), evaluating(model):
        found = lifted.name_outputs(torch.func.functional_call(model, buffers, args, kwargs))
    return {name: tensor.detach() for name, tensor in found.items()}


def _describe(meta: dict[str, str], report: Report, source: Source, name: str) -> None:
    from anec import __version__

    meta["author"] = "anec"
    meta["anec"] = __version__
    meta["pipeline"] = report.pipeline
    meta["source"] = name or type(source.model).__name__
    if report.losses:
        meta["losses"] = json.dumps(report.losses, sort_keys=True)
