"""anec: a graph-rewriting compiler pass framework from PyTorch to Core ML, for the Neural Engine."""

from __future__ import annotations

from anec.dialects import aten, mil, nn

__version__ = "0.1.0"
