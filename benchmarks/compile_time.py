"""anec against coremltools on the same exported programs: CPU time, memory, package size.

    python benchmarks/compile_time.py [--runs 3] [--json out.json] [MODEL...]

Measured is (lift + passes + emission + save) against (coremltools.convert + save), each in a
process of its own, from the same ExportedProgram on disk: what `torch.export.export` gives, behind
`run_decompositions({})`, which coremltools asks its callers for and anec does not need. CPU time
is that of the process, memory the peak of anonymous pages over what imports and the loaded
program take. The ratio is anec / coremltools, from one run on one machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Self

MODELS = ("craft", "resnet50", "vit_b_16", "convnext_base")


def build(name: str):
    import torch

    torch.manual_seed(0)
    if name == "craft":
        sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "easyocr"))
        import models

        return models.craft(), (torch.randn(1, 3, 480, 640),)
    import torchvision

    return getattr(torchvision.models, name)(weights=None).eval(), (torch.randn(1, 3, 224, 224),)


def export(name: str, path: Path) -> None:
    import torch

    model, args = build(name)
    with torch.no_grad():
        torch.export.save(torch.export.export(model, args), path)


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Peak:
    """The peak of anonymous memory while the block runs, sampled each 5 ms."""

    def __enter__(self) -> Self:
        self.base = self.peak = anonymous_bytes()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def sample(self) -> None:
        while not self.stop.wait(0.005):
            self.peak = max(self.peak, anonymous_bytes())

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def compile_with_anec(program, out: Path) -> None:
    import anec

    anec.compile(program, passes="default,ane").save(out)


def compile_with_coremltools(program, out: Path) -> None:
    import coremltools as ct

    ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(str(out))


def worker(tool: str, path: Path, out: Path) -> None:
    warnings.filterwarnings("ignore")
    import torch

    run = {"anec": compile_with_anec, "coremltools": compile_with_coremltools}[tool]
    # Imports are in neither: a first tiny compilation loads all that either tool loads lazily.
    small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    tiny = torch.export.export(small, (torch.randn(1, 3, 8, 8),)).run_decompositions({})
    run(tiny, out.with_name("tiny.mlpackage"))
    program = torch.export.load(path).run_decompositions({})
    with Peak() as memory:
        start = time.process_time()
        run(program, out)
        seconds = time.process_time() - start
    tell({"cpu": seconds, "peak": memory.peak - memory.base, "size": package_size(out)})


def package_size(package: Path) -> int:
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file())


def tell(found: dict) -> None:
    """What `in_process` reads, from the worker."""
    print("RESULT" + json.dumps(found))


def in_process(script: str, *arguments: str) -> dict:
    """What a worker found, in a process of its own; its error if it has none."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT"):
            return json.loads(line.removeprefix("RESULT"))
    return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}


def measure(tool: str, path: Path) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return in_process(__file__, "--worker", tool, str(path), str(Path(folder) / "out.mlpackage"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        tool, path, out = options.models
        worker(tool, Path(path), Path(out))
        return
    rows = []
    print(f"{'model':15} {'anec s':>8} {'coremltools s':>14} {'ratio':>6} ", end="")
    print(f"{'anec MB':>9} {'coremltools MB':>15} {'package MB':>11}")
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.pt2"
            export(name, path)
            found = {tool: [measure(tool, path) for _ in range(options.runs)] for tool in ("anec", "coremltools")}
        row = {"model": name, **{tool: median(results) for tool, results in found.items()}}
        rows.append(row)
        show(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def median(results: list[dict]) -> dict:
    errors = [r["error"] for r in results if "error" in r]
    if errors:
        return {"error": errors[0]}
    return {key: statistics.median(r[key] for r in results) for key in ("cpu", "peak", "size")}


def show(row: dict) -> None:
    ours, theirs = row["anec"], row["coremltools"]
    for tool in ("anec", "coremltools"):
        if "error" in row[tool]:
            print(f"{row['model']:15} {tool}: {row[tool]['error']}")
            return
    print(
        f"{row['model']:15} {ours['cpu']:8.2f} {theirs['cpu']:14.2f} {ours['cpu'] / theirs['cpu']:6.2f} "
        f"{ours['peak'] / 1e6:9.0f} {theirs['peak'] / 1e6:15.0f} {ours['size'] / 1e6:11.0f}"
    )


if __name__ == "__main__":
    main()
