"""What a model's description says of a function's ports: their kinds and ranges."""

from __future__ import annotations

from typing import Any

from anec.ir.dims import Bounds
from anec.ir.signature import PortKind


def port_kind(feature: Any) -> PortKind:
    """What a described port is to Core ML; a tensor when it is not described."""
    kind = feature.WhichOneof("Type") if feature is not None else None
    return {"imageType": PortKind.IMAGE, "stateType": PortKind.STATE}.get(str(kind), PortKind.TENSOR)


def ranges(feature: Any) -> tuple[Bounds, ...]:
    """The bounds of each dimension of a described input."""
    kind = feature.WhichOneof("Type")
    if kind == "imageType":
        image = feature.imageType
        channels = Bounds(1, 4)
        if image.WhichOneof("SizeFlexibility") == "imageSizeRange":
            sizes = (image.imageSizeRange.heightRange, image.imageSizeRange.widthRange)
            return (Bounds(1, 1), channels, *(_bounds(size.lowerBound, size.upperBound) for size in sizes))
        listed = [(size.height, size.width) for size in image.enumeratedSizes.sizes]
        heights, widths = ([pair[i] for pair in listed] or [1] for i in (0, 1))
        return (Bounds(1, 1), channels, Bounds(min(heights), max(heights)), Bounds(min(widths), max(widths)))
    array = feature.multiArrayType
    if array.WhichOneof("ShapeFlexibility") == "shapeRange":
        return tuple(_bounds(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges)
    shapes = [tuple(shape.shape) for shape in array.enumeratedShapes.shapes]
    return tuple(Bounds(min(sizes), max(sizes)) for sizes in zip(*shapes, strict=False))


def listed_shapes(feature: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes a described input lists, if it does."""
    if feature is None or feature.WhichOneof("Type") != "multiArrayType":
        return ()
    array = feature.multiArrayType
    if array.WhichOneof("ShapeFlexibility") != "enumeratedShapes":
        return ()
    return tuple(tuple(int(size) for size in shape.shape) for shape in array.enumeratedShapes.shapes)


def _bounds(lower: int, upper: int) -> Bounds:
    return Bounds(int(lower), int(upper) if upper >= 0 else None)
