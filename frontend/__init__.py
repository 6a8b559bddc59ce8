"""The frontend: torch models in, modules of `aten` ops out. The only room that calls torch.export."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.export import ExportedProgram

from anec.errors import AnecError, UnsupportedError
from anec.frontend.bind import BoundCall, bind_call
from anec.frontend.blame import blame
from anec.frontend.calls import Lifted
from anec.frontend.concrete import Constants
from anec.frontend.decompose import KEPT, decompose
from anec.frontend.example import ExampleCall
from anec.frontend.explain import UNBOUND
from anec.frontend.export import evaluating, export, run_eagerly, sized_by_data
from anec.frontend.lift import lift
from anec.frontend.names import NewNames
from anec.frontend.shapes import Shapes
from anec.frontend.source import Source, as_arguments, load_source
from anec.frontend.traceable import Traceable
from anec.ir.graph import Module


def from_torch(
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    target: str = "iOS18",
    input_names: NewNames = None,
    output_names: NewNames = None,
    function: str = "main",
    check_nan: bool = True,
    module: Module | None = None,
    bind: Mapping[str, Any] | None = None,
    constants: Constants | None = None,
    shapes: Shapes | None = None,
) -> Lifted:
    """Export, decompose and lift a torch model.

    Args:
        model: an nn.Module, fx.GraphModule or ExportedProgram.
        args: positional example inputs; a lone tensor is one input.
        kwargs: example inputs by name.
        dynamic_shapes: as torch.export.export takes them.
        target: the Core ML target.
        input_names: public input names in order, or new names by default name.
        output_names: the same for outputs.
        function: the name of the IR function.
        check_nan: refuse weights that hold NaN.
        module: add the function to this module, sharing weights.
        bind: values of inputs, fixed before export; see :func:`anec.frontend.bind.bind_call`.
        constants: what functions of one model share of what bound values decide.
        shapes: what ``dynamic_shapes`` was made from, see :meth:`anec.frontend.shapes.Shapes.source`.

    Raises:
        UsageError: the call is wrong.
        UnsupportedError: the model holds something the IR does not have.
        AnecError: torch cannot export the model; with its reason, the user's line and what to try.
    """
    positional = as_arguments(args)
    call = bind_call(model, positional, kwargs, bind, dynamic_shapes)
    traceable = Traceable()

    def trace(*, concrete: bool) -> ExportedProgram:
        with traceable, call.inside(model, constants) if concrete else contextlib.nullcontext():
            known = len(call.held)
            program = export(model, call.exported_args, call.exported_kwargs, call.dynamic_shapes, shapes=shapes)
            if len(call.held) > known:
                program = export(model, call.exported_args, call.exported_kwargs, call.dynamic_shapes, shapes=shapes)
        return program

    def attempt(*, concrete: bool) -> Lifted:
        program = trace(concrete=concrete)
        if sized_by_data(program) and not concrete and isinstance(model, torch.nn.Module):
            # A mask that is a constant: how many elements it picks is known.
            with contextlib.suppress(AnecError):
                decided = trace(concrete=True)
                program = program if sized_by_data(decided) else decided
        return lift(
            decompose(program),
            function=function,
            target=target,
            input_names=input_names,
            output_names=output_names,
            args=call.exported_args,
            kwargs=call.exported_kwargs,
            dynamic_shapes=call.dynamic_shapes,
            check_nan=check_nan,
            module=module,
            multiples=shapes.multiples() if shapes is not None else None,
        )

    try:
        lifted = attempt(concrete=bool(call.values))
    except AnecError as error:
        if UNBOUND not in (error.hint or "") or not isinstance(model, torch.nn.Module):
            raise
        found = None if call.values else _decided_by_constants(attempt)
        if found is None:
            raise blame(error, model, call) from error.__cause__
        lifted = found
    if shapes is not None:
        shapes.settle(lifted)
    notes = lifted.module.functions[function].signature.notes
    notes.extend(f"the assert at {place} is not compiled" for place in dict.fromkeys(traceable.asserts))
    bound = call.described()
    for name, value in bound.items():
        if f"{name}={value} is fixed" not in notes:
            notes.append(f"{name} is bound to {value}")
    if getattr(model, "training", False) and not isinstance(model, ExportedProgram):
        notes.append("the model was in training mode; it was compiled in evaluation mode")
    return replace(lifted, bound=bound)


def _decided_by_constants(attempt: Callable[..., Lifted]) -> Lifted | None:
    """The program when all values the code asks for follow from constants; None when some follow from inputs.

    Raises:
        UnsupportedError: they do, and something else has no place in the IR.
    """
    try:
        return attempt(concrete=True)
    except UnsupportedError as error:
        if UNBOUND in (error.hint or ""):
            return None
        raise
    except AnecError:
        return None


__all__ = [
    "KEPT",
    "BoundCall",
    "Constants",
    "ExampleCall",
    "Lifted",
    "Shapes",
    "Source",
    "bind_call",
    "decompose",
    "evaluating",
    "export",
    "from_torch",
    "lift",
    "load_source",
    "run_eagerly",
]
