"""What the examples that read a page share: packages compiled on first use, and two readings compared."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import anec

# A box, its text, and how sure the reader is.
Line = tuple[Any, str, float]


def compile_missing(
    names: Iterable[str], sources: str | Path, folder: Path, precision: str
) -> dict[str, anec.CompiledModel]:
    """Compile the named factories of a file where ``folder`` has no package of them; load all from disk."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded = {}
    for name in names:
        path = folder / f"{name}-{precision}.mlpackage"
        if not path.exists():
            start = time.perf_counter()
            anec.compile(f"{sources}:{name}", passes="default,ane", precision=precision).save(path)
            print(f"compiled {path.name} in {time.perf_counter() - start:.1f} s", flush=True)
        loaded[name] = anec.load(path)
    return loaded


def compare(expected: Sequence[Line], found: Sequence[Line]) -> str:
    """What differs: texts, the number of boxes, corners by more than two pixels; else nothing."""
    if len(expected) != len(found):
        return f"{len(found)} boxes instead of {len(expected)}"
    for (box, text, _), (other_box, other_text, _) in zip(expected, found, strict=True):
        if text != other_text:
            return f"{other_text!r} instead of {text!r}"
        distance = np.abs(np.array(box, float) - np.array(other_box, float)).max()
        if distance > 2:
            return f"a corner of {text!r} is off by {distance:.1f} pixels"
    return ""
