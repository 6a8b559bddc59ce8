"""Decomposition: which composites stay whole, and torch's own table for all others.

Measured on torch 2.14: default_decompositions() turns F.softplus into exp, log1p, gt, where (which
overflows in fp16), bicubic resizing into 160 ops, attention into 25, reflection padding into 12
with two gathers, an LSTM of two steps into 102. What is listed here has one op in `nn` or Core ML.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch.export import ExportedProgram

from anec.errors import AnecError
from anec.frontend import quantized
from anec.frontend.branches import with_both_branches
from anec.frontend.explain import explain, quiet
from anec.frontend.export import WITHOUT_A_LOOK, without_a_look
from anec.frontend.vmapped import without_vmap_levels
from anec.frontend.writes import harmless_writes
from anec.frontend.written import with_written_buffers

_REASONS = {
    "one Core ML op; taken apart it is unrolled over time": (
        "lstm.input lstm.data gru.input gru.data rnn_tanh.input rnn_tanh.data rnn_relu.input rnn_relu.data"
    ),
    "one Core ML op from iOS18; taken apart it is 25 ops with expands, views and a check for empty rows": (
        "scaled_dot_product_attention.default _scaled_dot_product_flash_attention_for_cpu.default"
    ),
    "one Core ML op; taken apart, views and expands surround mm or bmm": (
        "linear.default matmul.default einsum.default"
    ),
    "one Core ML op, or one whose fp16 form a pass chooses": (
        "layer_norm.default group_norm.default instance_norm.default rms_norm.default linalg_vector_norm.default "
        "softmax.int log_softmax.int logsumexp.default"
    ),
    "one Core ML op; taken apart it overflows in fp16 or hides in select and compare": (
        "softplus.default log_sigmoid.default silu.default mish.default glu.default hardswish.default "
        "hardsigmoid.default relu6.default elu.default celu.default prelu.default _prelu_kernel.default "
        "softshrink.default hardshrink.default threshold.default"
    ),
    "one Core ML op; taken apart its places may be negative, which costs three more": "index_copy.default",
    "taken apart it is computed in float32, where whole numbers fall beside torch's": (
        "linspace.default linspace.Tensor_Tensor linspace.Tensor_Scalar linspace.Scalar_Tensor "
        "logspace.Tensor_Tensor logspace.Tensor_Scalar logspace.Scalar_Tensor"
    ),
    "one Core ML op; taking it apart asks for the sign of its index": "select_scatter.default take.default",
    "resampling: taken apart it is index arithmetic and gathers": (
        "upsample_linear1d.default upsample_linear1d.vec upsample_bilinear2d.vec upsample_bilinear2d.default "
        "upsample_trilinear3d.vec upsample_trilinear3d.default upsample_bicubic2d.vec upsample_bicubic2d.default "
        "upsample_nearest1d.default upsample_nearest1d.vec upsample_nearest2d.default upsample_nearest2d.vec "
        "upsample_nearest3d.default upsample_nearest3d.vec _upsample_nearest_exact1d.default "
        "_upsample_nearest_exact1d.vec _upsample_nearest_exact2d.default _upsample_nearest_exact2d.vec "
        "_upsample_nearest_exact3d.default _upsample_nearest_exact3d.vec _upsample_bilinear2d_aa.vec "
        "_upsample_bicubic2d_aa.vec grid_sampler.default"
    ),
    "one Core ML op; taken apart it is view, permute, view or gathers": (
        "pixel_shuffle.default pixel_unshuffle.default pad.default reflection_pad1d.default "
        "reflection_pad2d.default reflection_pad3d.default replication_pad1d.default replication_pad2d.default "
        "replication_pad3d.default roll.default stack.default tril.default triu.default one_hot.default im2col.default "
        "col2im.default diag_embed.default"
    ),
    "taken apart it counts in uint16, of which torch has no range": "eye.default eye.m",
    "overlapping windows added up, as istft does; taken apart it is a scatter, or one op an entry of the window": (
        "unfold_backward.default"
    ),
    "spellings with a lowering of their own: taking them apart gains nothing and traces the program again": (
        "conv1d.default conv1d.padding conv2d.default conv2d.padding conv3d.default conv3d.padding "
        "conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input dropout.default reshape.default "
        "contiguous.default flatten.using_ints unflatten.int chunk.default split.sizes split.Tensor unbind.int "
        "transpose.int t.default squeeze.dim squeeze.default expand_as.default view_as.default narrow.default "
        "movedim.int movedim.intlist square.default to.dtype type_as.default where.ScalarOther where.ScalarSelf "
        "rsub.Scalar masked_fill.Scalar hstack.default vstack.default"
    ),
    "pooling: one result, and the window still to be seen": (
        "adaptive_avg_pool1d.default adaptive_avg_pool2d.default adaptive_avg_pool3d.default "
        "adaptive_max_pool1d.default avg_pool1d.default max_pool1d.default max_pool2d.default max_pool3d.default"
    ),
}

# Torch reports singular matrices when it runs, by an op with a side effect behind these; a program cannot.
_UNCHECKED = {
    torch.ops.aten.linalg_inv.default: torch.linalg.inv_ex,
    torch.ops.aten.linalg_solve.default: torch.linalg.solve_ex,
    torch.ops.aten.linalg_cholesky.default: torch.linalg.cholesky_ex,
}

# Has a kernel and a rule, but torch takes it apart whenever it traces again.
_RAISED = frozenset({"aten::batch_norm"})

KEPT: Mapping[str, str] = MappingProxyType({name: why for why, names in _REASONS.items() for name in names.split()})
"""The aten ops that stay whole (``packet.overload``), and why each does."""


def decompose(program: ExportedProgram, *, keep: Collection[str] = KEPT.keys()) -> ExportedProgram:
    """Bring a program to functional core ATen ops and the composites in ``keep``.

    In-place ops become functional, no_grad and autocast regions are inlined, and so are the branches of
    `torch.cond`; tensors that are written become buffers. A program that is in that form already passes through.

    Args:
        program: what torch.export gave, in any of its forms.
        keep: names of the aten ops that stay whole; names this torch does not have are skipped.

    Raises:
        UnsupportedError: a branch gives a number.
        AnecError: torch cannot decompose the program.
    """
    program = with_both_branches(program)
    kept, table = _table(frozenset(keep), quantized.is_exported())
    writes = harmless_writes(program.graph)
    if writes is not None and not any(
        _trains(node) or _must_change(writes.get(node, node.target), table, kept) for node in program.graph.nodes
    ):
        return program
    try:
        with quiet(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ready = with_written_buffers(without_vmap_levels(program))
            blind = program.graph_module.meta.get(WITHOUT_A_LOOK)
            with _unguarded(ready), without_a_look() if blind else contextlib.nullcontext():
                functional: ExportedProgram = ready.run_decompositions(table)
            return functional
    except AnecError:
        raise
    except Exception as error:
        raise explain(error, "torch cannot decompose the exported program") from error


@contextlib.contextmanager
def _unguarded(program: ExportedProgram) -> Iterator[None]:
    """Trace without torch's checks of sizes, of which nothing is lifted: they fail on ``forward(**inputs)``.

    Torch 2.14 writes them as Python code in which it leaves such inputs under a name that is not defined.
    """
    guards, program._guards_code = getattr(program, "_guards_code", []), []
    try:
        yield
    finally:
        program._guards_code = guards


@cache
def _table(keep: frozenset[str], has_quantized: bool) -> tuple[frozenset[Any], Any]:
    """The ops that stay whole, and torch's table without them; it takes 0.3 s to make.

    Args:
        keep: names of the ops that stay whole.
        has_quantized: the ops of exported quantized models are there; only what the table is cached by.
    """
    kept = frozenset(_overloads(keep))
    table = torch.export.default_decompositions()
    for op in kept:
        table.pop(op, None)  # type: ignore[no-untyped-call]  # torch's own table class
    for op, unchecked in _UNCHECKED.items():
        table[op] = _first(unchecked)
    for op, function in quantized.decompositions().items():
        table[op] = function
    return kept, table


def _first(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, of whose results only the first is given back."""
    return lambda *args, **kwargs: function(*args, **kwargs)[0]


def _trains(node: torch.fx.Node) -> bool:
    """True for a norm or dropout in training mode: torch's own decomposition tells what it changes."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    names = [argument.name for argument in node.target._schema.arguments]
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    return any(given.get(name) is True for name in ("training", "train"))


def _must_change(target: Any, table: Collection[Any], kept: Collection[Any]) -> bool:
    """True for an op in ``table``, a composite that is not kept, one that writes in place or holds a subgraph."""
    # torch.vmap leaves Python functions behind, which are gone when torch traces again.
    if isinstance(target, torch._ops.HigherOrderOperator) or _is_functorch(target):
        return True
    if not isinstance(target, torch._ops.OpOverload) or target in kept:
        return False
    # Composites without an entry in the table (views, batch_norm) fall apart while torch traces again.
    name = str(target._schema).partition("(")[0]
    if name in _RAISED:
        return False
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd")
    return composite or target._schema.is_mutable or target in table


def _is_functorch(target: Any) -> bool:
    return str(getattr(target, "__module__", "")).startswith("torch._functorch")


def _overloads(names: Collection[str]) -> Iterator[torch._ops.OpOverload]:
    """The aten ops of this torch among ``names``."""
    for name in names:
        packet, _, overload = name.partition(".")
        found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
        if found is not None:
            yield found
