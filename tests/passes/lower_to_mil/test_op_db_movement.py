"""The calls that torch's own test samples make of views, joins, windows, products and pools."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from anec.errors import UnsupportedError
from anec.testing import check_module_lowering, single_op

pytest.importorskip("expecttest", reason="torch's operator database needs it")
from torch.testing._internal.common_methods_invocations import op_db

FAMILIES = "shape slicing joining padding windows conv matmul einsum pool adaptive_pool".split()
# What is refused with a reason: Core ML has no empty tensors, and no integer windows.
REFUSED = ("empty", "floats only")
SAMPLES = 8
MOST_ELEMENTS = 5000
# What aten's parameters in the IR leave out.
LAYOUT = frozenset("layout device pin_memory memory_format non_blocking generator".split())
NAMES = """
T addbmm addmm addmv addr atleast_1d atleast_3d baddbmm block_diag bmm broadcast_tensors cartesian_prod cat chunk
column_stack constant_pad_nd cov diag diag_embed diagflat diagonal diff dot dsplit dstack einsum expand flatten
flip fliplr hsplit hstack inner kron linalg.multi_dot linalg.vecdot mT matmul meshgrid mm movedim mv narrow outer
permute ravel repeat repeat_interleave reshape roll rot90 select slice split split_with_sizes squeeze stack t
tensor_split tensordot tile transpose unbind unflatten unfold unsafe_chunk unsqueeze vdot view vsplit
vstack nn.functional.adaptive_avg_pool1d nn.functional.adaptive_avg_pool2d nn.functional.adaptive_avg_pool3d
nn.functional.adaptive_max_pool1d nn.functional.adaptive_max_pool2d nn.functional.adaptive_max_pool3d
nn.functional.avg_pool1d nn.functional.avg_pool2d nn.functional.avg_pool3d nn.functional.max_pool1d
nn.functional.max_pool2d nn.functional.max_pool3d nn.functional.bilinear nn.functional.channel_shuffle
nn.functional.conv1d nn.functional.conv2d nn.functional.conv3d nn.functional.conv_transpose1d
nn.functional.conv_transpose2d nn.functional.conv_transpose3d nn.functional.linear nn.functional.pad
nn.functional.pixel_shuffle nn.functional.pixel_unshuffle
""".split()
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


@cache
def lowered() -> frozenset[str]:
    """The ops these families lower."""
    modules = (importlib.import_module(f"anec.passes.lower_to_mil.{name}") for name in FAMILIES)
    return frozenset(root.name for module in modules for rule in module.RULES for root in rule.roots)


class Recorder(TorchDispatchMode):
    """Keeps the calls of these families, by name and arguments, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, Call] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        schema = function._schema
        name = f"{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}"
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        plain = all(map(_plain, tensors))
        if name in lowered() and tensors and plain:
            kinds = [(str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors]
            numbers = [leaf for leaf in tree_leaves((args, kwargs)) if not isinstance(leaf, torch.Tensor)]
            kept = tuple(
                [item.detach().clone() if isinstance(item, torch.Tensor) else item for item in arg]
                if isinstance(arg, (list, tuple))
                else arg.detach().clone()
                if isinstance(arg, torch.Tensor)
                else arg
                for arg in args
            )
            named = {key: given for key, given in (kwargs or {}).items() if key not in LAYOUT}
            self.calls.setdefault(f"{name} {kinds} {numbers}", (name, kept, named))
        return function(*args, **(kwargs or {}))


def _plain(tensor: torch.Tensor) -> bool:
    """Real numbers that int32 can hold; memory left as it was may hold any."""
    if tensor.is_complex() or not 0 < tensor.numel() <= MOST_ELEMENTS or tensor.dim() > 5:
        return False
    return tensor.is_floating_point() or bool((tensor.double().abs() < 2**31).all())


def calls(name: str) -> list[Call]:
    recorder = Recorder()
    for info in (info for info in op_db if info.name == name):
        for dtype in (dtype for dtype in (torch.float32, torch.int64, torch.bool) if dtype in info.dtypes):
            torch.manual_seed(0)
            samples = info.sample_inputs("cpu", dtype, requires_grad=False)
            for sample, _ in zip(samples, range(SAMPLES), strict=False):
                with recorder:
                    info.op(sample.input, *sample.args, **sample.kwargs)
    return list(recorder.calls.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name in {info.name for info in op_db}])
def test_samples(name: str) -> None:
    made = calls(name)
    assert made, f"{name} comes down to none of the ops"
    assert sum(_holds(*call) for call in made), f"every call of {name} is refused"


def _holds(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Lower a call and compare it; False when it is refused for a known reason."""
    module, inputs = single_op(op, *args, target="iOS17", **kwargs)
    if "with_indices" in op or "adaptive_max" in op:
        # The indices are refused, see test_pool.py.
        module.main.outputs = module.main.outputs[:1]
        module.main.signature.outputs = module.main.signature.outputs[:1]
    try:
        check_module_lowering(module, inputs)
    except UnsupportedError as error:
        if not any(reason in str(error) for reason in REFUSED):
            raise
        return False
    return True
