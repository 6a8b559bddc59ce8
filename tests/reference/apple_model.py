"""What stands for a converted Core ML model in coremltools' op tests: the interpreter's predictions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import coremltools as ct
import numpy as np
import torch

from anec.errors import AnecError
from reference.pymil import Interpreter, NotApplicable

FLOAT16_TOLERANCE = 5e-3
"""Where the program is declared in float16: tests expect what float32 inputs and weights give, which
over a recurrence of 8 steps and 64 inputs is seven roundings away. Core ML's own limit is 0.5."""


@dataclass
class Progress:
    """What the running test has done so far."""

    values: int = 0
    op_types: list[str] = field(default_factory=list)
    problem: BaseException | None = None
    """What went wrong in a prediction; tests that want an error catch it."""
    wrong_value: Exception | None = None
    """A kernel's difference from coremltools' value inference, which no test catches."""


@contextmanager
def noting(progress: Progress) -> Iterator[None]:
    """Keep what goes wrong; a kernel's refusal becomes the error Core ML's prediction gives."""
    try:
        yield
    except AnecError as problem:
        progress.problem = problem
        raise RuntimeError(f"Error computing NN outputs: {problem}") from problem
    except Exception as problem:
        progress.problem = problem
        raise


class Prediction(dict[str, np.ndarray]):
    """Outputs by name, whatever number the name of an unnamed op has.

    pymil numbers its ops through the whole process, a converted model from 0: tests know the latter.
    """

    def __missing__(self, name: str) -> np.ndarray:
        pattern = re.sub(r"_\d+", r"_\\d+", name, count=1)
        found = [key for key in self if re.fullmatch(pattern, key)]
        if len(found) != 1:
            raise KeyError(name)
        return self[found[0]]


class Model:
    """Stands for a converted model: it predicts by the interpreter and knows nothing else."""

    def __init__(self, program: Any, progress: Progress) -> None:
        progress.op_types += [op.op_type for op in program.functions["main"].operations]
        with noting(progress):
            self.interpreter = Interpreter(program)
        self.compute_unit = ct.ComputeUnit.CPU_ONLY
        self._progress = progress
        self._is_stateful = lambda: bool(self.interpreter.states)

    def make_state(self) -> Interpreter:
        """Return what holds the states: the interpreter itself."""
        return self.interpreter

    def predict(self, data: dict[str, Any], state: object = None) -> dict[str, np.ndarray]:
        """Run the program; a rank-0 output has shape (1,) as at Core ML's boundary."""
        with noting(self._progress):
            outputs = self.interpreter.run(data)
        self._progress.values += 1
        return Prediction({name: np.atleast_1d(value.numpy()) for name, value in outputs.items()})

    def __getattr__(self, name: str) -> Any:
        raise NotApplicable(f"looks at the converted model ({name})")


def compare_outputs(
    model: Model,
    inputs: dict[str, Any] | None,
    expected: dict[str, Any] | None,
    atol: float,
    rtol: float,
    also_compare_shapes: bool,
) -> None:
    """Predict and hold the outputs against the expected ones."""
    if expected is None or any(value is None for value in expected.values()):
        raise NotApplicable("the test has no expected values")
    outputs = model.interpreter.run(inputs)
    if model.interpreter.uses_float16:
        atol, rtol = max(atol, FLOAT16_TOLERANCE), max(rtol, FLOAT16_TOLERANCE)
    for name, value in expected.items():
        got = outputs[name]
        wanted = np.asarray(value)
        if also_compare_shapes:
            assert np.atleast_1d(wanted).shape == np.atleast_1d(got.numpy()).shape, (
                f"output {name} has shape {tuple(got.shape)}, expected {wanted.shape}"
            )
        if wanted.dtype.kind in "fiub":
            wide = torch.float64 if got.dtype.is_floating_point else torch.int64
            np.testing.assert_allclose(
                got.to(wide).numpy(), wanted.astype(np.float64), atol=atol, rtol=rtol, err_msg=name
            )
        else:
            raise NotApplicable(f"expected values of dtype {wanted.dtype}")
