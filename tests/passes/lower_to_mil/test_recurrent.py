"""nn.lstm, nn.gru and nn.rnn lowered: every form of torch's layers, on every target."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from anec.errors import UnsupportedError
from anec.ir.facts import is_constant
from anec.ir.graph import Module
from anec.passes.lower_to_mil import LowerToMil
from anec.testing import check_lowering, run_pass, single_op

TARGETS = ("iOS15", "iOS17", "iOS18")
KINDS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
FORMS = list(itertools.product((1, 2, 3), (False, True), (False, True), (True, False)))


def ops(module: Module) -> list[str]:
    """What is left to run."""
    return [op.defn.root for op in module.ops() if not all(is_constant(result) for result in op.results)]


def case(
    name: str, layers: int = 1, bidirectional: bool = False, batch_first: bool = False, bias: bool = True,
    *, steps: int = 5, batch: int = 2, nonlinearity: str = "tanh",
) -> tuple[list[Any], dict[str, Any]]:  # fmt: skip
    """The arguments and attributes of a layer of 3 features and 4 hidden."""
    extra = {"nonlinearity": nonlinearity} if name == "rnn" else {}
    layer = KINDS[name](3, 4, layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias, **extra)
    x = torch.randn(batch, steps, 3) if batch_first else torch.randn(steps, batch, 3)
    count = layers * (2 if bidirectional else 1)
    states = [torch.randn(count, batch, 4) for _ in range(2 if name == "lstm" else 1)]
    weights = [weight.detach() for weight in layer._flat_weights]
    attrs = {"layers": layers, "bidirectional": bidirectional, "batch_first": batch_first, "has_bias": bias, **extra}
    return [x, *states, weights], attrs


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form(name, form, target):
    args, attrs = case(name, *form)
    check_lowering(f"nn.{name}", *args, **attrs, weights=("weights",), target=target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (6, 1)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_short_sequences_and_single_samples(name, steps, batch, bidirectional, target):
    args, attrs = case(name, bidirectional=bidirectional, steps=steps, batch=batch)
    check_lowering(f"nn.{name}", *args, **attrs, weights=("weights",), target=target)


@pytest.mark.parametrize("target", TARGETS)
def test_relu_rnn(target):
    args, attrs = case("rnn", 2, True, nonlinearity="relu")
    module = check_lowering("nn.rnn", *args, **attrs, weights=("weights",), target=target)
    assert {op.attr("activation") for op in module.ops() if op.name == "mil.rnn"} == {"relu"}


def lowered(name: str, *form: Any, target: str = "iOS18", unused: int = 0) -> Module:
    """The lowered layer, its last ``unused`` outputs taken away and its states zero, as torch gives them."""
    args, attrs = case(name, *form)
    states = ["initial_h", "initial_c"] if name == "lstm" else ["initial_h"]
    module, _ = single_op(f"nn.{name}", *args, **attrs, weights=("weights", *states), target=target)
    graph = module.main
    kept = len(graph.outputs) - unused
    graph.outputs, graph.signature.outputs = graph.outputs[:kept], graph.signature.outputs[:kept]
    run_pass(module, LowerToMil())
    return module


def test_one_op_a_layer():
    assert ops(lowered("lstm", unused=2)) == ["lstm"]
    assert ops(lowered("lstm", 2, True, True, unused=2)) == ["transpose", "lstm", "lstm", "transpose"]
    assert ops(lowered("gru", 2, unused=1)) == ["gru", "gru"]
    assert ops(lowered("gru", 1, True, unused=1)) == ["gru", "gru", "reverse", "concat"]
    assert ops(lowered("rnn", 1, False, unused=1)) == ["rnn"]
    assert ops(lowered("lstm", 1, True)) == ["lstm", "split", "split", "stack", "stack"]


def test_half_precision_before_ios17_computes_in_float32():
    args, attrs = case("lstm", 1, True)
    half = [[tensor.half() for tensor in arg] if isinstance(arg, list) else arg.half() for arg in args]
    for target, wanted in (("iOS15", "f32"), ("iOS17", "f16")):
        module = check_lowering("nn.lstm", *half, **attrs, weights=("weights",), target=target)
        (op,) = (op for op in module.ops() if op.name == "mil.lstm")
        assert str(op.results[0].tensor.dtype) == wanted
        assert all(str(value.tensor.dtype) == "f16" for value in module.main.outputs)


@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
def test_a_long_gru_needs_ios18_and_says_so(target):
    args, attrs = case("gru", steps=33)
    module, _ = single_op("nn.gru", *args, **attrs, weights=("weights",), target=target)
    with pytest.raises(UnsupportedError, match="iOS18") as caught:
        run_pass(module, LowerToMil())
    assert "--target iOS18" in str(caught.value)
    check_lowering("nn.gru", *args, **attrs, weights=("weights",), target="iOS18")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("form", [(1, False, False, True), (2, True, True, False), (2, True, False, True)])
@pytest.mark.parametrize(("steps", "batch"), [(5, 2), (1, 1)])
def test_projections(steps, batch, form, zeros, target):
    layers, bidirectional, batch_first, bias = form
    layer = torch.nn.LSTM(
        3, 4, layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias, proj_size=2
    )
    weights = [weight.detach() for weight in layer._flat_weights]
    count = layers * (2 if bidirectional else 1)
    states = [torch.randn(count, batch, 2), torch.randn(count, batch, 4)]
    if zeros:
        states[0].zero_()
    x = torch.randn(batch, steps, 3) if batch_first else torch.randn(steps, batch, 3)
    module = check_lowering(
        "nn.lstm", x, *states, weights, layers=layers, bidirectional=bidirectional, batch_first=batch_first,
        has_bias=bias, projection=2, weights=("weights", *(["initial_h"] if zeros else [])), target=target,
    )  # fmt: skip
    assert ops(module).count("lstm") == layers
    assert ("pad" in ops(module)) == (not zeros), "only an initial state other than zeros costs features"


def test_computed_weights_are_an_error_that_names_one():
    args, attrs = case("rnn")
    module, _ = single_op("nn.rnn", *args, **attrs)
    with pytest.raises(UnsupportedError, match="weight %weights"):
        run_pass(module, LowerToMil())
