"""Golden tests of passes: IR text before and after, in ``tests/golden/<pass>/<case>.anec``.

A file holds the input and the expected output, separated by a line ``// -----``; one without that
line must come out unchanged. The pass is the folder's name, or stands with options in a comment
``; pass: fold-constants{budget=0}``. Weights get numbers by their names: ``zeros...``, ``ones...``,
``halves...``, ``true...``, ``false...`` and ``variance...`` mean what they say, others are random.

Run with ``ANEC_ACCEPT=1`` to write what comes out as the expectation, then read the difference.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch

from anec.check.rewrites import check_rewrite
from anec.dialects import registry
from anec.ir.graph import Module, Op
from anec.ir.opdef import Effect
from anec.ir.parser import parse_module
from anec.ir.types import DType, TensorType
from anec.ir.verify import verify
from anec.ir.weights import TensorData, torch_dtype
from anec.pipeline.base import Context, Exact, Pass
from anec.pipeline.spec import PassSpec, make_pass, parse_pipeline
from anec.reference.call import DECLARED, DOUBLE, Precision
from anec.reference.evaluate import evaluate
from anec.rewrite.records import Rewrite
from anec.testing import assert_same_numbers

FOLDER = Path(__file__).parent / "golden"
SEPARATOR = "// -----"
_UNIFORM = {"zeros": 0, "ones": 1, "halves": 0.5, "true": True, "false": False}


@dataclass(frozen=True)
class Outcome:
    """What a pass made of a text: the module, which rules fired, and why others did not."""

    module: Module
    fired: dict[str, int]
    reasons: dict[str, str]


def cases(name: str) -> list[Path]:
    """The golden files of a pass."""
    return sorted((FOLDER / name).glob("*.anec"))


def read(text: str) -> Module:
    """Parse a module and give its weights numbers."""
    module = parse_module(text, registry)
    for weight in module.weights.values():
        weight.data = TensorData(numbers(weight.name, weight.type))
    return module


def numbers(name: str, type_: TensorType) -> torch.Tensor:
    """Numbers for a weight or input, decided by its name and type."""
    dtype, shape = torch_dtype(type_.dtype), type_.static_shape
    for word, number in _UNIFORM.items():
        if name.startswith(word):
            return torch.full(shape, number, dtype=dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if type_.dtype is DType.BOOL:
        mixed = torch.rand(shape, generator=generator) < 0.5
        mixed.view(-1)[:1], mixed.view(-1)[1:2] = True, False
        return mixed
    if type_.dtype.is_integer:
        return torch.randint(1, 5, shape, generator=generator).to(dtype)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64) + 0.25
    return (drawn.abs() + 0.1 if name.startswith("variance") else drawn).to(dtype)


def text_of(module: Module) -> str:
    """The canonical text without the comments that say where ops come from."""
    return re.sub(r"[ ]+; .*$", "", str(module), flags=re.MULTILINE)


class Changes:
    """Counts the changes of a graph."""

    def __init__(self) -> None:
        self.count = 0

    def op_inserted(self, op: Op) -> None:
        self.count += 1

    op_erased = op_changed = op_inserted


def run(module: Module, pass_: Pass) -> Outcome:
    """Run a pass: the laws hold, every rewrite keeps its numbers, a second run changes nothing."""
    inputs = {
        port.name: numbers(port.name, value.tensor)
        for port, value in zip(module.main.signature.inputs, module.main.inputs, strict=True)
    }
    verify(module)

    def results(precision: Precision) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return evaluate(module, inputs, precision=precision)

    before = {precision: results(precision) for precision in (DOUBLE, DECLARED)}
    context = Context(module, module.main)
    problems: list[str] = []

    def judge(rewrite: Rewrite) -> None:
        problem = check_rewrite(rewrite, module, pass_.fidelity)
        random = any(op.defn.effects is Effect.RANDOM for op in rewrite.roots)
        if problem and not random:
            problems.append(f"{rewrite.rule.name}: {problem}")

    context.on_rewrite = judge
    pass_.run_module(module, lambda graph: context)
    verify(module)
    assert not problems, problems
    if isinstance(pass_.fidelity, Exact):
        assert_same_numbers(before[DOUBLE], results(DOUBLE), rtol=1e-10, atol=1e-12)
    for name, found in results(DECLARED).items():
        assert_rounded_alike(before[DECLARED][name], found)
    assert_settled(module, pass_)
    reasons = {name: str(miss) for name, miss in context.misses.items() if miss.reason}
    return Outcome(module, dict(context.fired), reasons)


def assert_rounded_alike(wanted: torch.Tensor, found: torch.Tensor) -> None:
    """Rounding may come at other places: a few units in the last place of the largest number."""
    assert found.dtype is wanted.dtype
    if not wanted.is_floating_point() or not wanted.numel():
        assert torch.equal(found, wanted)
        return
    largest = float(torch.nan_to_num(wanted, nan=0.0, posinf=0.0, neginf=0.0).abs().max())
    allowed = 8 * torch.finfo(wanted.dtype).eps * largest
    torch.testing.assert_close(found, wanted, rtol=0, atol=allowed, equal_nan=True)


def assert_settled(module: Module, pass_: Pass) -> None:
    """A second run of the pass must not touch the module."""
    text = str(module)
    changes = Changes()
    for graph in module.functions.values():
        graph.listeners.append(changes)
    pass_.run_module(module, lambda graph: Context(module, graph))
    for graph in module.functions.values():
        graph.listeners.remove(changes)
    assert str(module) == text
    assert changes.count == 0, "the pass changes the graph and changes it back"


def check(path: Path) -> Outcome:
    """Run a golden file and compare; returns what happened."""
    content = path.read_text(encoding="utf-8")
    source, separator, expected = content.partition(f"\n{SEPARATOR}\n")
    outcome = run(read(source), pass_of(path, source))
    found = text_of(outcome.module)
    if os.environ.get("ANEC_ACCEPT") and separator:
        path.write_text(f"{source}\n{SEPARATOR}\n{found}", encoding="utf-8")
        return outcome
    wanted = text_of(parse_module(expected if separator else source, registry))
    assert found == wanted
    if not separator:
        assert not outcome.fired
    return outcome


def pass_of(path: Path, source: str) -> Pass:
    """The pass a golden file is for."""
    comment = re.search(r"^; pass: (.*)$", source, flags=re.MULTILINE)
    (spec,) = parse_pipeline(comment.group(1) if comment else path.parent.name)
    assert isinstance(spec, PassSpec)
    return make_pass(spec)
