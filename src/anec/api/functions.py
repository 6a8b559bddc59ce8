"""Several functions of one model: what each binds, and the shapes of its examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from anec.errors import AnecError, UnsupportedError, UsageError
from anec.ir.graph import Module, legal_name

if TYPE_CHECKING:
    import torch

    from anec.frontend import Constants, Lifted, Source

_SHAPE = re.compile(r"\d+(x\d+)+|\d+x")


def function_sources(
    source: Source, functions: Mapping[str, Mapping[str, Any]] | None, target: str
) -> dict[str, Source]:
    """The source of each function; without ``functions`` the source itself, as ``main``.

    Args:
        source: the model; what it binds holds for every function.
        functions: by name, what each one binds besides. A ``torch.Size`` or a text such as ``784x588``
            (``64x`` for one dimension) does not bind: it is the shape of the function's example.
        target: several functions, or one of another name than ``main``, need iOS18.

    Raises:
        UsageError: a function's name is illegal, or an input's unknown.
        UnsupportedError: the target has no functions.
    """
    if not functions:
        return {"main": _shaped(source)}
    if not isinstance(functions, Mapping) or not all(isinstance(given, Mapping) for given in functions.values()):
        raise UsageError("functions is no dict of dicts", hint='write {"small": {"len": 64}, "large": {"len": 512}}')
    if list(functions) != ["main"] and Module(target=target).opset < 18:
        raise UnsupportedError(
            f"the functions {', '.join(functions)} need iOS18",
            hint="before it a model has one function, called main; compile for iOS18, or write a package for each",
        )
    for name in functions:
        if legal_name(name) != name:
            raise UsageError(f"{name!r} is not a legal function name", hint="letters, digits and _, not first a digit")
    return {name: _shaped(_of_function(source, given)) for name, given in functions.items()}


def _shaped(source: Source) -> Source:
    """The source exported as its ``shapes`` say."""
    from anec.frontend import Shapes

    return source if source.shapes is None else Shapes.read(source.shapes).source(source)


def _of_function(source: Source, given: Mapping[str, Any]) -> Source:
    import torch

    from anec.frontend import ExampleCall

    shapes = {name: shape for name, value in given.items() if (shape := as_shape(value)) is not None}
    bound = {name: value for name, value in given.items() if name not in shapes}
    if shapes:
        if not isinstance(source.model, torch.nn.Module):
            raise UsageError(
                "the program is exported already, with the shapes of its examples", hint="pass the nn.Module"
            )
        example = ExampleCall.of(source.model, source.args, source.kwargs)
        for name, shape in shapes.items():
            example.resize(name, shape)
        source = replace(source, args=example.args, kwargs=example.kwargs or None)
    return replace(source, bind={**(source.bind or {}), **bound} or None)


def as_shape(value: Any) -> tuple[int, ...] | None:
    """The shape that a function's value stands for; None for a value to bind.

    >>> as_shape("784x588"), as_shape("64x"), as_shape(64)
    ((784, 588), (64,), None)
    """
    import torch

    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, str) and _SHAPE.fullmatch(value):
        return tuple(int(size) for size in value.split("x") if size)
    return None


def lift_functions(sources: Mapping[str, Source], target: str) -> dict[str, Lifted]:
    """Export and lift each function into one module, which holds each weight once."""
    from anec.frontend import Constants

    module, constants = Module(target=target), Constants()
    found = {}
    for name, source in sources.items():
        try:
            found[name] = _lift(source, target, name, module, constants)
        except AnecError as error:
            error.message = error.message if len(sources) == 1 else f"function {name}: {error.message}"
            raise
    return found


def _lift(source: Source, target: str, function: str, module: Module, constants: Constants) -> Lifted:
    from anec.frontend import from_torch

    return from_torch(
        source.model,
        source.args,
        source.kwargs,
        dynamic_shapes=source.dynamic_shapes,
        target=target,
        input_names=source.input_names,
        output_names=source.output_names,
        function=function,
        module=module,
        bind=source.bind,
        constants=constants,
        shapes=source.shapes,
    )


def example_inputs(lifted: Mapping[str, Lifted]) -> dict[str, torch.Tensor]:
    """The example inputs of every function, called ``function/name`` when there are several."""
    from anec.check.numerics import of_function

    found: dict[str, torch.Tensor] = {}
    for name, one in lifted.items():
        found |= of_function(one.module, name, one.inputs)
    return found


def eager_outputs(sources: Mapping[str, Source], lifted: Mapping[str, Lifted]) -> dict[str, torch.Tensor]:
    """What the torch model itself gives for the example inputs of every function, by public output name.

    It runs in eval mode, as export sees it, and on copies of its buffers: one that forward writes
    (a counter, a cache) is for the caller as it was.
    """
    from anec.check.numerics import of_function

    found: dict[str, torch.Tensor] = {}
    for name, source in sources.items():
        found |= of_function(lifted[name].module, name, _eager(source, lifted[name]))
    return found


def eager_at(
    sources: Mapping[str, Source], lifted: Mapping[str, Lifted], inputs: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """What the torch model gives for other inputs, by public name; see :func:`eager_outputs`.

    A program that was exported already runs as far as it was exported for other sizes.
    """
    from anec.check.numerics import inputs_of

    called = {
        name: _called(source, lifted[name], inputs_of(lifted[name].module, name, inputs))
        for name, source in sources.items()
    }
    return eager_outputs(called, lifted)


def _called(source: Source, lifted: Lifted, inputs: Mapping[str, torch.Tensor]) -> Source:
    """The source with other tensors in its example call."""
    import torch

    from anec.frontend import ExampleCall

    model, args, kwargs = source.model, source.args, source.kwargs
    if isinstance(model, torch.export.ExportedProgram):
        args, kwargs = args or model.example_inputs[0], kwargs or model.example_inputs[1]
        model = model.module()
    example = ExampleCall.of(model, args, kwargs)
    known = example.leaves
    for public, name in lifted.defaults.items():
        if public in inputs and name in known:
            example.set_leaf(*known[name], inputs[public])
    return replace(source, model=model, args=example.args, kwargs=example.kwargs or None)


def _eager(source: Source, lifted: Lifted) -> dict[str, torch.Tensor]:
    import torch

    from anec.frontend import bind_call, run_eagerly

    model = source.model
    call = bind_call(model, source.args, source.kwargs, source.bind)
    args, kwargs = call.args, call.kwargs
    if isinstance(model, torch.export.ExportedProgram):
        args, kwargs = model.example_inputs or ((), {})
        model = model.module()
    found = lifted.name_outputs(run_eagerly(model, args, kwargs))
    return {name: tensor.detach() for name, tensor in found.items()}
