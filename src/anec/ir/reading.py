"""Reading IR text a line and a token at a time, with errors that show the line."""

from __future__ import annotations

import json
import math
import re

from anec.errors import AnecError
from anec.ir.attrs import Attr
from anec.ir.dims import parse_dim
from anec.ir.types import DTYPES, StateType, TensorType, Type

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<value>%[A-Za-z_]\w*) | (?P<string>"(?:[^"\\]|\\.)*") |
        (?P<number>-?(?:\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+|\.\d+|\d+)) | (?P<minus>-(?=inf|nan)) |
        (?P<word>[A-Za-z_][\w.]*) | (?P<arrow>->) | (?P<mark>[\[\](){},=:@+;<>|])
    )""",
    re.VERBOSE,
)
_WORDS: dict[str, Attr] = {"none": None, "true": True, "false": False, "inf": math.inf, "nan": math.nan}


def parse_type(text: str) -> Type:
    """Parse ``"f16[1,S]"`` or ``"state<f16[1]>"``.

    Raises:
        AnecError: the text is not a type.
    """
    text = text.strip()
    if text.startswith("state<") and text.endswith(">"):
        inner = parse_type(text[6:-1])
        if isinstance(inner, TensorType):
            return StateType(inner)
    match = re.fullmatch(r"([a-z]\w*)\[(.*)\]", text)
    if match is None or match.group(1) not in DTYPES:
        raise AnecError(f"{text!r} is not a type", hint="write f32[1,2] or state<f16[1,2]>")
    return TensorType(DTYPES[match.group(1)], tuple(parse_dim(dim) for dim in _split_dims(match.group(2))))


def _split_dims(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]] if text.strip() else []


class LineReader:
    """The lines of a text and the tokens of one line; knows names, attributes and types.

    Args:
        text: IR text.
        source: how errors call it.
    """

    def __init__(self, text: str, source: str) -> None:
        # Strings may hold other line ends, which str.splitlines() would take for ends of lines.
        self.lines = text.split("\n")
        self.source = source
        self.number = 0
        self.line = ""
        self.position = 0

    def error(self, message: str, hint: str | None = None) -> AnecError:
        low, high = max(0, self.number - 3), self.number + 2
        shown = [f"{'>' if i + 1 == self.number else ' '} {line}" for i, line in enumerate(self.lines)]
        return AnecError(
            message, where=f"{self.source}:{self.number}", window="\n".join(shown[low:high]) or None, hint=hint
        )

    def next_line(self) -> bool:
        """Go to the next line that holds something."""
        while self.number < len(self.lines):
            self.line, self.position = self.lines[self.number], 0
            self.number += 1
            stripped = self.line.strip()
            if stripped and not stripped.startswith(";"):
                return True
        return False

    def peek(self) -> str:
        match = _TOKEN.match(self.line, self.position)
        return match.group(match.lastgroup or 0) if match else ""

    def take(self) -> str:
        match = _TOKEN.match(self.line, self.position)
        if match is None:
            rest = self.line[self.position :].strip()
            raise self.error(f"unexpected {rest[:20]!r}" if rest else "the line ends too early")
        self.position = match.end()
        return match.group(match.lastgroup or 0)

    def expect(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            raise self.error(f"expected {wanted!r}, found {found or 'the end of the line'!r}")
        self.take()

    def accept(self, wanted: str) -> bool:
        if self.peek() == wanted:
            self.take()
            return True
        return False

    def end(self) -> None:
        """Nothing but a comment may be left on the line."""
        rest = self.line[self.position :].strip()
        if rest and not rest.startswith(";"):
            raise self.error(f"unexpected {rest[:20]!r} at the end of the line")

    def value_name(self) -> str:
        token = self.take()
        if not token.startswith("%"):
            raise self.error(f"expected a value such as %x, found {token!r}")
        return token[1:]

    def string(self) -> str:
        token = self.take()
        if not token.startswith('"'):
            raise self.error(f"expected a string, found {token!r}")
        try:
            return str(json.loads(token))
        except ValueError:
            raise self.error(f"cannot read the string {token}", "strings are written as in JSON") from None

    def attributes(self) -> dict[str, Attr]:
        self.expect("{")
        attrs: dict[str, Attr] = {}
        while self.peek() != "}":
            name = self.take()
            if not name.isidentifier():
                raise self.error(f"expected the name of an attribute, found {name!r}")
            if name in attrs:
                raise self.error(f"{name} is given twice")
            self.expect("=")
            attrs[name] = self.attribute()
            if not self.accept(","):
                break
        self.expect("}")
        return attrs

    def attribute(self) -> Attr:
        word = self.peek()
        if word == "[":
            return self.items()
        if word == "(":
            try:
                return parse_dim(self.balanced())
            except AnecError as error:
                raise self.error(error.message, error.hint) from None
        if word.startswith('"'):
            return self.string()
        self.take()
        if word == "-":
            return -float(self.take())
        if word in _WORDS:
            return _WORDS[word]
        if word in DTYPES:
            return DTYPES[word]
        if re.fullmatch(r"-?\d+", word):
            return int(word)
        try:
            return float(word)
        except ValueError:
            raise self.error(f"cannot read the attribute {word!r}") from None

    def items(self) -> tuple[Attr, ...]:
        self.expect("[")
        items: list[Attr] = []
        while self.peek() != "]":
            items.append(self.attribute())
            if not self.accept(","):
                break
        self.expect("]")
        return tuple(items)

    def balanced(self) -> str:
        """The text between the parentheses that start here."""
        start = self.line.index("(", self.position)
        depth = 0
        for i in range(start, len(self.line)):
            depth += (self.line[i] == "(") - (self.line[i] == ")")
            if depth == 0:
                self.position = i + 1
                return self.line[start + 1 : i]
        raise self.error("a parenthesis is not closed")

    def type(self) -> Type:
        match = re.match(r"\s*(state<\w+\[[^\]]*\]>|\w+\[[^\]]*\])", self.line[self.position :])
        if match is None:
            raise self.error(f"expected a type at {self.line[self.position :].strip()[:20]!r}")
        self.position += match.end()
        try:
            return parse_type(match.group(1))
        except AnecError as error:
            raise self.error(error.message, error.hint) from None


__all__ = ["LineReader", "parse_type"]
