"""``--bind NAME=VALUE`` and ``--function NAME:K=V``: values as text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anec.errors import UsageError

if TYPE_CHECKING:
    from anec.frontend import Source

# A comma stands between two bindings where a name and = follow it.
_NEXT = re.compile(r",(?=[A-Za-z_]\w*=)")


def bound_source(source: Source, texts: Sequence[str]) -> Source:
    """The source with ``--bind`` options added to what it binds itself."""
    return replace(source, bind={**(source.bind or {}), **read_bindings(texts)} or None)


def read_bindings(texts: Sequence[str]) -> dict[str, Any]:
    """The values of ``--bind`` options, by name.

    Raises:
        UsageError: no ``=``, a name given twice, or a file that cannot be read.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{text!r} binds nothing", hint="write name=value, such as grid_thw=[[1,28,28]]")
        if name in found:
            raise UsageError(f"{name} is bound twice")
        found[name] = read_value(value)
    return found


def read_functions(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What each ``--function`` binds, by the function's name; options of one name add up.

    Raises:
        UsageError: see :func:`read_bindings`.
    """
    given: dict[str, list[str]] = {}
    for text in texts:
        name, _, bindings = text.partition(":")
        given.setdefault(name, []).extend(_NEXT.split(bindings) if bindings else [])
    return {name: read_bindings(bindings) for name, bindings in given.items()}


def read_value(text: str) -> Any:
    """A value: JSON or a Python literal, the array of ``@file.npy``, else the text itself.

    >>> read_value("[[1,28,28]]"), read_value("true"), read_value("None"), read_value("mean")
    ([[1, 28, 28]], True, None, 'mean')

    Raises:
        UsageError: the file is missing, corrupt or pickled, or brackets do not close.
    """
    if text.startswith("@"):
        return _load(Path(text[1:]))
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    if text[:1] in ("[", "(", "{"):
        raise UsageError(f"{text!r} is no value", hint="write numbers as JSON: [[1,28,28]]")
    return text


def _load(path: Path) -> Any:
    import numpy as np

    if not path.is_file():
        raise UsageError(f"{path} does not exist", hint="@ names an .npy file with the values to bind")
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"cannot read {path} as .npy: {error}") from error
    if not isinstance(found, np.ndarray):
        raise UsageError(f"{path} holds several arrays", hint="save one with numpy.save(path, array)")
    return found
