"""The command line: ``anec`` and ``python -m anec``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from anec.errors import AnecError


class _Terminated(KeyboardInterrupt):
    """SIGTERM: everything is cleaned up as behind Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 the model or a check failed, 2 a wrong call."""
    from anec.cli.parser import make_parser

    _open_streams()
    options = make_parser().parse_args(arguments)
    with _terminable():
        return _run(options)


def _run(options: Namespace) -> int:
    from anec.cli import console

    try:
        code: int = options.run(options)
        _flush()
    except AnecError as error:
        console.error(error, as_json=getattr(options, "json", False))
        return error.exit_code
    except KeyboardInterrupt as stop:
        ended = isinstance(stop, _Terminated)
        console.say(f"{'terminated' if ended else 'interrupted'}; the output was not written")
        return 143 if ended else 130
    except BrokenPipeError:  # whoever read our output has gone
        _discard_output()
        return 1
    except MemoryError:
        console.say("error: out of memory")
        return 1
    except OSError as error:
        console.say(f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return 1
    except Exception as error:  # noqa: BLE001  # the last resort
        # A mistake of ours: the trace is what a report of it needs.
        traceback.print_exc()
        console.say(f"error: anec itself failed ({type(error).__name__}); please report it with the lines above")
        return 1
    return code


def _open_streams() -> None:
    """Give closed streams a place to write to; a file's name that is no text is shown escaped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # it stays open to the end
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises in here, so that what is half written goes."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # Python allows it there alone
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise AnecError(f"cannot write to standard output: {error.strerror or error}") from error


def _discard_output() -> None:
    """Send what could not be written nowhere; Python would complain about it at exit."""
    with suppress(OSError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
