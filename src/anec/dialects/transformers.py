"""The `transformers` dialect: the ops of that library that have a lowering.

Their schemas stand here, so that patterns over them need no transformers; its other ops resolve
through the installed library once it is imported.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from anec.dialects.aten import TorchDialect, definition, from_torch
from anec.ir.opdef import OpDef

_SCHEMAS = ("grouped_mm_fallback(Tensor input, Tensor weight, Tensor offs) -> Tensor",)


def _ops() -> MutableMapping[str, OpDef]:
    found = (definition("transformers", schema) for schema in _SCHEMAS)
    return {defn.name.partition(".")[2]: defn for defn in found}


transformers = TorchDialect("transformers", _ops, from_torch("transformers"))
