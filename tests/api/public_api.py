"""What the public API is, as text: run this file to write ``public_api.txt`` anew."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import anec

FILE = Path(__file__).parent / "public_api.txt"


def snapshot() -> str:
    """Every name of ``anec.__all__`` with its signature; classes with their public members."""
    lines = [f"anec {name}" for name in anec.__all__]
    for name in anec.__all__:
        found = getattr(anec, name)
        if inspect.isclass(found):
            lines += ["", *_class(name, found)]
        elif inspect.isroutine(found):
            lines += ["", f"{name}{_signature(found)}"]
    return "\n".join(lines) + "\n"


def _class(name: str, cls: type) -> list[str]:
    lines = [f"class {name}{_signature(cls)}"]
    members = {key: member for base in reversed(cls.__mro__[:-1]) if base.__module__.startswith("anec") for key, member in vars(base).items()}
    for key, member in sorted(members.items()):
        if key.startswith("_"):
            continue
        plain = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if inspect.isroutine(plain):
            lines.append(f"    {key}{_signature(plain)}")
        elif isinstance(plain, property):
            lines.append(f"    {key}: property")
    return lines


def _signature(found: Any) -> str:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return ""
    parameters = [p.replace(default=p.default if _is_plain(p.default) else ...) for p in signature.parameters.values()]
    return str(signature.replace(parameters=parameters))


def _is_plain(default: Any) -> bool:
    return default is inspect.Parameter.empty or isinstance(default, (str, int, float, bool, tuple, type(None)))


if __name__ == "__main__":
    FILE.write_text(snapshot(), encoding="utf-8")
