"""What the nn ops declare of their results is what their kernels make, on fake tensors too."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from anec import reference
from anec.errors import AnecError
from anec.reference.infer import run_fake, type_of
from anec.testing import single_op


def run(name: str, *args, **kwargs):
    kernel = reference.lookup(name)
    assert kernel is not None, name
    return kernel.function(*args, **kwargs)


def weights(gates: int, layers: int, directions: int) -> list[torch.Tensor]:
    """What torch.nn.LSTM and its like hold for 3 features in and 5 hidden."""
    shapes = []
    for layer in range(layers):
        features = 3 if layer == 0 else 5 * directions
        shapes += [(gates * 5, features), (gates * 5, 5), (gates * 5,), (gates * 5,)] * directions
    return [torch.randn(*shape) for shape in shapes]


CASES = [
    ("nn.interpolate", (torch.randn(2, 3, 5, 6),), {"size": (7, 9), "mode": "bicubic"}),
    ("nn.interpolate", (torch.randn(2, 3, 5),), {"size": (7,), "mode": "linear"}),
    ("nn.grid_sample", (torch.randn(2, 3, 5, 6), torch.randn(2, 4, 7, 2)), {}),
    ("nn.grid_sample", (torch.randn(2, 3, 5, 6, 4), torch.randn(2, 4, 7, 1, 3)), {}),
    ("nn.adaptive_avg_pool", (torch.randn(2, 3, 5, 6),), {"size": (2, 4)}),
    ("nn.adaptive_max_pool", (torch.randn(3, 5),), {"size": (2,)}),
    ("nn.lstm", (torch.randn(4, 2, 3), torch.randn(4, 2, 5), torch.randn(4, 2, 5), weights(4, 2, 2)),
     {"layers": 2, "bidirectional": True}),
    ("nn.gru", (torch.randn(4, 2, 3), torch.randn(1, 2, 5), weights(3, 1, 1)), {}),
    ("nn.rnn", (torch.randn(2, 4, 3), torch.randn(2, 2, 5), weights(1, 1, 2)),
     {"bidirectional": True, "batch_first": True}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "attrs"), CASES)
def test_declared_types_are_those_of_the_kernel(name, args, attrs):
    module, _ = single_op(name, *args, **attrs)
    op = next(iter(module.main.ops()))
    assert op.defn.infer is not None
    assert tuple(result.type for result in op.results) == run_fake(op, {value: value.tensor for value in op.inputs})


@pytest.mark.parametrize(
    ("name", "args", "attrs"),
    [
        ("nn.interpolate", (torch.randn(2, 3, 5),), {"size": (7, 9), "mode": "bilinear"}),
        ("nn.grid_sample", (torch.randn(2, 3, 5, 6), torch.randn(2, 4, 7, 3)), {}),
        ("nn.adaptive_avg_pool", (torch.randn(5),), {"size": (2, 4)}),
        ("nn.gru", (torch.randn(4, 2, 3), torch.randn(1, 2, 5), weights(3, 1, 1)[:3]), {}),
    ],
)
def test_arguments_that_do_not_fit_are_errors(name, args, attrs):
    with pytest.raises(AnecError):
        single_op(name, *args, **attrs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "shapes", "attrs"),
    [
        ("nn.layer_norm", [(2, 8), (8,), (8,)], {"axes": (-1,)}),
        ("nn.rms_norm", [(2, 8), (8,)], {"axes": (-1,)}),
        ("nn.l2_norm", [(2, 8)], {"axes": (-1,)}),
        ("nn.group_norm", [(2, 8, 3), (8,), (8,)], {"groups": 2}),
        ("nn.instance_norm", [(2, 8, 3), (8,), (8,)], {}),
        ("nn.batch_norm", [(2, 8, 3), (8,), (8,), (8,), (8,)], {}),
        ("nn.attention", [(2, 8, 3), (2, 4, 3), (2, 4, 5), (8, 4)], {"causal": True, "softcap": 2.0}),
        ("nn.softplus", [(2, 8)], {}),
        ("nn.pixel_shuffle", [(2, 8, 3, 3)], {"factor": 2}),
    ],
)
def test_kernels_keep_the_dtype_and_run_on_fake_tensors(name, shapes, attrs, dtype):
    real = run(name, *(torch.rand(*shape).to(dtype) for shape in shapes), **attrs)
    with FakeTensorMode():
        fake = run(name, *(torch.empty(*shape, dtype=dtype) for shape in shapes), **attrs)
    assert type_of(fake) == type_of(real)
    assert real.dtype is dtype


def test_a_write_of_a_state_checks_its_shape():
    with pytest.raises(AnecError, match="state"):
        run("nn.write_state", torch.zeros(1, 4), torch.zeros(1, 5))
