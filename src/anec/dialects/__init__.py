"""The three dialects, and the registry that finds an op by its name.

``mil`` is what Core ML runs, ``aten`` what ``torch.export`` gives, ``nn`` what models mean.
Each is a namespace: ``mil.conv``, ``nn.layer_norm``, ``aten.add.Tensor``. ``torchvision`` and
``transformers`` stand beside ``aten`` for the ops of those libraries.
"""

from __future__ import annotations

from anec.dialects import aten as _aten
from anec.dialects import mil as _mil
from anec.dialects import nn as _nn
from anec.dialects import torchvision as _torchvision
from anec.dialects import transformers as _transformers
from anec.dialects.namespace import Dialect, Packet, Registry
from anec.ir.graph import Op
from anec.ir.opdef import OpDef
from anec.ir.types import Type

aten = _aten.aten
mil = _mil.mil
nn = _nn.nn
torchvision = _torchvision.torchvision
transformers = _transformers.transformers
registry = Registry([aten, nn, mil, torchvision, transformers], _aten.library)


def resolve(name: str) -> OpDef:
    """The op called ``name``; see :meth:`Registry.resolve`."""
    return registry.resolve(name)


def _infer(op: Op) -> tuple[Type, ...]:
    from anec.reference.infer import infer

    return infer(op)


# The IR is below the kernels; it is handed inference here so that importing it loads no torch.
OpDef.inference = staticmethod(_infer)

__all__ = ["Dialect", "Packet", "Registry", "aten", "mil", "nn", "registry", "resolve", "torchvision", "transformers"]
