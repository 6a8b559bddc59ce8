"""Options of passes: values of dataclass fields as pipeline text, and back."""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Union

from anec.errors import UsageError

_BARE = re.compile(r"[^\s,{}\[\]\"]+")
_SPECIAL = frozenset({"none", "true", "false"})


def quote(text: str) -> str:
    """The text as one word of a pipeline: in quotes where it would fall apart otherwise."""
    if _BARE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def format_option(value: object) -> str:
    """An option's value as pipeline text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(map(format_option, value)) + "]"
    if value is None:
        return "none"
    if isinstance(value, enum.Enum):
        return quote(str(value.value))
    # A string that reads like another value keeps its quotes.
    return f'"{value}"' if value in _SPECIAL else quote(str(value))


def scan_value(text: str, position: int) -> int:
    """Where the value that starts at ``position`` ends: a word, a string in quotes, or a list in brackets.

    Raises:
        ValueError: no value starts there, or it does not end.
    """
    if text.startswith('"', position):
        match = re.compile(r'"(?:[^"\\]|\\.)*"').match(text, position)
    elif text.startswith("[", position):
        return _scan_list(text, position)
    else:
        match = _BARE.match(text, position)
    if match is None:
        raise ValueError("expected a value")
    return match.end()


def _scan_list(text: str, position: int) -> int:
    position += 1
    while True:
        while position < len(text) and (text[position].isspace() or text[position] == ","):
            position += 1
        if text.startswith("]", position):
            return position + 1
        if position >= len(text):
            raise ValueError("a bracket is not closed")
        position = scan_value(text, position)


def split_list(text: str) -> list[str]:
    """The items of a list's text; without brackets the parts between commas."""
    if not text.startswith("["):
        return [part.strip() for part in unquote(text).split(",") if part.strip()]
    items, position, end = [], 1, len(text) - 1
    while position < end:
        if text[position].isspace() or text[position] == ",":
            position += 1
            continue
        start, position = position, scan_value(text, position)
        items.append(text[start:position])
    return items


def unquote(text: str) -> str:
    """The text behind :func:`quote`."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def canonical(text: str) -> str:
    """A value's text without needless quotes and spaces."""
    if text.startswith("["):
        return "[" + ",".join(map(canonical, split_list(text))) + "]"
    plain = unquote(text)
    return text if text.startswith('"') and plain in _SPECIAL else quote(plain)


def convert(text: str, wanted: Any, where: str) -> Any:
    """Option text as a value of a field's type.

    Args:
        text: as written in the pipeline, quotes included.
        wanted: the field's type.
        where: what errors call it, ``"pass{option=...}"``.

    Raises:
        UsageError: the text is no such value.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (Union, types.UnionType):
        return _convert_union(text, arguments, where)
    if origin is typing.Literal:
        found = next((argument for argument in arguments if format_option(argument) == quote(unquote(text))), None)
        if found is None:
            raise UsageError(f"{where}: {unquote(text)!r} is not among {', '.join(map(str, arguments))}")
        return found
    if origin in (tuple, list):
        return origin(_convert_items(split_list(text), arguments, where))
    if wanted is bool:
        if text not in ("true", "false"):
            raise UsageError(f"{where}: {text!r} is neither true nor false")
        return text == "true"
    return _construct(unquote(text), wanted, where)


def _convert_union(text: str, arguments: tuple[Any, ...], where: str) -> Any:
    if text == "none" and type(None) in arguments:
        return None
    wanted = [argument for argument in arguments if argument is not type(None)]
    for argument in wanted:
        try:
            return convert(text, argument, where)
        except UsageError:
            if len(wanted) == 1:
                raise
    raise UsageError(f"{where}: {unquote(text)!r} is neither {' nor '.join(map(_article, wanted))}")


def _convert_items(items: list[str], arguments: tuple[Any, ...], where: str) -> list[Any]:
    if len(arguments) == 1 or arguments[-1] is Ellipsis:
        return [convert(item, arguments[0], where) for item in items]
    if len(items) != len(arguments):
        raise UsageError(f"{where}: {len(items)} values, wanted {len(arguments)}")
    return [convert(item, argument, where) for item, argument in zip(items, arguments, strict=True)]


def _construct(text: str, wanted: Callable[[str], Any], where: str) -> Any:
    try:
        return wanted(text)
    except (ValueError, TypeError):
        if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
            known = ", ".join(str(member.value) for member in wanted)
            raise UsageError(f"{where}: {text!r} is not among {known}") from None
        raise UsageError(f"{where}: {text!r} is not {_article(wanted)}") from None


def _article(wanted: object) -> str:
    if typing.get_origin(wanted) is typing.Literal:
        return " nor ".join(map(format_option, typing.get_args(wanted)))
    names: dict[object, str] = {int: "an integer", float: "a number"}
    return names.get(wanted, f"a {getattr(wanted, '__name__', wanted)}")
