"""Where an fx node comes from: the module path and the user's source line."""

from __future__ import annotations

import re
import sysconfig
from functools import lru_cache
from pathlib import Path

import torch
from torch.fx import Node

from anec.ir.graph import Origin

_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+), in ', re.MULTILINE)
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_STANDARD = sysconfig.get_paths()["stdlib"]
_TORCH = str(Path(torch.__file__).parent)


def origin_of(node: Node) -> Origin:
    """The origin of ``node``: `layers.0.attn` and `block.py:21`."""
    return Origin(module_path(node), user_line(node.meta.get("stack_trace") or ""))


def module_path(node: Node) -> str:
    """The path of the innermost module the node was traced in; empty in the model itself."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = str(list(stack.values())[-1][0])
    path = re.sub(r"@\d+", "", path)  # the second call of a shared module
    path = re.sub(r"\[['\"]?(\w+)['\"]?\]", r".\1", path.removeprefix("L['self']").removeprefix("L__self__"))
    return re.sub(r"[^\w.]", "_", path).strip(".")


def user_line(trace: str) -> str:
    """The innermost frame of a stack trace that is the user's own code; empty when none is."""
    frames = [(name, line) for name, line in _FRAME.findall(trace) if is_users(name)]
    return f"{short_path(frames[-1][0])}:{frames[-1][1]}" if frames else ""


@lru_cache(maxsize=4096)
def is_users(filename: str, libraries: bool = False) -> bool:
    """True for a file of the user's own.

    Args:
        filename: the file of a stack frame.
        libraries: count installed packages other than torch as the user's.
    """
    if filename.startswith(("<", _TORCH)):
        return False
    if Path(filename).parent == Path(__file__).parent:
        return False
    if _INSTALLED.search(filename):
        return libraries and not re.search(r"-packages[/\\]torch[/\\]", filename)
    return not filename.startswith(_STANDARD)


def short_path(filename: str) -> str:
    """A path below the working folder as such; any other as its last two parts."""
    path = Path(filename)
    try:
        short = path.relative_to(Path.cwd())
    except ValueError:
        short = Path(*path.parts[-2:])
    return re.sub(r"\s+", "_", short.as_posix())
