"""What Python code does to a traced tensor that torch.export does not see, said so that it does.

A property is read as an op, one that is set is refused, and so is a gradient; an assert is gone past:

    x.data                            ->  x.detach()
    x.data = y                        ->  an error; torch.export loses it silently
    torch.autograd.grad(e, x)         ->  an error, where torch.export gives none or another
    assert torch.isfinite(x).all()    ->  nothing, with a note
"""

from __future__ import annotations

import dis
import sys
from types import CodeType, FrameType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from anec.errors import UnsupportedError
from anec.frontend.origins import is_users, short_path

# The accessors of a property of C code are made anew at each look, and are compared by ==.
_GET: Any = getattr(torch.Tensor.data, "__get__")  # noqa: B009  # mypy takes data for a tensor
_SET: Any = getattr(torch.Tensor.data, "__set__")  # noqa: B009
# What asks for a gradient and takes tensors.
_GRADIENTS = (torch.autograd.grad, torch.Tensor.backward)


class Traceable(TorchFunctionMode):
    """Traces ``.data`` as ``detach()``, and goes on behind an assert of a value that is not known yet.

    Attributes:
        asserts: the lines of such asserts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asserts: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.compiler.is_dynamo_compiling():
            # The branches of a torch.cond are traced by bytecode, this function with them.
            return func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "__get__" and func == _GET:
            return args[0].detach()
        if name == "__set__" and func == _SET:
            raise _refused(
                "the code assigns to .data",
                "give the result a name of its own, or write it into the tensor with copy_()",
            )
        if func in _GRADIENTS or _differentiates():
            raise _refused(
                "forward computes a gradient as it runs",
                "write the derivative out as ops; of torch.func, jvp can be compiled",
            )
        if name == "__bool__" and isinstance(args[0], FakeTensor) and args[0].constant is None:
            frame = _user_frame()
            passing = None if frame is None else _passes(frame.f_code, frame.f_lasti)
            if passing is not None:
                self.asserts.append(_place(frame) or "")
                return passing
        return func(*args, **(kwargs or {}))


def _refused(what: str, hint: str) -> UnsupportedError:
    return UnsupportedError(f"{what}, which torch.export does not trace", where=_place(_user_frame()), hint=hint)


def _differentiates() -> bool:
    """True inside of what torch.func's grad, vjp and jacrev differentiate."""
    functorch: Any = torch._C._functorch
    interpreter = functorch.peek_interpreter_stack()
    return interpreter is not None and interpreter.key() == functorch.TransformType.Grad


def _user_frame() -> FrameType | None:
    """The innermost frame outside of torch."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_users(frame.f_code.co_filename, libraries=True):
        frame = frame.f_back
    return frame


def _place(frame: FrameType | None) -> str | None:
    return None if frame is None else f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def _passes(code: CodeType, at: int) -> bool | None:
    """The truth with which the assert at an instruction goes on; None where none asks, or it may ask further (`or`)."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "NOT_TAKEN", "EXTENDED_ARG")]
    place = next((number for number, step in enumerate(steps) if step.offset == at), len(steps))
    # From Python 3.13 on, an op of its own takes the truth.
    place += place < len(steps) and steps[place].opname == "TO_BOOL"
    if place + 1 >= len(steps) or "JUMP" not in steps[place].opname:
        return None
    jump, target = steps[place], steps[place].argval
    if _fails(steps[place + 1]):
        return "IF_TRUE" in jump.opname
    if any(step.offset == target and _fails(step) for step in steps):
        return "IF_FALSE" in jump.opname
    return None


def _fails(step: dis.Instruction) -> bool:
    """Whether an assert that fails begins here."""
    return step.opname == "LOAD_ASSERTION_ERROR" or (
        step.opname == "LOAD_COMMON_CONSTANT" and "AssertionError" in step.argrepr
    )
