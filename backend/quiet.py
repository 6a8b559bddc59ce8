"""Import coremltools without its noise.

On import coremltools warns of untested torch versions and of native libraries that exist on macOS
only ("Failed to load _MLModelProxy"); neither matters to a package writer.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Keep coremltools' log lines below errors, and all Python warnings, away meanwhile."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


with quiet():
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder, Function, Program, types
    from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2

__all__ = [
    "Builder",
    "FeatureTypes_pb2",
    "Function",
    "MIL_pb2",
    "Model_pb2",
    "Program",
    "ct",
    "quiet",
    "types",
]
