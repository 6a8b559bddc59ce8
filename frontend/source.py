"""SOURCE strings: where a model comes from, `file.py:factory`, `package.module:factory`, `x.pt2`.

A factory runs code by its nature. It returns ``(module, args)``, ``(module, args, kwargs)`` or a
:class:`Source`; a ``.pt2`` file is checked for pickled payloads before torch reads it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from anec.errors import AnecError, UsageError, nearest
from anec.frontend.pt2 import load_pt2

_FORMS = "return (module, args), (module, args, kwargs) or anec.Source(model, args, ...)"


@dataclass(frozen=True, slots=True)
class Source:
    """A model with the example inputs it is exported with.

    Args:
        model: an nn.Module, an fx.GraphModule or a torch.export.ExportedProgram.
        args: positional example inputs of forward.
        kwargs: example inputs passed by name.
        dynamic_shapes: as torch.export.export takes them.
        input_names: public names of the tensor inputs, in order, or new names by default name.
        output_names: public names of the outputs, in order, or new names by default name.
        bind: values of inputs that are fixed before the model is exported, by name.
        shapes: the shapes inputs may have, by name, instead of ``dynamic_shapes``: ``"1x3x32..640x32..640"``,
            ``"1x3x480x640,1x3x640x640"``, or the same as lists of shapes, a pair for a range.
    """

    model: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    dynamic_shapes: Any = None
    input_names: Sequence[str] | Mapping[str, str] | None = None
    output_names: Sequence[str] | Mapping[str, str] | None = None
    bind: Mapping[str, Any] | None = None
    shapes: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", _unwrapped(self.model))
        object.__setattr__(self, "args", as_arguments(self.args))
        if self.kwargs is not None and not isinstance(self.kwargs, Mapping):
            raise UsageError(f"kwargs is {_describe(self.kwargs)}, not a dict", hint="inputs by position go into args")


def _unwrapped(model: Any) -> Any:
    """The model that torch.compile, DataParallel or DistributedDataParallel wraps, whose inputs have names."""
    while isinstance(model, torch.nn.Module):
        inner = model._modules.get("_orig_mod") if type(model).__name__ == "OptimizedModule" else None
        if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            inner = model.module
        if inner is None:
            break
        model = inner
    return model


def as_arguments(args: object) -> tuple[Any, ...]:
    """Positional arguments as a tuple; a lone tensor is one argument.

    Raises:
        UsageError: it is no tuple, list or tensor.
    """
    if isinstance(args, torch.Tensor):
        return (args,)
    if isinstance(args, (tuple, list)):
        return tuple(args)
    raise UsageError(
        f"args is a {type(args).__name__}, not a tuple", hint="pass (x,) for one input; inputs by name go into kwargs"
    )


def load_source(text: str, *, trust: bool = False) -> Source:
    """Load the model that a SOURCE string names.

    Args:
        text: ``file.py:factory``, ``package.module:factory`` or ``model.pt2``.
        trust: read a ``.pt2`` file that can run code while it is read.

    Raises:
        UsageError: no such file, module or factory; the factory raised or returned something else;
            a ``.pt2`` file that would run code, without ``trust``.
    """
    if text.endswith(".pt2"):
        return Source(load_pt2(_existing(Path(text)), trust=trust))
    place, _, attribute = text.rpartition(":")
    if not place or "/" in attribute or "\\" in attribute:
        raise UsageError(f"{text!r} is not a source", hint="write file.py:factory, package.module:factory or model.pt2")
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    module = _import_file(_existing(Path(place))) if is_file else _import_module(place)
    found = _attribute(module, attribute, place)
    if callable(found) and not isinstance(found, (torch.nn.Module, Source)):
        found = _call(found, attribute)
    return _as_source(found, f"{place}:{attribute}")


def _existing(path: Path) -> Path:
    if path.is_file():
        try:
            str(path.resolve()).encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the name of {path} is not UTF-8, and torch cannot read it", hint="rename it") from error
        return path
    if path.is_dir():
        raise UsageError(f"{path} is a folder")
    if not path.parent.is_dir():
        raise UsageError(f"there is no file {path}", hint=f"the folder {path.parent} does not exist")
    beside = [p.name for p in path.parent.iterdir() if p.suffix == path.suffix]
    raise UsageError(f"there is no file {path}", hint=nearest(path.name, beside) if beside else None)


def _import_file(path: Path) -> ModuleType:
    """Run a file as a module of its own, able to import its neighbours."""
    path = path.resolve()
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    with _told(f"{path.name} cannot be imported"):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        known = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        known = False
    if not known:
        raise UsageError(f"there is no module {name!r}", hint="a file is written with .py: model.py:factory")
    with _told(f"the module {name!r} cannot be imported"):
        return importlib.import_module(name)


def _attribute(module: ModuleType, name: str, place: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not part or not hasattr(found, part):
            public = [n for n, v in vars(module).items() if _is_own_function(v, module) and not n.startswith("_")]
            raise UsageError(
                f"{place} has no {name!r}" if name else f"{place}: which factory?",
                hint=nearest(name, public) if public else f"write a function in it: {_FORMS}",
            )
        found = getattr(found, part)
    return found


def _is_own_function(value: object, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _call(factory: Callable[[], object], name: str) -> object:
    with _told(f"the factory {name}()"):
        return factory()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell an exception of the user's code as one line with the place it came from."""
    try:
        yield
    except (KeyboardInterrupt, AnecError):
        raise
    except BaseException as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
        where = f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else None
        if isinstance(error, SyntaxError) and error.filename:
            where = f"{error.filename}:{error.lineno}"
        reason = next(iter(str(error).splitlines()), "")
        told = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise UsageError(f"{what}: {told}", where=where) from error


def _is_users(filename: str) -> bool:
    return Path(filename).parent != Path(__file__).parent and not filename.startswith("<frozen")


def _as_source(found: object, text: str) -> Source:
    if isinstance(found, Source):
        return found
    if isinstance(found, torch.export.ExportedProgram):
        return Source(found)
    if isinstance(found, torch.nn.Module):
        raise UsageError(f"{text} gives a module without example inputs", hint=_FORMS)
    if not isinstance(found, tuple) or len(found) not in (2, 3):
        raise UsageError(f"{text} gives {_describe(found)}", hint=_FORMS)
    model, args, kwargs = found if len(found) == 3 else (*found, None)
    if not isinstance(model, (torch.nn.Module, torch.export.ExportedProgram)):
        raise UsageError(f"{text} gives {_describe(model)} where the module belongs", hint=_FORMS)
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise UsageError(f"{text} gives {_describe(kwargs)} where kwargs belong", hint=_FORMS)
    if isinstance(args, Mapping):
        raise UsageError(f"{text} gives a dict where args belong", hint="return (module, (), kwargs)")
    return Source(model, as_arguments(args), kwargs)


def _describe(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
