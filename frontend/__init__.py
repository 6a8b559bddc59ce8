"""The frontend: torch models in, modules of `aten` ops out. The only room that calls torch.export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.export import ExportedProgram

from anec.frontend.calls import Lifted
from anec.frontend.decompose import KEPT, decompose
from anec.frontend.export import evaluating, export
from anec.frontend.lift import lift
from anec.frontend.names import NewNames
from anec.frontend.source import Source, as_arguments, load_source
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

    Raises:
        UsageError: the call is wrong.
        UnsupportedError: the model holds something the IR does not have.
        AnecError: torch cannot export the model; with its reason, the user's line and what to try.
    """
    positional = as_arguments(args)
    program = decompose(export(model, positional, kwargs, dynamic_shapes))
    lifted = lift(
        program,
        function=function,
        target=target,
        input_names=input_names,
        output_names=output_names,
        args=positional,
        kwargs=kwargs,
        dynamic_shapes=dynamic_shapes,
        check_nan=check_nan,
        module=module,
    )
    if getattr(model, "training", False) and not isinstance(model, ExportedProgram):
        notes = lifted.module.functions[function].signature.notes
        notes.append("the model was in training mode; it was compiled in evaluation mode")
    return lifted


__all__ = ["KEPT", "Lifted", "Source", "decompose", "evaluating", "export", "from_torch", "lift", "load_source"]
