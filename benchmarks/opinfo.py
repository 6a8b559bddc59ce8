"""torch's own sample inputs through the whole compiler: what passes, fails, is refused or does not apply.

    python benchmarks/opinfo.py [--ops add,sub] [--dtypes float32,int64,bool] [--limit N] [--part 1/4]
                                [--target iOS18] [--packages] [--all] [--json FILE]

Each entry of torch's operator database (`op_db`; it needs the package `expecttest`) is called on its
sample inputs; the tensors of a call become the model's inputs, all else is fixed. The call goes the
way of a model: `torch.export`, decomposition, lifting, passes `default` and `finish` in float32. The
program runs in the evaluator and is held against eager PyTorch: floats to rel 1e-4 with NaN and
infinities at the same places, integers equal. `--packages` also saves, reloads and runs the first
program that passes of each entry and dtype.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from opinfo_samples import DTYPES, STATUSES, Judge, Outcome, entries


def run(options: argparse.Namespace) -> list[Outcome]:
    """Judge every sample asked for, telling of an entry when it is done."""
    number, _, of = options.part.partition("/")
    wanted = options.ops.split(",") if options.ops else None
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(options.target, Path(folder) if options.packages else None)
        for position, info in enumerate(entries(wanted)):
            if position % int(of) != int(number) - 1:
                continue
            start = time.monotonic()
            here = [o for dtype in options.dtypes.split(",") for o in judge.entry(info, dtype, options.limit)]
            found += here
            counts = Counter(outcome.status for outcome in here)
            told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
            print(f"{here[0].entry if here else info.name}: {told or 'no samples'} ({time.monotonic() - start:.1f} s)")
            for reason in sorted({outcome.reason for outcome in here if outcome.status == "failed"}):
                print(f"    {reason}")
    return found


def summary(outcomes: list[Outcome], every: bool) -> None:
    """Counts that add up, then what did not pass, grouped by reason."""
    counts = Counter(outcome.status for outcome in outcomes)
    lowered = {outcome.entry for outcome in outcomes if outcome.status == "passed"}
    asked = [o for o in outcomes if o.entry in lowered and o.status != "not applicable"]
    passed = sum(outcome.status == "passed" for outcome in asked)
    print(f"\n{len({outcome.entry for outcome in outcomes})} entries, {len(outcomes)} samples: ", end="")
    print(", ".join(f"{counts[status]} {status}" for status in STATUSES))
    print(f"{len(lowered)} entries pass at least once; {passed} of their {len(asked)} samples pass", end="")
    print(f" ({100 * passed / len(asked):.2f} %)" if asked else "")
    shown = STATUSES[1:] if every else STATUSES[1:3]
    for status in shown:
        reasons = Counter((o.entry, o.reason) for o in outcomes if o.status == status)
        for (entry, reason), count in sorted(reasons.items()):
            first = next(o for o in outcomes if (o.entry, o.reason, o.status) == (entry, reason, status))
            print(f"{status:14} {entry} x{count} ({first.dtype}, sample {first.number}): {reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", help="names of entries, comma-separated; all by default")
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--limit", type=int, help="samples of an entry and dtype")
    parser.add_argument("--part", default="1/1", help="every n-th entry: 2/4 is the second of four parts")
    parser.add_argument("--target", default="iOS18")
    parser.add_argument("--packages", action="store_true", help="save, reload and run a program of each entry")
    parser.add_argument("--all", action="store_true", help="list what does not apply, too")
    parser.add_argument("--json", type=Path, help="write every outcome")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    outcomes = run(options)
    if options.json:
        options.json.write_text(json.dumps([outcome.as_json() for outcome in outcomes], indent=1) + "\n")
    summary(outcomes, options.all)


if __name__ == "__main__":
    main()
