"""The shapes that inputs may have: ``x=1x3x32..640x32..640``, or a list of shapes.

    1x3x480x640,1x3x640x640      two shapes; several inputs with lists pair up, first with first
    1x3x32..640x32..640          every height and width in a range
    1xS:2..128                   the same, called S: axes of one name have one size
    1xS                          an axis that is called so elsewhere

An axis whose size is free or differs is exported as dynamic. torch takes a size of 1 for a fixed one, so
an example of another size is made by repeating its numbers in order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.export import Dim
from torch.utils import _pytree as pytree

from anec.errors import AnecError, UsageError
from anec.frontend.calls import Lifted
from anec.frontend.example import ExampleCall
from anec.frontend.source import Source
from anec.ir.dims import Bounds, Expr, symbol

_FORMS = "write 1x3x480x640,1x3x640x640 or 1x3x32..640x32..640, or 1xS:2..128 for sizes that are one"
_AXIS = re.compile(r"(\d+)|(?:([A-Za-wyz_]\w*?):)?(\d+)\.\.(\d+)|([A-Za-wyz_]\w*)", re.ASCII)
# Core ML's shapes are int32.
_LARGEST = 2**31 - 1
_BETWEEN = re.compile(r"x(?=\d|[A-Za-wyz_])")


@dataclass(frozen=True, slots=True)
class Free:
    """The sizes an axis may have; one without a name is of its own, unless the model ties it to others."""

    bounds: Bounds
    name: str = ""


Axis = int | Free
Shape = tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Shapes:
    """What each input may be: one shape with free axes, or several fixed ones."""

    inputs: Mapping[str, tuple[Shape, ...]]

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Shapes:
        """The shapes by input name: each a text, a shape, or a list of shapes; a pair in a shape is a range.

        Raises:
            UsageError: a text that is no shape, lists of different lengths, an empty range.
        """
        if not isinstance(given, Mapping):
            raise UsageError(
                f"shapes is a {type(given).__name__}, not a dict", hint='write {"x": "1x3x32..640x32..640"}'
            )
        named: dict[str, Bounds] = {}
        found = {name: _read(name, shapes, named) for name, shapes in given.items()}
        counts = {len(shapes) for shapes in found.values() if len(shapes) > 1}
        if len(counts) > 1:
            raise UsageError("the inputs list different numbers of shapes", hint="lists pair up, first with first")
        resolved = {
            name: tuple(tuple(_resolve(name, axis, named) for axis in shape) for shape in shapes)
            for name, shapes in found.items()
        }
        for name, shapes in resolved.items():
            if len({len(shape) for shape in shapes}) > 1:
                raise UsageError(f"the shapes of {name} are of different ranks")
            if len(shapes) > 1 and any(isinstance(axis, Free) for shape in shapes for axis in shape):
                raise UsageError(f"a list of shapes of {name} has a range in it", hint="list sizes, or give one range")
        return cls(resolved)

    @property
    def count(self) -> int:
        """How many shapes are listed; 1 for ranges."""
        return max((len(shapes) for shapes in self.inputs.values()), default=1)

    def at(self, index: int) -> dict[str, tuple[int, ...]]:
        """The listed shapes number ``index``, of inputs with one shape that one."""
        return {
            name: tuple(axis for axis in shapes[index if len(shapes) > 1 else 0] if isinstance(axis, int))
            for name, shapes in self.inputs.items()
        }

    def free(self, name: str) -> dict[int, Free]:
        """The axes of an input whose size is not one number."""
        shapes = self.inputs[name]
        found: dict[int, Free] = {}
        for axis, sizes in enumerate(zip(*shapes, strict=True)):
            first, numbers = sizes[0], [size for size in sizes if isinstance(size, int)]
            if isinstance(first, Free):
                found[axis] = first
            elif len(set(numbers)) > 1:
                found[axis] = Free(Bounds(min(numbers), max(numbers), only=tuple(sorted(set(numbers)))))
        return found

    def multiples(self) -> dict[str, dict[int, int]]:
        """By input and axis what all listed sizes are multiples of, where that is more than 1."""
        steps = {
            name: {axis: math.gcd(*free.bounds.only) for axis, free in self.free(name).items() if free.bounds.only}
            for name in self.inputs
        }
        return {name: {axis: step for axis, step in found.items() if step > 1} for name, found in steps.items()}

    def source(self, source: Source) -> Source:
        """The source with examples that fit, and what torch.export wants to know of the free axes.

        Raises:
            UsageError: an unknown input, a wrong rank, or a program that is exported already.
        """
        if not isinstance(source.model, torch.nn.Module):
            raise UsageError("the program is exported already, with its own dynamic shapes", hint="pass the nn.Module")
        if source.dynamic_shapes is not None:
            raise UsageError("shapes= and dynamic_shapes= say the same thing", hint="give one of them")
        example = ExampleCall.of(source.model, source.args, source.kwargs)
        # Changing a leaf changes no name.
        known = example.leaves
        dims: dict[str, Any] = {}
        for name in self.inputs:
            if name not in known:
                raise example.unknown(name, "shape")
            size = self._example(name, example.leaf(*known[name]))
            example.resize(name, size)
        specs: dict[str, Any] = {}
        for name, place in example.places.items():
            leaves, spec = pytree.tree_flatten(example.argument(place))
            names = {number: leaf for leaf, (at, number) in known.items() if at == place}
            specs[name] = pytree.tree_unflatten(
                [self._dynamic(names.get(number, ""), dims) for number in range(len(leaves))], spec
            )
        return replace(source, args=example.args, kwargs=example.kwargs or None, dynamic_shapes=specs, shapes=self)

    def _example(self, name: str, given: Any) -> tuple[int, ...]:
        """An example's size: its own where it fits, else one that torch does not take for a fixed one."""
        shapes, free = self.inputs[name], self.free(name)
        if not isinstance(given, torch.Tensor) or given.dim() != len(shapes[0]):
            what = f"a tensor of rank {given.dim()}" if isinstance(given, torch.Tensor) else "no tensor"
            raise UsageError(f"{name} is {what}; the shape given has {len(shapes[0])} axes", hint=_FORMS)
        sizes: list[int] = []
        for axis, own in enumerate(given.shape):
            fixed = shapes[0][axis]
            if axis not in free:
                assert isinstance(fixed, int)
                sizes.append(fixed)
                continue
            listed = [shape[axis] for shape in shapes if isinstance(shape[axis], int)]
            bounds = free[axis].bounds
            fits = own in listed if listed else bounds.lower <= own <= (bounds.upper or own)
            likely = [size for size in listed if isinstance(size, int) and size > 1] or [max(2, bounds.lower)]
            sizes.append(own if fits and own > 1 else likely[0])
        return tuple(sizes)

    def _dynamic(self, name: str, dims: dict[str, Any]) -> dict[int, Any] | None:
        if name not in self.inputs:
            return None
        found = {}
        for axis, free in self.free(name).items():
            lower, upper = free.bounds.lower, free.bounds.upper
            if upper == 2:
                upper = 3  # torch traces no size of 1, and would take 1..2 for 2 alone
            if free.name:
                found[axis] = dims.setdefault(free.name, Dim(free.name, min=lower, max=upper))
            else:
                # AUTO lets torch tie sizes that the model wants equal. Before torch 2.8 it takes no bounds.
                found[axis] = Dim.AUTO(min=lower, max=upper) if callable(Dim.AUTO) else Dim.AUTO
        return found

    def settle(self, lifted: Lifted) -> None:
        """Give the lifted function the bounds that were asked for, and its inputs their lists.

        Raises:
            AnecError: the model fixes a size that was to be free, or holds for fewer sizes.
        """
        graph = lifted.module.functions[lifted.function]
        for port, value in zip(graph.signature.inputs, graph.inputs, strict=True):
            name = lifted.defaults.get(port.name, port.name)
            for axis, free in self.free(name).items() if name in self.inputs else ():
                dim, bounds = value.tensor.shape[axis], free.bounds
                found = lifted.module.dims.get(str(dim))
                only = found.lower if found is not None and found.lower == found.upper else dim
                if isinstance(only, int):
                    hint = f"leave that axis fixed: {self._fixed(name, axis, only)}"
                    if len(graph.inputs) > 1:
                        hint += f"; or, where another input has that size too, give both one name: N:{bounds}"
                    raise AnecError(
                        f"the model fixes axis {axis} of the input {port.name!r} to {only}; asked was {bounds}",
                        hint=hint,
                    )
                counted, step = _steps(dim)
                if counted in lifted.module.dims:
                    self._bound(lifted, counted, _in_steps(bounds, step), port.name, axis)
        if self.count > 1:
            self._list(lifted)

    def _bound(self, lifted: Lifted, name: str, asked: Bounds, port: str, axis: int) -> None:
        found = lifted.module.dims[name]
        # torch says "from 2 on" of every size that is not fixed.
        short = found.lower > max(asked.lower, 2) or (
            found.upper is not None and asked.upper is not None and found.upper < asked.upper
        )
        if short and self.count == 1:
            raise AnecError(
                f"axis {axis} of the input {port!r} was asked for in {asked}; what was traced holds in {found}",
                hint=f"write {found} there",
            )
        lifted.module.dims[name] = replace(found, lower=asked.lower, upper=asked.upper, only=asked.only)

    def _list(self, lifted: Lifted) -> None:
        ports = lifted.module.functions[lifted.function].signature.inputs
        for index, port in enumerate(ports):
            shapes = self.inputs.get(lifted.defaults.get(port.name, port.name), ())
            if len(shapes) > 1:
                sizes = tuple(tuple(axis for axis in shape if isinstance(axis, int)) for shape in shapes)
                ports[index] = replace(port, shapes=sizes)

    def _fixed(self, name: str, axis: int, size: int) -> str:
        parts = [str(size) if at == axis else _text(part) for at, part in enumerate(self.inputs[name][0])]
        return f"{name}=" + "x".join(parts)


def _steps(dim: int | Expr) -> tuple[str, int]:
    """The symbol and the factor of a size that is a multiple of a symbol; no symbol for any other."""
    if isinstance(dim, Expr) and len(dim.terms) == 1 and len(dim.terms[0][0]) == 1:
        ((atom,), step) = dim.terms[0]
        return (atom.name, step) if dim == step * symbol(atom.name) else ("", 1)
    return "", 1


def _in_steps(bounds: Bounds, step: int) -> Bounds:
    upper = None if bounds.upper is None else bounds.upper // step
    return Bounds(-(-bounds.lower // step), upper, only=tuple(size // step for size in bounds.only))


def _text(axis: Axis) -> str:
    if isinstance(axis, int):
        return str(axis)
    return f"{axis.name}:{axis.bounds}" if axis.name else str(axis.bounds)


def _read(name: str, given: Any, named: dict[str, Bounds]) -> tuple[Shape, ...]:
    if isinstance(given, str):
        return tuple(_shape(name, text, named) for text in given.split(","))
    items = list(given) if isinstance(given, Sequence) else []
    if items and all(isinstance(item, (tuple, list, str, torch.Size)) for item in items) and not _is_shape(items):
        return tuple(_shape(name, item, named) for item in items)
    return (_shape(name, items, named),)


def _is_shape(items: list[Any]) -> bool:
    """A shape has a number or a range among its axes: pairs alone may be ranges, or shapes of rank 2."""
    return any(isinstance(item, int) or (isinstance(item, str) and not _BETWEEN.search(item)) for item in items)


def _shape(name: str, given: Any, named: dict[str, Bounds]) -> Shape:
    axes = _BETWEEN.split(given.strip()) if isinstance(given, str) else list(given)
    if not axes:
        raise UsageError(f"the shape {given!r} of {name} is empty", hint=_FORMS)
    return tuple(_axis(name, axis, named) for axis in axes)


def _axis(name: str, given: Any, named: dict[str, Bounds]) -> Axis:
    if isinstance(given, int) and given > 0:
        return _check_size(name, given)
    if isinstance(given, (tuple, list)) and len(given) == 2 and all(isinstance(end, int) for end in given):
        return _range(name, given[0], given[1], "", named)
    match = _AXIS.fullmatch(given.strip()) if isinstance(given, str) else None
    if match is None:
        raise UsageError(f"{given!r} is no size of {name}", hint=_FORMS)
    size, label, lower, upper, bare = match.groups()
    if size is not None:
        return _axis(name, int(size), named)
    return Free(Bounds(0), bare) if bare else _range(name, int(lower), int(upper), label or "", named)


def _check_size(name: str, size: int) -> int:
    if size > _LARGEST:
        raise UsageError(f"{size} is no size of {name}", hint=f"the largest is {_LARGEST}")
    return size


def _range(name: str, lower: int, upper: int, label: str, named: dict[str, Bounds]) -> Axis:
    _check_size(name, upper)
    if not 1 <= lower <= upper:
        raise UsageError(f"{name} has no size in {lower}..{upper}", hint="a range is lower..upper, from 1 on")
    bounds = Bounds(lower, upper)
    if label and named.setdefault(label, bounds) != bounds:
        raise UsageError(f"{label} is {named[label]} in one place and {bounds} in another")
    return lower if lower == upper else Free(bounds, label)


def _resolve(name: str, axis: Axis, named: Mapping[str, Bounds]) -> Axis:
    """An axis that was only named, with the range its name has elsewhere."""
    if isinstance(axis, int) or axis.bounds.lower:
        return axis
    if axis.name not in named:
        raise UsageError(f"the size {axis.name} of {name} has no range", hint=f"write {axis.name}:2..128 once")
    bounds = named[axis.name]
    return bounds.lower if bounds.lower == bounds.upper else Free(bounds, axis.name)


__all__ = ["Free", "Shapes"]
