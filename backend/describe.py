"""The model's description: what Core ML tells a caller of inputs, outputs, states and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from anec.backend.emission import default_function, port_names
from anec.backend.quiet import FeatureTypes_pb2, Model_pb2
from anec.backend.shapes import Extent, extent
from anec.errors import AnecError, UnsupportedError
from anec.ir.dims import Bounds, Expr
from anec.ir.graph import Graph, Module, Value
from anec.ir.parser import parse_type
from anec.ir.signature import Port, PortKind
from anec.ir.types import DTYPES, DType, StateType, TensorType, Type

SIGNATURE_KEY = "anec.signature"
AUTHOR = "anec"
# Keys of the metadata that Core ML has a field for; the rest is user-defined.
FIELDS: Mapping[str, str] = {
    "author": "author",
    "short_description": "shortDescription",
    "version": "versionString",
    "license": "license",
}
_ARRAYS = {DType.F16: "FLOAT16", DType.F32: "FLOAT32", DType.I32: "INT32"}
# Source: coremltools, ``_validate_enumerated_shape_inputs``.
FIRST_WITH_SEVERAL_LISTS = 18
Shapes = tuple[tuple[int, ...], ...]
_COLORS = {1: "GRAYSCALE", 3: "RGB"}
_COLORS_F16 = {1: "GRAYSCALE_FLOAT16"}


def describe(module: Module, metadata: Mapping[str, str]) -> Any:
    """The ``ModelDescription`` of a module whose ports are legal.

    Args:
        module: what to describe.
        metadata: ``author``, ``short_description``, ``version`` and ``license`` fill Core ML's own
            fields, every other key becomes a user-defined one. They win over ``module.meta``.

    Raises:
        UnsupportedError: a flexible dimension without an upper bound, an image of a shape that is none.
    """
    description = Model_pb2.ModelDescription()
    if list(module.functions) == ["main"]:
        _fill(description, module, module.main)
    else:
        description.defaultFunctionName = default_function(module)
        for name, graph in module.functions.items():
            _fill(description.functions.add(name=name), module, graph)
    entries = {"author": AUTHOR, **module.meta, **metadata}
    entries.pop(SIGNATURE_KEY, None)
    for key, text in entries.items():
        if key in FIELDS:
            setattr(description.metadata, FIELDS[key], text)
        elif key != "default_function":
            description.metadata.userDefined[key] = text
    description.metadata.userDefined[SIGNATURE_KEY] = signature_text(module)
    return description


def _fill(target: Any, module: Module, graph: Graph) -> None:
    inputs, outputs = port_names(graph)
    listed = [port.name for port in graph.signature.inputs if port.shapes]
    if len(listed) > 1 and module.opset < FIRST_WITH_SEVERAL_LISTS:
        raise UnsupportedError(
            f"the inputs {', '.join(listed)} list shapes, which before iOS18 one input may do",
            hint="compile with --target iOS18, or give ranges",
        )
    for i, (name, value) in enumerate(zip(inputs, graph.inputs, strict=True)):
        port = graph.signature.inputs[i] if graph.signature.inputs else None
        features = target.state if isinstance(value.type, StateType) else target.input
        feature = features.add(name=name)
        if isinstance(value.type, StateType):
            _array(feature.type.stateType.arrayType, value.tensor, module.dims, name)
        elif port is not None and port.kind is PortKind.IMAGE:
            _image(feature.type.imageType, value, module.dims, name, port.shapes)
        else:
            _array(feature.type.multiArrayType, value.tensor, module.dims, name, port.shapes if port else ())
    for i, (name, value) in enumerate(zip(outputs, graph.outputs, strict=True)):
        port = graph.signature.outputs[i] if graph.signature.outputs else None
        feature = target.output.add(name=name)
        if port is not None and port.kind is PortKind.IMAGE:
            _image(feature.type.imageType, value, module.dims, name)
            continue
        array = feature.type.multiArrayType
        array.dataType = _array_dtype(value.tensor.dtype)
        # coremltools leaves the shape of a flexible output open; Core ML works it out when it runs.
        array.shape.extend(value.tensor.static_shape if value.tensor.is_static else ())


def _array_dtype(dtype: DType) -> int:
    return int(FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Value(_ARRAYS[dtype]))


def _default_shape(shapes: Shapes, extents: list[Extent]) -> tuple[int, ...]:
    """The listed shape that is the example's, else the first."""
    example = tuple(found.default for found in extents)
    return example if example in shapes else shapes[0]


def _array(array: Any, type_: TensorType, dims: Mapping[str, Bounds], name: str, shapes: Shapes = ()) -> None:
    array.dataType = _array_dtype(type_.dtype)
    extents = [extent(dim, dims, f"the input {name!r}") for dim in type_.shape]
    array.shape.extend(found.default for found in extents)
    if shapes:
        array.shape[:] = _default_shape(shapes, extents)
        for shape in shapes:
            array.enumeratedShapes.shapes.add(shape=shape)
    elif not type_.is_static:
        for found in extents:
            array.shapeRange.sizeRanges.add(lowerBound=found.lower, upperBound=found.upper)


def _image(image: Any, value: Value, dims: Mapping[str, Bounds], name: str, shapes: Shapes = ()) -> None:
    """An image of shape [1, channels, height, width]."""
    shape = value.tensor.shape
    colors = _COLORS_F16 if value.tensor.dtype is DType.F16 else _COLORS
    if len(shape) != 4 or shape[0] != 1 or shape[1] not in colors:
        known = " or ".join(f"[1,{channels},H,W]" for channels in colors)
        raise UnsupportedError(f"{name!r} is {value.tensor}; an image of {value.tensor.dtype} is {known}")
    height, width = (extent(dim, dims, f"the image {name!r}") for dim in shape[2:])
    image.height, image.width = height.default, width.default
    assert isinstance(shape[1], int)
    image.colorSpace = FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value(colors[shape[1]])
    for listed in shapes:
        image.enumeratedSizes.sizes.add(height=listed[2], width=listed[3])
    if not shapes and not (height.is_fixed and width.is_fixed):
        size = image.imageSizeRange
        size.heightRange.lowerBound, size.heightRange.upperBound = height.lower, height.upper
        size.widthRange.lowerBound, size.widthRange.upperBound = width.lower, width.upper


# -- what Core ML's description cannot hold ----------------------------------------------------------


def signature_text(module: Module) -> str:
    """What a package must remember of the signature beside its description, as JSON; mostly ``{}``.

    It holds dimension symbols with their bounds, flexible input types, torch's names and types. Its
    presence says that anec named the constants, so that loading tells literals from weights.
    """
    found: dict[str, Any] = {}
    at_inputs = {
        name
        for graph in module.functions.values()
        for value in graph.inputs
        for dim in value.tensor.shape
        if isinstance(dim, Expr)
        for name in dim.symbols()
    }
    if at_inputs:
        kept = {name: bounds for name, bounds in module.dims.items() if name in at_inputs}
        found["dims"] = {
            name: [bounds.lower, bounds.upper]
            + ([bounds.default] if bounds.default is not None or bounds.only else [])
            + ([list(bounds.only)] if bounds.only else [])
            for name, bounds in kept.items()
        }
    functions: dict[str, Any] = {}
    for name, graph in module.functions.items():
        entry: dict[str, Any] = {}
        for key, ports, values in (
            ("inputs", graph.signature.inputs, graph.inputs),
            ("outputs", graph.signature.outputs, graph.outputs),
        ):
            if len(ports) == len(values):
                known = [_port_entry(port, value) for port, value in zip(ports, values, strict=True)]
                if any(len(item) > 1 for item in known):
                    entry[key] = known
        if graph.signature.notes:
            entry["notes"] = graph.signature.notes
        if entry:
            functions[name] = entry
    if functions:
        found["functions"] = functions
    return json.dumps(found, separators=(",", ":"))


def _port_entry(port: Port, value: Value) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": port.name}
    if not value.tensor.is_static:
        entry["value"] = str(value.type)
    if port.type != value.type:
        entry["type"] = str(port.type)
    if port.path:
        entry["path"] = port.path
    if port.boundary is not None:
        entry["boundary"] = str(port.boundary)
    if port.scale != 1.0:
        entry["scale"] = port.scale
    if port.bias:
        entry["bias"] = list(port.bias)
    if port.shapes:
        entry["shapes"] = [list(shape) for shape in port.shapes]
    return entry


def read_dims(found: Mapping[str, Any]) -> dict[str, Bounds]:
    """The bounds of dimension symbols from a signature's JSON."""
    return {name: Bounds(*ends[:3], *map(tuple, ends[3:])) for name, ends in found.get("dims", {}).items()}


def read_types(entries: list[Mapping[str, Any]]) -> list[Type | None]:
    """The flexible types of ports from a signature's JSON."""
    return [parse_type(entry["value"]) if "value" in entry else None for entry in entries]


def read_port(entry: Mapping[str, Any], port: Port) -> Port:
    """``port``, as the package's description has it, with what the signature's JSON adds."""
    return Port(
        port.name,
        parse_type(entry["type"]) if "type" in entry else port.type,
        entry.get("path", ""),
        DTYPES[entry["boundary"]] if "boundary" in entry else None,
        port.kind,
        entry.get("scale", 1.0),
        tuple(entry.get("bias", ())),
        tuple(tuple(shape) for shape in entry.get("shapes", port.shapes)),
    )


def read_signature(text: str) -> dict[str, Any]:
    """The JSON of a signature.

    Raises:
        AnecError: it is damaged.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise AnecError(f"the metadata {SIGNATURE_KEY!r} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise AnecError(f"the metadata {SIGNATURE_KEY!r} is damaged")
    return found
