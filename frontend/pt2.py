"""Reading `.pt2` files: what an archive may hold, checked before torch reads it.

``torch.export.load`` runs code that a file asks for in several ways (torch 2.14): weights and
constants marked ``use_pickle`` and script objects are unpickled, example inputs fall back to
``weights_only=False``, compiled models are loaded as shared libraries, shape expressions go
through ``sympy.sympify`` (which is ``eval``), node targets are any attribute below ``torch``,
and guards are ``exec``'d when the program is unlifted. A file saved by ``torch.export.save`` from
plain tensors needs none of it.
"""

from __future__ import annotations

import io
import json
import math
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anec.errors import UsageError
from anec.frontend.explain import quiet

_HINT = "pass trust=True (--trust) if you know who made the file, or save it again with torch.export.save"


def load_pt2(path: Path, *, trust: bool = False) -> torch.export.ExportedProgram:
    """Read an exported program.

    Args:
        path: a file that ``torch.export.save`` wrote.
        trust: read it even if reading it can run code.

    Raises:
        UsageError: it is no such archive, or it asks for what can run code.
    """
    archive = _open(path)
    if not trust:
        try:
            complaints = [*_payloads(archive), *_programs(archive)]
        except (ValueError, LookupError, AttributeError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), "")
            raise UsageError(
                f"{path.name} is damaged: {type(error).__name__}: {reason}",
                where=str(path),
                hint="save it again with torch.export.save",
            ) from error
        for complaint in complaints:
            raise UsageError(f"{path.name} can run code while it is read: {complaint}", where=str(path), hint=_HINT)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(str(path))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise UsageError(
            f"torch {torch.__version__} cannot read {path.name}: {type(error).__name__}: {reason}",
            where=str(path),
            hint="a .pt2 file is tied to the torch that wrote it; export it again with this one",
        ) from error
    if not trust and hasattr(program, "_guards_code"):
        # Guards only check inputs; torch would exec them as text.
        program._guards_code = []
    return program


@dataclass(frozen=True, slots=True)
class _Archive:
    """The records of an archive as the reader sees them, without the top folder."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


def _open(path: Path) -> _Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path.name} is not a .pt2 archive: {error}", where=str(path)) from error
    # Two readers must see the same bytes: torch's looks names up without regard to case.
    if len({name.lower() for name in listed}) != len(listed):
        raise UsageError(f"{path.name} holds two records of one name", where=str(path))
    top = {name.split("/")[0] for name in listed}
    if "version" in listed:  # written by torch 2.7 and earlier
        return _Archive(tuple(listed), zipfile.ZipFile(path).read)
    if len(top) != 1 or f"{next(iter(top))}/archive_format" not in listed:
        raise UsageError(f"{path.name} is not an archive of torch.export.save", where=str(path))
    reader = torch._C.PyTorchFileReader(str(path))
    return _Archive(tuple(reader.get_all_records()), reader.get_record)


def _payloads(archive: _Archive) -> list[str]:
    """What the data records ask for that runs code."""
    found = []
    for name in archive.names:
        if name.startswith("data/aotinductor/"):
            found.append(f"{name} is a compiled library")
        elif name.endswith(".pt") and not _loads_as_tensors(archive.read(name)):
            found.append(f"{name} is a pickle of more than tensors")
        elif name.endswith(("weights_config.json", "constants_config.json")):
            entries = json.loads(archive.read(name)).get("config", {})
            for key, entry in entries.items():
                record = str(entry.get("path_name", ""))
                if entry.get("use_pickle") is not False or not record.startswith(("weight_", "tensor_")):
                    found.append(f"{key!r} is stored as a pickle ({record})")
    return found


def _loads_as_tensors(data: bytes) -> bool:
    if not data:
        return True
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # noqa: BLE001  # whatever it says, torch.export.load would go on to a full unpickling
        return False
    return True


def _programs(archive: _Archive) -> list[str]:
    """What the graphs ask for that runs code."""
    found: list[str] = []
    for name in archive.names:
        if name.endswith(".json") and not name.endswith("_config.json"):
            _inspect(json.loads(archive.read(name)), name, found)
    return found


_NAMES = frozenset(
    "FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural "
    "FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt "
    "RoundDecimal ToFloat Identity Max Min floor ceiling Eq Ne Ge Gt Le Lt And Or Not Piecewise Abs sqrt oo "
    "Symbol Integer Float Rational Add Mul Pow positive integer nonnegative negative nonpositive real zero nonzero "
    "precision Equality Unequality LessThan StrictLessThan GreaterThan StrictGreaterThan Relational true false "
    "Half One Zero NegativeOne Infinity NegativeInfinity BooleanTrue BooleanFalse ITE int_oo True False "
    "OpaqueUnaryFn_sqrt OpaqueUnaryFn_exp OpaqueUnaryFn_log2".split()
)
_NUMBER = r"\d+(?:\.\d*)?(?:e[-+]?\d+)?"
_SYMBOL = r"(?:[suz]|zf|zuf|zuu)\d+"
_TOKEN = re.compile(rf"(?P<name>[A-Za-z_]\w*)|{_NUMBER}|'(?:{_SYMBOL}|-?{_NUMBER})'|[-+*/%(),<>=!&|~\s]")
_OPERATORS = frozenset(
    "add sub mul truediv floordiv mod neg pos pow eq ne lt le gt ge and_ or_ not_ getitem lshift rshift".split()
)
_CONTROL_FLOW = frozenset("cond while_loop map_impl scan wrap_with_set_grad_enabled wrap_with_autocast".split())


def _inspect(node: Any, where: str, found: list[str]) -> None:
    if isinstance(node, list):
        for item in node:
            _inspect(item, where, found)
        return
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if not isinstance(value, str):
            _inspect(value, where, found)
        elif key == "expr_str" and not _is_plain_expression(value):
            found.append(f"{where} has the shape expression {value[:80]!r}")
        elif ((key == "target" and "inputs" in node) or key == "as_operator") and not _is_plain_target(value):
            found.append(f"{where} calls {value[:80]!r}")
        elif key in ("in_spec", "out_spec") and re.search(r"default_factory_module|__enum__", value):
            found.append(f"{where} names a Python class in {key}")


def _is_plain_expression(text: str) -> bool:
    """True for sizes written with known functions, symbols and numbers, as text or as sympy's srepr."""
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return False
        name = token["name"]
        if name is not None and name not in _NAMES and not re.fullmatch(_SYMBOL, name):
            return False
        position = token.end()
    return True


def _is_plain_target(text: str) -> bool:
    """True for registered operators, arithmetic and torch's functions on symbolic sizes."""
    head, _, name = text.partition(".")
    if head == "_operator":
        return name in _OPERATORS
    if head == "math":
        return not name.startswith("_") and hasattr(math, name)
    if head == "torch" and re.fullmatch(r"sym_\w+|_sym_\w+", name):
        return True
    if text.startswith("torch.ops.higher_order."):
        return text.rpartition(".")[2] in _CONTROL_FLOW
    match = re.fullmatch(r"torch\.ops\.(\w+)\.(\w+)\.(\w+)", text)
    if match is None:
        return False
    packet = getattr(getattr(torch.ops, match.group(1)), match.group(2), None)
    overload = getattr(packet, match.group(3), None)
    # aten.from_file opens a path of the file's choice.
    return isinstance(overload, torch._ops.OpOverload) and match.group(2) != "from_file"
