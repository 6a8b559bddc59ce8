"""Real tensors in a trace: what bound inputs decide is computed, what meets a traced tensor is a constant.

torch.export traces with fake tensors, also for constants and buffers, so code that asks for a value
(`for t, h, w in grid`, `.item()`, `nonzero`) stops it. Here tensors that no traced one went into
stay real, and calls on them run as in eager torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakTensorKeyDictionary

from anec.frontend.spellings import name_of, outside_trace, static_spelling

_ARITHMETIC = "add sub mul truediv floordiv mod pow and or xor lshift rshift"
_WRITES_BY_OPERATOR = frozenset({"__setitem__", *(f"__i{name}__" for name in _ARITHMETIC.split())})
# What is in their results is left over from what the memory held before.
_UNFILLED = frozenset(("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"))
_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


class Constants:
    """Copies of real tensors, one for equal contents: a mask made anew in each layer is one weight."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], torch.Tensor] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the same contents that nobody writes into."""
        copy = tensor.detach().clone(memory_format=torch.contiguous_format)
        digest = hashlib.blake2b(copy.reshape(-1).view(torch.uint8).numpy().data, digest_size=16).digest()
        return self._known.setdefault((copy.dtype, tuple(copy.shape), digest), copy)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call on real tensors, kept to be made again on traced ones."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _View:
    """How a real tensor came to share another's memory: result ``index`` of ``call`` on ``parent``."""

    parent: torch.Tensor
    call: _Call
    index: int


class Concrete(TorchFunctionMode):
    """Runs what depends on no traced tensor outside the trace.

    A real tensor enters the trace as a copy made when it first meets a traced one, so later writes do
    not reach back. Writing a traced value into a real tensor makes it traced from then on, with its
    views and what it is a view of.

    Args:
        constants: copies are shared among traces that share it.
        held: tensors of the module that forward writes, by id: they are traced, since each call finds what the
            one before left. One that is found to be written is added; the trace is then to be made again.
    """

    def __init__(self, constants: Constants, held: dict[int, torch.Tensor] | None = None) -> None:
        super().__init__()
        self._constants = constants
        self._held = {} if held is None else held
        # A view of another tensor, or None, by tensor; torch's table has no types.
        self._made: Any = WeakTensorKeyDictionary()
        # By id; the real tensor is kept so that its id stays its own.
        self._traced: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._call(func, args, kwargs or {})

    def copied(self, tensor: torch.Tensor) -> torch.Tensor:
        """A real copy that the model may write into."""
        copy = tensor.clone()
        self._made[copy] = None
        return copy

    def enter(self, tree: Any) -> Any:
        """What the model returned, with real tensors brought into the trace."""

        def traced(leaf: Any) -> Any:
            leaf = self._twin(leaf)
            return torch.clone(self._constant(leaf)) if self._is_real(leaf) else leaf

        return pytree.tree_map(traced, tree)

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = map_leaves(self._twin, args), map_leaves(self._twin, kwargs)
        leaves = list(leaves_of((args, kwargs)))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        name = name_of(func)
        targets = written_by(name, args, kwargs)
        for target in targets:
            if id(target) in self._held:
                return self._write_held(target, _Call(func, args, kwargs))
        written = [tensor for tensor in targets if self._is_real(tensor)]
        # What the module holds stays as it is: the write belongs into the trace.
        held = [tensor for tensor in written if not is_mapped(tensor) and self._root(tensor) not in self._made]
        self._held |= {id(root): root for root in map(self._root, held)}
        if all(map(self._is_real, tensors)) and not any(isinstance(leaf, _SYMBOLS) for leaf in leaves):
            # Without a tensor, a private or set_ function changes a state of torch, which the trace follows.
            if not tensors and name.startswith(("_", "set_")):
                return func(*args, **kwargs)
            if not held:
                return self._run(_Call(func, args, kwargs), tensors)
        elif not held and not any(map(self._is_real, tensors)):
            return func(*args, **kwargs)
        for target in written:
            self._promote(target)
        args, kwargs = map_leaves(self._twin, args), map_leaves(self._twin, kwargs)
        return self._trace(_Call(func, args, kwargs))

    def _write_held(self, target: torch.Tensor, call: _Call) -> Any:
        """Write into a tensor of the module: torch would make such a call for real if nothing traced goes into it."""
        new = torch.clone(target)

        def renewed(leaf: Any) -> Any:
            return new if leaf is target else leaf

        result = self._call(call.function, map_leaves(renewed, call.args), map_leaves(renewed, call.kwargs))
        target.copy_(new)
        return target if result is new else result

    def _run(self, call: _Call, tensors: list[torch.Tensor]) -> Any:
        """Make a call outside the trace; one that draws random numbers belongs into it."""
        with outside_trace():
            state = torch.get_rng_state()
            result = call.function(*call.args, **call.kwargs)
            is_random = not torch.equal(state, torch.get_rng_state())
            if is_random:
                torch.set_rng_state(state)
            elif name_of(call.function) in _UNFILLED:
                result.zero_()
        if is_random:
            return call.function(*call.args, **call.kwargs)
        owners = {_memory(tensor): tensor for tensor in tensors if not is_mapped(tensor)}
        for index, made in enumerate(leaves_of(result)):
            new = isinstance(made, torch.Tensor) and not any(made is tensor for tensor in tensors)
            if new and not is_mapped(made):
                parent = owners.get(_memory(made))
                self._made[made] = None if parent is None else _View(parent, call, index)
        return result

    def _trace(self, call: _Call) -> Any:
        """Make a call on traced and real tensors, the real ones as constants."""
        function, args, kwargs = static_spelling(call.function, call.args, call.kwargs, self._is_real)
        given = {id(leaf) for leaf in leaves_of((call.args, call.kwargs))}
        for leaf in leaves_of((args, kwargs)):
            if self._is_real(leaf) and id(leaf) not in given:
                self._made[leaf] = None
        return function(*map_leaves(self._constant, args), **map_leaves(self._constant, kwargs))

    def _is_real(self, leaf: Any) -> bool:
        return is_real(leaf) and id(leaf) not in self._held

    def _twin(self, leaf: Any) -> Any:
        """The traced tensor that took a real one's place, or the leaf itself."""
        found = self._traced.get(id(leaf))
        return leaf if found is None else found[1]

    def _constant(self, leaf: Any) -> Any:
        """The copy of a real tensor that was made here; a tensor the module holds is never copied."""
        if not self._is_real(leaf) or leaf not in self._made:
            return leaf
        with outside_trace():
            return self._constants.of(leaf)

    def _root(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor that this one is a view of, or itself."""
        while isinstance(view := self._made.get(tensor), _View):
            tensor = view.parent
        return tensor

    def _promote(self, tensor: torch.Tensor) -> None:
        """Replace a real tensor, all whose memory it shares, and their views by traced ones."""
        root = self._root(tensor)
        with outside_trace():
            before = self._constants.of(root)
        self._traced[id(root)] = root, torch.clone(before)
        again: dict[int, list[Any]] = {}
        # In the order they were made: a parent stands before its views.
        for made, view in list(self._made.items()):
            if isinstance(view, _View) and id(view.parent) in self._traced and id(made) not in self._traced:
                if id(view.call) not in again:
                    args, kwargs = map_leaves(self._twin, view.call.args), map_leaves(self._twin, view.call.kwargs)
                    again[id(view.call)] = list(leaves_of(self._trace(_Call(view.call.function, args, kwargs))))
                self._traced[id(made)] = made, again[id(view.call)][view.index]


def is_real(leaf: Any) -> bool:
    """True for a plain tensor with numbers in it; a parameter is traced, however it got here."""
    while isinstance(leaf, torch.Tensor) and is_mapped(leaf):
        leaf = torch._C._functorch.get_unwrapped(leaf)
    return type(leaf) is torch.Tensor and not torch._is_functional_tensor(leaf)


def is_mapped(tensor: torch.Tensor) -> bool:
    """True inside of torch.vmap, for a tensor that stands for one of many."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def leaves_of(tree: Any) -> Iterator[Any]:
    """The leaves of a call's arguments; slices are trees too."""
    if isinstance(tree, slice):
        tree = (tree.start, tree.stop, tree.step)
    if isinstance(tree, (tuple, list, Mapping)):
        for part in tree.values() if isinstance(tree, Mapping) else tree:
            yield from leaves_of(part)
    else:
        yield tree


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The arguments of a call with ``function`` applied to each leaf."""
    if isinstance(tree, slice):
        return slice(*(map_leaves(function, part) for part in (tree.start, tree.stop, tree.step)))
    if type(tree) in (tuple, list):
        return type(tree)(map_leaves(function, part) for part in tree)
    if type(tree) is dict:
        return {key: map_leaves(function, part) for key, part in tree.items()}
    return function(tree)


def written_by(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The tensors a call writes into, by torch's conventions of naming."""
    found = list(leaves_of(kwargs.get("out")))
    if _in_place(name) or kwargs.get("inplace") is True:
        found += [args[0]] if args else [kwargs.get("self", kwargs.get("input"))]
    return found


@cache
def _in_place(name: str) -> bool:
    return name in _WRITES_BY_OPERATOR or (name.endswith("_") and not name.endswith("__"))


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
