"""What the public API is, as text: run this file to write ``public_api.txt`` anew."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import anec

# The other classes are the IR, which a pass reads: they may still grow.
CLASSES = ("Close", "CompiledModel", "Lossy", "Source")
FILE = Path(__file__).parent / "public_api.txt"


def snapshot() -> str:
    """Every name of ``anec.__all__``; the signatures of functions, and what users build and call of classes."""
    lines = [f"anec {name}" for name in anec.__all__]
    for name in anec.__all__:
        found = getattr(anec, name)
        if name in CLASSES:
            lines += ["", *_class(name, found)]
        elif inspect.isroutine(found):
            lines += ["", f"{name}{_signature(found)}"]
    return "\n".join(lines) + "\n"


def _class(name: str, cls: type) -> list[str]:
    lines = [f"class {name}{_signature(cls)}"]
    for key, member in sorted(vars(cls).items()):
        if key.startswith("_"):
            continue
        if inspect.isroutine(member):
            lines.append(f"    {key}{_signature(member)}")
        elif isinstance(member, property):
            lines.append(f"    {key}: property")
    return lines


def _signature(found: Any) -> str:
    return str(inspect.signature(found))


if __name__ == "__main__":
    FILE.write_text(snapshot(), encoding="utf-8")
