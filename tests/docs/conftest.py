"""What the documentation's tests share: they begin without plugins, and leave none behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from anec.pipeline import registry

NAMES = ("_PASSES", "_OWNERS", "_LOWERINGS", "_LOADED")


@pytest.fixture(autouse=True)
def forget_plugins() -> Iterator[Callable[[], None]]:
    """A function that forgets every plugin, called in front of each test as well."""
    registry.passes()
    before = {name: getattr(registry, name) for name in NAMES}
    builtin = {name for name, owner in registry._OWNERS.items() if owner.startswith("anec.")}

    def forget() -> None:
        registry._PASSES = {name: before["_PASSES"][name] for name in builtin}
        registry._OWNERS = {name: before["_OWNERS"][name] for name in builtin}
        registry._LOADED = {name: how for name, how in before["_LOADED"].items() if how != "plugin"}
        registry._LOWERINGS = []

    forget()
    yield forget
    for name in NAMES:
        setattr(registry, name, before[name])
