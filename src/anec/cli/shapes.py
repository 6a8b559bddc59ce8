"""``--shapes NAME=SHAPE``: the shapes inputs may have, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from anec.errors import UsageError

if TYPE_CHECKING:
    from anec.frontend import Source

_NEXT = re.compile(r",(?=[A-Za-z_]\w*=)")


def shaped_source(source: Source, texts: Sequence[str]) -> Source:
    """The source with ``--shapes`` options in place of its own dynamic shapes.

    Raises:
        UsageError: no ``=``, or a name given twice.
    """
    found: dict[str, str] = {}
    for text in (part for given in texts for part in _NEXT.split(given)):
        name, equals, shapes = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{text!r} is no shape of an input", hint="write x=1x3x32..640x32..640")
        if found.setdefault(name, shapes) != shapes:
            raise UsageError(f"the shapes of {name} are given twice", hint="list them: x=1x480,1x640")
    return replace(source, shapes=found, dynamic_shapes=None) if found else source
