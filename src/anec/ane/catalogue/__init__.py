"""The rules, by topic."""

from __future__ import annotations

from anec.ane.catalogue import (
    compression,
    contraction,
    convolution,
    cost,
    layout,
    numerics,
    program,
    sizes,
    support,
)
from anec.ane.rules import Catalogue

TOPICS = {
    "types and sizes": sizes.RULES,
    "ops": support.RULES,
    "convolutions and pools": convolution.RULES,
    "products": contraction.RULES,
    "layout": layout.RULES,
    "numerics": numerics.RULES,
    "compressed weights": compression.RULES,
    "whole functions": program.RULES,
    "cost": cost.RULES,
}
CATALOGUE = Catalogue([rule for rules in TOPICS.values() for rule in rules])
