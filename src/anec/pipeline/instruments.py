"""The instruments: verify, trace, dump, stop after a pass, disable passes, progress."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from anec.errors import AnecError, UsageError
from anec.ir.graph import Module, Op, Value
from anec.ir.printer import print_module
from anec.ir.verify import verify
from anec.pipeline.base import Pass
from anec.pipeline.manager import Instrument, PassReport, Report
from anec.pipeline.spec import Steps
from anec.pipeline.store import WeightStore, write_whole
from anec.rewrite.records import RewriteRecord

DumpWhen = Literal["change", "all", "failure"]
# How a list ends in JSON with an indent.
_END = "\n]\n"


class Verify(Instrument):
    """Level 0: the laws of the IR, before the first pass and behind each one.

    Args:
        lifted: the module comes straight from torch, which typed its ops itself.
    """

    def __init__(self, *, lifted: bool = False) -> None:
        self.lifted = lifted
        # Typing an aten op runs torch; one that was typed and has the same operands still fits.
        self.typed: dict[Op, tuple[object, ...]] = {}
        self.seen: dict[Op, tuple[object, ...]] = {}

    def start(self, module: Module, steps: Steps) -> None:
        if self.lifted:
            self.typed = {op: _operand_types(op) for op in module.ops()}
        self._verify(module)

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        if report.changed:
            self._verify(module, pass_.produces)
        elif pass_.produces is not None:
            verify(module, dialects=pass_.produces, types=False)

    def _verify(self, module: Module, dialects: Collection[str] | None = None) -> None:
        verify(module, dialects=dialects, types=self._wants_typing)
        # Ops that are gone are forgotten.
        self.typed, self.seen = self.seen, {}

    def _wants_typing(self, op: Op) -> bool:
        now = self.seen[op] = _operand_types(op)
        return self.typed.get(op) != now


def _operand_types(op: Op) -> tuple[object, ...]:
    """What an op's types follow from, operands, results and attributes."""
    return (
        *(operand.type if isinstance(operand, Value) else operand for operand in op.operands),
        *(value.type for value in op.results),
        *op.attrs.items(),
    )


class Disable(Instrument):
    """Leaves out passes by name."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = set(names)

    def should_run(self, pass_: Pass, index: int, module: Module) -> bool:
        return pass_.name not in self.names


class StopAfter(Instrument):
    """Skips everything behind the first run of a pass.

    Raises:
        UsageError: at the start, when the pipeline has no such pass.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False

    def start(self, module: Module, steps: Steps) -> None:
        from anec.pipeline.spec import flatten

        names = [step.pass_.name for step in flatten(steps)]
        if self.name not in names:
            raise UsageError(f"the pipeline has no pass {self.name!r}", hint="it runs " + ",".join(names))

    def should_run(self, pass_: Pass, index: int, module: Module) -> bool:
        return not self.stopped

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        self.stopped = self.stopped or pass_.name == self.name


class Progress(Instrument):
    """Tells a callback which pass runs."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    def before(self, pass_: Pass, index: int, module: Module) -> None:
        self.tell(pass_.name)


class Trace(Instrument):
    """Collects every rewrite."""

    wants_records = True

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def recorded(self, pass_: Pass, record: RewriteRecord) -> None:
        self.records.append({"pass": pass_.name, **record.as_json()})


class Dump(Trace):
    """Writes a folder to replay from: the module behind each pass, index, trace, inputs, weights.

    Weights that live in memory are written into it; those that lie in a file are referred to.

    Args:
        folder: created; files of an earlier dump in it are overwritten.
        when: ``change`` writes changed modules, ``all`` all, ``failure`` only the module in front
            of the pass that failed.
        inputs: example inputs, written to ``inputs.npz``.
        plugins: what the replay command must load.
        check: the checks it must make.
    """

    def __init__(
        self,
        folder: Path,
        when: DumpWhen = "change",
        inputs: Mapping[str, Any] | None = None,
        plugins: Collection[str] = (),
        check: str = "off",
    ) -> None:
        super().__init__()
        self.check = check
        self.folder, self.when, self.inputs, self.plugins = folder, when, inputs, list(plugins)
        self.index: list[dict[str, Any]] = []
        self.previous: str | None = None
        self.previous_name = ""
        self.traced = 0

    def start(self, module: Module, steps: Steps) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write the dump folder {self.folder}: {error.strerror}") from error
        self.store = WeightStore(self.folder)
        if self.when != "failure":
            self.write("000_input", module)
            self.index.append({"index": 0, "pass": "input", "file": "000_input.anec", "changed": True})
            if self.inputs is not None:
                self.write_inputs()

    def write(self, name: str, module: Module) -> None:
        with self._writing():
            write_whole(self.folder / f"{name}.anec", print_module(module, self.store.references(module)))
        self.previous_name = f"{name}.anec"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell a full disk as one, and not as a mistake of the pass that ran."""
        try:
            yield
        except OSError as error:
            raise AnecError(
                f"cannot write the dump folder {self.folder}: {error.strerror or error}",
                hint="make room, or dump to another folder",
            ) from error

    def write_inputs(self) -> None:
        from anec.check.arrays import save_npz

        assert self.inputs is not None
        save_npz(self.folder / "inputs.npz", self.inputs)

    def before(self, pass_: Pass, index: int, module: Module) -> None:
        if self.when == "failure":
            # The text is cheap; the weights are written only if the pass fails.
            self.previous = print_module(module)
            self.before_weights = {**module.weights}

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        if self.when == "failure":
            return
        name = f"{report.index:03d}_{pass_.name}"
        written = report.changed or self.when == "all"
        if written:
            self.write(name, module)
        self.index.append(
            {
                "index": report.index,
                "pass": report.spec,
                "file": f"{name}.anec" if written else None,
                "changed": report.changed,
                "ops": [report.ops_before, report.ops_after],
                "seconds": report.seconds,
                "fired": report.fired,
                "misses": report.misses,
                "notes": report.notes,
            }
        )
        self.flush()

    def failed(self, pass_: Pass, index: int, module: Module, error: AnecError) -> None:
        try:
            self._dump_failure(pass_, index, error)
        except AnecError as problem:
            # What failed first is what must be told.
            error.hint = error.hint or problem.message
            return
        error.within(replay=self.replay(pass_))

    def _dump_failure(self, pass_: Pass, index: int, error: AnecError) -> None:
        if self.when == "failure" and self.previous is not None:
            name = f"{index - 1:03d}_before_{pass_.name}"
            snapshot = Module(weights=self.before_weights)
            with self._writing():
                text = _with_references(self.previous, print_module(snapshot, self.store.references(snapshot)))
                write_whole(self.folder / f"{name}.anec", text)
            self.previous_name = f"{name}.anec"
            if self.inputs is not None:
                self.write_inputs()
        self.index.append({"index": index, "pass": pass_.spec(), "failed": error.message})
        self.flush()

    def replay(self, pass_: Pass) -> str:
        """The command that runs the pass again on the module in front of it."""
        command = ["anec", "opt", str(self.folder / self.previous_name), "--passes", pass_.spec()]
        if self.inputs is not None:
            command += ["--inputs", str(self.folder / "inputs.npz")]
        for plugin in self.plugins:
            command += ["--plugin", plugin]
        if self.check != "off":
            command += ["--check", self.check]
        return shlex.join(command)

    def flush(self) -> None:
        index = {"version": 1, "passes": self.index}
        with self._writing():
            write_whole(self.folder / "index.json", json.dumps(index, indent=1) + "\n")
            self._extend_trace()

    def _extend_trace(self) -> None:
        """Add the records since the last flush; the file grows with them, and is whole each time."""
        path, new = self.folder / "trace.json", self.records[self.traced :]
        text = json.dumps(new, indent=1) + "\n"
        if not self.traced:
            write_whole(path, text)
        elif new:
            with path.open("r+b") as file:
                file.seek(-len(_END), os.SEEK_END)
                file.write(("," + text[1:]).encode())
        self.traced = len(self.records)

    def finish(self, module: Module, report: Report) -> None:
        if self.when != "failure":
            self.flush()


def _with_references(text: str, head: str) -> str:
    """Put the weight lines of ``head`` into the header of ``text``."""
    lines = [line for line in head.splitlines() if line.startswith("weight ")]
    top, _, rest = text.partition("\n\n")
    return "\n".join([top, *lines]) + "\n\n" + rest


class ReplayHint(Instrument):
    """Ends a failure message with how to get a replay when nothing was dumped."""

    def failed(self, pass_: Pass, index: int, module: Module, error: AnecError) -> None:
        error.within(replay="run again with --dump DIR --dump-on failure; the message then ends with the command")
