"""Weights beside IR text: written once, named by content, referred to by path, offset and hash."""

from __future__ import annotations

import os
from pathlib import Path

from anec.ir.graph import Module
from anec.ir.printer import Reference
from anec.ir.weights import FileData, Weight, raw_bytes

FOLDER = "weights"


def write_whole(path: Path, text: str) -> None:
    """Write a text file; it appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class WeightStore:
    """The ``weights`` folder beside a text.

    Args:
        folder: the folder of the text; references are relative to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The weight is held so that its id stays its own.
        self._known: dict[int, tuple[Weight, Reference]] = {}
        self._written: list[Path] = []

    def undo(self) -> None:
        """Remove what this store has written, when the text it is for cannot be."""
        for path in self._written:
            path.unlink(missing_ok=True)
        folder = self.folder / FOLDER
        if self._written and not any(folder.iterdir()):
            folder.rmdir()
        self._written.clear()

    def references(self, module: Module) -> dict[str, Reference]:
        """A reference for each weight that has data; what lives only in memory is written first."""
        return {
            name: self._reference(weight) for name, weight in module.weights.items() if weight.data is not None
        }

    def _reference(self, weight: Weight) -> Reference:
        found = self._known.get(id(weight))
        if found is None:
            found = self._known[id(weight)] = (weight, self._place(weight))
        return found[1]

    def _place(self, weight: Weight) -> Reference:
        data = weight.data
        if isinstance(data, FileData) and weight.type.size:
            path = os.path.relpath(data.path, self.folder.resolve())
            return Reference(Path(path).as_posix(), data.offset, weight.digest())
        name = f"{FOLDER}/{weight.digest()}.bin"
        target = self.folder / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            self._written.append(target)
            try:
                with partial.open("wb") as file:
                    file.write(raw_bytes(weight.tensor()))
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        return Reference(name, 0, weight.digest())
