"""Hold the reference kernels against the expected values in coremltools' own op tests.

coremltools installs its op tests, ``coremltools/converters/mil/mil/ops/tests``. Each builds a pymil
program and names the outputs Core ML is to give. Here they run as they are, in one pytest session,
with conversion and prediction replaced by :mod:`pymil`'s interpreter. Three kinds of values are
held:

* ``run_compare_builder``: the interpreter's outputs against ``expected_outputs``, at the test's
  tolerance, and every op's shape and dtype against coremltools' inference;
* ``ct.convert(...).predict``: the test's own assertions on the interpreter's outputs;
* constant programs: the kernel against coremltools' value inference, which the test asserts.

The backend is mlprogram in fp32 only, in every opset a test knows. A test that Apple expects to
fail in Core ML for a bug (xfail, or a skip naming one) counts like any other: its values are meant.
"""

from __future__ import annotations

import io
import os
import random
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

# Read by coremltools.converters.mil.testing_reqs when it is imported.
os.environ["PYMIL_TEST_TARGETS"] = "mlprogram"
os.environ["INCLUDE_MIL_FP32_UNIT_TESTS"] = "1"
os.environ["RUN_BACKWARD_COMPATIBILITY"] = "1"

import coremltools as ct
from coremltools.converters.mil import testing_reqs, testing_utils
from coremltools.converters.mil.mil import Operation
from coremltools.converters.mil.mil.ops import tests as apple_tests
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

from reference.apple_model import FLOAT16_TOLERANCE, Model, Progress, compare_outputs, noting
from reference.pymil import NoKernel, NotApplicable, opset_number, run_op, to_tensor

SKIPPED = pytest.skip.Exception
TESTS = Path(next(iter(apple_tests.__path__)))
PASSED, FAILED, NO_KERNEL, DISAGREES = "passed", "failed", "no kernel", "disagrees"
NOT_APPLICABLE = "not applicable"
STATUSES = (PASSED, FAILED, NO_KERNEL, DISAGREES, NOT_APPLICABLE)

KNOWN_DISAGREEMENTS: dict[str, str] = {
    r"TestSliceBySize::test_builder_eval$": (
        "coremltools declares 5 elements for begin=-2, size=-1 where its own value inference gives 2"
    ),
    r"TestUpsampleBilinear::test_builder_to_backend_stress.*recompute_scale_factor=False": (
        "expects torch's fixed scale of a fractional size; Core ML recomputes it (Apple expects a failure)"
    ),
    r"TestCropResize::test_builder_to_backend_ios1[67].*(pad_value=(0.0|1.0|10.0)|N=3)": (
        "expects 7.899 (typed by hand) where arithmetic on its input gives 7.9"
    ),
    r"test_scatter_gather.py::TestGather(AlongAxis)?::test_builder_invalid_indices.*-1": (
        "coremltools' value inference wraps negative indices from iOS17, where they are undefined"
    ),
}
"""Pattern of test ids -> why the test is not followed; these count as ``disagrees``, not as failed."""


@dataclass
class Outcome:
    """What became of one test."""

    test: str
    op: str
    status: str
    reason: str = ""


class Recorder:
    """A pytest plugin: replaces conversion and prediction, records an outcome for every test."""

    def __init__(self, select: Callable[[list[Any]], list[Any]] | None = None) -> None:
        self.outcomes: list[Outcome] = []
        self.collected = 0
        self._select = select
        self._progress = Progress()
        self._building = 0
        self._reports: dict[str, Any] = {}

    # -- what replaces coremltools' functions

    def ct_convert(self, program: Any, *_: Any, **__: Any) -> Model:
        return Model(program, self._progress)

    def compare_backend(
        self,
        mlmodel: Model,
        input_key_values: Any = None,
        expected_outputs: Any = None,
        dtype: str = "fp32",
        atol: float = 1e-4,
        rtol: float = 1e-5,
        also_compare_shapes: bool = True,
        **_: Any,
    ) -> None:
        with noting(self._progress):
            compare_outputs(mlmodel, input_key_values, expected_outputs, atol, rtol, also_compare_shapes)
        self._progress.values += 1

    def get_core_ml_prediction(self, *_: Any, **__: Any) -> None:
        with noting(self._progress):
            raise NotApplicable("asks Core ML for its random numbers")

    def skip(self, reason: str = "", **kwargs: Any) -> None:
        # "rdar" names a bug of Core ML's: the values are meant all the same.
        if kwargs.get("allow_module_level") or not reason.startswith("rdar"):
            raise SKIPPED(reason, allow_module_level=kwargs.get("allow_module_level", False))

    def _check_value_inference(self, op: Any, output_types: Any, values: Any) -> None:
        if self._building or op.op_type == "const" or any(value is None for value in values):
            return
        self._progress.op_types.append(op.op_type)
        try:
            results = run_op(op, {}, output_types, opset_number(op.opset_version))
            for declared, value, result in zip(output_types, values, results, strict=True):
                primitive = declared.get_primitive() if hasattr(declared, "get_primitive") else declared
                wanted = to_tensor(value, primitive).to(torch.float64)
                limit = FLOAT16_TOLERANCE if result.dtype == torch.float16 else 1e-4
                torch.testing.assert_close(result.to(torch.float64), wanted, atol=limit, rtol=limit, equal_nan=True)
        except (NoKernel, NotApplicable) as problem:
            self._progress.problem = self._progress.problem or problem
        except Exception as problem:
            self._progress.wrong_value = problem
        else:
            self._progress.values += 1

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Replace conversion, prediction and value inference while the tests run."""
        from coremltools.converters.mil.mil.ops.tests import testing_utils as builder_utils

        auto_val = Operation._auto_val
        run_compare_builder = builder_utils.run_compare_builder
        recorder = self

        def checked_auto_val(op: Any, output_types: Any) -> Any:
            values = auto_val(op, output_types)
            recorder._check_value_inference(op, output_types, [getattr(v, "val", None) for v in values])
            return values

        def checked_builder(*args: Any, **kwargs: Any) -> Any:
            recorder._building += 1
            try:
                return run_compare_builder(*args, **kwargs)
            finally:
                recorder._building -= 1

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(builder_utils, "ct_convert", self.ct_convert)
            patch.setattr(builder_utils, "compare_backend", self.compare_backend)
            patch.setattr(builder_utils, "run_compare_builder", checked_builder)
            patch.setattr(testing_utils, "assert_model_is_valid", lambda *_, **__: None)
            patch.setattr(testing_utils, "get_core_ml_prediction", self.get_core_ml_prediction)
            patch.setattr(ct, "convert", self.ct_convert)
            patch.setattr(pytest, "xfail", lambda *_, **__: None)
            patch.setattr(pytest, "skip", self.skip)
            # Tests are skipped where macOS is older than a bug's fix: no bug of Core ML's is met here.
            patch.setattr(ct.utils, "_macos_version", lambda: (99, 0))
            patch.setattr(Operation, "_auto_val", checked_auto_val)
            yield
        # Test modules hold what was patched by name: the next run imports them anew.
        for name in [name for name in sys.modules if name.startswith(f"{apple_tests.__name__}.")]:
            if name != builder_utils.__name__:
                del sys.modules[name]

    # -- pytest hooks

    def pytest_collection_modifyitems(self, items: list[Any], config: Any) -> None:
        self.collected = len(items)
        if self._select is not None:
            chosen = self._select(items)
            kept = {id(item) for item in chosen}
            config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
            items[:] = chosen

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> Iterator[None]:
        self._progress, self._reports = Progress(), {}
        # A test draws its inputs when it runs: the same ones in a sample and in a full run.
        seed = zlib.crc32(_test_id(item).encode())
        np.random.seed(seed)  # noqa: NPY002 - it is what those tests draw from
        random.seed(seed)
        torch.manual_seed(seed)
        result = yield
        self.outcomes.append(self._outcome(item))
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._reports[report.when] = report

    def _outcome(self, item: Any) -> Outcome:
        progress = self._progress
        test, op = _test_id(item), _subject(item, progress.op_types)
        report = self._reports.get("call") or self._reports.get("setup")
        problem = progress.wrong_value or progress.problem
        if report is None:
            return Outcome(test, op, FAILED, "pytest gave no report")
        text = str(getattr(report, "longrepr", ""))
        if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else text
            return Outcome(test, op, NOT_APPLICABLE, reason)
        if isinstance(problem, NoKernel):
            return Outcome(test, str(problem), NO_KERNEL, f"{problem} has no kernel")
        if isinstance(problem, NotApplicable) and not progress.values:
            return Outcome(test, op, NOT_APPLICABLE, str(problem))
        failed = report.outcome != "passed" or progress.wrong_value is not None
        if failed and "NotApplicable: looks at the converted model" in text and problem is None:
            failed = False
        if not failed:
            if progress.values or problem is not None:
                return Outcome(test, op, PASSED)
            return Outcome(test, op, NOT_APPLICABLE, "the test has no expected values")
        reason = f"{type(problem).__name__}: {problem}" if problem else text
        if problem is None and not progress.values:
            return Outcome(test, op, NOT_APPLICABLE, f"fails without a value: {reason}")
        for pattern, why in KNOWN_DISAGREEMENTS.items():
            if re.search(pattern, test):
                return Outcome(test, op, DISAGREES, why)
        return Outcome(test, op, FAILED, reason)


def _test_id(item: Any) -> str:
    return f"{Path(item.path).relative_to(TESTS).as_posix()}::{item.nodeid.split('::', 1)[1]}"


def _squeezed(name: str) -> str:
    return name.lower().replace("_", "")


def _subject(item: Any, op_types: Sequence[str]) -> str:
    """Name the op a test is about: by its class, a parameter, else the last op it built."""
    known = {_squeezed(name): name for name in SSAOpRegistry.core_ops}
    built = [name for name in op_types if name != "const"]
    names = [re.sub(r"^Test|IOS\d+$", "", item.cls.__name__)] if item.cls is not None else []
    if hasattr(item, "callspec"):
        words = [value for value in item.callspec.params.values() if isinstance(value, str)]
        names += words + [f"reduce_{word}" for word in words]
    found = [known[_squeezed(name)] for name in names if _squeezed(name) in known]
    for name in found:
        if name in built:
            return name
    return built[-1] if built else found[0] if found else names[0] if names else str(item.name)


def sample(count: int, seed: int) -> Callable[[list[Any]], list[Any]]:
    """Choose about ``count`` tests: at least one of every test function, the rest at random."""

    def choose(items: list[Any]) -> list[Any]:
        generator = random.Random(seed)
        groups: dict[str, list[Any]] = {}
        for item in items:
            groups.setdefault(_test_id(item).partition("[")[0], []).append(item)
        chosen = {id(generator.choice(group)) for group in groups.values()}
        rest = [item for item in items if id(item) not in chosen]
        extra = generator.sample(rest, min(len(rest), max(0, count - len(chosen))))
        chosen |= {id(item) for item in extra}
        return [item for item in items if id(item) in chosen]

    return choose


def run(
    *,
    select: Callable[[list[Any]], list[Any]] | None = None,
    keyword: str | None = None,
    paths: Sequence[str] = (),
) -> Recorder:
    """Run coremltools' op tests, or those ``select`` chooses, and return what was recorded.

    Args:
        select: takes the collected items, returns those to run, in order.
        keyword: pytest's ``-k``.
        paths: files under coremltools' test folder; all by default.

    Raises:
        RuntimeError: pytest could not collect the tests.
    """
    testing_reqs.backends_internal[:] = [b for b in testing_reqs.backends_internal if b.precision == "fp32"]
    testing_reqs.backends[:] = [b for b in testing_reqs.backends if b[1] == "fp32"]
    recorder = Recorder(select)
    arguments = [str(TESTS / path) for path in paths] or [str(TESTS)]
    arguments += [
        "-q",
        "--no-header",
        "--no-summary",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:warnings",
    ]
    arguments += ["-c", os.devnull, "--rootdir", str(TESTS)]
    if keyword:
        arguments += ["-k", keyword]
    said = io.StringIO()
    with recorder.patched(), redirect_stdout(said):
        code = pytest.main(arguments, plugins=[recorder])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {code!r} over {TESTS}:\n{said.getvalue()[-4000:]}")
    return recorder


def family(op: str) -> str:
    """Name the module of coremltools that defines ``op``, or "" if it defines none."""
    versions = SSAOpRegistry.core_ops.get(op)
    return next(iter(versions.values())).__module__.rpartition(".")[2] if versions else ""


def table(outcomes: Sequence[Outcome]) -> list[tuple[str, Counter[str]]]:
    """Count the outcomes of each op, by name."""
    rows: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        rows.setdefault(outcome.op, Counter())[outcome.status] += 1
    return sorted(rows.items())
