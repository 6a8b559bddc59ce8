"""Binding: inputs whose values are fixed before the model is exported.

A bound tensor is no input of the exported call; forward gets it back as a real tensor while torch.export
traces (see :mod:`anec.frontend.concrete`), so what it decides is computed. A bound number, flag or string
takes the example's place, and torch.export fixes it by itself.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from anec.errors import UsageError
from anec.frontend.bound_values import describe, like
from anec.frontend.concrete import Concrete, Constants
from anec.frontend.dims import shape_at
from anec.frontend.example import ExampleCall, Place
from anec.frontend.names import join
from anec.frontend.spellings import outside_trace


@dataclass(slots=True)
class BoundCall:
    """A call of a model in which some inputs are bound.

    Args:
        args: the whole call, bound values in their places; what eager torch is called with.
        kwargs: the same by name.
        values: the bound values by the name they were given under.
        tensors: the bound tensors of each argument, by the leaf's number in it.
        absent: bound arguments that the example call leaves out; no part of the exported call.
        dynamic_shapes: as given, with None for bound arguments it does not mention.
        held: tensors of the module that forward was found to write, by id.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[Place, dict[int, torch.Tensor]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    dynamic_shapes: Any = None
    held: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def exported_args(self) -> tuple[Any, ...]:
        """The positional arguments that torch.export sees: None for bound tensors."""
        return tuple(self._fill(place, value, lambda tensor: None) for place, value in enumerate(self.args))

    @property
    def exported_kwargs(self) -> dict[str, Any]:
        """The same by name."""
        present = {name: value for name, value in self.kwargs.items() if name not in self.absent}
        return {name: self._fill(name, value, lambda tensor: None) for name, value in present.items()}

    def described(self) -> dict[str, str]:
        """What is bound to what, as text."""
        return {name: describe(value) for name, value in self.values.items()}

    @contextlib.contextmanager
    def inside(self, model: Any, constants: Constants | None = None) -> Iterator[None]:
        """Let ``model.forward`` take the exported call, and compute what no traced tensor decides.

        Args:
            model: an nn.Module.
            constants: shared among functions of one model.
        """
        own, shared = vars(model).get("forward"), constants or Constants()
        # Of bound inputs alone it is said that they decide; without one, masks and counts of the module may.
        whole = () if self.values else _whole_buffers(model)
        original = model.forward

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            mode = Concrete(shared, self.held)
            # Copies: the model may write into them, and torch may trace it more than once.
            with outside_trace():
                full = [self._fill(place, value, mode.copied) for place, value in enumerate(args)]
                named = {name: self._fill(name, value, mode.copied) for name, value in kwargs.items()}
                named |= {name: self._fill(name, self.kwargs[name], mode.copied) for name in self.absent}
            with mode, _in_place([place for place in whole if id(place[2]) not in self.held]):
                return mode.enter(original(*full, **named))

        # Through __dict__: the attribute is no part of the model.
        vars(model)["forward"] = forward
        try:
            yield
        finally:
            if own is None:
                del vars(model)["forward"]
            else:
                vars(model)["forward"] = own

    def _fill(self, place: Place, value: Any, fill: Callable[[torch.Tensor], Any]) -> Any:
        """An argument with ``fill`` of each bound tensor in that tensor's place."""
        bound = self.tensors.get(place)
        if not bound:
            return value
        leaves, spec = pytree.tree_flatten(value)
        for number, tensor in bound.items():
            leaves[number] = fill(tensor)
        return pytree.tree_unflatten(leaves, spec)


_Buffer = tuple[torch.nn.Module, str, torch.Tensor]
# Buffers of so many floats may be settings that the code asks for: probabilities, thresholds, a scale for each level.
_A_FEW = 16


def _whole_buffers(model: torch.nn.Module) -> list[_Buffer]:
    """The buffers of integers and bools, and a few numbers, with the module and the name they are registered under."""
    found = [
        (module, name, buffer) for module in model.modules() for name, buffer in module.named_buffers(recurse=False)
    ]
    return [place for place in found if place[2].numel() <= _A_FEW or not _is_continuous(place[2])]


def _is_continuous(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


@contextlib.contextmanager
def _in_place(buffers: Sequence[_Buffer]) -> Iterator[None]:
    """Give modules the buffers back that torch.export has replaced by traced ones."""
    traced = [(module, name, module._buffers[name]) for module, name, _ in buffers]
    try:
        for module, name, buffer in buffers:
            module._buffers[name] = buffer
        yield
    finally:
        for module, name, before in traced:
            module._buffers[name] = before


def bind_call(
    model: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    bind: Mapping[str, Any] | None,
    dynamic_shapes: Any = None,
) -> BoundCall:
    """Put bound values into a call.

    A name is one of forward's parameters, or a nested input as the signature calls it
    (`batch_grid_thw`). A value takes the dtype and the structure of the example it replaces; without
    one, numbers and flags stay what they are, and lists are tensors (whole numbers int64).

    Raises:
        UsageError: an unknown name, a value that does not fit its example, an input that is bound and
            dynamic, or a program that is exported already.
    """
    call = BoundCall(tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes)
    if not bind:
        return call
    if isinstance(model, ExportedProgram):
        raise UsageError("the program is exported already", hint="bind inputs where the nn.Module is exported")
    if not isinstance(model, torch.nn.Module):
        return call  # export says what is wrong with it
    example = ExampleCall.of(model, args, kwargs)
    leaves, places = example.leaves, example.places
    if not isinstance(bind, Mapping):
        raise UsageError(f"bind is a {type(bind).__name__}, not a dict", hint='write {"length": 64}')
    for name, given in bind.items():
        if name in leaves:
            place, number = leaves[name]
            value = like(example.leaf(place, number), given, name)
            example.set_leaf(place, number, value)
            found = {number: value} if isinstance(value, torch.Tensor) else {}
        elif name in places or name in example.parameters:
            place = places.get(name, name)
            value = like(example.argument(place), given, name)
            example.set_argument(place, value)
            found = {n: leaf for n, leaf in enumerate(pytree.tree_leaves(value)) if isinstance(leaf, torch.Tensor)}
            if name not in places:
                call.absent.add(name)
        else:
            raise example.unknown(name, "bind")
        call.values[name] = value
        call.tensors.setdefault(place, {}).update(found)
    call.args, call.kwargs = example.args, example.kwargs
    _check_static(call, example)
    return call


def _check_static(call: BoundCall, example: ExampleCall) -> None:
    """Refuse inputs that are bound and dynamic; give dynamic_shapes what it lacks for bound ones."""
    shapes = call.dynamic_shapes
    if not shapes:
        return
    by_name = isinstance(shapes, Mapping)
    for number, (name, place) in enumerate(example.places.items()):
        paths = example.paths(place)
        for leaf in call.tensors.get(place, ()):
            found = shape_at(shapes, name if by_name else number)
            for key in paths[leaf]:
                found = shape_at(found, key)
            sizes = found.values() if isinstance(found, Mapping) else found or ()
            if any(size is not None and not isinstance(size, int) for size in sizes):
                given = join([name, *paths[leaf]])
                hint = f"leave {given} out of bind, or its sizes out of dynamic_shapes"
                raise UsageError(f"{given} is bound and dynamic", hint=hint)
        if by_name and call.tensors.get(place) and place not in call.absent:
            call.dynamic_shapes = {name: None, **call.dynamic_shapes}
