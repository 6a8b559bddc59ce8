"""How a call of the torch model maps to public names: inputs in, outputs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from anec.errors import UsageError, nearest
from anec.frontend.names import children, is_leaf, keys_of, leaf_paths, path_text
from anec.ir.graph import Module


@dataclass(frozen=True, slots=True)
class Call:
    """The call convention of an exported program.

    Args:
        in_spec: the pytree of ``(args, kwargs)``.
        out_spec: the pytree of the result.
        arguments: the parameter names of forward behind ``in_spec``'s top-level children.
        inputs: the public name of each input leaf; None for constants and dropped inputs.
        constants: the values of leaves that are no tensors, by leaf number.
        outputs: the public name of each output leaf; None for leaves that are None.
    """

    in_spec: Any
    out_spec: Any
    arguments: tuple[str, ...]
    inputs: tuple[str | None, ...]
    constants: Mapping[int, object]
    outputs: tuple[str | None, ...]

    def bind_inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> dict[str, torch.Tensor]:
        """The tensors of a call ``model(*args, **kwargs)`` by public name.

        Arguments may be passed by position or by name, whichever way the model was exported.

        Raises:
            UsageError: an argument is missing, unknown, or differs from one fixed at export.
        """
        given = self._by_name(args, dict(kwargs or {}))
        positional, named = children(self.in_spec)
        leaves: list[tuple[str, Any]] = []
        for name, spec in zip(self.arguments, (*children(positional), *children(named)), strict=True):
            _flatten_like(spec, given.get(name, _MISSING), name, leaves)
        tensors = {}
        for number, ((where, leaf), public) in enumerate(zip(leaves, self.inputs, strict=True)):
            if public is not None:
                if not isinstance(leaf, torch.Tensor):
                    raise UsageError(f"the input {where} is {_describe(leaf)}, not a tensor")
                tensors[public] = leaf
            elif number in self.constants and leaf is not _MISSING:
                fixed = self.constants[number]
                if not isinstance(leaf, torch.Tensor) and leaf != fixed:
                    raise UsageError(f"{where}={leaf!r}, but the model was compiled with {fixed!r}")
        return tensors

    def _by_name(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) > len(self.arguments):
            raise UsageError(f"{len(args)} arguments for {len(self.arguments)}: {', '.join(self.arguments)}")
        given = dict(zip(self.arguments, args, strict=False))
        for name, value in kwargs.items():
            if name not in self.arguments:
                raise UsageError(f"the model has no argument {name!r}", hint=nearest(name, self.arguments))
            if name in given:
                raise UsageError(f"the argument {name!r} is given twice")
            given[name] = value
        return given

    def name_outputs(self, result: object) -> dict[str, torch.Tensor]:
        """The tensors of what the torch model returned, by public output name.

        Raises:
            UsageError: the result is built otherwise than at export.
        """
        leaves: list[tuple[str, Any]] = []
        _flatten_like(self.out_spec, result, "output", leaves)
        named = {}
        for (where, leaf), name in zip(leaves, self.outputs, strict=True):
            if name is not None:
                if not isinstance(leaf, torch.Tensor):
                    raise UsageError(f"{where} is {_describe(leaf)}, not a tensor")
                named[name] = leaf
        return named


@dataclass(frozen=True, slots=True)
class Lifted:
    """A lifted function and how the torch model's calls map to it.

    Args:
        module: the module that holds the function.
        call: the call convention.
        inputs: example tensors by public name; empty when the program carries none.
        function: the function's name.
        bound: what was bound before export, name to text.
        defaults: the name each input has where nobody renames it, by public name.
    """

    module: Module
    call: Call
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    function: str = "main"
    bound: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)

    def bind_inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> dict[str, torch.Tensor]:
        """The tensors of a call ``model(*args, **kwargs)`` by public name; see :meth:`Call.bind_inputs`."""
        return self.call.bind_inputs(args, kwargs)

    def name_outputs(self, result: object) -> dict[str, torch.Tensor]:
        """The tensors the torch model returned by public name; see :meth:`Call.name_outputs`."""
        return self.call.name_outputs(result)


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING = _Missing()


def _describe(leaf: object) -> str:
    return "missing" if leaf is _MISSING else f"a {type(leaf).__name__}"


def _flatten_like(spec: Any, tree: Any, where: str, leaves: list[tuple[str, Any]]) -> None:
    """Flatten ``tree`` as ``spec`` says; mappings by key, whatever order theirs is."""
    if is_leaf(spec):
        leaves.append((where, tree))
        return
    if tree is _MISSING:
        leaves += [(path_text(where, path), _MISSING) for path in leaf_paths(spec)]
        return
    keys, specs = keys_of(spec), children(spec)
    if isinstance(tree, Mapping):
        items = [tree.get(key, _MISSING) for key in keys]
    else:
        items = pytree.tree_leaves(tree, is_leaf=lambda part: part is not tree)
        if len(items) == 1 and items[0] is tree:
            raise UsageError(f"{where} is a {type(tree).__name__}; at export it was a {spec.type.__name__}")
        if len(items) != len(specs):
            raise UsageError(f"{where} has {len(items)} parts; at export it had {len(specs)}")
    for key, child, item in zip(keys, specs, items, strict=True):
        _flatten_like(child, item, path_text(where, [key]), leaves)
