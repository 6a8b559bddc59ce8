"""The calls that torch's own test samples make, lowered and compared with torch.

Each entry of torch's operator database runs under a dispatch mode that records the ATen calls it
comes down to; those of these families are checked as single ops.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from anec.reference.infer import dtype_of
from anec.testing import check_lowering

pytest.importorskip("expecttest", reason="torch's operator database needs it")
from torch.testing._internal.common_methods_invocations import op_db

FAMILIES = (
    "elementwise unary power piecewise compare bitwise cast create reduce softmax scan order index scatter".split()
)
# The results of these are not defined: memory left as it was, random numbers.
UNDEFINED = ("empty", "rand", "bernoulli", "normal", "multinomial")
# No tensor of known size, or no real number, comes out of these.
REFUSED = ("nonzero", "unique", "masked_select", "complex", "view_as")
# Which of several equal elements is found is not promised, so these are given distinct numbers elsewhere.
AMBIGUOUS = ("topk", "kthvalue", "sort", "argsort", "median", "cummax", "cummin", "max.dim", "min.dim", "argm", "mode")
DTYPES = (torch.float32, torch.int64, torch.bool)
INT32 = 2**31
# What aten's parameters in the IR leave out.
LAYOUT = frozenset("layout device pin_memory memory_format non_blocking generator".split())
MOST_ELEMENTS = 2000

NAMES = """
abs acos acosh add arange clamp_max clamp_min mul sub addcmul addcdiv asin asinh atan atan2 atanh bitwise_not
bitwise_left_shift bitwise_right_shift cdist ceil sum_to_size clamp copysign cos cosh cumsum cumprod deg2rad
diff div exp alias_copy eq fmax fmin fmod remainder frac floor floor_divide log1p ge gt isin linspace log
log10 log2 logaddexp logaddexp2 logical_not masked_fill masked_scatter max var_mean std_mean min quantile
nanquantile logical_and logical_or bitwise_and bitwise_or bitwise_xor heaviside isclose softmax aminmax
nn.functional.relu nn.functional.leaky_relu nn.functional.elu nn.functional.prelu nn.functional.celu
nn.functional.threshold nn.functional.softshrink nn.functional.hardshrink nn.functional.hardtanh ne pow
rad2deg round sin sinc sinh sign sgn __rdiv__ __rsub__ select_scatter signbit tan tanh trunc exp2 expm1
nan_to_num rsqrt square lerp isinf isposinf isneginf index_fill index_copy index_select index_add index_reduce
index_put put take scatter new_zeros ones zeros eye new_full scatter_add hypot bucketize fill take_along_dim
xlogy logsumexp trace tril triu logcumsumexp sigmoid erf erfc log_softmax logit where norm
nn.functional.embedding all any amax amin count_nonzero mean nanmean std var prod scatter_reduce
special.xlog1py special.entr
""".split()


@cache
def lowered() -> frozenset[str]:
    """The ops these families lower."""
    modules = (importlib.import_module(f"anec.passes.lower_to_mil.{name}") for name in FAMILIES)
    return frozenset(root.name for module in modules for rule in module.RULES for root in rule.roots)


class Recorder(TorchDispatchMode):
    """Keeps the ATen calls of these families, by name and arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[Any], dict[str, Any]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = function._schema
        name = f"{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}"
        if name in lowered() and _usable(name, [*_leaves(args), *_leaves(list(kwargs.values()))]):
            named = {key: _kept(given) for key, given in kwargs.items() if key not in LAYOUT}
            self.calls.append((name, [_kept(given) for given in args], named))
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


def calls(name: str) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """Distinct calls that the first samples of an entry come down to, one of each ATen op and dtypes."""
    recorder = Recorder()
    for info in (info for info in op_db if info.name == name):
        for dtype in (dtype for dtype in DTYPES if dtype in info.dtypes):
            torch.manual_seed(0)
            for number, sample in enumerate(info.sample_inputs("cpu", dtype, requires_grad=False)):
                if number == 12:
                    break
                with recorder:
                    info.op(sample.input, *sample.args, **sample.kwargs)
    found: dict[tuple[object, ...], tuple[str, list[Any], dict[str, Any]]] = {}
    for op, args, kwargs in recorder.calls:
        kinds = tuple(str(leaf.dtype) for leaf in _leaves(args) if isinstance(leaf, torch.Tensor))
        found.setdefault((op, kinds), (op, args, kwargs))
    return list(found.values())


KNOWN = {info.name for info in op_db}


@pytest.mark.parametrize("name", [name for name in NAMES if name in KNOWN])
def test_samples(name: str) -> None:
    made = calls(name)
    assert made, f"{name} comes down to none of the ops"
    for op, args, kwargs in made:
        check_lowering(op, *args, target="iOS17", **kwargs)
