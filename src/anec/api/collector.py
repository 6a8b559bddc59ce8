"""What the garbage collector looks at while a program is compiled."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def young_objects_only() -> Iterator[None]:
    """Let the collector look only at objects made from here on.

    torch and coremltools leave half a million objects behind when they are imported, none of which
    compiling frees; a full collection walks them all, which took a sixth of compiling ViT-B. Where the
    caller has frozen objects himself (``gc.freeze``), they stay frozen and nothing is changed.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
