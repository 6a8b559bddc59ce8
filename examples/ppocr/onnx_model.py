"""An ONNX file as a PyTorch module: enough of ONNX for what Paddle exports of PP-OCR.

    model = OnnxModel("ch_PP-OCRv4_rec_infer.onnx")
    scores = model(torch.zeros(1, 3, 48, 320))

Each node is one call of PyTorch. What does not depend on the inputs, as the sizes that reshapes are computed
from, is evaluated by onnx's own reference evaluator; so `torch.export` sees tensors where there are tensors,
and plain numbers where Paddle computes with shapes. Sizes are those of the example inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import NodeProto, numpy_helper
from onnx.reference import ReferenceEvaluator

Attributes = dict[str, Any]
Operator = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
OPERATORS: dict[str, Operator] = {}
# Their operands behind the first are numbers, not tensors.
WITH_NUMBERS = frozenset({"Clip", "Reshape", "Resize", "Slice", "Squeeze"})


class OnnxModel(torch.nn.Module):
    """The graph of an ONNX file, with its constants of floats as parameters.

    Args:
        path: of the file.

    Raises:
        ValueError: a node has no operator here.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        model = onnx.load(path)
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.nodes, self.static = list[NodeProto](), dict[str, np.ndarray]()
        self.weights = torch.nn.ParameterDict()
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                (attribute,) = node.attribute
                constants[node.output[0]] = numpy_helper.to_array(attribute.t)
            else:
                self.nodes.append(node)
        numbers = {name for node in self.nodes if node.op_type in WITH_NUMBERS for name in node.input[1:]}
        for name, array in constants.items():
            if array.dtype.kind == "f" and array.ndim and name not in numbers:
                self.weights[_key(name)] = torch.nn.Parameter(torch.from_numpy(array.copy()), requires_grad=False)
            else:
                self.static[name] = array
        self.inputs = [given.name for given in model.graph.input if given.name not in constants]
        self.outputs = [given.name for given in model.graph.output]
        missing = sorted({node.op_type for node in self.nodes} - OPERATORS.keys() - {"Shape"})
        if missing:
            raise ValueError(f"{path} uses ops that are not here: {', '.join(missing)}")

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        values: dict[str, Any] = {**self.static, **dict(zip(self.inputs, inputs, strict=True)), "": None}
        for node in self.nodes:
            given = [values[name] if name in values else self.weights[_key(name)] for name in node.input]
            values.update(zip(node.output, _run(node, given), strict=False))
        found = tuple(values[name] for name in self.outputs)
        return found if len(found) > 1 else found[0]


def _key(name: str) -> str:
    """A name that a parameter may have."""
    return name.replace(".", "_")


def _run(node: NodeProto, given: list[Any]) -> tuple[Any, ...]:
    if node.op_type == "Shape":
        return (np.array(given[0].shape, np.int64),)
    if not any(isinstance(value, torch.Tensor) for value in given):
        return tuple(ReferenceEvaluator(node).run(None, dict(zip(node.input, given, strict=True))))
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    found = OPERATORS[node.op_type](*given, **attributes)
    return found if isinstance(found, tuple) else (found,)


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Declare how nodes of these types are computed: operands by position, attributes by name."""

    def declare(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return declare


def _ints(given: Any) -> list[int]:
    return [int(value) for value in np.asarray(given).reshape(-1)]


def _tensor(value: Any, like: torch.Tensor) -> Any:
    """A number that was computed outside of the graph, beside a tensor."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value.tolist(), dtype=like.dtype)


def _pairs(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Operator:
    def apply(x: Any, y: Any) -> torch.Tensor:
        like = x if isinstance(x, torch.Tensor) else y
        return function(_tensor(x, like), _tensor(y, like))

    return apply


OPERATORS |= {
    "Add": _pairs(torch.add),
    "Sub": _pairs(torch.sub),
    "Mul": _pairs(torch.mul),
    "Div": _pairs(torch.div),
    "Pow": _pairs(torch.pow),
    "MatMul": _pairs(torch.matmul),
    "Sqrt": torch.sqrt,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Identity": torch.clone,
}


@operator("HardSigmoid")
def hard_sigmoid(x: torch.Tensor, alpha: float = 0.2, beta: float = 0.5) -> torch.Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


@operator("Clip")
def clip(x: torch.Tensor, low: Any = None, high: Any = None) -> torch.Tensor:
    return torch.clamp(x, None if low is None else float(low), None if high is None else float(high))


@operator("Softmax")
def softmax(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    """Along the last axis only: before opset 13, other axes are flattened together."""
    if axis not in (-1, x.dim() - 1):
        raise ValueError(f"softmax over axis {axis} of {x.dim()}")
    return torch.softmax(x, -1)


@operator("Cast")
def cast(x: torch.Tensor, to: int) -> torch.Tensor:
    return x.to(torch.from_numpy(np.empty(0, onnx.helper.tensor_dtype_to_np_dtype(to))).dtype)


@operator("BatchNormalization")
def batch_norm(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    epsilon: float = 1e-5,
    **_: Any,
) -> torch.Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def _sides(x: torch.Tensor, pads: Any) -> tuple[list[int], list[int]]:
    """A padding in front of each space axis, and behind it."""
    sizes = _ints(pads) if pads is not None else [0] * (2 * (x.dim() - 2))
    return sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]


def _padded(x: torch.Tensor, pads: Any, value: float = 0.0) -> tuple[torch.Tensor, list[int]]:
    """What a symmetric padding leaves for PyTorch's own argument; other paddings are made in front."""
    before, after = _sides(x, pads)
    if before == after:
        return x, before
    around = [size for pair in reversed(list(zip(before, after, strict=True))) for size in pair]
    return F.pad(x, around, value=value), [0] * len(before)


_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("Conv")
def conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    strides: Any = (1,),
    pads: Any = None,
    dilations: Any = (1,),
    group: int = 1,
    **_: Any,
) -> torch.Tensor:
    x, padding = _padded(x, pads)
    function = _CONVOLUTIONS[x.dim() - 2]
    return function(x, weight, bias, _ints(strides), padding, _ints(dilations), group)


@operator("ConvTranspose")
def conv_transpose(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    strides: Any = (1,),
    pads: Any = None,
    dilations: Any = (1,),
    group: int = 1,
    output_padding: Any = (0,),
    **_: Any,
) -> torch.Tensor:
    padding, behind = _sides(x, pads)
    if padding != behind:
        raise ValueError(f"a transposed convolution is cropped by {padding} and {behind}")
    function = _TRANSPOSED[x.dim() - 2]
    return function(x, weight, bias, _ints(strides), padding, _ints(output_padding), group, _ints(dilations))


@operator("MaxPool")
def max_pool(
    x: torch.Tensor, kernel_shape: Any, strides: Any = (1,), pads: Any = None, ceil_mode: int = 0, **_: Any
) -> torch.Tensor:
    x, padding = _padded(x, pads, -torch.inf)
    return F.max_pool2d(x, _ints(kernel_shape), _ints(strides), padding, ceil_mode=bool(ceil_mode))


@operator("AveragePool")
def average_pool(
    x: torch.Tensor,
    kernel_shape: Any,
    strides: Any = (1,),
    pads: Any = None,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    **_: Any,
) -> torch.Tensor:
    padded, padding = _padded(x, pads)
    if padded is not x and not count_include_pad:
        raise ValueError("an average leaves out an uneven padding")
    counted = bool(count_include_pad)
    return F.avg_pool2d(padded, _ints(kernel_shape), _ints(strides), padding, bool(ceil_mode), counted)


@operator("GlobalAveragePool")
def global_average_pool(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


@operator("Resize")
def resize(
    x: torch.Tensor,
    region: Any = None,
    scales: Any = None,
    sizes: Any = None,
    *,
    mode: bytes = b"nearest",
    coordinate_transformation_mode: bytes = b"half_pixel",
    nearest_mode: bytes = b"round_prefer_floor",
    **_: Any,
) -> torch.Tensor:
    """To the nearest in front, as `F.interpolate` does; by whole factors all rounding is the same."""
    if mode != b"nearest" or (coordinate_transformation_mode, nearest_mode) != (b"asymmetric", b"floor"):
        raise ValueError(f"resize by {mode!r}, {coordinate_transformation_mode!r}, {nearest_mode!r}")
    if sizes is not None:
        return F.interpolate(x, size=_ints(sizes)[2:])
    return F.interpolate(x, scale_factor=[float(factor) for factor in scales[2:]])


@operator("Concat")
def concat(*given: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.cat(given, axis)


@operator("Slice")
def slice_(x: torch.Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> torch.Tensor:
    places = _ints(axes) if axes is not None else list(range(len(_ints(starts))))
    if steps is not None and set(_ints(steps)) != {1}:
        raise ValueError(f"a slice in steps of {_ints(steps)}")
    for axis, start, end in zip(places, _ints(starts), _ints(ends), strict=True):
        x = x.narrow(axis, *_range(x.shape[axis], start, end))
    return x


def _range(size: int, start: int, end: int) -> tuple[int, int]:
    first, last, _ = slice(start, end).indices(size)
    return first, max(last - first, 0)


@operator("Squeeze")
def squeeze(x: torch.Tensor, axes: Any = None) -> torch.Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes)))


@operator("Reshape")
def reshape(x: torch.Tensor, shape: Any) -> torch.Tensor:
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(_ints(shape))])


@operator("Transpose")
def transpose(x: torch.Tensor, perm: Any) -> torch.Tensor:
    return x.permute(_ints(perm))


@operator("ReduceMean")
def reduce_mean(x: torch.Tensor, axes: Any, keepdims: int = 1) -> torch.Tensor:
    return x.mean(dim=_ints(axes), keepdim=bool(keepdims))
