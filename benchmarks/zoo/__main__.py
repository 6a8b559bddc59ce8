"""The zoo: real architectures through anec and coremltools, judged by one evaluator.

    python benchmarks/zoo [--results zoo.jsonl] [--only GLOB,GLOB] [--no-apple] [--jobs 2]
    python benchmarks/zoo --results zoo.jsonl --report docs/zoo.md

Each architecture runs in a process of its own and gives one line of JSON a side (anec, coremltools).
What the results file holds already is not run again, unless --again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from zoo import measuring, reporting

PRELOADED = [
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "coremltools",
    "anec.backend",
    "anec.frontend",
    "zoo.registry",
]


def read(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last row of each architecture and side."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {(row["model"], row["side"]): row for row in rows}


class Runs:
    """Processes under way: at most ``jobs``, each with a deadline."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)
        self.running: dict[Any, tuple[Any, str, str, float]] = {}

    def start(self, name: str, side: str) -> None:
        options = self.options
        receiver, sender = self.context.Pipe(duplex=False)
        arguments = (side, name, options.batch, options.seed, sender)
        process = self.context.Process(target=measuring.main, args=arguments, daemon=True)
        process.start()
        sender.close()
        limit = options.apple_timeout if side == "coremltools" else options.timeout
        self.running[receiver] = (process, name, side, time.monotonic() + limit)

    def collect(self) -> None:
        """Wait until at least one process ends, or is overdue, and write its row."""
        soonest = min(deadline for *_, deadline in self.running.values())
        ready = wait(list(self.running), timeout=max(0.0, soonest - time.monotonic()))
        for receiver, (process, name, side, deadline) in list(self.running.items()):
            if receiver in ready:
                try:
                    row = receiver.recv()
                except EOFError:
                    process.join()
                    row = {"error": f"the process ended with {process.exitcode}", "phase": "crash"}
            elif time.monotonic() >= deadline:
                process.kill()
                row = {"error": "out of time", "phase": "timeout"}
            else:
                continue
            process.join()
            del self.running[receiver]
            self.write({"model": name, "side": side} | row)

    def write(self, row: dict[str, Any]) -> None:
        with self.options.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['model']:45} {row['side']:12} {reporting.summary(row)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("zoo.jsonl"), help="one JSON line a model and side")
    parser.add_argument("--only", default="*", metavar="GLOB", help="names, with * and commas")
    parser.add_argument("--no-apple", action="store_true", help="anec's side only")
    parser.add_argument("--no-anec", action="store_true", help="coremltools' side only")
    parser.add_argument("--again", action="store_true", help="run what the results hold already, too")
    parser.add_argument("--failed", action="store_true", help="run again what has failed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=180, metavar="SECONDS", help="for anec's side of a model")
    parser.add_argument("--apple-timeout", type=float, default=90, metavar="SECONDS", help="for coremltools' side")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="write the results as Markdown, run nothing")
    options = parser.parse_args()
    try:
        known = read(options.results)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        parser.error(f"{options.results} does not hold one row of JSON a line: {error}")
    if options.report:
        if not known:
            parser.error(f"{options.results} holds no results to report")
        options.report.write_text(reporting.report(known))
        return
    from zoo.registry import matching

    sides = [side for side, skip in (("anec", options.no_anec), ("coremltools", options.no_apple)) if not skip]
    runs = Runs(options)
    for name in matching(options.only):
        for side in sides:
            row = known.get((name, side))
            if row is not None and not options.again and not (options.failed and not reporting.is_good(row)):
                continue
            while len(runs.running) >= options.jobs:
                runs.collect()
            runs.start(name, side)
    while runs.running:
        runs.collect()


if __name__ == "__main__":
    main()
