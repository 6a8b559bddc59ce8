"""The command line: ``anec`` and ``python -m anec``."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from anec.errors import AnecError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 the model or a check failed, 2 a wrong call."""
    from anec.cli import console
    from anec.cli.parser import make_parser

    options = make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except AnecError as error:
        console.error(error, as_json=getattr(options, "json", False))
        return error.exit_code
    except KeyboardInterrupt:
        console.say("interrupted; the output was not written")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain at exit.
        sys.stderr.close()
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
