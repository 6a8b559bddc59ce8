"""``CompiledModel``: run it anywhere, save it, look into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anec.api.collector import young_objects_only
from anec.errors import UsageError
from anec.ir.graph import Graph, Module
from anec.ir.signature import PortKind, Signature
from anec.pipeline.manager import Report

if TYPE_CHECKING:
    import torch


class CompiledModel:
    """A compiled function, or several.

    Attributes:
        module: the program, as IR.
        report: what each pass did; empty for a loaded package.
    """

    def __init__(
        self,
        module: Module,
        report: Report | None = None,
        *,
        path: Path | None = None,
        inputs: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.module = module
        self.report = report or Report()
        self._path = path
        self.example_inputs = dict(inputs or {})

    @property
    def signature(self) -> Signature:
        """The boundary of ``main`` (or of the only function); of others ``module.functions[name].signature``."""
        return self.module.main.signature

    @property
    def input_names(self) -> list[str]:
        return [port.name for port in self.signature.inputs if port.kind is not PortKind.STATE]

    @property
    def state_names(self) -> list[str]:
        """The buffers that the model changes, as states of the package."""
        return [port.name for port in self.signature.inputs if port.kind is PortKind.STATE]

    @property
    def output_names(self) -> list[str]:
        return [port.name for port in self.signature.outputs]

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the model as an ``.mlpackage``; it appears whole or not at all.

        Args:
            path: ends in ``.mlpackage``.
            overwrite: replace an existing package.

        Raises:
            UsageError: the path is taken or cannot be written.
            UnsupportedError: the module holds something the target does not have.
        """
        from anec import backend
        from anec.reference.threads import one_thread

        with one_thread(), young_objects_only():
            backend.save(self.module, path, overwrite=overwrite, metadata=self.module.meta)
        self._path = Path(path).absolute()

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        function: str | None = None,
        state: dict[str, torch.Tensor] | None = None,
        precision: str = "declared",
    ) -> dict[str, np.ndarray]:
        """Run the model on this machine.

        Args:
            inputs: an array, tensor or number for each input by public name, in torch's dtypes or
                Core ML's (int64 and bool pass where Core ML has int32; values are checked).
            function: which function, of several.
            state: states by name, as :meth:`make_state` gives them; updated in place. Absent ones start
                as zeros.
            precision: ``declared`` rounds as the program says, ``double`` computes in float64,
                ``pessimistic`` also rounds inside reductions and norms.

        Returns:
            The outputs by public name.

        Raises:
            UsageError: an unknown or missing input, a wrong shape or dtype, a value out of range.
            AnecError: an op fails.
        """
        from anec.api.boundary import check_inputs, check_states, restore_outputs
        from anec.reference.call import PRECISIONS
        from anec.reference.evaluate import evaluate

        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r}", hint="known: " + ", ".join(PRECISIONS))
        graph = self._function(function)
        tensors = check_inputs(self.module, graph, inputs)
        states = {} if state is None else state
        check_states(self.module, graph, states)
        outputs = evaluate(
            self.module, tensors, function=graph.name, precision=PRECISIONS[precision], state=states
        )
        given = {tensor.data_ptr() for tensor in tensors.values()}
        for name, tensor in states.items():
            if tensor.data_ptr() in given:
                states[name] = tensor.clone()  # an input that is stored as it came is the caller's own
        return restore_outputs(graph, outputs)

    def make_state(self, function: str | None = None) -> dict[str, torch.Tensor]:
        """Fresh states of a function for :meth:`run`: zeros by name; empty for a function without states."""
        import torch

        from anec.api.boundary import states_of
        from anec.ir.weights import torch_dtype

        states = states_of(self._function(function))
        return {name: torch.zeros(v.shape, dtype=torch_dtype(v.tensor.dtype)) for name, v in states.items()}

    def _function(self, name: str | None) -> Graph:
        functions = self.module.functions
        if name is None:
            if "main" not in functions and len(functions) > 1:
                raise UsageError("which function?", hint="function= takes one of " + ", ".join(functions))
            return self.module.main
        if name not in self.module.functions:
            raise UsageError(f"there is no function {name!r}", hint="known: " + ", ".join(self.module.functions))
        return self.module.functions[name]

    def mlmodel(self, compute_units: str = "ALL") -> Any:
        """The model as coremltools' ``MLModel``; save it first. It predicts on macOS only.

        Args:
            compute_units: ``ALL``, ``CPU_AND_NE``, ``CPU_AND_GPU`` or ``CPU_ONLY``.

        Raises:
            UsageError: the model was not saved, or the compute units are unknown.
        """
        from anec import backend

        known = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")
        if compute_units not in known:
            raise UsageError(f"unknown compute units {compute_units!r}", hint="known: " + ", ".join(known))
        if self._path is None:
            raise UsageError("the model has no package yet", hint='call .save("model.mlpackage") first')
        return backend.mlmodel(self._path, compute_units)

    def __repr__(self) -> str:
        return f"CompiledModel({', '.join(map(self._describe, self.module.functions.values()))}, {self.module.target})"

    def _describe(self, graph: Graph) -> str:
        ports = ", ".join(f"{p.name}: {p.type}" for p in graph.signature.inputs)
        outputs = ", ".join(f"{p.name}: {p.type}" for p in graph.signature.outputs)
        return f"{graph.name if len(self.module.functions) > 1 else ''}({ports}) -> ({outputs})"


def load(path: str | Path) -> CompiledModel:
    """Load an ``.mlpackage``, made by anec or by coremltools, to run or to look into.

    Raises:
        UsageError: the path does not exist.
        AnecError: the package is corrupt or not an ML Program.
    """
    from anec import backend

    if not Path(path).exists():
        raise UsageError(f"{path} does not exist")
    if Path(path).suffix == ".anec":
        raise UsageError(f"{path} is IR text, not a package", hint="anec.read(path)")
    return CompiledModel(backend.load(path), path=Path(path))
