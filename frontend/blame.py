"""Which inputs decide a value the code asks for: the model runs once more, and each tensor knows its inputs."""

from __future__ import annotations

import contextlib
import linecache
import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from anec.errors import AnecError
from anec.frontend.bind import BoundCall
from anec.frontend.bound_values import describe
from anec.frontend.concrete import leaves_of, written_by
from anec.frontend.example import ExampleCall
from anec.frontend.explain import BIND
from anec.frontend.export import run_eagerly
from anec.frontend.origins import is_users
from anec.frontend.spellings import name_of, static_spelling

_READS = frozenset(
    "item tolist numpy nonzero argwhere unique unique_consecutive masked_select repeat_interleave bincount equal "
    "allclose is_nonzero __bool__ __int__ __float__ __index__ __contains__ __array__".split()
)
# A suggestion shows as many numbers of an example; more go into a file.
_SHOWN = 12


def blame(error: AnecError, model: torch.nn.Module, call: BoundCall) -> AnecError:
    """The error with a hint that names the inputs to bind, where they can be told.

    Args:
        error: what came of a value that is unknown while tracing; its place picks among the reads.
        model: runs once in eager torch.
        call: the call it was exported with.
    """
    names = _decisive_inputs(error.where or "", model, call)
    if not names:
        return error
    example = ExampleCall.of(model, call.args, call.kwargs)
    found = {name: example.leaf(*example.leaves[name]) for name in names}
    if any(tensor.is_floating_point() for tensor in found.values()):
        error.hint = f"{BIND}. Here {', '.join(names)} decides it"
    else:
        texts = [f"--bind {name}={_text(name, tensor)}" for name, tensor in found.items()]
        error.hint = f"the code asks for a value that {', '.join(names)} decides; fix it with {' '.join(texts)}"
    return error


def _text(name: str, tensor: torch.Tensor) -> str:
    return describe(tensor).replace(" ", "") if tensor.numel() <= _SHOWN else f"@{name}.npy"


def _decisive_inputs(where: str, model: torch.nn.Module, call: BoundCall) -> list[str]:
    """The inputs behind what is read at ``where``, else behind the first read; none if the model fails."""
    example = ExampleCall.of(model, call.args, call.kwargs)
    watch = _Watch()
    for name, (place, number) in example.leaves.items():
        leaf = example.leaf(place, number)
        if isinstance(leaf, torch.Tensor) and number not in call.tensors.get(place, ()):
            # An object of its own, so that a tensor passed twice has two names.
            alone = leaf.detach().clone()
            example.set_leaf(place, number, alone)
            watch.inputs[alone] = frozenset({name})
    # What was read before the model fails is told all the same.
    with contextlib.suppress(Exception), watch:
        run_eagerly(model, example.args, example.kwargs)
    here = [names for place, names in watch.reads if place and where.startswith(place)] or _above(where, watch.reads)
    names = frozenset().union(*here) if here else next((names for _, names in watch.reads), frozenset())
    return [name for name in example.leaves if name in names]


def _above(where: str, reads: list[tuple[str, frozenset[str]]]) -> list[frozenset[str]]:
    """What was read last above a line of the same file: a loop goes over what ``nonzero`` gave a line before."""
    file, line = _line(where)
    found = {number: names for place, names in reads for name, number in [_line(place)] if name == file}
    above = [number for number in found if number <= line]
    return [found[max(above)]] if above else []


def _line(place: str) -> tuple[str, int]:
    """The file and the line of ``file:line: source``."""
    found = re.match(r"(.+?):(\d+)(?::|$)", place)
    return (found[1], int(found[2])) if found else ("", 0)


class _Watch(TorchFunctionMode):
    """Notes where values of tensors are asked for, and which inputs those tensors come from."""

    def __init__(self) -> None:
        super().__init__()
        # The names of inputs by tensor; torch's table has no types.
        self.inputs: Any = WeakTensorKeyDictionary()
        self.reads: list[tuple[str, frozenset[str]]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        names = self._names((args, named))
        name = name_of(func)
        # Of a call that repeats rows, the counts decide the size, not the rows.
        told = args[1:] if name == "repeat_interleave" else args
        read = self._names((told, named) if name in _READS else _vanishing(func, args, named))
        if read:
            self.reads.append((_user_place(), read))
        result = func(*args, **named)
        if names:
            for tensor in [*leaves_of(result), *written_by(name, args, named)]:
                if isinstance(tensor, torch.Tensor):
                    self.inputs[tensor] = names | self.inputs.get(tensor, frozenset())
        return result

    def _names(self, tree: Any) -> frozenset[str]:
        tensors = [leaf for leaf in leaves_of(tree) if isinstance(leaf, torch.Tensor)]
        return frozenset().union(*(self.inputs.get(tensor, frozenset()) for tensor in tensors))


def _vanishing(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The tensors that a call takes for sizes or positions: those a spelling with plain numbers lacks."""
    _, *told = static_spelling(function, args, kwargs, lambda leaf: isinstance(leaf, torch.Tensor))
    kept = {id(leaf) for leaf in leaves_of(told)}
    return [leaf for leaf in leaves_of((args, kwargs)) if id(leaf) not in kept]


def _user_place() -> str:
    """The innermost frame outside of torch and of this room, as errors tell it: ``file:line``."""
    frame: Any = sys._getframe(1)
    while frame is not None and not is_users(frame.f_code.co_filename, libraries=True):
        frame = frame.f_back
    if frame is None:
        return ""
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return place + (f": {source}" if source else "")
