"""Calling torch.export: the only place that does."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx.experimental import _config
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from anec.errors import AnecError, UsageError
from anec.frontend.conditions import broken_sizes
from anec.frontend.dims import has_hints
from anec.frontend.explain import explain, quiet, range_hint
from anec.frontend.shapes import Shapes

# What a trace assumes of a size is checked in the program instead of being refused; torch 2.7 has no such mode.
_LATER = "prefer_deferred_runtime_asserts_over_guards"
_DEFERRED = {_LATER: True} if _LATER in inspect.signature(torch.export.export).parameters else {}

# Marks a program that was traced without a look at the example's sizes: whoever traces it again must not look either.
WITHOUT_A_LOOK = "anec.without_a_look"

_SYMBOLIC_SHAPES: Any = _config  # its patch() is made when torch is imported


def export(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    strict: bool = False,
    shapes: Shapes | None = None,
) -> ExportedProgram:
    """Export a model in evaluation mode; its own mode is restored.

    Args:
        model: an nn.Module or fx.GraphModule; an ExportedProgram is returned as it is.
        args: positional example inputs.
        kwargs: example inputs by name.
        dynamic_shapes: as torch.export.export takes them.
        strict: torch.export's mode that traces bytecode.
        shapes: what ``dynamic_shapes`` was made from; of listed shapes, those alone must hold.

    Raises:
        UsageError: the model is nothing that can be exported.
        AnecError: torch.export failed; with its reason, the user's line and what to try.
    """
    if isinstance(model, ExportedProgram):
        if dynamic_shapes is not None:
            raise UsageError("the program is exported already; dynamic_shapes belong to its export")
        return model
    if not isinstance(model, torch.nn.Module):
        what = "a class; pass an instance" if isinstance(model, type) else f"a {type(model).__name__}"
        if isinstance(model, Mapping):
            raise UsageError(
                "the model is a dict", hint="load a state dict: model.load_state_dict(...); pass the model"
            )
        raise UsageError(f"the model is {what}", hint="pass an nn.Module, fx.GraphModule or ExportedProgram")
    positional, named = separate((tuple(args), dict(kwargs or {})))

    def attempt(**options: Any) -> ExportedProgram:
        sizes = _FreeSizes() if dynamic_shapes is not None else contextlib.nullcontext()
        with evaluating(model), _frozen(model), _unwritten(model), _plain_modes(), quiet(), sizes:
            return torch.export.export(
                model, positional, named or None, dynamic_shapes=dynamic_shapes, strict=strict, **options
            )

    try:
        if has_hints(dynamic_shapes):
            # torch leaves what a trace assumes of Dim.AUTO unchecked.
            found, broken = _for_all_sizes(attempt, dynamic_shapes, shapes)
            if broken is not None:
                hints = filter(None, (broken, _unrolled(model, "specialized")))
                raise AnecError("the model does not take every size that was asked for", hint="; ".join(hints))
            return found
        return attempt()
    except AnecError:
        raise
    except Exception as error:
        hint = None
        if "Constraints violated" in str(error):
            program, hint = _with_conditions(attempt, dynamic_shapes)
            if program is not None:
                return program
        hint = hint or _unrolled(model, str(error)) or _scripted(model)
        raise explain(error, "torch.export failed", hint) from error


def _unrolled(model: torch.nn.Module, reason: str) -> str | None:
    """The hint for a length that torch.export fixes because it unrolls a recurrent layer over it."""
    if "specialized" not in reason or not any(isinstance(module, torch.nn.RNNBase) for module in model.modules()):
        return None
    return "torch.export fixes the sequence length of LSTM, GRU and RNN; leave that size fixed (the batch may be free)"


def _scripted(model: torch.nn.Module) -> str | None:
    """The hint for a submodule that is TorchScript: torch.export calls it with arguments that do not fit."""
    inner = () if isinstance(model, torch.jit.ScriptModule) else model.named_modules()
    for name, module in inner:
        if isinstance(module, torch.jit.ScriptModule):
            return f"{name} is TorchScript, which torch.export does not trace: keep the nn.Module it was made from"
    return None


class _FreeSizes(TorchFunctionMode):
    """Traces ops in a form that takes any size, where torch's own takes its sizes for fixed numbers.

    max_pool1d is traced as a pooling of images. cdist asks whether there are more than 25 points.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.cdist:
            # Called so, it comes with all its arguments.
            return func(*args, **kwargs | {"compute_mode": "donot_use_mm_for_euclid_dist"})
        names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        given = dict(zip(names, args, strict=False)) | kwargs
        if getattr(func, "__name__", "") != "max_pool1d" or given.get("return_indices"):
            return func(*args, **kwargs)
        x, kernel = given["input"], _first(given["kernel_size"])
        stride = _first(given.get("stride")) or kernel
        pooled = torch.max_pool2d(
            x.unsqueeze(-2),
            kernel_size=(1, kernel),
            stride=(1, stride),
            padding=(0, _first(given.get("padding", 0))),
            dilation=(1, _first(given.get("dilation", 1))),
            ceil_mode=bool(given.get("ceil_mode", False)),
        )
        return pooled.squeeze(-2)


def _first(given: Any) -> Any:
    return (given[0] if given else None) if isinstance(given, (tuple, list)) else given


def _with_conditions(
    attempt: Callable[..., ExportedProgram], dynamic_shapes: Any
) -> tuple[ExportedProgram | None, str | None]:
    """The program if its assumptions hold for all sizes; else what breaks them, if that is known."""
    try:
        program, broken = _for_all_sizes(attempt, dynamic_shapes)
    except Exception as error:  # noqa: BLE001  # the error of the first attempt is the one to tell
        return None, range_hint(str(error))
    return (program, None) if broken is None else (None, broken)


def _for_all_sizes(
    attempt: Callable[..., ExportedProgram], dynamic_shapes: Any, shapes: Shapes | None = None
) -> tuple[ExportedProgram, str | None]:
    """The program with its assumptions written down, and what breaks one of them."""
    try:
        program = attempt(**_DEFERRED)
        broken = broken_sizes(program, dynamic_shapes, shapes)
    except Exception:
        general = _without_a_look(attempt, dynamic_shapes, shapes)
        if general is None:
            raise
        return general, None
    general = _without_a_look(attempt, dynamic_shapes, shapes) if broken is not None else None
    return (program, broken) if general is None else (general, None)


def _without_a_look(
    attempt: Callable[..., ExportedProgram], dynamic_shapes: Any, shapes: Shapes | None
) -> ExportedProgram | None:
    """The program as torch traces it without a look at the example's sizes, if it takes all that were asked for.

    Where sizes of the example coincide (a slice that ends at the end, a size of 1), a trace takes the
    shorter way, and assumes that they always do.
    """
    if not hasattr(_SYMBOLIC_SHAPES, "backed_size_oblivious"):
        return None
    try:
        with without_a_look():
            program = attempt(**_DEFERRED)
        program.graph_module.meta[WITHOUT_A_LOOK] = True
        return program if broken_sizes(program, dynamic_shapes, shapes) is None else None
    except Exception:  # noqa: BLE001  # code that asks for a size needs the example's
        return None


def without_a_look() -> Any:
    """Trace without a look at the example's sizes; older torch has no such mode."""
    return _SYMBOLIC_SHAPES.patch(backed_size_oblivious=True)


def sized_by_data(program: ExportedProgram) -> bool:
    """True where the size of a tensor depends on the values of one (``nonzero``, a mask as an index)."""
    found = (node.meta.get("val") for node in program.graph.nodes)
    sizes: Iterator[Any] = (size for val in found if isinstance(val, torch.Tensor) for size in val.shape)
    # torch calls these symbols u0, u1, ..., and those of inputs s0, s1, ...
    symbols = (size.node.expr.free_symbols for size in sizes if isinstance(size, torch.SymInt))
    return any(str(symbol).startswith("u") for free in symbols for symbol in free)


def separate(call: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with every tensor an object of its own.

    torch.export knows inputs by identity: a tensor passed twice becomes one input, and the other
    is silently ignored.
    """
    leaves, spec = pytree.tree_flatten(call)
    seen: set[int] = set()
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor):
            if id(leaf) in seen:
                leaves[index] = leaf.clone()
            seen.add(id(leaf))
    args, kwargs = pytree.tree_unflatten(leaves, spec)
    return args, kwargs


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode and give every submodule its own mode back."""
    modes = {module: module.training for module in model.modules()}
    if not any(modes.values()):
        yield
        return
    try:
        model.eval()
    except NotImplementedError:  # what ExportedProgram.module() gives refuses eval()
        for module in modes:
            module.training = False
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            model.train(modes[model])
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _frozen(model: torch.nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient; else inputs made in inference mode cannot be traced."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _unwritten(model: torch.nn.Module) -> Iterator[None]:
    """Undo what tracing writes into tensors of one element that are no buffers: it runs such a write for real.

    A counter inside of a cache object is one; torch folds constants of one element while it traces.
    """
    with _restored(tensor for tensor in _held(model) if tensor.numel() == 1):
        yield


def run_eagerly(model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
    """What the model gives in eval mode; what it writes, in buffers or elsewhere, is then as it was."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad(), evaluating(model), _restored(_held(model)):
        return torch.func.functional_call(model, buffers, tuple(args), dict(kwargs or {}))


@contextlib.contextmanager
def _restored(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Undo what is written into tensors meanwhile."""
    before = [(tensor, tensor._version, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, version, value in before:
            if tensor._version != version:
                with torch.no_grad():
                    tensor.copy_(value)


def _held(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """The tensors that a model holds outside of its parameters and buffers, in objects and lists of objects."""
    pending: list[Any] = [value for module in model.modules() for value in vars(module).values()]
    seen: set[int] = set()
    while pending:
        held = pending.pop()
        if id(held) in seen or isinstance(held, (type, torch.nn.Module)):
            continue
        seen.add(id(held))
        if isinstance(held, torch.Tensor):
            if not isinstance(held, torch.nn.Parameter) and not held.is_inference():
                yield held
        elif isinstance(held, (list, tuple)):
            pending.extend(held)
        elif isinstance(held, Mapping):
            pending.extend(held.values())
        elif hasattr(held, "__dict__"):
            pending.extend(vars(held).values())


@contextlib.contextmanager
def _plain_modes() -> Iterator[None]:
    """Trace the same whatever mode the caller is in: no fused encoder path, no warnings."""
    mha = getattr(torch.backends, "mha", None)
    fast = mha.get_fastpath_enabled() if mha is not None else False
    try:
        if mha is not None:
            mha.set_fastpath_enabled(False)
        with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if mha is not None:
            mha.set_fastpath_enabled(fast)
