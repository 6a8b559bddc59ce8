"""The backend room: model packages. The only room that imports coremltools, and that on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anec.backend.paths import check_output

if TYPE_CHECKING:
    from anec.backend.check import PackageCheck, check_package
    from anec.backend.emission import emit
    from anec.backend.loading import load
    from anec.backend.package import mlmodel, save
    from anec.backend.planned import Planned, compute_plan
    from anec.backend.proto import to_spec

_HOME = {
    "PackageCheck": "check",
    "Planned": "planned",
    "check_package": "check",
    "compute_plan": "planned",
    "emit": "emission",
    "load": "loading",
    "mlmodel": "package",
    "save": "package",
    "to_spec": "proto",
}

__all__ = [
    "PackageCheck",
    "Planned",
    "check_output",
    "check_package",
    "compute_plan",
    "emit",
    "load",
    "mlmodel",
    "save",
    "to_spec",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
