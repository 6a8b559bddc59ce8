"""Where Core ML itself says it runs each op of a package; on a Mac only."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from anec.backend.quiet import ct, quiet
from anec.errors import CheckError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Planned:
    """What Core ML says of one op: its supported devices and the preferred one (``ANE``, ``GPU``, ``CPU``)."""

    op: str
    supported: tuple[str, ...]
    preferred: str


def compute_plan(path: str | Path, units: str = "cpu-and-ne") -> dict[str, dict[str, Planned]]:
    """Ask Core ML for its plan.

    Args:
        path: a saved package.
        units: ``cpu-and-ne`` or ``all``.

    Returns:
        By function and by the name of an op's first output; constants, which run nowhere, are left out.

    Raises:
        UnsupportedError: off a Mac, where Core ML does not exist.
        CheckError: Core ML does not compile the package.
    """
    if sys.platform != "darwin":
        raise UnsupportedError(
            "Core ML's own plan needs macOS 14.4 or later", hint="without it, anec analyze shows the prediction alone"
        )
    from coremltools.models.compute_plan import MLComputePlan

    chosen = ct.ComputeUnit.ALL if units == "all" else ct.ComputeUnit.CPU_AND_NE
    try:
        with quiet():
            made = ct.models.utils.compile_model(str(path))
            try:
                plan = MLComputePlan.load_from_path(path=str(made), compute_units=chosen)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    except Exception as error:  # coremltools passes on what the compiler says, as plain exceptions
        raise CheckError(f"Core ML makes no plan for {path}: {error}") from error
    found: dict[str, dict[str, Planned]] = {}
    for name, function in plan.model_structure.program.functions.items():
        found[name] = {}
        for op in function.block.operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(op)
            if usage is not None and op.outputs:
                supported = tuple(_name(device) for device in usage.supported_compute_devices)
                kind = op.operator_name.rpartition(".")[2]
                found[name][op.outputs[0].name] = Planned(kind, supported, _name(usage.preferred_compute_device))
    return found


def _name(device: object) -> str:
    kind = type(device).__name__
    return {"MLNeuralEngineComputeDevice": "ANE", "MLGPUComputeDevice": "GPU"}.get(kind, "CPU")
