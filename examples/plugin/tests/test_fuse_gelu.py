"""A plugin's own tests: IR text in, IR text out."""

import sys
from pathlib import Path

import anec

sys.path.insert(0, str(Path(__file__).parent.parent))
import fuse_gelu  # noqa: F401  # registers the pass

FIRES = """anec 1
module target=iOS18

func main(%x: f32[4]) -> (%y: f32[4]) {
  %a = mil.mul(%x, 1.702) : f32[4]
  %b = mil.sigmoid(%a) : f32[4]
  %c = mil.mul(%b, %x) : f32[4]
  return %c
}
"""


def test_it_fires() -> None:
    after = anec.opt(anec.read(FIRES), "fuse-gelu", check="rewrites")
    assert [op.name for op in after.main] == ["mil.gelu"]


def test_another_slope_is_another_function() -> None:
    before = anec.read(FIRES.replace("1.702", "1.5"))
    assert [op.name for op in anec.opt(before, "fuse-gelu").main] == ["mil.mul", "mil.sigmoid", "mil.mul"]
