"""Ctrl-C and SIGTERM: nothing is half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.conftest import COMPILE, Runner, files_in, plugin


def test_interrupted_in_a_pass(run: Runner, folder: Path) -> None:
    name = plugin(folder / "mine.py", "raise KeyboardInterrupt")
    before = files_in(folder)
    found = run(*COMPILE, "--plugin", name, "--passes", "default,mine")
    assert (found.code, found.err) == (130, "interrupted; the output was not written\n")
    assert files_in(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends a process there")
@pytest.mark.parametrize(
    ("target", "number", "code"),
    [
        ("out.mlpackage", signal.SIGINT, 130),
        ("out.anec", signal.SIGINT, 130),
        ("out.mlpackage", signal.SIGTERM, 143),
        ("out.anec", signal.SIGTERM, 143),
    ],
)
def test_interrupted_while_saving(
    run: Runner, folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, number: signal.Signals, code: int
) -> None:
    """In the last write, when weights lie in the stage or beside the text already."""

    def interrupt(*arguments: object, **more: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr(Path, "write_text", interrupt)
    before = files_in(folder)
    found = run("compile", "models.py:tiny", "-o", target, "--emit", target.rpartition(".")[2])
    assert found.code == code
    assert files_in(folder) == before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "whoever calls main() has its own handler back"


WAITING = '''
import time
from pathlib import Path

from anec import Pass, register


@register
class Mine(Pass):
    """Waits."""

    name = "mine"

    def run(self, graph, ctx):
        Path("begun").touch()
        time.sleep(60)
'''


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child there")
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals(folder: Path, number: signal.Signals, code: int, word: str) -> None:
    (folder / "mine.py").write_text(WAITING)
    before = files_in(folder)
    command = [sys.executable, "-m", "anec", *COMPILE, "--plugin", "mine.py", "--passes", "mine"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so do their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        for _ in range(1200):
            if (folder / "begun").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err == f"{word}; the output was not written\n"
    (folder / "begun").unlink()
    assert files_in(folder) == before
