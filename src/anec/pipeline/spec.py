"""Pipelines as text: ``a{x=1 y=two},fix(b,c),-d``; parsed and printed back.

``fix(b,c)`` repeats its passes until they change nothing; ``-d`` drops every ``d`` of the pipeline.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anec.errors import UsageError, nearest
from anec.pipeline import registry
from anec.pipeline.base import Pass
from anec.pipeline.options import canonical, convert, scan_value


@dataclass(frozen=True, slots=True)
class PassSpec:
    """One pass or named pipeline, with its options as text (see ``anec.pipeline.options``)."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        inner = " ".join(f"{key}={value}" for key, value in self.options)
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


Item = PassSpec | FixSpec | DropSpec


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
        found: dict[str, str] = {}
        while self.skip() not in ("", "}"):
            start = self.position
            key = self.name()
            if key in found:
                self.position = start
                raise self.error(f"{key} is given twice")
            value = "true"
            if self.skip() == "=":
                self.position += 1
                value = self.value()
            found[key] = value
            if self.skip() == ",":
                self.position += 1
        if self.skip() != "}":
            raise self.error("a brace is not closed")
        self.position += 1
        return tuple(found.items())

    def value(self) -> str:
        self.skip()
        try:
            end = scan_value(self.text, self.position)
        except ValueError as error:
            raise self.error(str(error)) from None
        start, self.position = self.position, end
        return canonical(self.text[start:end])


def make_pass(spec: PassSpec, *, ignore_unknown: bool = False) -> Pass:
    """The pass a spec names, with its options set.

    Raises:
        UsageError: an unknown pass or option (the nearest names in the hint), or a bad value.
    """
    cls = registry.find(spec.name)
    options = cls.options()
    hints = typing.get_type_hints(cls) if spec.options else {}
    values: dict[str, Any] = {}
    for key, text in spec.options:
        name = _kebab(key)
        if name not in options:
            if ignore_unknown:
                continue
            raise UsageError(
                f"the pass {spec.name} has no option {key!r}",
                hint=nearest(name, options) if options else f"{spec.name} takes no options",
            )
        field = options[name]
        values[field.name] = convert(text, hints[field.name], f"{spec.name}{{{key}=...}}")
    try:
        return cls(**values)
    except TypeError as error:
        missing = [name for name, field in options.items() if _is_required(field) and field.name not in values]
        if not missing:
            raise UsageError(f"the pass {spec.name} does not take these options: {error}") from error
        raise UsageError(f"the pass {spec.name} needs the option {', '.join(missing)}") from error


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


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
    steps = _Expansion(pipelines).expand(parse_pipeline(text), frozenset(), (), typed=True)
    _check_order(steps)
    return steps


@dataclass(frozen=True, slots=True)
class _Expansion:
    pipelines: Mapping[str, str]

    def expand(self, items: Sequence[Item], drops: frozenset[str], inside: tuple[str, ...], *, typed: bool) -> Steps:
        """The steps of items; ``-d`` drops every ``d`` beside it, and in the pipelines named beside it."""
        drops |= self.dropped(items)
        steps: list[Step | FixStep] = []
        for item in items:
            if isinstance(item, FixSpec):
                steps.append(FixStep(tuple(flatten(self.expand(item.items, drops, inside, typed=typed)))))
            elif isinstance(item, PassSpec) and item.name not in drops:
                steps.extend(self.named(item, drops, inside, typed=typed))
        return tuple(steps)

    def dropped(self, items: Sequence[Item]) -> frozenset[str]:
        drops = frozenset(item.name for item in items if isinstance(item, DropSpec))
        for name in drops:
            self.check_name(name)
        return drops

    def named(self, item: PassSpec, drops: frozenset[str], inside: tuple[str, ...], *, typed: bool) -> Steps:
        if item.name not in self.pipelines:
            self.check_name(item.name)
            return (Step(make_pass(item, ignore_unknown=not typed), typed),)
        if item.name in inside:
            raise UsageError("the pipeline " + " -> ".join((*inside, item.name)) + " contains itself")
        within = parse_pipeline(self.pipelines[item.name])
        options = self.options_of(within, (*inside, item.name))
        known = {option for found in options.values() for option in found}
        for key, _ in item.options:
            if typed and _kebab(key) not in known:
                raise UsageError(
                    f"no pass of the pipeline {item.name} has the option {key!r}",
                    window="\n".join(f"{name}: {', '.join(found)}" for name, found in options.items() if found),
                    hint=nearest(_kebab(key), known) if known else "its passes take no options",
                )
        return self.expand(_forward(within, item.options), drops, (*inside, item.name), typed=False)

    def options_of(self, items: Sequence[Item], inside: tuple[str, ...] = ()) -> dict[str, list[str]]:
        """The options of each pass in a named pipeline, those of pipelines in it included."""
        known: dict[str, list[str]] = {}
        for item in items:
            if isinstance(item, FixSpec):
                known |= self.options_of(item.items, inside)
            elif isinstance(item, PassSpec) and item.name not in self.pipelines:
                self.check_name(item.name)
                known[item.name] = list(registry.find(item.name).options())
            elif isinstance(item, PassSpec) and item.name not in inside:
                known |= self.options_of(parse_pipeline(self.pipelines[item.name]), (*inside, item.name))
        return known

    def check_name(self, name: str) -> None:
        known = registry.passes()
        if name not in known and name not in self.pipelines:
            raise UsageError(f"there is no pass {name!r}", hint=nearest(name, [*known, *self.pipelines]))


def _forward(items: Sequence[Item], options: tuple[tuple[str, str], ...]) -> tuple[Item, ...]:
    """The items of a named pipeline, each with the options the pipeline was given."""
    forwarded: list[Item] = []
    for item in items:
        if isinstance(item, FixSpec):
            forwarded.append(FixSpec(_forward(item.items, options)))
        elif isinstance(item, PassSpec):
            forwarded.append(PassSpec(item.name, (*item.options, *options)))
        else:
            forwarded.append(item)
    return tuple(forwarded)


def with_option(text: str, key: str, value: str, pipelines: Mapping[str, str]) -> str | None:
    """The text of a pipeline with an option set on each pass and named pipeline that has it.

    Args:
        text: the pipeline.
        key: the option's name, in kebab-case.
        value: its value.
        pipelines: the named pipelines.

    Returns:
        The new text; None when nothing in it has the option.

    Raises:
        UsageError: the text cannot be read, names what is unknown, or gives the option another value.
    """
    items, expansion = parse_pipeline(text), _Expansion(pipelines)
    if not any(key in found for found in expansion.options_of(items).values()):
        return None
    return format_pipeline(tuple(_with_option(item, key, canonical(value), expansion) for item in items))


def _with_option(item: Item, key: str, value: str, expansion: _Expansion) -> Item:
    if isinstance(item, FixSpec):
        return FixSpec(tuple(_with_option(inner, key, value, expansion) for inner in item.items))
    if isinstance(item, DropSpec) or not any(key in found for found in expansion.options_of((item,)).values()):
        return item
    given = next((text for name, text in item.options if _kebab(name) == key), value)
    if given != value:
        raise UsageError(f"{item.name} is given {key}={given} and {key}={value}", hint="give one of them")
    return PassSpec(item.name, tuple({**{_kebab(name): text for name, text in item.options}, key: value}.items()))


def _kebab(key: str) -> str:
    return key.replace("_", "-")


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
