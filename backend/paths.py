"""Where things lie in a model package, and whether one can be written; needs no coremltools."""

from __future__ import annotations

import os
from pathlib import Path

from anec.errors import UsageError

MODEL = Path("Data", "com.apple.CoreML", "model.mlmodel")
WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")


def check_output(path: str | Path, *, overwrite: bool = False) -> Path:
    """Check that a package can be written to ``path``, and return it as an absolute path.

    Raises:
        UsageError: a wrong ending, something is there already, or the folder is missing or read-only.
    """
    destination = Path(os.path.abspath(path))
    if destination.suffix != ".mlpackage":
        if destination.is_dir():
            raise UsageError(f"{path} is a folder", hint="name a package in it, such as model.mlpackage")
        raise UsageError(f"{path} does not end in .mlpackage", hint=f"write {destination.name}.mlpackage")
    if destination.exists() or destination.is_symlink():
        if not overwrite:
            raise UsageError(f"{path} exists already", hint="--force (overwrite=True) replaces it")
        if not destination.is_dir() or destination.is_symlink():
            raise UsageError(f"{path} is a file, not a package", hint="choose another name")
        if any(destination.iterdir()) and not (destination / "Manifest.json").exists():
            raise UsageError(f"{path} is a folder, but no package; it is not replaced", hint="choose another name")
    folder = destination.parent
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"the folder {folder} cannot be written to")
    return destination
