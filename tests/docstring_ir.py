"""IR examples in docstrings: text that says ``before -> after``, made into modules and compared.

A block is a paragraph whose lines begin with ``%name``. Left of the arrow stands what the pass gets,
right of it what it makes, side by side or one below the other:

    %1 = mil.mul(%x, 1.702)
    %2 = mil.sigmoid(%1)             ->      %3 = mil.gelu(%x) {mode="SIGMOID_APPROXIMATION"}
    %3 = mil.mul(%x, %2)

Free names are inputs of type ``f32[2,8]``, unless a line says otherwise behind the op or by itself:
``%x: f32[1,3,8,8], %w: f32[8,3,1,1] weight``. Types of results are inferred. What no other line
uses is returned, unless ``return %y`` stands there. ``module target=iOS15`` sets the target,
``; pass: name{option=1}`` the pass. On the right a bare ``%x`` means that the result is that value,
``...`` among the attributes that there are more, and names may stand for anything, as long as the
same name stands for the same value. A paragraph that begins with ``; sketch`` is not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

DEFAULT_TYPE = "f32[2,8]"
SKETCH = "; sketch"
WEIGHT = "weight"
_ARROW = re.compile(r"(?<=\s)->(?=\s|$)")
_DECLARED = re.compile(r"%(\w+): ((?:state<)?\w+\[[^\]]*\]>?)((?:,? a)? weight)?")


class BadExample(Exception):
    """The example cannot be read."""


@dataclass
class Statement:
    """One op as text: results, the call, its attributes, and types if they are given."""

    results: list[str]
    call: str
    attrs: str = ""
    types: str = ""
    open: bool = False

    @property
    def text(self) -> str:
        left = ", ".join("%" + name for name in self.results)
        return (f"{left} = " if left else "") + self.call + (f" {self.attrs}" if self.attrs else "")


@dataclass
class Example:
    """One ``before -> after``."""

    before: list[Statement]
    after: list[Statement]
    returned: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    declared: dict[str, str] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    target: str = "iOS18"
    pass_name: str = ""


def paragraphs(doc: str) -> Iterator[list[str]]:
    """The paragraphs that hold an arrow between ops."""
    for paragraph in re.split(r"\n\s*\n", doc):
        lines = paragraph.strip("\n").splitlines()
        ops = any(re.match(r"\s*%\w+", line) for line in lines)
        if ops and any(_arrows(line) for line in lines):
            yield lines


def is_sketch(lines: list[str]) -> bool:
    return lines[0].strip().startswith(SKETCH)


def examples(lines: list[str]) -> list[Example]:
    """The examples of one paragraph.

    Raises:
        BadExample: with the line that cannot be read.
    """
    target, pass_name, kept = "iOS18", "", []
    for line in lines:
        if match := re.fullmatch(r"\s*module target=(\w+)\s*", line):
            target = match.group(1)
        elif match := re.fullmatch(r"\s*; pass: (.*)", line):
            pass_name = match.group(1).strip()
        else:
            kept.append(line)
    found = [_example(before, after) for before, after in _sides(_joined(kept))]
    for example in found:
        example.target, example.pass_name = target, pass_name
        # What a paragraph declares holds for all of its examples.
        for other in found:
            example.declared = {**other.declared, **example.declared}
            example.weights |= other.weights
    return found


def _joined(lines: list[str]) -> list[str]:
    """Lines together with those that go on: brackets are not closed, or attributes stand below."""
    joined: list[str] = []
    open_brackets = 0
    for line in lines:
        if open_brackets > 0 or (joined and line.lstrip().startswith("{")):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
        open_brackets += sum((char in "([{") - (char in ")]}") for char in line)
    return joined


def _arrows(line: str) -> bool:
    return _ARROW.search(" " + line) is not None


def _sides(lines: list[str]) -> list[tuple[list[str], list[str]]]:
    arrows = [i for i, line in enumerate(lines) if _arrows(line)]
    first = lines[arrows[0]]
    if first.strip().startswith("->"):
        if len(arrows) > 1:
            raise BadExample("put a blank line between examples that stand one below the other")
        after = [first.strip()[2:].strip(), *(line.strip() for line in lines[arrows[0] + 1 :])]
        return [([line.strip() for line in lines[: arrows[0]]], [line for line in after if line])]
    sides: list[tuple[list[str], list[str]]] = [([], [])]
    column, seen = _column(first), False
    for line in lines:
        if not _arrows(line):
            left, right = _cut(line, column)
            if seen and len(arrows) > 1 and left:
                raise BadExample(f"put a blank line before {left!r}, or its arrow on the same line")
        else:
            column = _column(line)
            left, right = line[:column].strip(), line[column + 2 :].strip()
            if seen:
                sides.append(([], []))
            seen = True
        for side, text in zip(sides[-1], (left, right), strict=True):
            if text:
                side.append(text)
    return sides


def _column(line: str) -> int:
    match = _ARROW.search(" " + line)
    assert match is not None
    return match.start() - 1


def _cut(line: str, column: int) -> tuple[str, str]:
    """The two columns of a line without an arrow."""
    if line[column - 1 : column + 2].strip():
        raise BadExample(f"no gap under the arrow: {line.strip()!r}")
    return line[:column].strip(), line[column + 2 :].strip()


def _example(before: list[str], after: list[str]) -> Example:
    example = Example([], [])
    for line in before:
        rest = _declarations(line, example)
        if rest.startswith("return "):
            example.returned = re.findall(r"%(\w+)", rest)
        elif rest:
            example.before.append(_statement(rest))
    for line in after:
        if line.startswith("return ") or re.fullmatch(r"%\w+", line):
            example.gives = re.findall(r"%(\w+)", line)
        else:
            example.after.append(_statement(line))
    if not example.before:
        raise BadExample("nothing stands left of the arrow")
    return example


def _declarations(line: str, example: Example) -> str:
    """Take ``%x: f32[2,8] weight`` out of a line; what is left is the op."""
    for name, type_, weight in _DECLARED.findall(line):
        example.declared[name] = type_
        if weight:
            example.weights.add(name)
    return re.sub(r"(?:\bwith |, )?" + _DECLARED.pattern, "", line).strip()


def _statement(line: str) -> Statement:
    if match := re.fullmatch(r'%(\w+) = weight "[^"]*" : (\S+)', line):
        return Statement([match.group(1)], WEIGHT, types=match.group(2))
    match = re.match(r"((?:%\w+(?:, )?)*)( = )?(?=\w+\.)", line)
    if match is None or bool(match.group(1)) != bool(match.group(2)):
        raise BadExample(f"not an op: {line!r}")
    start = match.end()
    if "(" not in line[start:]:
        raise BadExample(f"not an op: {line!r}")
    end = _balanced(line, line.index("(", start))
    statement = Statement(re.findall(r"%(\w+)", match.group(1)), line[start:end])
    rest = line[end:].strip()
    if rest.startswith("{"):
        end = _balanced(rest, 0)
        statement.attrs, rest = rest[:end], rest[end:].strip()
    if rest.startswith(":"):
        statement.types, rest = rest[1:].strip(), ""
    if rest:
        raise BadExample(f"{rest!r} stands behind the op in {line!r}")
    if "..." in statement.attrs:
        statement.open = True
        parts = [part.strip() for part in statement.attrs[1:-1].split(",")]
        statement.attrs = "{" + ", ".join(part for part in parts if part != "...") + "}"
    return statement


def _balanced(text: str, start: int) -> int:
    depth, quoted = 0, False
    for i in range(start, len(text)):
        if text[i] == '"':
            quoted = not quoted
        elif not quoted:
            depth += (text[i] in "([{") - (text[i] in ")]}")
            if depth == 0:
                return i + 1
    raise BadExample(f"a bracket is not closed in {text!r}")


__all__ = ["BadExample", "Example", "Statement", "examples", "is_sketch", "paragraphs"]
