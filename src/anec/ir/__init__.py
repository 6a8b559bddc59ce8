"""The intermediate representation: types, graph, text. Loads neither torch nor coremltools."""

from anec.ir.attrs import Attr, Literal
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Op, Origin, Value
from anec.ir.opdef import Effect, Kind, Layout, LayoutKind, OpDef, Param, Pattern, Version
from anec.ir.signature import Port, PortKind, Signature
from anec.ir.types import DType, StateType, TensorType
from anec.ir.weights import Weight

__all__ = [
    "Attr",
    "Builder",
    "DType",
    "Effect",
    "Graph",
    "Kind",
    "Layout",
    "LayoutKind",
    "Literal",
    "Module",
    "Op",
    "OpDef",
    "Origin",
    "Param",
    "Pattern",
    "Port",
    "PortKind",
    "Signature",
    "StateType",
    "TensorType",
    "Value",
    "Version",
    "Weight",
]
