"""A fixture for tests that register passes: the registry is afterwards what it was before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anec.pipeline import registry


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    """Forget what a test registers or loads."""
    registry.passes()
    tables = (registry._PASSES, registry._OWNERS, registry._LOADED)
    kept = [dict(table) for table in tables]
    lowerings = list(registry._LOWERINGS)
    yield
    for table, before in zip(tables, kept, strict=True):
        table.clear()
        table.update(before)
    registry._LOWERINGS[:] = lowerings
