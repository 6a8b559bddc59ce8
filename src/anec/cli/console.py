"""What a person sees: tables and colour on a terminal, plain text otherwise."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from anec.errors import AnecError
from anec.pipeline.instruments import Progress


def say(text: str) -> None:
    """A line for the person, on standard error, so that standard output stays data."""
    print(text, file=sys.stderr)


def error(found: AnecError, *, as_json: bool = False) -> None:
    """Show an error; as JSON on standard output when that was asked for."""
    if as_json:
        fields = ("message", "where", "window", "hint", "pass_name", "rule", "replay")
        show_json({"error": {name: getattr(found, name) for name in fields if getattr(found, name)}})
    say(f"error: {found}")


def show_json(data: Any) -> None:
    """Print JSON; a number that JSON lacks (inf, NaN) as text."""
    print(json.dumps(_plain(data), indent=1, allow_nan=False))


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Show rows; with rich on a terminal, aligned columns otherwise."""
    if sys.stdout.isatty():
        _rich_table(headers, rows)
        return
    texts = [[str(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(headers))]
    for row in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def few(names: Sequence[str], shown: int = 1) -> str:
    """The first names, and how many more there are.

    >>> few(["a", "b", "c"])
    'a (+2)'
    """
    return ", ".join(names[:shown]) + (f" (+{len(names) - shown})" if len(names) > shown else "")


def megabytes(count: int) -> str:
    """A number of bytes, in MB.

    >>> megabytes(1_234_567)
    '1.23 MB'
    """
    return f"{count / 1e6:.3g} MB"


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for header in headers:
        shown.add_column(header, overflow="fold")
    for row in rows:
        shown.add_row(*(escape(str(cell)) for cell in row))
    Console().print(shown)


def code_of_the_user() -> redirect_stdout[TextIO]:
    """What a factory, a model or a plugin prints goes to standard error: standard output is ours."""
    return redirect_stdout(sys.stderr)


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A spinner with the running pass's name, on a terminal; silence otherwise. Nothing of ours is printed within."""
    if not sys.stderr.isatty():
        with code_of_the_user():
            yield Progress(lambda name: None)
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status, code_of_the_user():
        yield Progress(lambda name: status.update(f"{what}: {name}"))
