"""Level 2: the program behind each pass; the first value where two programs part; array files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anec import Pass, mil, nn, register, rewrite, var
from anec.api.text import optimize
from anec.check.arrays import load_npz, save_npz
from anec.check.fidelity import Close, Lossy
from anec.check.metrics import Metric
from anec.check.numerics import first_difference
from anec.errors import AnecError, CheckError, UsageError
from anec.ir.graph import Module
from anec.pipeline.checks import CheckNumerics
from anec.pipeline.clone import clone
from anec.pipeline.manager import Manager
from anec.pipeline.spec import build
from rewriting import module_of, run

x = var("x")
INPUTS = {"x0": torch.linspace(-2, 3, 8).reshape(2, 4)}


def within(rel: float) -> Callable[[Metric], bool]:
    return lambda metric: metric.rel <= rel


def make(name: str, pattern: Any, new: Any, **settings: Any) -> None:
    rule = rewrite(pattern, name=f"{name}-rule")(new)
    register(type("Made", (Pass,), {"name": name, "rules": (rule,), "__doc__": "Made.", **settings}))


def check(module: Module, passes: str, reference: Any = None) -> CheckNumerics:
    numerics = CheckNumerics(INPUTS, reference)
    Manager([numerics], INPUTS).run(module, build(passes, {}))
    return numerics


def test_right_passes_are_listed_with_their_distance() -> None:
    make("split-scale", mil.mul(x, 6.0), lambda x: mil.mul(mil.mul(x, 2.0), 3.0))
    make("nothing", mil.tanh(x), lambda x: mil.sinh(x))
    numerics = check(module_of(lambda a: mil.mul(a, 6.0)), "split-scale,nothing")
    (row,) = numerics.rows
    assert row["pass"] == "split-scale"
    assert isinstance(row["rel"], float)
    assert row["rel"] < 1e-6


def test_the_pass_that_changes_the_numbers_is_named() -> None:
    make("fine", mil.sigmoid(x), lambda x: mil.real_div(1.0, mil.add(mil.exp(mil.mul(x, -1.0)), 1.0)))
    make("scales", mil.relu(x), lambda x: mil.mul(mil.clip(x, alpha=0.0, beta=1e4), 1.001))
    with pytest.raises(CheckError, match=r"behind scales the output 'y0' is off: rel 0\.001, psnr .* dB") as caught:
        check(module_of(lambda a: mil.relu(mil.sigmoid(a))), "fine,scales")
    assert caught.value.pass_name == "scales"
    assert "wanted rel at most 0.0001" in caught.value.message


def test_a_close_pass_has_its_tolerance() -> None:
    make("scales", mil.relu(x), lambda x: mil.mul(mil.clip(x, alpha=0.0, beta=1e4), 1.001), fidelity=Close(1e-2))
    assert check(module_of(mil.relu), "scales").rows


def test_a_lossy_pass_starts_anew() -> None:
    make("halves", mil.relu(x), lambda x: mil.mul(mil.clip(x, alpha=0.0, beta=1e4), 0.5), fidelity=Lossy("half"))
    make("same", mil.clip(x, alpha=0.0, beta=1e4), lambda x: mil.clip(x, alpha=0.0, beta=2e4))
    assert [row["pass"] for row in check(module_of(mil.relu), "halves,same").rows] == ["same"]


def test_nan_is_a_problem() -> None:
    make("roots", mil.abs(x), lambda x: mil.mul(mil.sqrt(x), mil.sqrt(x)))
    with pytest.raises(CheckError, match=r"behind roots the output 'y0' is off: NaN: 3 more and 0 fewer places"):
        check(module_of(mil.abs), "roots")


def test_what_float16_cannot_hold_is_told() -> None:
    module = module_of(lambda a: mil.mul(mil.exp(mil.mul(a, 10.0)), 1e-9))
    with pytest.raises(CheckError, match="behind to-fp16 the output 'y0' is off") as caught:
        check(module, "to-fp16")
    assert "--precision mixed" in str(caught.value.hint)


def test_the_lifted_program_is_held_to_the_model() -> None:
    module = module_of(mil.relu)
    make("nothing", mil.tanh(x), lambda x: mil.sinh(x))
    assert check(clone(module), "nothing", {"y0": INPUTS["x0"].relu()}).rows == []
    with pytest.raises(CheckError, match="behind input the output 'y0' is off"):
        check(module, "nothing", {"y0": INPUTS["x0"].relu() * 1.01})


def test_zeros_may_round() -> None:
    """Where the right answer is 0, a last bit is no difference."""
    make("reorder", mil.sub(x, x), lambda x: mil.sub(mil.add(x, 1e-9), x))
    assert check(module_of(lambda a: mil.sub(a, a)), "reorder").rows


def test_float16_is_judged_in_decibel() -> None:
    def program(a: Any) -> Any:
        half = mil.cast(a, dtype="fp16")
        return mil.cast(mil.mul(mil.add(half, 0.1), 3.0), dtype="fp32")

    make("spread", mil.mul(mil.add(x, 0.1), 3.0), lambda x: mil.add(mil.mul(x, 3.0), 0.3))
    result, report = optimize(module_of(program), "spread", inputs=INPUTS, check="numerics")
    (row,) = report.checks["numerics"]
    assert 40 < row["psnr"] < 100
    assert result is not None
    make("rough", mil.mul(mil.add(x, 0.1), 3.0), lambda x: mil.add(mil.mul(x, 3.0), 0.4))
    with pytest.raises(CheckError, match="wanted psnr at least 40 dB"):
        optimize(module_of(program), "rough", inputs=INPUTS, check="numerics")


def test_the_check_needs_inputs() -> None:
    with pytest.raises(UsageError, match="--check=numerics needs example inputs"):
        optimize(module_of(mil.relu), "dce", check="numerics")
    with pytest.raises(UsageError, match="unknown check 'numeric'"):
        optimize(module_of(mil.relu), "dce", check="numeric")  # type: ignore[arg-type]


# -- where two programs part ---------------------------------------------------------------------------


def test_the_first_different_value_is_named() -> None:
    def program(a: Any) -> Any:
        return mil.exp(mil.tanh(mil.softplus(mil.relu(a))))

    before, after = module_of(program), module_of(program)
    run(after, rewrite(mil.softplus(x), name="r")(lambda x: mil.log(mil.add(mil.exp(x), 1.001))))
    found = first_difference(before, after, INPUTS, within(1e-6))
    assert found is not None
    op, metric, _, largest = found
    assert op.name == "mil.log"
    assert metric.name == "softplus"
    assert metric.rel > 1e-4
    assert largest == pytest.approx(float(torch.nn.functional.softplus(INPUTS["x0"]).max()))
    assert first_difference(before, clone(before), INPUTS, within(1e-9)) is None


def test_values_of_other_shapes_are_passed_over() -> None:
    before = module_of(lambda a: mil.reduce_sum(mil.reshape(mil.relu(a), [8])))
    after = module_of(lambda a: mil.reduce_sum(mil.reshape(mil.relu(a), [4, 2])))
    assert first_difference(before, after, INPUTS, within(1e-6)) is None


def test_raised_ops_are_compared_with_lowered_ones() -> None:
    before = module_of(nn.silu)
    after = clone(before)
    run(after, rewrite(nn.silu(x), name="lower")(lambda x: mil.silu(x)))
    assert first_difference(before, after, INPUTS, within(1e-6)) is None


def test_outputs_are_found_by_their_places_and_named_with_the_line_that_is_known() -> None:
    before = module_of(lambda a: mil.square(a), line="model.py:7")
    after = module_of(lambda a: mil.mul(mil.relu(a), 0.3), line="")
    after.main.rename(after.main.outputs[0], "renamed")
    found = first_difference(before, after, INPUTS, within(1e-6))
    assert found is not None
    assert (found.op.name, found.metric.name, found.largest) == ("mil.mul", "renamed", 9.0)
    assert "model.py:7" in found.place


# -- arrays --------------------------------------------------------------------------------------------


def test_arrays_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    arrays = {
        "floats": torch.rand(2, 3), "half": torch.rand(2).half(), "bytes": torch.tensor([1, 255], dtype=torch.uint8),
        "truth": torch.tensor([True, False]), "number": torch.tensor(7), "strided": torch.rand(3, 4).t(),
        "brain": torch.rand(3).bfloat16(), "plain": np.arange(3),
    }  # fmt: skip
    save_npz(path, arrays)
    read = load_npz(path)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        wanted = torch.as_tensor(array)
        wanted = wanted.float() if name == "brain" else wanted
        assert torch.equal(read[name], wanted)
        assert read[name].dtype is wanted.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.npz does not exist"):
        load_npz(tmp_path / "none.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04nonsense")
    with pytest.raises(UsageError, match=r"cannot read .*broken\.npz as \.npz"):
        load_npz(tmp_path / "broken.npz")
    np.savez(tmp_path / "pickled.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UsageError, match="cannot read"):
        load_npz(tmp_path / "pickled.npz")
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(UsageError, match="holds one array without a name"):
        load_npz(tmp_path / "one.npy")
    with pytest.raises(AnecError, match="cannot write"):
        save_npz(tmp_path / "nowhere" / "out.npz", {"x": torch.ones(1)})
