"""Checking a saved package: by Apple's compiler on a Mac, by coremltools' op classes anywhere."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from anec.backend.emission import emit
from anec.backend.loading import load
from anec.backend.quiet import ct, quiet
from anec.errors import CheckError


@dataclass(frozen=True, slots=True)
class PackageCheck:
    """What was done to check a package.

    Args:
        target: the target the package is for.
        functions: how many functions it has.
        ops: how many ops they hold, constants apart.
        compiled: Apple's compiler took it; false off a Mac, where it does not exist.
    """

    target: str
    functions: int
    ops: int
    compiled: bool

    def __str__(self) -> str:
        first = f"{self.ops} ops in {self.functions} function{'s' * (self.functions != 1)} typed anew"
        second = "compiled by Core ML" if self.compiled else "not compiled: that needs macOS"
        return f"{first} for {self.target} by coremltools {ct.__version__}; {second}"


def check_package(path: str | Path) -> PackageCheck:
    """Read a package again, type every op by coremltools' own classes, and compile it on a Mac.

    Raises:
        AnecError: it cannot be read, or coremltools refuses an op or infers other types.
        CheckError: Core ML does not compile it.
    """
    module = load(path)
    emit(module)
    compiled = sys.platform == "darwin"
    if compiled:
        _compile(path)
    ops = sum(len(graph) for graph in module.functions.values())
    return PackageCheck(module.target, len(module.functions), ops, compiled)


def _compile(path: str | Path) -> None:
    try:
        with quiet():
            made = ct.models.utils.compile_model(str(path))
    except Exception as error:  # coremltools passes on what the compiler says, as plain exceptions
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckError(f"Core ML does not compile {path}: {reason}") from error
    shutil.rmtree(made, ignore_errors=True)
