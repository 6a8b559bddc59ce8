"""Hold the reference kernels against every expected value in coremltools' own op tests.

    python benchmarks/apple_vectors.py                      all of them, a row for each op
    python benchmarks/apple_vectors.py --sample 600 --seed 3
    python benchmarks/apple_vectors.py --files iOS14/test_conv.py --keyword transpose --reasons

Exits with 1 when a value failed or an op has no kernel.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference import apple_vectors


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", nargs="*", default=[], help="files under coremltools' op tests")
    parser.add_argument("--keyword", help="run the tests whose id matches, as pytest's -k")
    parser.add_argument("--sample", type=int, help="run about this many: one of every test function, then random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--reasons", action="store_true", help="also count why tests do not apply")
    parser.add_argument("--json", type=Path, help="write every outcome there")
    return parser.parse_args()


def show(recorder: apple_vectors.Recorder, seconds: float, reasons: bool) -> None:
    """Print the table, what did not agree, and the sums."""
    statuses = apple_vectors.STATUSES
    width = max(len(op) for op, _ in apple_vectors.table(recorder.outcomes))
    print(f"{'op':{width}}  " + "  ".join(f"{status:>14}" for status in statuses))
    for op, counts in apple_vectors.table(recorder.outcomes):
        print(f"{op:{width}}  " + "  ".join(f"{counts[status] or '':>14}" for status in statuses))
    total = Counter(outcome.status for outcome in recorder.outcomes)
    print(f"{'sum':{width}}  " + "  ".join(f"{total[status]:>14}" for status in statuses))
    applicable = len(recorder.outcomes) - total[apple_vectors.NOT_APPLICABLE]
    agree = 100 * total[apple_vectors.PASSED] / max(1, applicable)
    print(
        f"\n{recorder.collected} tests collected, {len(recorder.outcomes)} run in {seconds:.0f} s; "
        f"{applicable} hold values of kernels, {agree:.2f} % of them pass"
    )
    for status in (apple_vectors.FAILED, apple_vectors.NO_KERNEL, apple_vectors.DISAGREES):
        for outcome in recorder.outcomes:
            if outcome.status == status:
                print(f"\n{status}: {outcome.test} ({outcome.op})\n    {outcome.reason[:1000]}")
    if reasons:
        print("\nnot applicable:")
        found = (o.reason[:100] for o in recorder.outcomes if o.status == apple_vectors.NOT_APPLICABLE)
        for reason, count in Counter(found).most_common():
            print(f"{count:6} {reason}")


def main() -> int:
    options = parse()
    select = None if options.sample is None else apple_vectors.sample(options.sample, options.seed)
    start = time.perf_counter()
    recorder = apple_vectors.run(select=select, keyword=options.keyword, paths=options.files)
    show(recorder, time.perf_counter() - start, options.reasons)
    if options.json is not None:
        rows = [
            {
                "test": o.test,
                "op": o.op,
                "family": apple_vectors.family(o.op),
                "status": o.status,
                "reason": o.reason,
            }
            for o in recorder.outcomes
        ]
        options.json.write_text(json.dumps({"collected": recorder.collected, "outcomes": rows}))
    bad = (apple_vectors.FAILED, apple_vectors.NO_KERNEL)
    return int(any(outcome.status in bad for outcome in recorder.outcomes))


if __name__ == "__main__":
    sys.exit(main())
