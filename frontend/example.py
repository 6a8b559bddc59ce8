"""An example call of a model: its inputs by the names of the signature, and changes to them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from anec.errors import UsageError, nearest
from anec.frontend.names import Key, join, leaf_paths
from anec.reference.sizes import repeated

Place = int | str


@dataclass(slots=True)
class ExampleCall:
    """A call ``model(*args, **kwargs)`` whose parts are found by name.

    Args:
        args: positional arguments.
        kwargs: arguments by name.
        parameters: the names of forward's parameters.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parameters: tuple[str, ...]

    @classmethod
    def of(cls, model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> ExampleCall:
        """The call of a model."""
        starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = inspect.signature(model.forward).parameters.values()
        return cls(tuple(args), dict(kwargs or {}), tuple(p.name for p in parameters if p.kind not in starred))

    @property
    def places(self) -> dict[str, Place]:
        """Each argument's position, or its own name where it is passed by name."""
        known = len(self.parameters)
        positional: dict[str, Place] = {
            self.parameters[place] if place < known else f"args_{place - known}": place
            for place in range(len(self.args))
        }
        return positional | {name: name for name in self.kwargs}

    @property
    def leaves(self) -> dict[str, tuple[Place, int]]:
        """Each leaf's argument and its number in it, by the name the signature would give it."""
        found: dict[str, tuple[Place, int]] = {}
        for name, place in self.places.items():
            for number, path in enumerate(self.paths(place)):
                found.setdefault(join([name, *path]), (place, number))
        return found

    def paths(self, place: Place) -> list[tuple[Key, ...]]:
        """The keys that lead to each leaf of an argument."""
        return leaf_paths(pytree.tree_structure(self.argument(place)))

    def argument(self, place: Place) -> Any:
        """An argument; None for one that the call leaves out."""
        return self.args[place] if isinstance(place, int) else self.kwargs.get(place)

    def set_argument(self, place: Place, value: Any) -> None:
        """Replace an argument, or add one by name."""
        if isinstance(place, int):
            self.args = (*self.args[:place], value, *self.args[place + 1 :])
        else:
            self.kwargs[place] = value

    def leaf(self, place: Place, number: int) -> Any:
        """One leaf of an argument."""
        return pytree.tree_leaves(self.argument(place))[number]

    def set_leaf(self, place: Place, number: int, value: Any) -> None:
        """Replace one leaf of an argument."""
        leaves, spec = pytree.tree_flatten(self.argument(place))
        leaves[number] = value
        self.set_argument(place, pytree.tree_unflatten(leaves, spec))

    def unknown(self, name: str, what: str) -> UsageError:
        """The error for a name that is none."""
        known = [*self.leaves, *(name for name in self.parameters if name not in self.places)]
        hint = f"{nearest(name, known)}; inputs: {', '.join(known)}" if known else "the model takes no input"
        return UsageError(f"there is no input {name!r} to {what}", hint=hint)

    def resize(self, name: str, shape: Sequence[int]) -> None:
        """Give an example tensor another shape; its numbers are repeated in order.

        Raises:
            UsageError: an unknown name, no tensor, or no numbers to repeat.
        """
        known = self.leaves
        if name not in known:
            raise self.unknown(name, "resize")
        place, number = known[name]
        example = self.leaf(place, number)
        if not isinstance(example, torch.Tensor) or not example.numel():
            raise UsageError(f"{name} is no tensor with numbers, and takes no shape")
        try:
            resized = repeated(example, shape)
        except (RuntimeError, MemoryError) as error:
            size = "x".join(str(size) for size in shape)
            raise UsageError(f"{name} of shape {size} does not fit in memory") from error
        self.set_leaf(place, number, resized)
