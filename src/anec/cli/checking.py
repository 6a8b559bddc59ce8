"""``anec check``: two programs on the same inputs, or one package by Apple's own tools."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anec.cli import console, reports
from anec.cli.bindings import read_functions, read_source, refuse_for_programs
from anec.errors import AnecError, CheckError, UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    import torch

    from anec.check.metrics import Metric
    from anec.frontend import Source
    from anec.ir.graph import Module


@dataclass(slots=True)
class _Side:
    """One of the two programs: what it gives, its module when it has one, whether its source makes random weights."""

    name: str
    run: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]
    inputs: dict[str, torch.Tensor] | None = None
    module: Module | None = None
    is_source: bool = False
    draws_weights: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class _Limits:
    """What an output must keep: all that are given, or ``atol`` alone."""

    rtol: float | None
    psnr: float | None
    atol: float

    @classmethod
    def of(cls, options: argparse.Namespace, *, half: bool) -> _Limits:
        rtol, psnr = options.rtol, options.min_psnr
        if rtol is None and psnr is None:
            rtol, psnr = (None, 40.0) if half else (1e-4, None)
        return cls(rtol, psnr, options.atol)

    def keeps(self, metric: Metric) -> bool:
        if metric.problem:
            return False
        if metric.max_abs <= self.atol:
            return True
        return (self.rtol is None or metric.rel <= self.rtol) and (self.psnr is None or metric.psnr >= self.psnr)

    def __str__(self) -> str:
        parts = [f"rel <= {self.rtol:g}" if self.rtol is not None else ""]
        parts.append(f"psnr >= {self.psnr:g} dB" if self.psnr is not None else "")
        both = " and ".join(filter(None, parts))
        return both + (f", or max abs <= {self.atol:g}" if self.atol else "")


def check_packages(options: argparse.Namespace) -> int:
    """Check a package by Apple's compiler on a Mac, elsewhere by coremltools' op types; says which."""
    from anec.backend import check_package

    path = Path(options.actual)
    if options.reference is not None:
        raise UsageError(f"--compile checks {path} alone", hint="anec check A B, or anec check A --compile")
    if path.suffix != ".mlpackage":
        raise UsageError("--compile checks an .mlpackage")
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    found = check_package(path)
    if options.json:
        console.show_json(
            {"target": found.target, "functions": found.functions, "ops": found.ops, "compiled": found.compiled}
        )
    else:
        print(found)
    return 0


def compare_programs(options: argparse.Namespace) -> int:
    """Compare A with B output by output; 1 when A leaves tolerance."""
    import torch

    from anec.check.arrays import load_npz
    from anec.check.metrics import compare_outputs
    from anec.pipeline import registry

    with console.code_of_the_user():
        for plugin in options.plugin:
            registry.load_plugin(plugin)
    actual = _side(options.actual, options)
    reference = _side(options.reference, options)
    if not actual.is_source and not reference.is_source:
        refuse_for_programs(options, [options.actual, options.reference])
    if options.inputs:
        inputs = load_npz(Path(options.inputs))
    else:
        inputs = reference.inputs or actual.inputs or _drawn(actual, reference, options.seed)
    with console.progress("comparing"), torch.no_grad():
        a, b = actual.run(inputs), reference.run(inputs)
        metrics = compare_outputs(_shaped(a, b), b)
        for at, resized in _other_sizes(actual, reference, inputs) if not options.inputs else ():
            there = reference.run(resized)
            found = compare_outputs(_shaped(actual.run(resized), there), there)
            metrics += [replace(metric, name=f"{metric.name} at {at}") for metric in found]
    limits = _Limits.of(options, half=_has_half(actual) or _has_half(reference))
    failed = [metric for metric in metrics if not limits.keeps(metric)]
    user = _user_metric(options.metric, a, b) if options.metric else None
    first = _first_difference(actual, reference, inputs, limits) if failed else ""
    _show(options, metrics, failed, limits, user, first)
    for side in (actual, reference) if failed else ():
        if side.draws_weights():
            console.say(f"{side.name} makes other weights each time it is called: seed it there, or load a checkpoint")
    return 1 if failed or user is False else 0


def _other_sizes(
    actual: _Side, reference: _Side, inputs: Mapping[str, torch.Tensor]
) -> list[tuple[str, dict[str, torch.Tensor]]]:
    """A flexible program is compared at its bounds and between, or at each listed shape, where both can run."""
    from anec.check.sizes import other_sizes

    if actual.module is None or reference.module is None or not actual.module.dims:
        return []
    takes = reference.is_source or bool(reference.module.dims)
    return other_sizes(actual.module, inputs) if takes else []


def _side(text: str, options: argparse.Namespace) -> _Side:
    from anec.check.arrays import load_npz

    path = Path(text)
    if path.suffix == ".npz":
        arrays = load_npz(path)
        return _Side(text, lambda inputs: arrays)
    if path.suffix in (".mlpackage", ".anec"):
        return _program_side(text)
    return _source_side(text, options)


def _program_side(text: str) -> _Side:
    """A saved program: each of its functions on those inputs that it has."""
    import torch

    from anec.check.numerics import inputs_of, of_function

    model = reports.open_program(text)

    def run(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs: dict[str, torch.Tensor] = {}
        for name in model.module.functions:
            given = inputs_of(model.module, name, inputs)
            try:
                arrays = model.run(given, function=name)
            except AnecError as error:
                error.where = error.where or text
                raise
            found = {key: torch.from_numpy(array) for key, array in arrays.items()}
            outputs |= of_function(model.module, name, found)
        return outputs

    return _Side(text, run, None, model.module)


def _source_side(text: str, options: argparse.Namespace) -> _Side:
    """A torch model: eager PyTorch, on its own example inputs or on given ones."""
    from anec.api.functions import eager_at, eager_outputs, example_inputs, function_sources, lift_functions
    from anec.check.numerics import inputs_of

    def load() -> Mapping[str, Source]:
        return function_sources(read_source(text, options), read_functions(options.function), "iOS18")

    sources = load()
    lifted = lift_functions(sources, "iOS18")
    own, module = example_inputs(lifted), next(iter(lifted.values())).module

    def run(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if all(inputs.get(name) is tensor for name, tensor in own.items()):
            return eager_outputs(sources, lifted)
        for function in lifted:
            missing = inputs_of(module, function, own).keys() - inputs_of(module, function, inputs).keys()
            if missing:
                name = min(missing)
                hint = nearest(name, inputs) if inputs else None
                raise UsageError(f"the input {name!r} is missing", where=text, hint=hint)
        try:
            return eager_at(sources, lifted, inputs)
        except AnecError:
            raise
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise CheckError(f"PyTorch fails on these inputs: {type(error).__name__}: {reason}", where=text) from error

    return _Side(text, run, own, module, is_source=True, draws_weights=lambda: _differ(sources, load()))


def _differ(sources: Mapping[str, Source], others: Mapping[str, Source]) -> bool:
    """Whether the same models hold other weights."""
    import torch

    for name, source in sources.items():
        model, again = source.model, others[name].model
        if not isinstance(model, torch.nn.Module) or not isinstance(again, torch.nn.Module):
            continue
        now = again.state_dict()
        if any(key not in now or not torch.equal(tensor, now[key]) for key, tensor in model.state_dict().items()):
            return True
    return False


def _drawn(actual: _Side, reference: _Side, seed: int) -> dict[str, torch.Tensor]:
    import torch

    from anec.check.draw import draw
    from anec.check.numerics import of_function
    from anec.ir.types import StateType

    module = actual.module or reference.module
    if module is None:
        return {}
    stored = next((side.name for side in (actual, reference) if side.module is None), None)
    if stored is not None:
        raise UsageError(f"{stored} holds the outputs for inputs of its own", hint="give those with --inputs")
    generator = torch.Generator().manual_seed(seed)
    console.say(f"note: inputs are drawn with seed {seed}; --inputs gives your own")
    drawn: dict[str, torch.Tensor] = {}
    for name, graph in module.functions.items():
        own = {
            port.name: draw(value, generator)
            for port, value in zip(graph.signature.inputs, graph.inputs, strict=True)
            if not isinstance(value.type, StateType)
        }
        drawn |= of_function(module, name, own)
    return drawn


def _shaped(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A's outputs in B's shapes where only rank 0 and (1,) differ."""
    single = {name for name, tensor in a.items() if name in b and tensor.numel() == b[name].numel() == 1}
    return {name: tensor.reshape(b[name].shape) if name in single else tensor for name, tensor in a.items()}


def _has_half(side: _Side) -> bool:
    from anec.ir.types import DType

    if side.module is None:
        return False
    return any(value.tensor.dtype is DType.F16 for op in side.module.ops() for value in op.results)


def _first_difference(actual: _Side, reference: _Side, inputs: Mapping[str, torch.Tensor], limits: _Limits) -> str:
    """The first op of A whose value, present in B under the same name, is off."""
    from anec.check.numerics import first_difference
    from anec.ir.attr_types import HALF_MAX
    from anec.ir.types import DType

    if actual.module is None or reference.module is None:
        return ""
    try:
        found = first_difference(reference.module, actual.module, inputs, limits.keeps)
    except AnecError as error:
        return f"the first difference was not found: {error.message}"
    if found is None:
        return ""
    op, metric, place, largest = found
    told = f"first value that differs: %{metric.name} = {op.name}{f' at {place}' if place else ''}: "
    told += metric.problem or f"rel {metric.rel:.3g}, psnr {metric.psnr:.1f} dB"
    if largest > HALF_MAX and any(value.tensor.dtype is DType.F16 for value in op.results):
        told += f"; it reaches {largest:.3g}, and float16 ends at 65504: see --precision mixed"
    return told


def _user_metric(text: str, a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> Any:
    """Call ``f(outputs_a, outputs_b)`` on numpy arrays; a bool decides, anything else is shown."""
    file, colon, name = text.rpartition(":")
    if not colon:
        raise UsageError(f"--metric {text} names no function", hint="write --metric file.py:function")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"the metric file {file or text} does not exist", hint="write --metric file.py:function")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{file} does not import: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if function is None:
        raise UsageError(f"{file} has no function {name!r}", hint="write --metric file.py:function")
    try:
        found = function(_arrays(a), _arrays(b))
    except Exception as error:
        raise CheckError(f"the metric {text} failed: {type(error).__name__}: {error}") from error
    # numpy's own bool is no bool: `(x == y).all()` decides as well.
    return bool(found) if type(found).__name__ in ("bool", "bool_") else found


def _arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    from anec.check.arrays import to_numpy

    return {name: to_numpy(tensor) for name, tensor in tensors.items()}


def _show(
    options: argparse.Namespace, metrics: list[Metric], failed: list[Metric], limits: _Limits, user: Any, first: str
) -> None:
    if options.json:
        found: dict[str, Any] = {
            "passed": not failed and user is not False,
            "limits": str(limits),
            "outputs": [{**m.as_json(), "passed": m not in failed} for m in metrics],
        }
        if options.metric:
            found["metric"] = user if isinstance(user, (bool, int, float, str, dict, list)) else str(user)
        if first:
            found["first"] = first
        console.show_json(found)
        return
    rows = [
        (m.name, f"{m.rel:.3g}", f"{m.psnr:.1f}", f"{m.max_abs:.3g}", "FAILED" if m in failed else "ok",
         m.problem or m.void)
        for m in metrics
    ]  # fmt: skip
    console.table(("output", "rel", "psnr dB", "max abs", "result", "note"), rows)
    if failed:
        print(f"{len(failed)} of {len(metrics)} outputs left the limits: {limits}")
    if options.metric:
        print(f"{options.metric}: {user}")
    if first:
        print(first)
