"""Calls on a traced tensor whose sizes follow from a real one, said so that the sizes are plain numbers.

The trace does not see a constant's numbers: `x[mask]` would have a size that depends on data.

    x[mask]                       ->  x[rows, columns]
    x.view(h, w), x[a:b]          ->  the same with Python numbers
    repeat_interleave(x, counts)  ->  x.index_select(dim, rows)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

_Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


@contextmanager
def outside_trace() -> Iterator[None]:
    """Run torch on real tensors as if nothing were traced."""
    with unset_fake_temporarily(), disable_proxy_modes_tracing(), torch._C.DisableTorchFunction():
        yield


def name_of(function: Any) -> str:
    """The name of what torch hands to ``__torch_function__``, without an overload's."""
    return str(getattr(function, "__name__", "")).partition(".")[0]


def static_spelling(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], is_real: Callable[[Any], bool]
) -> _Call:
    """The call to trace; it gives the same as ``function(*args, **kwargs)``.

    Args:
        function: what torch hands to ``__torch_function__``.
        args: traced and real tensors.
        kwargs: the same by name.
        is_real: tells the real ones.
    """
    name = name_of(function)
    if name in ("__getitem__", "__setitem__"):
        # A number as value writes where the mask is true, without a size from data.
        keep_masks = name == "__setitem__" and not (isinstance(args[2], torch.Tensor) and args[2].ndim)
        return function, (args[0], _index(args[1], is_real, keep_masks), *args[2:]), kwargs
    if name in _BY_NAME:
        given = dict(zip(("input", *_BY_NAME[name][1]), args, strict=False)) | kwargs
        other = given.get(_BY_NAME[name][1][0])
        if is_real(other) and not is_real(given["input"]):
            found = _BY_NAME[name][0](**given)
            if found is not None:
                return found
    args = tuple(_numbers(part, _takes_tensor(name, place), is_real) for place, part in enumerate(args))
    return function, args, {key: _numbers(part, _takes_tensor(name, key), is_real) for key, part in kwargs.items()}


def _index(index: Any, is_real: Callable[[Any], bool], keep_masks: bool) -> Any:
    """An index without real masks, and without real tensors for single positions."""
    parts: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if is_real(part) and part.ndim and part.dtype in (torch.bool, torch.uint8) and not keep_masks:
            parts += _places(part)
        elif isinstance(part, slice):
            parts.append(slice(*(_number(end, is_real) for end in (part.start, part.stop, part.step))))
        else:
            parts.append(_number(part, is_real))
    return tuple(parts) if isinstance(index, tuple) or len(parts) != 1 else parts[0]


def _number(part: Any, is_real: Callable[[Any], bool]) -> Any:
    """The Python number of a real tensor that is one whole number."""
    whole = is_real(part) and part.ndim == 0 and part.dtype is not torch.bool and not part.dtype.is_floating_point
    if not whole:
        return part
    with outside_trace():
        return int(part)


def _numbers(part: Any, takes_tensor: bool | None, is_real: Callable[[Any], bool]) -> Any:
    if type(part) in (tuple, list):
        return type(part)(_numbers(item, bool(takes_tensor), is_real) for item in part)
    return _number(part, is_real) if takes_tensor is False else part


@cache
def _takes_tensor(name: str, place: int | str) -> bool | None:
    """Whether an argument stays a tensor, by the schemas of the aten op; None where there is none.

    Where an overload takes a whole number there, the number is what is meant.
    """
    packet = getattr(torch.ops.aten, name.strip("_"), None)
    if packet is None:
        return None
    types = []
    for overload in packet.overloads():
        arguments = getattr(packet, overload)._schema.arguments
        types += [str(a.type) for number, a in enumerate(arguments) if place in (number, a.name)]
    return any("Tensor" in kind for kind in types) and not any("int" in kind.lower() for kind in types)


def _places(mask: Any) -> tuple[Any, ...]:
    """Where a mask is true, as an index for each of its dimensions."""
    with outside_trace():
        return tuple(mask.nonzero(as_tuple=True))


def _common(input: Any, mask: Any) -> tuple[Any, Any]:
    """The shape both broadcast to, and where the mask is true in it."""
    shape: Any = torch.broadcast_shapes(input.shape, mask.shape)  # type: ignore[no-untyped-call]  # untyped in torch
    with outside_trace():
        return shape, tuple(mask.expand(shape).nonzero(as_tuple=True))


def _select(input: Any, mask: Any) -> _Call:
    shape, places = _common(input, mask)
    return torch.Tensor.__getitem__, (input.expand(shape), places), {}


def _scatter(input: Any, mask: Any, source: Any) -> _Call:
    shape, places = _common(input, mask)
    values = source.reshape(-1)[: len(places[0])]
    return torch.index_put, (input.expand(shape), places, values), {}


def _repeat(input: Any, repeats: Any, dim: int | None = None, **_: Any) -> _Call | None:
    if repeats.ndim == 0:
        return None
    source, dim = (input.reshape(-1), 0) if dim is None else (input, dim)
    with outside_trace():
        rows = torch.repeat_interleave(torch.arange(source.shape[dim]), repeats)
    return torch.index_select, (source, dim, rows), {}


def _split(input: Any, tensor_indices_or_sections: Any, dim: int = 0) -> _Call:
    with outside_trace():
        return torch.tensor_split, (input, tensor_indices_or_sections.tolist(), dim), {}


_BY_NAME: dict[str, tuple[Callable[..., _Call | None], tuple[str, ...]]] = {
    "masked_select": (_select, ("mask",)),
    "masked_scatter": (_scatter, ("mask", "source")),
    "repeat_interleave": (_repeat, ("repeats", "dim")),
    "tensor_split": (_split, ("tensor_indices_or_sections", "dim")),
}
