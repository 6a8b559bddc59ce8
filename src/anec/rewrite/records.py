"""What a rewrite is told as: while it happens, afterwards, and of a whole run."""

from __future__ import annotations

from dataclasses import dataclass, field

from anec.ir.graph import Graph, Op, Value
from anec.rewrite.match import Match, Miss
from anec.rewrite.rule import Rule


@dataclass(frozen=True, slots=True)
class RewriteRecord:
    """One rewrite, for traces and reports."""

    rule: str
    function: str
    site: str
    place: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, object]:
        return {
            "rule": self.rule,
            "function": self.function,
            "site": self.site,
            "origin": self.place,
            "before": list(self.before),
            "after": list(self.after),
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A rewrite as it happens: both sides are in the graph. What checks are handed."""

    rule: Rule
    graph: Graph
    match: Match
    roots: tuple[Op, ...]
    created: tuple[Op, ...]
    old: tuple[Value, ...]
    new: tuple[Value, ...]


@dataclass(slots=True)
class Statistics:
    """What a run of the driver did."""

    fired: dict[str, int] = field(default_factory=dict)
    misses: dict[str, Miss] = field(default_factory=dict)
    visited: int = 0
