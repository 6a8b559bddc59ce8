"""The calls that torch's own test samples make, lowered and compared with torch.

Every entry of torch's operator database runs under a dispatch mode that records the ATen calls it
comes down to. Of each lowered op, five calls of different kinds are checked as single ops.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from anec.errors import UnsupportedError
from anec.passes.lower_to_mil.families import FAMILIES
from anec.reference.infer import dtype_of
from anec.testing import check_module_lowering, single_op

pytest.importorskip("expecttest", reason="torch's operator database needs it")
from torch.testing._internal.common_methods_invocations import op_db

PARTS = 12
SAMPLES = 5
CALLS = 5
# The results of these are not defined: memory left as it was, random numbers.
UNDEFINED = ("empty", "rand", "bernoulli", "normal", "multinomial", "dropout", "rrelu_with_noise")
# No tensor of known size, or no real number, comes out of these.
REFUSED = ("nonzero", "unique", "masked_select", "complex", "view_as")
# Which of several equal elements is found is not promised, so these are given distinct numbers elsewhere.
AMBIGUOUS = ("topk", "kthvalue", "sort", "argsort", "median", "cummax", "cummin", "max.dim", "min.dim", "argm", "mode",
             "nanmedian")  # fmt: skip
# What is refused with a reason.
REASONS = ("floats only", "is empty", "complex numbers")
# Results after the first serve the backward pass.
FIRST_ONLY = ("_embedding_bag", "_linalg_", "_native_batch_norm", "native_batch_norm", "_scaled_dot_product")
# Polynomials of 2e-7; what comes near a root of trigamma in torch is 5e-10.
TOLERANCES = {"i0": 1e-6, "special_i": 1e-6, "special_modified": 1e-6, "special_erfcx": 1e-6, "polygamma": 1e-8}
DTYPES = (torch.float32, torch.int64, torch.bool)
INT32 = 2**31
# What aten's parameters in the IR leave out.
LAYOUT = frozenset("layout device pin_memory memory_format non_blocking generator".split())
MOST_ELEMENTS = 2000
# Thousands of calls come down to these, or none that is lowered.
SKIPPED = ("linalg.", "fft.", "jiterator", "_refs", "special.chebyshev", "special.shifted", "masked.", "ops.nvprims")
Call = tuple[str, list[Any], dict[str, Any]]


@cache
def lowered() -> frozenset[str]:
    """The ops that have a lowering of their own; one for high ranks alone does not count."""
    modules = (importlib.import_module(f"anec.passes.lower_to_mil.{name}") for name in FAMILIES if name != "high_rank")
    return frozenset(root.name for module in modules for rule in module.RULES for root in rule.roots)


class Recorder(TorchDispatchMode):
    """Keeps calls of lowered ATen ops: of each the first ones that differ in dtypes and ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, dict[object, Call]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = function._schema
        name = f"{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}"
        if name in lowered():
            known = self.calls.setdefault(name, {})
            leaves = [*_leaves(args), *_leaves(list(kwargs.values()))]
            kind = tuple((leaf.dtype, leaf.dim()) for leaf in leaves if isinstance(leaf, torch.Tensor))
            if len(known) < CALLS and kind not in known and _usable(name, leaves):
                named = {key: _kept(given) for key, given in kwargs.items() if key not in LAYOUT}
                known[kind] = (name, [_kept(given) for given in args], named)
        return function(*args, **kwargs)


def _leaves(given: Any) -> Iterator[Any]:
    if isinstance(given, (list, tuple)):
        for item in given:
            yield from _leaves(item)
    else:
        yield given


def _kept(given: Any) -> Any:
    if isinstance(given, torch.Tensor):
        return given.detach().clone()
    if isinstance(given, torch.dtype):
        return dtype_of(given)
    return [_kept(item) for item in given] if isinstance(given, (list, tuple)) else given


def _usable(name: str, leaves: list[Any]) -> bool:
    words = name.removeprefix("aten.").lstrip("_")
    if words.startswith((*REFUSED, *AMBIGUOUS)) or any(word in name for word in UNDEFINED):
        return False
    for leaf in leaves:
        if isinstance(leaf, complex) or (isinstance(leaf, int) and abs(leaf) > INT32):
            return False
        if isinstance(leaf, torch.Tensor):
            if leaf.is_complex() or not 0 < leaf.numel() <= MOST_ELEMENTS or leaf.dim() > 5:
                return False
            if not leaf.is_floating_point() and bool((leaf.long().abs() >= INT32).any() or (leaf == -(2**63)).any()):
                return False
            # Indexing by a mask gives a size that depends on it: see test_index.py.
            if name == "aten.index.Tensor" and leaf.dtype in (torch.bool, torch.uint8):
                return False
            if leaf.is_floating_point() and not leaf.isfinite().all():
                return False
    return True


@cache
def calls() -> list[Call]:
    """The calls that are checked, in the order of their ops' names."""
    recorder = Recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for info in (info for info in op_db if not info.name.startswith(SKIPPED)):
            for dtype in (dtype for dtype in DTYPES if dtype in info.dtypes):
                torch.manual_seed(0)
                samples = info.sample_inputs("cpu", dtype, requires_grad=False)
                for sample, _ in zip(samples, range(SAMPLES), strict=False):
                    with recorder:
                        info.op(sample.input, *sample.args, **sample.kwargs)
    return [call for name in sorted(recorder.calls) for call in recorder.calls[name].values()]


def test_most_lowered_ops_are_seen() -> None:
    """Composites come down to others before they are recorded."""
    assert len({name for name, _, _ in calls()}) > 250


@pytest.mark.parametrize("part", range(PARTS))
def test_samples(part: int) -> None:
    for call in calls()[part::PARTS]:
        _check(*call)


def _check(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    module, inputs = single_op(name, *args, target="iOS17", **kwargs)
    if name.removeprefix("aten.").startswith(FIRST_ONLY):
        module.main.outputs = module.main.outputs[:1]
        module.main.signature.outputs = module.main.signature.outputs[:1]
    rtol = next((rtol for stem, rtol in TOLERANCES.items() if name.startswith(f"aten.{stem}")), 1e-10)
    try:
        check_module_lowering(module, inputs, rtol=rtol)
    except UnsupportedError as error:
        if not any(reason in str(error) for reason in REASONS):
            raise
    except AssertionError as error:
        shapes = [tuple(given.shape) if isinstance(given, torch.Tensor) else given for given in args]
        raise AssertionError(f"{name}{shapes} {kwargs}: {error}") from error
