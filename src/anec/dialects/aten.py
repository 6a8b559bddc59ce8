"""The `aten` dialect: torch's own operator schemas, as ops.

``aten_ops.txt`` holds the schemas of torch's functional ATen ops (``tools/generate_aten.py``), so
that patterns over them need no torch. An op that is not in the table, and ops of other torch
libraries (``torchvision.nms.default``), resolve through torch when first named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from importlib import resources

from anec.dialects.namespace import Dialect, Packet
from anec.ir.attrs import Attr
from anec.ir.opdef import Effect, Kind, OpDef, Param

_COMMUTATIVE = frozenset(
    "add mul maximum minimum eq ne logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor".split()
)
_RANDOM = frozenset(
    "rand randn randint randperm bernoulli multinomial normal normal_functional native_dropout dropout "
    "rand_like randn_like randint_like uniform poisson exponential rrelu_with_noise".split()
)
# Arguments that say where and how a tensor lies in memory; they mean nothing in the IR.
_IGNORED = frozenset({"layout", "device", "pin_memory", "memory_format", "non_blocking", "generator"})


class TorchDialect(Dialect):
    """Ops named ``library.packet.overload``; attribute access gives packets."""

    def __getattr__(self, name: str) -> Packet:  # type: ignore[override]  # packets, not ops
        if name.startswith("_") and f"{name}.default" not in self.ops:
            raise AttributeError(name)
        return Packet(self, name)


def _split_arguments(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    tail = text[start:].strip()
    return [*parts, tail] if tail else parts


def _default(text: str) -> Attr:
    text = text.strip()
    words: dict[str, Attr] = {"None": None, "True": True, "False": False, "Mean": 1, "long": None}
    if text in words:
        return words[text]
    if text.startswith("["):
        return tuple(_default(item) for item in _split_arguments(text[1:-1]))
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text.strip("\"'")


def _param(text: str) -> Param:
    match = re.fullmatch(r"(?P<type>\S+(?:\([^)]*\)\S*)?) (?P<name>\w+)(?:=(?P<default>.*))?", text)
    if match is None:
        raise ValueError(f"cannot read the schema argument {text!r}")
    type_ = re.sub(r"\([^)]*\)", "", match["type"])
    required = match["default"] is None and not type_.endswith("?")
    if type_ in ("Tensor", "Tensor?"):
        kind = Kind.OPERAND
    elif re.fullmatch(r"Tensor\??\[\d*\]\??", type_):
        kind = Kind.VARIADIC
    else:
        kind = Kind.ATTR
    default = None if match["default"] is None or kind is not Kind.ATTR else _default(match["default"])
    return Param(match["name"], kind, required, default)


def _returns(text: str) -> int | None:
    text = re.sub(r"\([a-z!*|]*\)", "", text.strip())
    if text.startswith("("):
        inner = _split_arguments(text[1:-1])
        return len(inner) if not any("[]" in item for item in inner) else None
    return None if "[]" in text else 1


def definition(library: str, schema: str) -> OpDef:
    """The op of one torch schema, ``"add.Tensor(Tensor self, ...) -> Tensor"``.

    Raises:
        ValueError: the schema cannot be read.
    """
    match = re.fullmatch(r"(?P<name>\w+)(?:\.(?P<overload>\w+))?\((?P<args>.*)\) -> (?P<returns>.*)", schema)
    if match is None:
        raise ValueError(f"cannot read the schema {schema!r}")
    packet = match["name"]
    params = tuple(
        param
        for part in _split_arguments(match["args"])
        if part != "*" and (param := _param(part)).name not in _IGNORED
    )
    return OpDef(
        f"{library}.{packet}.{match['overload'] or 'default'}",
        params,
        results=_returns(match["returns"]),
        commutative=packet in _COMMUTATIVE,
        effects=Effect.RANDOM if packet in _RANDOM else Effect.NONE,
    )


def from_torch(library: str) -> Callable[[str], OpDef | None]:
    """What finds an op of a torch library by name, in the installed torch."""

    def find(name: str) -> OpDef | None:
        import torch

        from anec.reference.call import load_library

        load_library(library)
        packet, _, overload = name.partition(".")
        namespace = getattr(torch.ops, library)
        try:
            op = getattr(getattr(namespace, packet), overload or "default")
        except AttributeError:
            return None
        if op._schema.is_mutable:
            return None  # the IR has no ops that write into their operands: running one would change weights
        return definition(library, str(op._schema).partition("::")[2])

    return find


def library(name: str, schemas: Sequence[str] = ()) -> TorchDialect:
    """The dialect of another torch library, ``"torchvision"``.

    Ops whose ``schemas`` stand here need no library; the others resolve through the installed one.
    """

    def ops() -> dict[str, OpDef]:
        return {defn.name.partition(".")[2]: defn for defn in (definition(name, schema) for schema in schemas)}

    return TorchDialect(name, ops, from_torch(name))


class _LazyOps(MutableMapping[str, OpDef]):
    """Schemas by op name, read into definitions when first looked up."""

    def __init__(self, schemas: dict[str, str]) -> None:
        self.schemas = schemas
        self.read: dict[str, OpDef] = {}

    def __getitem__(self, name: str) -> OpDef:
        if name not in self.read:
            self.read[name] = definition("aten", self.schemas[name])
        return self.read[name]

    def __setitem__(self, name: str, defn: OpDef) -> None:
        self.read[name] = defn

    def __delitem__(self, name: str) -> None:
        del self.read[name]

    def __contains__(self, name: object) -> bool:
        return name in self.read or name in self.schemas

    def __iter__(self) -> Iterator[str]:
        return iter({**self.schemas, **self.read})

    def __len__(self) -> int:
        return len({**self.schemas, **self.read})


def schemas() -> dict[str, str]:
    """The checked-in schemas by op name (``add.Tensor``)."""
    text = resources.files(__package__).joinpath("aten_ops.txt").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name = line.partition("(")[0]
            found[name if "." in name else name + ".default"] = line
    return found


aten = TorchDialect("aten", lambda: _LazyOps(schemas()), from_torch("aten"))
