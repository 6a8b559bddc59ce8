"""Pipelines as text: ``a{x=1 y=two},fix(b,c),-d``; parsed and printed back.

``fix(b,c)`` repeats its passes until they change nothing; ``-d`` drops every ``d`` of the pipeline.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from anec.errors import UsageError, nearest
from anec.pipeline import registry
from anec.pipeline.base import Pass


@dataclass(frozen=True, slots=True)
class PassSpec:
    """One pass or named pipeline, with its options as text."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        inner = " ".join(f"{key}={_quote(value)}" for key, value in self.options)
        return self.name + (f"{{{inner}}}" if inner else "")


@dataclass(frozen=True, slots=True)
class FixSpec:
    """Passes to repeat until nothing changes."""

    items: tuple[Item, ...]

    def __str__(self) -> str:
        return f"fix({format_pipeline(self.items)})"


@dataclass(frozen=True, slots=True)
class DropSpec:
    """A pass to leave out."""

    name: str

    def __str__(self) -> str:
        return "-" + self.name


Item = Union[PassSpec, FixSpec, DropSpec]


def format_pipeline(items: Sequence[Item]) -> str:
    """The text of a pipeline."""
    return ",".join(map(str, items))


def parse_pipeline(text: str) -> tuple[Item, ...]:
    """Parse a pipeline.

    >>> format_pipeline(parse_pipeline("a{x=1, y=[1,2]}, fix(b, c),-d"))
    'a{x=1 y=[1,2]},fix(b,c),-d'

    Raises:
        UsageError: with the place in the text.
    """
    reader = _Reader(text)
    items = reader.items()
    if reader.position != len(text):
        raise reader.error("unexpected text")
    return items


_NAME = re.compile(r"\s*([A-Za-z_][\w-]*)\s*")


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0

    def error(self, message: str) -> UsageError:
        pointer = " " * self.position + "^"
        return UsageError(f"cannot read the pipeline: {message}", window=f"{self.text}\n{pointer}")

    def skip(self) -> str:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def items(self) -> tuple[Item, ...]:
        found: list[Item] = []
        while self.skip() not in ("", ")"):
            found.append(self.item())
            if self.skip() != ",":
                break
            self.position += 1
        return tuple(found)

    def item(self) -> Item:
        if self.skip() == "-":
            self.position += 1
            return DropSpec(self.name())
        name = self.name()
        if name == "fix" and self.skip() == "(":
            self.position += 1
            items = self.items()
            if self.skip() != ")":
                raise self.error("a parenthesis is not closed")
            self.position += 1
            return FixSpec(items)
        return PassSpec(name, self.options() if self.skip() == "{" else ())

    def name(self) -> str:
        match = _NAME.match(self.text, self.position)
        if match is None:
            raise self.error("expected the name of a pass")
        self.position = match.end()
        return match.group(1)

    def options(self) -> tuple[tuple[str, str], ...]:
        self.position += 1
        found: list[tuple[str, str]] = []
        while self.skip() not in ("", "}"):
            key = self.name()
            value = "true"
            if self.skip() == "=":
                self.position += 1
                value = self.value()
            found.append((key, value))
            if self.skip() == ",":
                self.position += 1
        if self.skip() != "}":
            raise self.error("a brace is not closed")
        self.position += 1
        return tuple(found)

    def value(self) -> str:
        self.skip()
        match = re.compile(r'"([^"]*)"|(\[[^\]]*\]|[^\s,{}]+)').match(self.text, self.position)
        if match is None:
            raise self.error("expected a value")
        self.position = match.end()
        return match.group(1) if match.group(1) is not None else match.group(2)


def _quote(value: str) -> str:
    return value if re.fullmatch(r"\[[^\]]*\]|[^\s,{}\"]+", value) else f'"{value}"'


# -- options <-> dataclass fields ----------------------------------------------------------------------


def format_option(value: object) -> str:
    """An option's value as pipeline text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(format_option(item) for item in value) + "]"
    if value is None:
        return "none"
    return _quote(str(value))


def _convert(text: str, wanted: Any, where: str) -> Any:
    """The text as a value of the field's type."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (Union, types.UnionType):
        if text == "none" and type(None) in arguments:
            return None
        return _convert(text, next(a for a in arguments if a is not type(None)), where)
    if origin is typing.Literal:
        if text not in arguments:
            raise UsageError(f"{where}: {text!r} is not among {', '.join(arguments)}")
        return text
    if origin in (tuple, list):
        inner = text[1:-1] if text.startswith("[") else text
        return origin(_convert(item.strip(), arguments[0], where) for item in inner.split(",") if item.strip())
    if wanted is bool:
        if text not in ("true", "false"):
            raise UsageError(f"{where}: {text!r} is neither true nor false")
        return text == "true"
    try:
        return wanted(text)
    except ValueError:
        raise UsageError(f"{where}: {text!r} is not {_article(wanted)}") from None


def _article(wanted: type) -> str:
    return {int: "an integer", float: "a number"}.get(wanted, f"a {wanted.__name__}")


def make_pass(spec: PassSpec, *, ignore_unknown: bool = False) -> Pass:
    """The pass a spec names, with its options set.

    Raises:
        UsageError: an unknown pass or option (the nearest names in the hint), or a bad value.
    """
    cls = registry.find(spec.name)
    options = cls.options()
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, text in spec.options:
        name = key.replace("_", "-")
        if name not in options:
            if ignore_unknown:
                continue
            raise UsageError(
                f"the pass {spec.name} has no option {key!r}",
                hint=nearest(name, options) if options else f"{spec.name} takes no options",
            )
        field = options[name]
        values[field.name] = _convert(text, hints[field.name], f"{spec.name}{{{key}=...}}")
    try:
        return cls(**values)
    except TypeError as error:
        missing = [f.name for f in options.values() if f.default is dataclasses.MISSING and f.name not in values]
        raise UsageError(f"the pass {spec.name} needs the option {', '.join(missing)}") from error


# -- building ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One pass of a built pipeline; ``typed`` when the user wrote its name himself."""

    pass_: Pass
    typed: bool = True

    def __str__(self) -> str:
        return self.pass_.spec()


@dataclass(frozen=True, slots=True)
class FixStep:
    """Steps to repeat until nothing changes."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "fix(" + ",".join(map(str, self.steps)) + ")"


Steps = tuple[Step | FixStep, ...]


def build(text: str, pipelines: Mapping[str, str]) -> Steps:
    """Turn pipeline text into passes, named pipelines expanded.

    Args:
        text: the pipeline.
        pipelines: named pipelines; their options go to the passes in them that have such an option.

    Raises:
        UsageError: an unknown name or option, a named pipeline that contains itself, or an order
            that a pass's ``after`` forbids.
    """
    items = parse_pipeline(text)
    drops = {item.name for item in items if isinstance(item, DropSpec)}
    for name in drops:
        if name not in pipelines:
            registry.find(name)
    steps = _expand(items, pipelines, drops, (), typed=True)
    _check_order(steps)
    return steps


def _expand(
    items: Sequence[Item], pipelines: Mapping[str, str], drops: set[str], inside: tuple[str, ...], *, typed: bool
) -> Steps:
    steps: list[Step | FixStep] = []
    for item in items:
        if isinstance(item, DropSpec) or (isinstance(item, PassSpec) and item.name in drops):
            continue
        if isinstance(item, FixSpec):
            inner = _expand(item.items, pipelines, drops, inside, typed=typed)
            steps.append(FixStep(tuple(flatten(inner))))
        elif item.name in pipelines:
            if item.name in inside:
                raise UsageError("the pipeline " + " -> ".join((*inside, item.name)) + " contains itself")
            named = parse_pipeline(pipelines[item.name])
            _check_pipeline_options(item, named, pipelines)
            forwarded = [
                PassSpec(s.name, (*s.options, *item.options)) if isinstance(s, PassSpec) else s for s in named
            ]
            steps.extend(_expand(forwarded, pipelines, drops, (*inside, item.name), typed=False))
        else:
            steps.append(Step(make_pass(item, ignore_unknown=not typed), typed))
    return tuple(steps)


def _check_pipeline_options(item: PassSpec, named: Sequence[Item], pipelines: Mapping[str, str]) -> None:
    known: set[str] = set()
    for inner in named:
        if isinstance(inner, PassSpec) and inner.name not in pipelines:
            known |= set(registry.find(inner.name).options())
        elif isinstance(inner, PassSpec):
            return
    for key, _ in item.options:
        if key.replace("_", "-") not in known:
            raise UsageError(f"no pass of the pipeline {item.name} has the option {key!r}", hint=nearest(key, known))


def flatten(steps: Sequence[Step | FixStep]) -> list[Step]:
    """All steps in order, loops taken apart."""
    return [inner for step in steps for inner in (step.steps if isinstance(step, FixStep) else (step,))]


def _check_order(steps: Steps) -> None:
    names = [step.pass_.name for step in flatten(steps)]
    for index, step in enumerate(flatten(steps)):
        for earlier in step.pass_.after:
            if earlier in names[index + 1 :] and earlier not in names[:index]:
                raise UsageError(
                    f"{step.pass_.name} must come after {earlier}", hint=f"the pipeline is {','.join(names)}"
                )
