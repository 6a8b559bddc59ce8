"""Rules of the Neural Engine as data: what, where, what then, who says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from anec.ane.limits import GENERATIONS
from anec.ane.site import Program, Site


class Effect(Enum):
    """What happens where a rule applies."""

    CPU = "CPU"
    FAIL = "FAIL"
    SLOW = "SLOW"
    MEMORY = "MEM"
    NUMERICS = "NUM"
    LOAD = "LOAD"


class Confidence(Enum):
    """Who says so."""

    APPLE = "A"
    MEASURED = "M"
    FOLKLORE = "F"
    HERE = "L"


# What becomes of an op: its Core ML compiler refuses it, or the whole segment with it.
_REJECTING = frozenset({Effect.CPU, Effect.FAIL})


@dataclass(frozen=True, slots=True)
class Rule:
    """A statement about ops (or whole functions) that can be asked of a program.

    Args:
        id: stable; ``A`` are documented by Apple, ``B`` measured by others, ``F`` folklore.
        statement: one sentence.
        ops: the ops it speaks of, without their dialect; empty means any op. ``model`` stands for a whole
            function, ``segment`` for what placement decides itself.
        effect: what happens.
        confidence: Apple says so, measured by a named third party, folklore, verified here.
        source: a key of the table of sources in docs/ane.md.
        remedy: the pass of anec, the option or the change of the model that helps.
        test: asked of an op; answers with the numbers of the site, or None where the rule is silent.
        whole: asked of a function instead.
        generations: where it holds.
    """

    id: str
    statement: str
    ops: tuple[str, ...]
    effect: Effect
    confidence: Confidence
    source: str
    remedy: str
    test: Callable[[Site], str | None] | None = None
    whole: Callable[[Program], str | None] | None = None
    generations: tuple[str, ...] = GENERATIONS

    @property
    def rejects(self) -> bool:
        """Whether an op it applies to leaves the Neural Engine. Folklore is a hint at most."""
        return self.test is not None and self.effect in _REJECTING and self.confidence is not Confidence.FOLKLORE


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that applies, and why."""

    rule: Rule
    reason: str


class Catalogue:
    """Rules by the ops they speak of, so that an op is asked its own rules only."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.by_id = {rule.id: rule for rule in rules}
        if len(self.by_id) != len(rules):
            raise ValueError("two rules have one id")
        self._any = [rule for rule in rules if rule.test is not None and not rule.ops]
        self._of: dict[str, list[Rule]] = {}
        for rule in rules:
            for op in rule.ops if rule.test is not None else ():
                self._of.setdefault(op, []).append(rule)

    def of_op(self, site: Site) -> Iterator[Finding]:
        """The rules that apply to an op: those that reject it first, its own before the general ones."""
        found = [*self._of.get(site.root, ()), *self._any]
        for rule in sorted(found, key=lambda rule: not rule.rejects):
            if rule.test is not None and site.limits.generation in rule.generations:
                reason = rule.test(site)
                if reason is not None:
                    yield Finding(rule, reason)

    def of_program(self, program: Program) -> Iterator[Finding]:
        """The rules that apply to a function as a whole."""
        for rule in self.rules:
            if rule.whole is not None and program.limits.generation in rule.generations:
                reason = rule.whole(program)
                if reason is not None:
                    yield Finding(rule, reason)
