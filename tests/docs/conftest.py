"""What the documentation's tests share: plugins that one loads are unknown to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from anec.pipeline import registry

NAMES = ("_PASSES", "_OWNERS", "_LOWERINGS", "_LOADED")


@pytest.fixture(autouse=True)
def forget_plugins() -> Iterator[Callable[[], None]]:
    """A function that forgets the plugins loaded since; called behind each test as well."""
    registry.passes()
    known = {name: getattr(registry, name).copy() for name in NAMES}

    def forget() -> None:
        for name in NAMES:
            setattr(registry, name, known[name].copy())

    yield forget
    forget()
