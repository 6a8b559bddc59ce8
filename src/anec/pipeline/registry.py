"""Where passes are found by name: built in, in plugin files, behind the entry points `anec.passes`."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from anec.dialects import registry as dialects
from anec.errors import AnecError, UsageError, nearest
from anec.ir.opdef import OpDef
from anec.pipeline.base import Pass
from anec.reference import register_kernel
from anec.rewrite.rule import Rule

ENTRY_POINTS = "anec.passes"
P = TypeVar("P", bound=type[Pass])

_PASSES: dict[str, type[Pass]] = {}
_OWNERS: dict[str, str] = {}
_LOWERINGS: list[Rule] = []
_LOADED: dict[str, str] = {}
_BUILTINS = "anec.passes"
_PLUGIN_PREFIX = "anec_plugin_"


def register(cls: P) -> P:
    """Register a pass under its name; a plain class becomes a dataclass, so that its fields are options.

    Raises:
        UsageError: it has no name, or another pass has that name; both owners are named.
    """
    if not cls.name:
        raise UsageError(f"the pass {cls.__name__} has no name", hint='write `name = "my-pass"` in its body')
    if "__dataclass_fields__" not in cls.__dict__:
        dataclasses.dataclass(cls)  # changes the class itself
    owner = _owner_of(cls)
    known = _PASSES.get(cls.name)
    if known is not None and _OWNERS[cls.name] != owner:
        raise UsageError(
            f"two passes are called {cls.name!r}: one in {_OWNERS[cls.name]}, one in {owner}",
            hint="rename one of them, or load only one of the plugins",
        )
    _PASSES[cls.name] = cls
    _OWNERS[cls.name] = owner
    return cls


def _owner_of(cls: type[Pass]) -> str:
    """The module a pass is written in; for a plugin file its path."""
    if cls.__module__.startswith(_PLUGIN_PREFIX):
        return str(sys.modules[cls.__module__].__file__)
    return cls.__module__


def register_lowering(*rules: Rule) -> None:
    """Let rules of a plugin lower ops, ahead of the built-in ones on the same op."""
    for rule in rules:
        if rule not in _LOWERINGS:
            _LOWERINGS.insert(0, rule)


def lowerings() -> list[Rule]:
    """The plugins' lowering rules, the newest first."""
    return list(_LOWERINGS)


def register_op(
    name: str, *, kernel: Callable[..., object] | None = None, lower: Rule | Iterable[Rule] | None = None
) -> OpDef:
    """Teach anec an op of another torch library (``"my::op"``).

    Args:
        name: torch's qualified name, ``"my::op"`` or ``"my::op.overload"``.
        kernel: a torch function with the schema's parameter names; torch's own op by default.
        lower: one rule or several that lower the op.

    Returns:
        The op's definition, to write patterns with.

    Raises:
        UsageError: torch has no such op.
    """
    library, _, rest = name.partition("::")
    if not rest:
        raise UsageError(f"{name!r} is not a qualified op name", hint='write "my::op"')
    full = f"{library}.{rest if '.' in rest else rest + '.default'}"
    defn = dialects.resolve(full)
    if kernel is not None:
        register_kernel(defn.name, kernel, replace=True)
    if lower is not None:
        register_lowering(*([lower] if isinstance(lower, Rule) else lower))
    return defn


def load_builtins() -> None:
    """Import every module of ``anec.passes``, once."""
    if _BUILTINS in _LOADED:
        return
    _LOADED[_BUILTINS] = "built in"
    try:
        _import_builtins()
    except BaseException:
        # The next call must tell it again, and not that there is no such pass.
        del _LOADED[_BUILTINS]
        raise


def _import_builtins() -> None:
    package = importlib.import_module(_BUILTINS)
    for path in sorted(Path(package.__path__[0]).iterdir()):
        name = path.stem
        if (path.suffix == ".py" and name != "__init__") or (path / "__init__.py").is_file():
            importlib.import_module(f"{_BUILTINS}.{name}")


def load_entry_points() -> None:
    """Import the plugins that installed packages offer, once.

    Raises:
        UsageError: one of them fails to import.
    """
    if "entry points" in _LOADED:
        return
    _LOADED["entry points"] = "installed packages"
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
        except Exception as error:
            # The next call must tell it again, and not go on without the plugin.
            del _LOADED["entry points"]
            raise _import_failure(f"{entry.name} ({entry.value})", error) from error
        if isinstance(loaded, type) and issubclass(loaded, Pass):
            register(loaded)


def load_plugin(plugin: str) -> None:
    """Import a plugin: a file ``my_passes.py`` or a module ``package.module``.

    Raises:
        UsageError: it is missing or fails to import; the plugin's own traceback line is shown.
    """
    if plugin in _LOADED:
        return
    path = Path(plugin)
    if not plugin or path.is_dir():
        what = f"{plugin} is a folder" if plugin else "'' is nothing"
        raise UsageError(f"the plugin {what}", hint="name a file my_passes.py or a module package.module")
    try:
        if path.suffix == ".py" or path.is_file():
            _run_file(plugin, path)
        else:
            importlib.import_module(plugin)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise _import_failure(plugin, error) from error
    _LOADED[plugin] = "plugin"


def _run_file(plugin: str, path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"the plugin {plugin} does not exist")
    name = _PLUGIN_PREFIX + hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"the plugin {plugin} is not a Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and type hints look their module up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _import_failure(plugin: str, error: BaseException) -> UsageError:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "importlib" not in f.filename and not f.filename.endswith("pipeline/registry.py")]
    written = [frame for frame in ours if Path(frame.filename).name == Path(plugin).name] or ours
    where = f"{written[-1].filename}:{written[-1].lineno}: {written[-1].line}" if written else None
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}" + (f": {error.text.strip()}" if error.text else "")
    message = error.message if isinstance(error, AnecError) else f"{type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, AnecError) else None
    return UsageError(f"the plugin {plugin} does not import: {message}", where=where, hint=hint)


def passes() -> dict[str, type[Pass]]:
    """Every known pass by name."""
    load_builtins()
    load_entry_points()
    return dict(sorted(_PASSES.items()))


def find(name: str) -> type[Pass]:
    """The pass called ``name``.

    Raises:
        UsageError: there is none; the nearest names are in the hint.
    """
    known = passes()
    if name not in known:
        raise UsageError(f"there is no pass {name!r}", hint=nearest(name, known))
    return known[name]


def owner(name: str) -> str:
    """The module a pass comes from."""
    return _OWNERS[name]
