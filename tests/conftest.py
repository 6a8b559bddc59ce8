"""What all tests share: one thread a worker, seeds, rules that must fire, Mac tests skipped elsewhere."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

import fired_rules
import older_torch

# The same examples every time: a test that fails by luck tells nobody what broke.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    fired_rules.watch()
    config.pluginmanager.register(fired_rules.Collector(config))
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Workers share the cores; more threads only wait for each other.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        import torch

        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("mac") and sys.platform != "darwin":
            item.add_marker(pytest.mark.skip(reason="Core ML exists on macOS only"))
    older_torch.mark(items)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers, whichever tests ran before it."""
    import torch

    torch.manual_seed(0)
