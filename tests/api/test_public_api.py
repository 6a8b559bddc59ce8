"""The public API is what the checked-in text says; a change of it is a decision."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import anec

PATH = Path(__file__).with_name("public_api.py")


def test_the_public_api_is_as_written_down() -> None:
    spec = importlib.util.spec_from_file_location("public_api", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.snapshot() == module.FILE.read_text(encoding="utf-8"), f"meant? then run python {PATH}"


def test_every_public_name_is_there_and_documented() -> None:
    assert anec.__all__ == sorted(anec.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in anec.__all__:
        assert getattr(anec, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = anec.nothing
