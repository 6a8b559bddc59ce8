"""Stock sequence models under `default,ane`: the structure that Apple writes by hand, and the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

import anec
import sequence_models as models
from sequence_models import HEADS, LAYERS
from zoo.weights import perturb

ENDS = 2


@dataclass(frozen=True)
class Wanted:
    """What is left of a model.

    Args:
        products: convs of kernel 1.
        convs: other convs.
        linears: each stays, as a turned result would move more than it gains.
        transposes: two ends at most, one for the keys of each attention, and what a comment says.
        reshapes: likewise.
        attentions: two einsums a head each.
        heads: in each attention.
    """

    products: int
    transposes: int
    convs: int = 0
    linears: int = 0
    reshapes: int = 0
    attentions: int = LAYERS
    heads: int = HEADS


# Queries and keys are seen as heads for their rotation, and taken head by head from there: rows stay as they are.
ROTARY = 2 * LAYERS
CASES: dict[Callable[[], anec.Source], Wanted] = {
    # The logits of one row: no transpose at that end.
    models.distilbert: Wanted(products=6 * LAYERS + 2, transposes=LAYERS + 1),
    models.bert: Wanted(products=6 * LAYERS + 2, transposes=LAYERS + 1),
    models.roberta: Wanted(products=6 * LAYERS, transposes=LAYERS + ENDS),
    # A head onto a vocabulary of three times the width stays a linear; its operand is turned.
    models.gpt2: Wanted(products=4 * LAYERS, transposes=LAYERS + ENDS, linears=1),
    models.gpt2_padded: Wanted(products=4 * LAYERS, transposes=LAYERS + ENDS, linears=1),
    models.llama: Wanted(products=7 * LAYERS, transposes=LAYERS + ENDS, linears=1, reshapes=ROTARY),
    models.qwen2: Wanted(products=7 * LAYERS, transposes=LAYERS + ENDS, linears=1, reshapes=ROTARY),
    models.t5_encoder: Wanted(products=6 * LAYERS, transposes=LAYERS + ENDS),
    # Spectrograms come channels first.
    models.whisper_encoder: Wanted(products=6 * LAYERS, transposes=LAYERS + 1, convs=2),
    # So do waves; the first conv's stride of 5 takes a reshape and a transpose. The positional conv is cut in two.
    models.wav2vec2: Wanted(products=6 * LAYERS + 2, transposes=LAYERS + ENDS, convs=5, reshapes=1),
    models.wav2vec2_stable: Wanted(products=6 * LAYERS + 2, transposes=LAYERS + ENDS, convs=5, reshapes=1),
    # A shuffle brings patches to the channels.
    models.trocr: Wanted(
        products=16 * LAYERS + 1, transposes=3 * LAYERS + ENDS, linears=1, reshapes=1, attentions=3 * LAYERS
    ),
    # The projection of one row.
    models.clip_text: Wanted(products=6 * LAYERS, transposes=LAYERS + ENDS, linears=1),
    # Patches are a batch for their conv, tokens a sequence, four of which become the channels of one.
    models.dots_ocr_vision: Wanted(
        products=8 * LAYERS, transposes=LAYERS + ENDS + 1, convs=1, reshapes=ROTARY + 3, heads=2
    ),
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_the_structure_of_the_hand_written_model(make: Callable[[], anec.Source]) -> None:
    torch.manual_seed(1)
    source, case = make(), CASES[make]
    model = perturb(source.model, seed=2)
    with torch.no_grad():
        wanted = model(*source.args, **(source.kwargs or {}))
    wide = anec.compile(source, passes="default,ane", precision="fp32")
    ops = [op for op in wide.module.main if not op.is_constant]
    count = Counter(op.name.removeprefix("mil.") for op in ops)
    points = sum(op.value("weight").shape[2:] == (1, 1) for op in ops if op.name == "mil.conv")
    assert not count["matmul"]
    assert (points, count["conv"] - points, count["linear"]) == (case.products, case.convs, case.linears)
    assert (count["transpose"], count["reshape"]) == (case.transposes, case.reshapes)
    assert count["einsum"] == 2 * case.attentions * case.heads
    assert {op.attr("equation") for op in ops if op.name == "mil.einsum"} == {"nchw,nwhu->nchu"}
    assert count["softmax"] == case.attentions
    assert all(op.attr("axis") == 1 for op in ops if op.name == "mil.softmax")
    assert all(op.attr("axes") == (1,) for op in ops if op.name == "mil.layer_norm")
    assert not count["reduce_mean"] + count["rsqrt"]

    given = source.kwargs or dict(zip(wide.input_names, source.args, strict=False))
    (found,) = wide.run(given).values()
    torch.testing.assert_close(torch.as_tensor(found), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    (half,) = anec.compile(source, passes="default,ane").run(given).values()
    error = torch.as_tensor(half) - wanted
    assert 20 * torch.log10(wanted.abs().max() / error.square().mean().sqrt()) > 60


def test_a_mask_of_padding_is_made_once() -> None:
    torch.manual_seed(1)
    source = models.bert()
    main = anec.compile(source.model, (), source.kwargs, passes="default,ane").module.main
    added = [op.value("y") for op in main if op.name == "mil.add" and op.results[0].shape == (1, 32, HEADS, 32)]
    assert len(added) == LAYERS
    assert len(set(added)) == 1
    assert added[0].shape == (1, 32, 1, 1)
