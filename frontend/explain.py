"""What torch.export's failures mean: one reason, the user's line, what to try."""

from __future__ import annotations

import contextlib
import io
import linecache
import logging
import re
import sys
from collections.abc import Iterator
from traceback import FrameSummary, walk_tb

import sympy  # type: ignore[import-untyped]  # it has no stubs

from anec.errors import AnecError
from anec.frontend.origins import is_users

# What every hint says that a bound input would help.
UNBOUND = "--bind NAME=VALUE"
BIND = (
    "the code asks for the value of a tensor, which is unknown while tracing. "
    f"Bind the input that decides it to a constant ({UNBOUND}), or write it with torch.where"
)
_HINTS = (
    (r"data-dependent|GuardOnDataDependent|Could not extract specialized integer|unbacked", BIND),
    (r"not supported for tensor subclasses|numpy\(\)|DynamicOutputShape|Cannot call (numel|tolist)", BIND),
    (r"DataDependentOutput", BIND),
    (r"Constraints violated|specialized", "{fixes}"),
    (r"not in range \[", "the size of an example input lies outside the range of its Dim"),
    (r"ScriptModule", "pass the nn.Module that was scripted or traced, not its TorchScript form"),
    (r"Unsupported input type", "pass tensors and plain numbers; torch.export.register_dataclass admits a dataclass"),
    (r"not a known type|Unsupported output", "return tensors in tuples, lists, dicts or a registered dataclass"),
    (r"dynamic_shapes", "write dynamic_shapes={'x': {0: torch.export.Dim('batch', max=8)}} after forward's parameters"),
    (r"positional argument|required argument|unexpected keyword", "the example inputs do not fit forward's parameters"),
    (
        r"quantized\.\w*PackedParams|quantized::",
        "the model holds weights packed for torch's quantized kernels: compile the float model it was made from",
    ),
    (r"torch\.jit|ScriptFunction", "the model calls TorchScript; call the Python function instead"),
)
_PACKED = (
    "torch.export takes no packed sequence: run the layer on the padded batch and take what lies within the "
    "lengths (a bidirectional layer would read the padding: run it on sequences of one length)"
)
_GENERAL = (
    "see that model(*args, **kwargs) runs by itself with these inputs; "
    "torch.export.draft_export lists everything in the way"
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's logs and the graphs it prints on failure off the terminal.

    What was written to stderr meanwhile is passed on when the block succeeds.
    """
    level = logging.root.manager.disable
    held = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(held):
            yield
        sys.stderr.write(held.getvalue())
    finally:
        logging.disable(level)


def explain(error: BaseException, what: str, hint: str | None = None) -> AnecError:
    """The error to raise for what torch raised.

    Args:
        error: torch's exception, with its traceback.
        what: what failed, ``"torch.export failed"``.
        hint: overrides the hint found from the message.
    """
    text = str(error)
    found = _PACKED if _is_packed(error) else _hint(text, type(error).__name__)
    if hint is not None and found.startswith("torch suggests") and "; write" not in hint:
        hint = f"{hint}; {found}"
    return AnecError(f"{what}: {reason_of(error)}", where=_place(error), hint=hint or found)


def reason_of(error: BaseException) -> str:
    """Torch's reason in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else ""
    reason = re.sub(r"\s*For more information, run with .*|\s*\(Size-like symbols: none\)", "", reason)
    violation = next((line for line in lines if line.startswith("- ")), "")
    if reason.startswith("Constraints violated") and violation:
        reason += " " + violation[2:].split(". If you're using")[0]
    reason = re.sub(r"L\['(\w+)'\]((?:\[['\w]+\])*)\.size\(\)\[(\d+)\]", r"\1\2.size(\3)", reason)
    name = type(error).__name__
    prefix = "" if name in ("UserError", "Unsupported", "GuardOnDataDependentSymNode") else f"{name}: "
    return prefix + (reason if len(reason) <= 300 else reason[:300] + "...")


def range_hint(text: str) -> str | None:
    """The bounds to write, when torch says which range the trace holds for; else None."""
    match = re.search(r"values of (\w+) = .* guard (\d+) <= \S+ and \S+ <= (\d+)", text)
    if match is None or int(match[2]) >= int(match[3]):
        return None
    return f"what was traced holds for fewer sizes; write Dim({match[1]!r}, min={match[2]}, max={match[3]})"


def _hint(text: str, name: str) -> str:
    fixes = re.search(r"Suggested fixes:\n((?:[ \t]+\S.*\n?)+)", text)
    for pattern, hint in _HINTS:
        if re.search(pattern, f"{name} {text}"):
            if hint != "{fixes}":
                return hint
            if fixes:
                return "torch suggests " + ", ".join(line.strip() for line in fixes.group(1).splitlines())
    return _GENERAL


def _is_packed(error: BaseException) -> bool:
    """True when a recurrent layer failed on a packed sequence: its frame knows the sizes of the batches."""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_filename.endswith("rnn.py") and frame.f_locals.get("batch_sizes") is not None:
            return True
        traceback = traceback.tb_next
    return False


def _place(error: BaseException) -> str | None:
    """The innermost frame outside torch, with its source text; frames named in the message count too."""
    frames: list[tuple[str, int]] = []
    seen: BaseException | None = error
    while seen is not None and not frames:
        traceback = seen.__traceback__
        while traceback is not None:
            frames.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
            traceback = traceback.tb_next
        frames = [frame for frame in frames if is_users(frame[0], libraries=True)]
        seen = seen.__cause__ or seen.__context__
    named = re.findall(r'File "([^"]+)", line (\d+), in', str(error))
    told = [(name, int(line)) for name, line in named if is_users(name, libraries=True)]
    place = told[-1] if told else _inside_forward(frames) or _where_fixed(error)
    if place is None:
        return None
    source = linecache.getline(*place).strip()
    return f"{place[0]}:{place[1]}" + (f": {source}" if source else "")


def _where_fixed(error: BaseException) -> tuple[str, int] | None:
    """The line that asked for a free size as a number, ``range(x.shape[1])``: torch's solver of sizes notes it."""
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in walk_tb(seen.__traceback__):
            for guard in getattr(frame.f_locals.get("shape_env"), "guards", ()):
                line = guard.sloc.framework_loc
                fixes = isinstance(guard.expr, sympy.Eq) and guard.expr.rhs.is_number
                if fixes and isinstance(line, FrameSummary) and is_users(line.filename, libraries=True):
                    return line.filename, line.lineno or 0
        seen = seen.__cause__ or seen.__context__
    return None


def _inside_forward(frames: list[tuple[str, int]]) -> tuple[str, int] | None:
    return frames[-1] if frames else None
