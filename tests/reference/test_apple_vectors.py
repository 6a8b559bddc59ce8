"""The reference kernels agree with the expected values in coremltools' own op tests.

Each run is a process of its own: it sets coremltools up for its test environment and replaces
functions of pytest and coremltools. ``benchmarks/apple_vectors.py`` runs all values.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import anec.reference

ROOT = Path(__file__).parents[2]
SOURCE = Path(anec.reference.__file__).parents[2]
FAMILIES = {
    "activation",
    "compression",
    "constexpr_ops",
    "control_flow",
    "conv",
    "elementwise_binary",
    "elementwise_unary",
    "image_resizing",
    "linear",
    "normalization",
    "pool",
    "quantization_ops",
    "recurrent",
    "reduction",
    "scatter_gather",
    "states",
    "tensor_operation",
    "tensor_transformation",
    "transformers",
}


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(SOURCE), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=540,
        check=False,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run at least one of every test function, 2,500 in all, drawn by a fixed seed."""
    target = tmp_path_factory.mktemp("apple") / "outcomes.json"
    script = ROOT / "benchmarks" / "apple_vectors.py"
    done = run_python(str(script), "--sample", "2500", "--seed", "20", "--json", str(target))
    assert target.exists(), done.stdout[-2000:] + done.stderr[-4000:]
    loaded: list[dict[str, Any]] = json.loads(target.read_text())["outcomes"]
    return loaded


def test_no_value_fails(outcomes: list[dict[str, Any]]) -> None:
    bad = [o for o in outcomes if o["status"] in ("failed", "no kernel")]
    assert not bad, "\n".join(f"{o['status']}: {o['test']}\n  {o['reason'][:500]}" for o in bad[:20])


def test_every_family_holds_values(outcomes: list[dict[str, Any]]) -> None:
    passed = Counter(o["family"] for o in outcomes if o["status"] == "passed")
    assert set(passed) >= FAMILIES, FAMILIES - set(passed)
    # So few would mean that the harness no longer reaches the values.
    assert sum(passed.values()) > 0.7 * len(outcomes)


def test_known_disagreements_are_few(outcomes: list[dict[str, Any]]) -> None:
    disagree = [o["test"] for o in outcomes if o["status"] == "disagrees"]
    assert len(disagree) <= 10, disagree


WRONG_KERNELS = """
import json
from anec import reference as kernels
from reference import apple_vectors

statuses = {}
for name, op, spoil, test_file, keyword in CASES:
    right = kernels.lookup(op).function
    def wrong(x):
        return spoil(right(x))
    wrong.__annotations__ = right.__annotations__
    for stage, function in (("wrong", wrong), ("right", right)):
        kernels.register_kernel(op, function, replace=True)
        recorder = apple_vectors.run(paths=[test_file], keyword=keyword)
        statuses[f"{stage} {name}"] = sorted({outcome.status for outcome in recorder.outcomes})
print(json.dumps(statuses))
"""
CASES = """
CASES = [
    ("value", "mil.relu", lambda y: y * 1.02, "iOS14/test_activation.py", "TestReLU and backend and not ReLU6"),
    ("shape", "mil.square", lambda y: y[:1], "iOS14/test_elementwise_unary.py", "square and smoke"),
    ("dtype", "mil.softsign", lambda y: y.double(), "iOS14/test_activation.py", "TestSoftsign and backend"),
    ("constant", "mil.relu", lambda y: y + 0.01, "iOS14/test_activation.py", "TestReLU and builder_eval and not ReLU6"),
]
"""


def test_a_wrong_kernel_is_found() -> None:
    done = run_python("-c", CASES + WRONG_KERNELS)
    assert done.returncode == 0, done.stderr[-4000:]
    statuses = json.loads(done.stdout.splitlines()[-1])
    for name in ("value", "shape", "dtype", "constant"):
        assert statuses[f"wrong {name}"] == ["failed"], name
        assert statuses[f"right {name}"] == ["passed"], name
