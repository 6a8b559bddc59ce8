"""``anec.read`` and ``anec.opt``: modules as text, and passes over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anec.api import settings
from anec.api.settings import Check
from anec.dialects import registry
from anec.errors import UsageError
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.ir.printer import MAGIC
from anec.pipeline.clone import clone
from anec.pipeline.instruments import DumpWhen
from anec.pipeline.manager import Instrument, Manager, Report


def read(source: str | Path) -> Module:
    """Read a module from IR text or from a file that holds it.

    Args:
        source: the text itself, or the path of an ``.anec`` file; weights are found beside it.

    Raises:
        UsageError: the file does not exist.
        AnecError: the text cannot be read; shows the line.
    """
    if isinstance(source, str) and source.lstrip().startswith(MAGIC):
        return parse_module(source, registry)
    path = Path(source)
    if not path.is_file():
        if path.is_dir():
            hint = "anec.load, anec run and anec analyze read packages" if path.suffix == ".mlpackage" else None
            raise UsageError(f"{path} is a folder, not a file of IR text", hint=hint)
        raise UsageError(f"{path} does not exist", hint=f"IR text itself begins with {MAGIC!r}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text") from error
    return parse_module(text, registry, folder=path.parent, source=path.name)


def opt(
    module: Module,
    passes: str,
    *,
    inputs: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    check: Check = "off",
    dump: str | Path | None = None,
) -> Module:
    """Run passes on a module; the module itself stays as it is.

    Args:
        module: what to run on.
        passes: the pipeline; nothing is appended.
        inputs: example inputs by public name.
        plugins: files or modules with passes.
        check: as for ``compile``.
        dump: as for ``compile``.

    Returns:
        A new module that shares the weights.

    Raises:
        UsageError: an unknown pass or option.
        AnecError: a pass or a check failed.
    """
    return optimize(module, passes, inputs=inputs, plugins=plugins, check=check, dump=dump)[0]


def optimize(
    module: Module,
    passes: str,
    *,
    inputs: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    check: Check = "off",
    dump: str | Path | None = None,
    dump_on: DumpWhen = "change",
    extra: Sequence[Instrument] = (),
) -> tuple[Module, Report]:
    """As :func:`opt`, with the report."""
    if not isinstance(module, Module):
        hint = "pass its .module" if isinstance(getattr(module, "module", None), Module) else "anec.read(text or path)"
        raise UsageError(f"a {type(module).__name__} is no Module", hint=hint)
    names = settings.load_plugins(plugins)
    steps = settings.build_pipeline(passes)
    tensors = _tensors(module, inputs)
    watchers = settings.instruments(check, dump, tensors, None, names, dump_on=dump_on, extra=extra)
    copy = clone(module)
    report = Manager(watchers, tensors).run(copy, steps)
    return copy, report


def _tensors(module: Module, inputs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The inputs as tensors, once they are seen to fit every function."""
    if inputs is None:
        return None
    import numpy as np
    import torch

    from anec.api.boundary import check_inputs
    from anec.check.numerics import inputs_of

    found = {
        name: given if isinstance(given, torch.Tensor) else torch.from_numpy(np.array(given))
        for name, given in inputs.items()
    }
    for name, graph in module.functions.items():
        check_inputs(module, graph, inputs_of(module, name, found))
    return found
