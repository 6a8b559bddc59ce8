"""One architecture in one process: exported, compiled, saved, loaded, run, compared with eager PyTorch."""

from __future__ import annotations

import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FP32 = {"rel": 1e-3, "psnr": 60.0}
FP16 = {"psnr": 40.0}


class Clock:
    """CPU seconds of the named phases, and the phase that was running when something went wrong."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.phase = ""

    @contextmanager
    def measure(self, phase: str) -> Any:
        self.phase = phase
        start = time.process_time()
        yield
        self.seconds[phase] = round(time.process_time() - start, 3)


def first_line(error: BaseException) -> str:
    """The message, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]


def export(name: str, batch: int, seed: int, clock: Clock) -> tuple[Any, Any]:
    """The exported program and what the eager model gives."""
    import torch

    from zoo.registry import build

    clock.phase = "build"
    model, args, kwargs = build(name, batch, seed)
    with torch.no_grad():
        clock.phase = "eager"
        wanted = model(*args, **kwargs)
        with clock.measure("export"):
            program = torch.export.export(model, args, kwargs, strict=False)
        check_export(program.module()(*args, **kwargs), wanted)
    return program, wanted


def check_export(found: Any, wanted: Any) -> None:
    """The exported program must compute what the model does, or no compiler of it can.

    Raises:
        ValueError: it computes something else.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    from anec.check.metrics import compare

    for a, b in zip(tree_leaves(found), tree_leaves(wanted), strict=True):
        if isinstance(b, torch.Tensor) and (metric := compare("output", a, b)).rel > FP32["rel"]:
            raise ValueError(f"the exported program gives other numbers than the model: rel {metric.rel:.1e}")


def judge(outputs: dict[str, Any], wanted: dict[str, Any], bounds: dict[str, float]) -> dict[str, Any]:
    """The worst figures over all outputs, and whether they are within bounds."""
    import torch

    from anec.check.metrics import compare

    metrics = []
    for (name, reference), array in zip(wanted.items(), outputs.values(), strict=True):
        actual = torch.as_tensor(array)
        actual = actual.reshape(reference.shape) if actual.numel() == reference.numel() else actual
        if reference.dtype is torch.bool or not reference.is_floating_point():
            actual, reference = actual.to(torch.int64), reference.to(torch.int64)
        metrics.append(compare(name, actual, reference))
    problems = [f"{metric.name}: {metric.problem}" for metric in metrics if metric.problem]
    void = [f"{metric.name}: {metric.void}" for metric in metrics if metric.void]
    rel, psnr = max(metric.rel for metric in metrics), min(metric.psnr for metric in metrics)
    good = not problems and rel <= bounds.get("rel", float("inf")) and psnr >= bounds["psnr"]
    return {
        "ok": good,
        "rel": float(f"{rel:.3g}"),
        "psnr": round(psnr, 1),
        "problem": "; ".join(problems),
        "void": void,
    }


def first_not_finite(module: Any, inputs: dict[str, Any]) -> str:
    """The first op that gives NaN or infinity."""
    from anec.reference.evaluate import evaluate

    found: list[str] = []

    def watch(op: Any, results: tuple[Any, ...]) -> None:
        for value, result in zip(op.results, results, strict=True):
            if not found and result.is_floating_point() and not bool(result.isfinite().all()):
                found.append(f"{op.name} %{value.name} {op.origin.place}".rstrip())

    evaluate(module, inputs, observer=watch)
    return found[0] if found else ""


def first_apart(wide: Any, narrow: Any, inputs: dict[str, Any]) -> str:
    """The first op whose result in float16 is another one: more than a tenth off."""
    from anec.check.numerics import first_difference

    found = first_difference(wide, narrow, inputs, lambda metric: metric.rel <= 0.1)
    return f"{found.op.name} %{found.metric.name} {found.op.origin.place}".rstrip() if found else ""


def shape_of(module: Any) -> dict[str, Any]:
    """How a program is laid out: its ops, what transposes and reshapes write, what the Neural Engine is to take."""
    from anec.ane import predict

    (function,) = predict(module).functions
    # Of what it can run: small models are expected on the CPU, whose dispatch is faster.
    share = function.supported_share.multiply_adds
    return {"ops": len(function.placements), "moved": function.moved_bytes, "share": round(share, 4)}


def anec_side(name: str, batch: int, seed: int) -> dict[str, Any]:
    """What anec makes of the architecture, in both precisions."""
    import anec
    from anec.api.boundary import check_inputs
    from anec.frontend import from_torch

    clock, row, modules = Clock(), {}, {}
    try:
        program, result = export(name, batch, seed, clock)
        clock.phase = "lift"
        lifted = from_torch(program)
        wanted = lifted.name_outputs(result)
        with tempfile.TemporaryDirectory() as folder:
            for precision, bounds in (("fp32", FP32), ("fp16", FP16)):
                path = Path(folder) / f"{precision}.mlpackage"
                with clock.measure(f"compile {precision}"):
                    compiled = anec.compile(program, passes="default,ane", precision=precision)
                    compiled.save(path)
                with clock.measure(f"run {precision}"):
                    loaded = anec.load(path)
                    outputs = loaded.run(lifted.inputs)
                row[precision] = judge(outputs, wanted, bounds)
                modules[precision] = loaded.module
                if not row[precision]["ok"]:
                    inputs = check_inputs(loaded.module, loaded.module.main, lifted.inputs)
                    first = first_not_finite(loaded.module, inputs)
                    row[precision]["first"] = first or first_apart(modules["fp32"], loaded.module, inputs)
        row |= shape_of(modules["fp16"])
        with clock.measure("default fp16"):
            plain = anec.compile(program, passes="default", precision="fp16")
        row["default"] = shape_of(plain.module)
        clock.phase = ""
    except Exception as error:
        row["error"] = first_line(error)
        row["hint"] = str(getattr(error, "where", "") or "")
    return row | {"phase": clock.phase, "seconds": clock.seconds}


def coremltools_side(name: str, batch: int, seed: int) -> dict[str, Any]:
    """What coremltools makes of it: as its documentation says, and in the form it takes best."""
    clock, row = Clock(), {}
    try:
        program, result = export(name, batch, seed, clock)
    except Exception as error:
        return {"error": first_line(error), "phase": clock.phase}
    forms: dict[str, Callable[[Any], Any]] = {"documented": documented, "best": best_form}
    for form, prepare in forms.items():
        row[form] = coremltools_form(program, result, form, prepare, clock)
    return row | {"phase": "", "seconds": clock.seconds}


def documented(program: Any) -> Any:
    return program.run_decompositions({})


def best_form(program: Any) -> Any:
    """Core ATen, without the `alias` ops that coremltools does not know."""
    import torch

    program = program.run_decompositions()
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in (torch.ops.aten.alias.default, torch.ops.aten.detach.default):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    program.graph_module.recompile()
    return program


def coremltools_form(
    program: Any, result: Any, form: str, prepare: Callable[[Any], Any], clock: Clock
) -> dict[str, Any]:
    import coremltools as ct
    from torch.utils._pytree import tree_leaves

    import anec
    from anec.frontend import from_torch

    found: dict[str, Any] = {}
    lifted = from_torch(program)
    wanted = lifted.name_outputs(result)
    args, kwargs = program.example_inputs
    example = dict(zip(program.graph_signature.user_inputs, tree_leaves((args, kwargs)), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        for precision, bounds in (("fp32", FP32), ("fp16", FP16)):
            path = Path(folder) / f"{precision}.mlpackage"
            try:
                wide = ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16
                with clock.measure(f"{form} {precision}"):
                    ct.convert(
                        prepare(program),
                        minimum_deployment_target=ct.target.iOS18,
                        compute_precision=wide,
                        skip_model_load=True,
                    ).save(str(path))
                loaded = anec.load(path)
                outputs = loaded.run({key: example[key] for key in loaded.input_names})
                found[precision] = judge(outputs, wanted, bounds)
                found |= shape_of(loaded.module)
            except Exception as error:
                found[precision] = {"ok": False, "error": first_line(error)}
    return found


def main(side: str, name: str, batch: int, seed: int, results: Any) -> None:
    """The body of a process; puts one row."""
    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {"anec": anec_side, "coremltools": coremltools_side}[side](name, batch, seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.send(row | {"peak_mb": round((peak - before) / 1024)})
