"""The one error type of anec, and how it is told to a person."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AnecError(Exception):
    """An error with everything a person needs to act on it.

    Args:
        message: what went wrong, one line.
        where: the place: the user's source line, an op, a file.
        window: the ops or the text around the place.
        hint: what to try.
        pass_name: the pass that ran.
        rule: the rule that fired.
        replay: a command that reproduces the failure.
        exit_code: 1 when the model or a check failed, 2 when the call was wrong.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        window: str | None = None,
        hint: str | None = None,
        pass_name: str | None = None,
        rule: str | None = None,
        replay: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.window = window
        self.hint = hint
        self.pass_name = pass_name
        self.rule = rule
        self.replay = replay

    def __str__(self) -> str:
        parts = [self.message]
        if self.where:
            parts.append(f"  at: {self.where}")
        if self.pass_name:
            parts.append(f"  pass: {self.pass_name}" + (f", rule: {self.rule}" if self.rule else ""))
        if self.window:
            parts.extend(f"    {line}" for line in self.window.splitlines())
        if self.hint:
            parts.append(f"  hint: {self.hint}")
        if self.replay:
            parts.append(f"  replay: {self.replay}")
        return "\n".join(parts)

    def within(
        self, *, pass_name: str | None = None, rule: str | None = None, replay: str | None = None
    ) -> AnecError:
        """Fill in where in the pipeline it happened, keeping what is already known."""
        self.pass_name = self.pass_name or pass_name
        self.rule = self.rule or rule
        self.replay = self.replay or replay
        return self


class UsageError(AnecError):
    """The call itself was wrong: an unknown pass, a missing file, a bad option."""

    exit_code = 2


class VerifyError(AnecError):
    """The IR breaks one of its laws."""


class UnsupportedError(AnecError):
    """Something has no kernel, no lowering or no place in the target."""


class CheckError(AnecError):
    """A numeric check failed: a rewrite or a pass changed the numbers."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"did you mean a or b?"`` for the nearest known words.

    >>> nearest("Canonicalise", ["canonicalize", "dce"])
    "did you mean 'canonicalize'?"
    >>> nearest("zzz", ["dce"])
    'known: dce'
    """
    known = sorted(known)
    folded = {name.casefold(): name for name in known}
    typed = word.casefold()
    close = [typed] if typed in folded else difflib.get_close_matches(typed, folded, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(folded[name]) for name in close) + "?"
    shown = ", ".join(known[:20])
    return f"known: {shown}" + (", ..." if len(known) > 20 else "")
