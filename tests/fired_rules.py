"""A built-in rule that no test fires is an error: fired rules are collected over a run of the whole suite.

The driver's commit is watched in every process. Workers of xdist hand what they saw to the controller
when they end. A run of some tests only says nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

_KEY = "fired_rules"
Name = tuple[str, str]
FIRED: set[Name] = set()


def watch() -> None:
    """Note every rule that fires from now on, by module and name."""
    from anec.rewrite import driver

    commit = driver._Run.commit

    def noting(run: Any, rewrite: driver.Rewrite, start: float) -> None:
        FIRED.add((rewrite.rule.function.__module__, rewrite.rule.name))
        commit(run, rewrite, start)

    driver._Run.commit = noting  # type: ignore[method-assign]  # there is no hook, and no other reader


def unfired() -> list[str]:
    """The built-in rules that have not fired, with the passes they are of."""
    from anec.pipeline import registry

    registry.load_builtins()
    missing: dict[Name, list[str]] = {}
    for name, cls in registry.passes().items():
        for rule in getattr(cls, "all_rules", lambda cls=cls: cls.rules)():
            key = (rule.function.__module__, rule.name)
            if key[0].startswith("anec.") and key not in FIRED:
                missing.setdefault(key, []).append(name)
    return [f"{', '.join(passes)}: {name} ({module})" for (module, name), passes in missing.items()]


class Collector:
    """The pytest plugin; one in every process."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.missing: list[str] = []

    @pytest.hookimpl(optionalhook=True)  # xdist's
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        FIRED.update(map(tuple, getattr(node, "workeroutput", {}).get(_KEY, ())))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output[_KEY] = sorted(FIRED)
        elif self.is_whole() and exitstatus == pytest.ExitCode.OK:
            self.missing = unfired()
            if self.missing:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def is_whole(self) -> bool:
        """True when nothing was picked from the suite."""
        options = self.config.option
        picked = options.keyword or options.markexpr or options.collectonly or options.deselect or options.ignore
        return not picked and self.config.args_source is pytest.Config.ArgsSource.TESTPATHS

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.missing:
            terminalreporter.section("built-in rules that no test fires")
            for line in self.missing:
                terminalreporter.line(line)
