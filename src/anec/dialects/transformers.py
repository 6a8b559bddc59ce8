"""The `transformers` dialect: the ops of that library that have a lowering.

Their schemas stand here, so that patterns over them need no transformers; its other ops resolve
through the installed library once it is imported.
"""

from __future__ import annotations

from anec.dialects.aten import library

transformers = library("transformers", ("grouped_mm_fallback(Tensor input, Tensor weight, Tensor offs) -> Tensor",))
