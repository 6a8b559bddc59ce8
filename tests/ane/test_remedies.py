"""Where a rule of the Neural Engine names a pass of anec as its remedy, the pass answers it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from ane.ane_programs import Maker, made
from anec.ane import CATALOGUE, Placement, predict
from anec.dialects import mil
from anec.ir.graph import Module, Value
from anec.passes.ane_legalize import AneLegalize
from anec.pipeline import registry
from anec.testing import run_pass

# One program a rule, in the order of the catalogue.
PROGRAMS: dict[str, Callable[[Maker], Value]] = {
    "A01i": lambda m: mil.cast(
        mil.logical_and(mil.greater(m.x("f16[1,8,4,64]"), 0.0), mil.less(m.x("f16[1,8,4,64]"), 1.0)), dtype="fp16"
    ),
    "B31": lambda m: mil.select(mil.greater(m.x("f16[1,8,4,64]"), 0.0), 2.0, 3.0),
    "B01": lambda m: mil.relu(mil.linear(m.x("f16[1,4,64]"), m.w("f16[50000,64]"))),
    "B02": lambda m: mil.relu(m.conv(m.x("f16[1,8,1,64]"), "f16[70000,8,1,1]")),
    "B32": lambda m: mil.add(m.x("f16[1,3,4,8,8]"), m.x("f16[1,1,4,8,8]")),
    "B21": lambda m: mil.cumsum(m.x("f16[1,8,4,64]"), axis=1),
    "B23": lambda m: mil.gather(m.x("f16[1,8,4,64]"), [3, 1], axis=1),
    "B12p": lambda m: mil.pad(m.x("f16[1,8,16,16]"), [1, 1, 1, 1], mode="reflect"),
    "B20": lambda m: mil.pixel_shuffle(m.x("f16[1,50,8,8]"), upscale_factor=5),
    "B26": lambda m: mil.pad(m.x("f16[1,8,16,16]"), [1, 1, 0, 0, 0, 0], mode="constant", constant_val=0.0),
    "B56": lambda m: mil.tile(m.x("f16[1,8,1,64]"), [1, 1, 4, 1]),
    "B25": lambda m: mil.conv(m.x("f16[1,8,16,16]"), m.x("f16[8,8,3,3]"), pad_type="same"),
    "B25v": lambda m: m.conv(m.x("f16[1,4,6,8,8]"), "f16[4,4,3,3,3]"),
    "B05": lambda m: m.conv(m.x("f16[1,8,64,64]"), "f16[8,8,31,31]"),
    "A26": lambda m: m.conv(m.x("f16[1,3,70,70]"), "f16[8,3,7,7]", strides=[7, 7]),
    "A28": lambda m: m.conv(m.x("f16[1,8,64,64]"), "f16[8,8,3,3]", dilations=[1, 20]),
    "B24": lambda m: mil.matmul(m.x("f16[1,2,3,8,8]"), m.x("f16[1,2,3,8,8]")),
    "F01": lambda m: mil.upsample_nearest_neighbor(m.x("f16[1,4,8,8]"), scale_factor_height=4, scale_factor_width=2),
}


def placements(module: Module) -> tuple[Placement, ...]:
    return predict(module).functions[0].placements


def rules_of(placement: Placement) -> set[str]:
    return {finding.rule.id for finding in placement.findings}


@pytest.mark.parametrize("rule", PROGRAMS)
def test_the_rule_applies_until_the_pass_has_run(rule: str) -> None:
    assert "ane-legalize" in CATALOGUE.by_id[rule].remedy
    module = made(PROGRAMS[rule])
    assert any(rule in rules_of(placement) for placement in placements(module))
    run_pass(module, AneLegalize())
    left = [placement.op.defn.root for placement in placements(module) if rule in rules_of(placement)]
    # What joins pieces again is left where an output of the program is too long.
    assert left == (["concat"] if rule in ("B01", "B02") else [])


def test_every_remedy_that_names_a_pass_names_one_there_is() -> None:
    known = registry.passes()
    for rule in CATALOGUE.rules:
        for word in re.findall(r"\b(?:ane|fp16|mil|custom|lower)-[\w-]+", rule.remedy):
            assert word in known, f"{rule.id}: {word}"


def test_each_remedy_by_legalizing_is_tried_above() -> None:
    named = {rule.id for rule in CATALOGUE.rules if "ane-legalize" in rule.remedy}
    # What the same rules of the pass answer: gather_nd as gather, transposes in front of products as these.
    assert named - PROGRAMS.keys() == {"A17", "B27"}
