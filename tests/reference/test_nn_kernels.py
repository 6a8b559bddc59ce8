"""The nn kernels against torch.nn.functional and torch.nn modules, in float64 and on fake tensors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from anec import reference
from anec.dialects import nn
from anec.errors import AnecError

DTYPE = torch.float64


def run(name: str, *args, **kwargs):
    kernel = reference.lookup(name)
    assert kernel is not None, name
    return kernel.function(*args, **kwargs)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=DTYPE)


def close(ours, theirs, **tolerances) -> None:
    torch.testing.assert_close(ours, theirs, **{"rtol": 1e-12, "atol": 1e-13, **tolerances})


def test_every_op_of_the_dialect_has_a_kernel_with_its_parameters():
    import inspect

    for defn in nn:
        kernel = reference.lookup(defn.name)
        assert kernel is not None, defn.name
        parameters = inspect.signature(kernel.function).parameters
        assert list(parameters) == [param.name for param in defn.params], defn.name
        for param in defn.params:
            default = parameters[param.name].default
            if not param.required and param.kind.value == "attr":
                assert default == param.default, f"{defn.name}: {param.name}"


# -- norms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 8), (1, 2, 3, 5)])
@pytest.mark.parametrize("last", [1, 2])
def test_layer_norm(shape, last, affine):
    x, trailing = randn(*shape), shape[-last:]
    weight, bias = (randn(*trailing), randn(*trailing)) if affine else (None, None)
    ours = run("nn.layer_norm", x, weight, bias, axes=tuple(range(-last, 0)), epsilon=1e-3)
    close(ours, F.layer_norm(x, trailing, weight, bias, 1e-3))


def test_layer_norm_over_an_inner_axis_takes_its_weight_along_it():
    x, weight, bias = randn(2, 5, 3, 4), randn(5, 4), randn(5, 4)
    ours = run("nn.layer_norm", x, weight, bias, axes=(1, 3))
    # Axes 1 and 3 are not neighbours: bring them to the end, and back.
    moved = F.layer_norm(x.permute(0, 2, 1, 3), (5, 4), weight, bias).permute(0, 2, 1, 3)
    close(ours, moved)


def test_layer_norm_refuses_a_weight_of_another_shape():
    with pytest.raises(AnecError, match="shape"):
        run("nn.layer_norm", randn(2, 8), randn(7), axes=(-1,))


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6)])
@pytest.mark.parametrize("weighted", [False, True])
def test_rms_norm(shape, weighted):
    x = randn(*shape)
    weight = randn(6) if weighted else None
    close(run("nn.rms_norm", x, weight, axes=(-1,), epsilon=1e-4), F.rms_norm(x, (6,), weight, 1e-4))


@pytest.mark.parametrize("axes", [(1,), (-1,), (0, 2)])
def test_l2_norm(axes):
    x = randn(3, 4, 5)
    x[0] = 0
    close(run("nn.l2_norm", x, axes=axes, epsilon=1e-3), F.normalize(x, dim=axes, eps=1e-3))


def test_global_response_norm():
    x = randn(2, 4, 5, 6)
    norm = x.norm(dim=(1, 2), keepdim=True)
    ours = run("nn.global_response_norm", x, axes=(1, 2), axis=-1, epsilon=1e-3)
    close(ours, norm / (norm.mean(3, keepdim=True) + 1e-3))


@pytest.mark.parametrize("shape", [(2, 6), (1, 6, 5), (2, 6, 3, 4), (2, 6, 2, 3, 4)])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_norm(shape, groups):
    x, weight, bias = randn(*shape), randn(6), randn(6)
    ours = run("nn.group_norm", x, weight, bias, groups=groups, epsilon=1e-3)
    close(ours, F.group_norm(x, groups, weight, bias, 1e-3))
    close(run("nn.group_norm", x, groups=groups), F.group_norm(x, groups))


@pytest.mark.parametrize("shape", [(1, 4, 5), (2, 4, 3, 5), (2, 4, 2, 3, 5)])
def test_instance_norm(shape):
    x, weight, bias = randn(*shape), randn(4), randn(4)
    theirs = F.instance_norm(x, weight=weight, bias=bias, eps=1e-3)
    close(run("nn.instance_norm", x, weight, bias, epsilon=1e-3), theirs)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4, 5), (2, 4, 3, 5), (2, 4, 2, 3, 5)])
def test_batch_norm(shape):
    x, mean, variance, weight, bias = randn(*shape), randn(4), randn(4).abs() + 0.1, randn(4), randn(4)
    close(
        run("nn.batch_norm", x, mean, variance, weight, bias, epsilon=1e-3),
        F.batch_norm(x, mean, variance, weight, bias, eps=1e-3),
    )
    close(run("nn.batch_norm", x, mean, variance), F.batch_norm(x, mean, variance))


@pytest.mark.parametrize(("shape", "axis"), [((3, 5), -1), ((3, 5), 0), ((2, 3, 4), 1), ((), 0)])
def test_log_softmax(shape, axis):
    x = randn(*shape) * 300
    close(run("nn.log_softmax", x, axis=axis), F.log_softmax(x, axis))


# -- activations -----------------------------------------------------------------------------------

POINTS = [-math.inf, -1e4, -30.0, -3.0, -1.0, -1e-6, -0.0, 0.0, 1e-6, 0.5, 3.0, 6.0, 19.9, 20.1, 30.0, 1e4, math.inf]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("silu", F.silu),
        ("mish", F.mish),
        ("hard_swish", F.hardswish),
        ("hard_sigmoid", F.hardsigmoid),
        ("log_sigmoid", F.logsigmoid),
        ("softsign", F.softsign),
        ("softplus", F.softplus),
        ("gelu", F.gelu),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_activations(name, theirs, dtype):
    x = torch.tensor(POINTS, dtype=dtype)
    torch.testing.assert_close(run(f"nn.{name}", x), theirs(x), rtol=0, atol=0, equal_nan=True)


def test_hard_sigmoid_of_another_slope():
    x = torch.linspace(-6, 6, 49, dtype=DTYPE)
    close(run("nn.hard_sigmoid", x, alpha=0.2, beta=0.25), (0.2 * x + 0.25).clamp(0, 1))


def test_gelu_by_its_approximations():
    x = randn(50) * 4
    close(run("nn.gelu", x, approximate="tanh"), F.gelu(x, approximate="tanh"))
    close(run("nn.gelu", x, approximate="sigmoid"), x * torch.sigmoid(1.702 * x))
    with pytest.raises(AnecError, match="approximate"):
        run("nn.gelu", x, approximate="cosine")


@pytest.mark.parametrize(("beta", "threshold"), [(1.0, 20.0), (2.5, 3.0), (0.5, 0.0), (-1.0, 5.0)])
def test_softplus_is_linear_beyond_the_threshold(beta, threshold):
    x = torch.linspace(-20, 20, 81, dtype=DTYPE)
    close(run("nn.softplus", x, beta=beta, threshold=threshold), F.softplus(x, beta, threshold))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_glu(axis):
    x = randn(4, 6, 2)
    close(run("nn.glu", x, axis=axis), F.glu(x, axis))


# -- attention -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (3,), (2, 4), (2, 2, 3)])
@pytest.mark.parametrize("mask", [None, "bool", "float", "row"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention(lead, mask, scale):
    query, key, value = randn(*lead, 5, 8), randn(*lead, 7, 8), randn(*lead, 7, 6)
    given = {
        None: None,
        "bool": torch.rand(5, 7) > 0.4,
        "float": randn(5, 7),
        "row": torch.rand(1, 7) > 0.4,
    }[mask]
    theirs = F.scaled_dot_product_attention(query, key, value, given, scale=scale)
    close(run("nn.attention", query, key, value, given, scale=scale), theirs)


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (3, 6), (6, 3)])
def test_causal_attention(rows, columns):
    query, key, value = randn(2, 4, rows, 8), randn(2, 4, columns, 8), randn(2, 4, columns, 8)
    close(
        run("nn.attention", query, key, value, causal=True),
        F.scaled_dot_product_attention(query, key, value, is_causal=True),
    )


def test_attention_with_fewer_key_heads():
    query, key, value = randn(2, 6, 5, 8), randn(2, 3, 7, 8), randn(2, 3, 7, 8)
    close(
        run("nn.attention", query, key, value),
        F.scaled_dot_product_attention(query, key, value, enable_gqa=True),
    )
    with pytest.raises(AnecError, match="heads"):
        run("nn.attention", query, randn(2, 4, 7, 8), randn(2, 4, 7, 8))


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_row_that_keeps_nothing_gives_zeros(kind):
    query, key, value = randn(2, 5, 8), randn(2, 7, 8), randn(2, 7, 8)
    mask = torch.rand(5, 7) > 0.5
    mask[2] = False
    mask[0, 0] = True
    given = mask if kind == "bool" else torch.zeros(5, 7, dtype=DTYPE).masked_fill(~mask, -math.inf)
    ours = run("nn.attention", query, key, value, given)
    assert torch.equal(ours[:, 2], torch.zeros(2, 8, dtype=DTYPE))
    close(ours, F.scaled_dot_product_attention(query, key, value, given))


def test_softcap_bounds_the_scores_before_the_mask():
    query, key, value = randn(2, 5, 8) * 9, randn(2, 7, 8) * 9, randn(2, 7, 8)
    mask = torch.rand(5, 7) > 0.3
    mask[:, 0] = True
    scores = (query @ key.mT) / math.sqrt(8)
    scores = (3 * torch.tanh(scores / 3)).masked_fill(~mask, -math.inf)
    close(run("nn.attention", query, key, value, mask, softcap=3.0), torch.softmax(scores, -1) @ value)


# -- images ----------------------------------------------------------------------------------------

MODES = [
    ("nearest", 1), ("nearest", 2), ("nearest", 3), ("nearest-exact", 1), ("nearest-exact", 2), ("nearest-exact", 3),
    ("linear", 1), ("bilinear", 2), ("trilinear", 3), ("bicubic", 2),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "space"), MODES)
@pytest.mark.parametrize("factor", [0.5, 1.3, 2.0])
@pytest.mark.parametrize("by_scale", [False, True])
def test_interpolate(mode, space, factor, by_scale):
    x = randn(2, 3, *(5, 6, 7)[:space])
    corners = [None] if mode.startswith("nearest") else [False, True]
    for align in corners:
        settings = {} if align is None else {"align_corners": align}
        size = tuple(int(n * factor) for n in x.shape[2:])
        wanted = {"scale_factor": factor} if by_scale else {"size": size}
        theirs = F.interpolate(x, mode=mode, **wanted, **settings)
        scales = (factor,) * space if by_scale else None
        close(run("nn.interpolate", x, size=size, mode=mode, scales=scales, **settings), theirs)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 5), (9, 4), (12, 14)])
def test_interpolate_with_antialiasing(mode, size):
    x = randn(1, 2, 6, 7)
    theirs = F.interpolate(x, size=size, mode=mode, antialias=True)
    close(run("nn.interpolate", x, size=size, mode=mode, antialias=True), theirs)


def test_interpolate_refuses_what_torch_has_not():
    with pytest.raises(AnecError, match="interpolate"):
        run("nn.interpolate", randn(1, 2, 6), size=(3,), mode="bicubic")
    with pytest.raises(AnecError, match="antialiased"):
        run("nn.interpolate", randn(1, 2, 6, 6), size=(3, 3), mode="nearest", antialias=True)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [False, True])
def test_grid_sample(mode, padding, align):
    x, grid = randn(2, 3, 5, 6), randn(2, 4, 3, 2)
    settings = {"mode": mode, "padding_mode": padding, "align_corners": align}
    close(run("nn.grid_sample", x, grid, **settings), F.grid_sample(x, grid, **settings))


def test_pixels_move_between_space_and_channels():
    x = randn(2, 8, 3, 5)
    close(run("nn.pixel_shuffle", x, factor=2), F.pixel_shuffle(x, 2))
    y = randn(2, 3, 4, 6)
    close(run("nn.pixel_unshuffle", y, factor=2), F.pixel_unshuffle(y, 2))
    close(run("nn.channel_shuffle", x, groups=4), F.channel_shuffle(x, 4))


@pytest.mark.parametrize("space", [1, 2, 3])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_adaptive_pools(space, batch):
    x, size = randn(*batch, 3, *(7, 6, 5)[:space]), (3, 2, 4)[:space]
    average = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[space - 1]
    maximum = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[space - 1]
    close(run("nn.adaptive_avg_pool", x, size=size), average(x, size))
    close(run("nn.adaptive_max_pool", x, size=size), maximum(x, size))


# -- recurrent -------------------------------------------------------------------------------------

FORMS = list(itertools.product((1, 2), (False, True), (False, True), (True, False)))


@pytest.mark.parametrize(("layers", "bidirectional", "batch_first", "bias"), FORMS)
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "rnn_relu", "lstm_projected"])
def test_recurrent(name, layers, bidirectional, batch_first, bias):
    settings = {"bidirectional": bidirectional, "batch_first": batch_first, "bias": bias, "dtype": DTYPE}
    if name == "lstm_projected":
        module = torch.nn.LSTM(3, 5, layers, proj_size=2, **settings)
    elif name.startswith("rnn"):
        module = torch.nn.RNN(3, 5, layers, nonlinearity="relu" if name == "rnn_relu" else "tanh", **settings)
    else:
        module = (torch.nn.LSTM if name == "lstm" else torch.nn.GRU)(3, 5, layers, **settings)
    x = randn(2, 4, 3) if batch_first else randn(4, 2, 3)
    count = layers * (2 if bidirectional else 1)
    states = [randn(count, 2, 2 if name == "lstm_projected" else 5)]
    if name.startswith("lstm"):
        states.append(randn(count, 2, 5))
    given = tuple(states) if name.startswith("lstm") else states[0]
    with torch.no_grad():
        output, last = module(x, given)
    extra = {"nonlinearity": "relu"} if name == "rnn_relu" else {}
    ours = run(
        f"nn.{name.split('_')[0]}",
        x,
        *states,
        [w.detach() for w in module._flat_weights],
        layers=layers,
        bidirectional=bidirectional,
        batch_first=batch_first,
        has_bias=bias,
        **extra,
    )
    for mine, torchs in zip(ours, (output, *(last if isinstance(last, tuple) else (last,))), strict=True):
        close(mine, torchs)
