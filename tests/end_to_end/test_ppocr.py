"""The PP-OCR example: ONNX files as PyTorch modules, and its networks with their real weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import anec
from anec.check.metrics import compare

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "ppocr"))
import networks
from onnx_model import OPERATORS, OnnxModel


class Graph:
    """An ONNX graph of one input, node by node."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        self.generator = np.random.default_rng(3)

    def op(self, name: str, *given: str, **attributes: Any) -> str:
        result = f"{name}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(name, list(given), [result], **attributes))
        return result

    def constant(self, value: Any) -> str:
        return self.op("Constant", value=numpy_helper.from_array(np.asarray(value)))

    def weight(self, *shape: int) -> str:
        return self.constant((self.generator.standard_normal(shape) * 0.3 + 0.1).astype(np.float32))

    def save(self, path: Path, *outputs: str) -> Path:
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "main", [self.input], results)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
        onnx.save(model, path)
        return path


def convolutional(path: Path) -> Path:
    """What a detector is made of: every way to move a window, and to change a size."""
    graph = Graph((2, 3, 21, 18))
    y = graph.op("Conv", "x", graph.weight(4, 3, 3, 3), graph.weight(4), strides=[2, 1], pads=[1, 0, 1, 2])
    scale, shift, mean = (graph.weight(4) for _ in range(3))
    variance = graph.constant(np.full(4, 0.7, np.float32))
    y = graph.op("BatchNormalization", y, scale, shift, mean, variance, epsilon=1e-3)
    low, high = graph.constant(np.float32(0)), graph.constant(np.float32(6))
    gate = graph.op("Clip", graph.op("Add", y, graph.constant(np.float32(3))), low, high)
    y = graph.op("Div", graph.op("Mul", y, gate), high)
    pooled = graph.op("GlobalAveragePool", y)
    y = graph.op("Mul", y, graph.op("HardSigmoid", pooled, alpha=0.3, beta=0.4))
    large = graph.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    mean = graph.op("AveragePool", y, kernel_shape=[3, 2], strides=[3, 2], ceil_mode=1)
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    up = graph.op("Resize", large, graph.constant(np.zeros(0, np.float32)), scales, **nearest)
    wide = graph.op("ConvTranspose", up, graph.weight(4, 2, 2, 2), graph.weight(2), strides=[2, 2])
    return graph.save(path, graph.op("Sigmoid", wide), graph.op("Relu", graph.op("Identity", mean)))


def sequential(path: Path) -> Path:
    """What a recogniser is made of: shapes computed by the graph, and a norm in seven ops."""
    graph = Graph((2, 8, 1, 12))
    sizes = graph.op("Shape", "x")
    ints = [graph.constant(np.array([value], np.int64)) for value in (0, 1, 2, 4, 8)]
    batch = graph.op("Slice", sizes, ints[0], ints[1], ints[0])
    channels = graph.op("Cast", graph.op("Slice", sizes, ints[1], ints[2], ints[0]), to=TensorProto.INT64)
    shape = graph.op("Concat", batch, channels, graph.constant(np.array([-1], np.int64)), axis=0)
    y = graph.op("Transpose", graph.op("Reshape", "x", shape), perm=[0, 2, 1])
    centred = graph.op("Sub", y, graph.op("ReduceMean", y, axes=[-1]))
    square = graph.op("ReduceMean", graph.op("Pow", centred, graph.constant(np.float32(2))), axes=[-1], keepdims=1)
    deviation = graph.op("Sqrt", graph.op("Add", square, graph.constant(np.float32(1e-5))))
    y = graph.op("Add", graph.op("Mul", graph.op("Div", centred, deviation), graph.weight(8)), graph.weight(8))
    y = graph.op("MatMul", y, graph.weight(8, 16))
    part = graph.op("Slice", y, ints[2], graph.constant(np.array([-1], np.int64)), graph.constant(np.array([1], np.int64)))
    half = graph.op("Slice", part, ints[4], graph.constant(np.array([99], np.int64)), ints[2])
    y = graph.op("Squeeze", graph.op("Reshape", half, graph.constant(np.array([0, -1, 1, 8], np.int64))), axes=[2])
    y = graph.op("Concat", y, graph.op("Cast", y, to=TensorProto.FLOAT), axis=2)
    return graph.save(path, graph.op("Softmax", y, axis=2))


BUILDERS = (convolutional, sequential)


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_file_is_what_onnxruntime_makes_of_it(builder: Callable[[Path], Path], tmp_path: Path) -> None:
    path = builder(tmp_path / "model.onnx")
    (given,) = onnx.load(path).graph.input
    shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    wanted = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    model = OnnxModel(path).eval()
    results = model(x)
    for tensor, array in zip(results if isinstance(results, tuple) else (results,), wanted, strict=True):
        torch.testing.assert_close(tensor, torch.from_numpy(array), rtol=1e-5, atol=1e-6)
    compiled = anec.compile(model, (x,), passes="default,ane", precision="fp32", check="numerics")
    for found, array in zip(compiled.run({compiled.input_names[0]: x}).values(), wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(array), rtol=1e-4, atol=1e-6)


def test_every_operator_is_in_one_of_the_files(tmp_path: Path) -> None:
    nodes = [node for builder in BUILDERS for node in onnx.load(builder(tmp_path / builder.__name__)).graph.node]
    assert OPERATORS.keys() <= {node.op_type for node in nodes}


def test_other_operators_are_named(tmp_path: Path) -> None:
    graph = Graph((1, 3))
    path = graph.save(tmp_path / "model.onnx", graph.op("Erf", graph.op("Ceil", "x")))
    with pytest.raises(ValueError, match="Ceil, Erf"):
        OnnxModel(path)


@pytest.mark.skipif(find_spec("rapidocr_onnxruntime") is None, reason="the weights are in rapidocr-onnxruntime")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["classifier", "recognizer_320"])
def test_networks_agree_with_onnxruntime(name: str, precision: str) -> None:
    source = getattr(networks, name)()
    compiled = anec.compile(source, passes="default,ane", precision=precision)
    (image,) = source.args
    session = onnxruntime.InferenceSession(networks.weights(name.partition("_")[0]))
    (wanted,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    (found,) = compiled.run({"image": image}).values()
    metric = compare(name, torch.from_numpy(found), torch.from_numpy(wanted))
    assert not metric.void
    assert metric.rel < 1e-4 if precision == "fp32" else metric.psnr > 45
    if name == "recognizer_320":
        names = [op.name for op in compiled.module.ops()]
        # Norms and activations that the file spells out, op by op.
        assert (names.count("mil.layer_norm"), names.count("mil.silu")) == (5, 7)
