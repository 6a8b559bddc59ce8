"""Names: inputs after forward's parameters, outputs after keys, values after the module path.

None of them comes from torch's fx node names, which change from one torch to the next.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from anec.errors import UsageError, nearest
from anec.ir.graph import legal_name

Key = str | int
NewNames = Sequence[str] | Mapping[str, str] | None


def children(spec: Any) -> list[Any]:
    """The children of a pytree spec (a method in new torch, an attribute in old)."""
    own = getattr(type(spec), "children", None)
    return list(spec.children() if callable(own) else spec.children_specs)


def is_leaf(spec: Any) -> bool:
    """True when the spec is one leaf of the tree."""
    answer = spec.is_leaf()
    return bool(answer)


def keys_of(spec: Any) -> list[Key]:
    """The keys of a node's children: a mapping's keys, a dataclass's fields, else positions."""
    count = len(children(spec))
    fields = getattr(spec.context, "_fields", None)
    if fields is not None:
        return list(fields)
    candidates = [spec.context, *(spec.context if isinstance(spec.context, (tuple, list)) else ())]
    for candidate in candidates:
        fits = isinstance(candidate, (tuple, list)) and len(candidate) == count > 0
        if fits and all(isinstance(key, (str, int)) for key in candidate):
            return list(candidate)
    return list(range(count))


def leaf_paths(spec: Any) -> list[tuple[Key, ...]]:
    """The keys that lead to each leaf, in order."""
    if is_leaf(spec):
        return [()]
    return [
        (key, *path) for key, child in zip(keys_of(spec), children(spec), strict=True) for path in leaf_paths(child)
    ]


def path_text(root: str, keys: Sequence[Key]) -> str:
    """Keys as Python would write them.

    >>> path_text("args", [0, "mask"])
    "args[0]['mask']"
    >>> path_text("", ["hidden", 1])
    'hidden[1]'
    """
    if not root and keys and isinstance(keys[0], str):
        root, keys = keys[0], keys[1:]
    return root + "".join(f"[{key!r}]" for key in keys)


def join(keys: Sequence[Key]) -> str:
    """Keys as one identifier.

    >>> join(["batch", "pixel_values", 0])
    'batch_pixel_values_0'
    """
    return legal_name("_".join(str(key) for key in keys))


def output_defaults(paths: Sequence[tuple[Key, ...]]) -> list[str]:
    """Default names of the outputs at ``paths``: their keys, else `output`, `output_0`..."""
    if len(paths) == 1 and not any(isinstance(key, str) for key in paths[0]):
        return ["output"]
    return [join(path if path and isinstance(path[0], str) else ("output", *path)) for path in paths]


def unique(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Names made unique, by a number behind those that repeat an earlier one."""
    seen = set(taken)
    result = []
    for name in names:
        number, candidate = 1, name
        while candidate in seen:
            candidate, number = f"{name}_{number}", number + 1
        seen.add(candidate)
        result.append(candidate)
    return result


def renamed(defaults: Sequence[str], new: NewNames, what: str, counted: Collection[str] | None = None) -> list[str]:
    """The public names once the caller's wishes are applied.

    Args:
        defaults: the default names.
        new: all names in order, or new names by default name.
        what: "input" or "output", for errors.
        counted: the defaults a list may name alone, when the others are dropped.

    Raises:
        UsageError: a wrong number of names, an unknown, illegal or doubled one.
    """
    if new is None:
        return list(defaults)
    if isinstance(new, str):
        raise UsageError(f"{what}_names is a string", hint=f"pass a list: [{new!r}]")
    if isinstance(new, Mapping):
        for name in new:
            if name not in defaults:
                raise UsageError(f"there is no {what} {name!r} to rename", hint=nearest(name, defaults))
        names = [new.get(name, name) for name in defaults]
    elif len(new) == len(defaults):
        names = list(new)
    elif counted is not None and len(new) == len(counted):
        given = iter(new)
        names = [next(given) if name in counted else name for name in defaults]
    else:
        raise UsageError(
            f"{len(new)} {what} names for {len(defaults)} {what}s", hint=f"the {what}s are {', '.join(defaults)}"
        )
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise UsageError(f"{name!r} is not a legal {what} name", hint="letters, digits and _, not first a digit")
        if names.count(name) > 1:
            raise UsageError(f"two {what}s would be called {name!r}")
    return names


def value_stem(path: str, op: str) -> str:
    """The stem of a value's name: the telling end of the module path, and the op.

    The path is cut in front of its first numbered part (a layer), or to its last two parts.

    >>> value_stem("model.encoder.layers.0.attn", "linear")
    'layers_0_attn_linear'
    >>> value_stem("backbone.stem.conv", "convolution")
    'stem_conv_convolution'
    >>> value_stem("", "_softmax")
    'softmax'
    """
    parts = path.split(".") if path else []
    numbered = next((i for i, part in enumerate(parts) if re.search(r"\d", part)), None)
    if numbered is None:
        parts = parts[-2:]
    elif parts[numbered].isdigit() and numbered:
        parts = parts[numbered - 1 :]
    else:
        parts = parts[numbered:]
    return legal_name("_".join([*parts, op.strip("_") or op]))
