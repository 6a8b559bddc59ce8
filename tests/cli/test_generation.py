"""``--ane-generation`` of compile: the option of the passes that ask, shown and kept with the package."""

from __future__ import annotations

import json

import anec
from cli.conftest import Runner


def test_the_flag_is_the_option(run: Runner) -> None:
    flag = run("compile", "models.py:tiny", "--passes", "default,ane", "--ane-generation", "M3", "-o", "a.mlpackage")
    text = run("compile", "models.py:tiny", "--passes", "default,ane{generation=M3}", "-o", "b.mlpackage")
    assert (flag.code, flag.err) == (0, "")
    assert flag.out.replace("a.mlpackage", "b.mlpackage") == text.out
    shown = {line.split()[0] for line in flag.out.splitlines()}
    assert {"ane-attention{generation=M3}", "ane-legalize{generation=M3}"} <= shown
    meta, other = (anec.load(name).module.meta for name in ("a.mlpackage", "b.mlpackage"))
    assert meta == other
    assert meta["requested"] == "default,ane{generation=M3}"
    assert "ane-attention{generation=M3},lower-to-mil," in meta["pipeline"]


def test_json_has_both_forms(run: Runner) -> None:
    passes = "default,ane{ heads=1, chunk=auto }"
    data = json.loads(run("compile", "models.py:tiny", "--passes", passes, "--dry-run", "--json").out)
    assert data["requested"] == "default,ane{heads=1 chunk=auto}"
    assert "ane-attention{heads=1},lower-to-mil," in data["pipeline"]
