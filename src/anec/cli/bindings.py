"""A SOURCE with ``--bind NAME=VALUE`` and ``--shapes NAME=SHAPE``, and ``--function NAME:K=V``: values as text."""

from __future__ import annotations

import ast
import json
import re
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anec.cli import console
from anec.errors import UsageError

if TYPE_CHECKING:
    from anec.frontend import Source

# A comma stands between two bindings where a name and = follow it.
_NEXT = re.compile(r",(?=[A-Za-z_]\w*=)")


def read_source(text: str, options: Namespace) -> Source:
    """A SOURCE; ``--bind`` adds to what it binds itself, ``--shapes`` stand in place of its own dynamic shapes.

    Raises:
        UsageError: no such source, no ``=``, or a name given twice.
    """
    from anec.frontend import load_source

    if text.endswith((".mlpackage", ".anec")):
        raise UsageError(
            f"{text} is compiled already", hint="a SOURCE is file.py:factory, package.module:factory or model.pt2"
        )
    with console.code_of_the_user():
        source = load_source(text, trust=options.trust)
    shapes = _read_shapes(options.shapes)
    source = replace(source, bind={**(source.bind or {}), **read_bindings(options.bind)} or None)
    return replace(source, shapes=shapes, dynamic_shapes=None) if shapes else source


def refuse_for_programs(options: Namespace, programs: Iterable[str]) -> None:
    """A program is compiled already: nothing is bound, and no shape changes.

    Raises:
        UsageError: an option that says how a SOURCE is exported was given.
    """
    given = [name for name in ("bind", "shapes", "function") if getattr(options, name, None)]
    if given:
        raise UsageError(
            f"--{given[0]} is for a SOURCE; {' and '.join(programs)} cannot change", hint=f"leave out --{given[0]}"
        )


def _read_shapes(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    parts = (part for given in texts for part in _NEXT.split(given))
    for name, shapes in _pairs(parts, "is no shape of an input", "write x=1x3x32..640x32..640"):
        if found.setdefault(name, shapes) != shapes:
            raise UsageError(f"the shapes of {name} are given twice", hint="list them: x=1x480,1x640")
    return found


def _pairs(texts: Iterable[str], what: str, hint: str) -> Iterator[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{text!r} {what}", hint=hint)
        yield name, value


def read_bindings(texts: Sequence[str]) -> dict[str, Any]:
    """The values of ``--bind`` options, by name.

    Raises:
        UsageError: no ``=``, a name given twice, or a file that cannot be read.
    """
    found: dict[str, Any] = {}
    for name, value in _pairs(texts, "binds nothing", "write name=value, such as grid_thw=[[1,28,28]]"):
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
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"{path} {what}", hint="@ names an .npy file with the values to bind")
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"cannot read {path} as .npy: {error}") from error
    if not isinstance(found, np.ndarray):
        raise UsageError(f"{path} holds several arrays", hint="save one with numpy.save(path, array)")
    return found
