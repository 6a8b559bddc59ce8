"""Rules: patterns over ops, the functions that replace what they match, and the driver."""

from anec.rewrite.driver import Rewriter
from anec.rewrite.match import Match, Miss, match
from anec.rewrite.pattern import any_of, constant, optional, rest, var
from anec.rewrite.records import RewriteRecord
from anec.rewrite.rule import Reject, Rule, reject, rewrite

__all__ = [
    "Match",
    "Miss",
    "Reject",
    "RewriteRecord",
    "Rewriter",
    "Rule",
    "any_of",
    "constant",
    "match",
    "optional",
    "reject",
    "rest",
    "rewrite",
    "var",
]
