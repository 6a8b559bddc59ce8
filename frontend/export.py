"""Calling torch.export: the only place that does."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from anec.errors import UsageError
from anec.frontend.conditions import broken_sizes
from anec.frontend.explain import explain, quiet, range_hint


def export(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    strict: bool = False,
) -> ExportedProgram:
    """Export a model in evaluation mode; its own mode is restored.

    Args:
        model: an nn.Module or fx.GraphModule; an ExportedProgram is returned as it is.
        args: positional example inputs.
        kwargs: example inputs by name.
        dynamic_shapes: as torch.export.export takes them.
        strict: torch.export's mode that traces bytecode.

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
        raise UsageError(f"the model is {what}", hint="pass an nn.Module, fx.GraphModule or ExportedProgram")
    positional, named = separate((tuple(args), dict(kwargs or {})))

    def attempt(**options: Any) -> ExportedProgram:
        with evaluating(model), _frozen(model), _plain_modes(), quiet():
            return torch.export.export(
                model, positional, named or None, dynamic_shapes=dynamic_shapes, strict=strict, **options
            )

    try:
        return attempt()
    except Exception as error:
        hint = None
        if "Constraints violated" in str(error):
            program, hint = _with_conditions(attempt, dynamic_shapes)
            if program is not None:
                return program
        raise explain(error, "torch.export failed", hint) from error


def _with_conditions(
    attempt: Callable[..., ExportedProgram], dynamic_shapes: Any
) -> tuple[ExportedProgram | None, str | None]:
    """The program if its assumptions hold for all sizes; else what breaks them, if that is known."""
    try:
        program = attempt(prefer_deferred_runtime_asserts_over_guards=True)
        broken = broken_sizes(program, dynamic_shapes)
    except Exception as error:  # noqa: BLE001  # the error of the first attempt is the one to tell
        return None, range_hint(str(error))
    return (program, None) if broken is None else (None, broken)


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
