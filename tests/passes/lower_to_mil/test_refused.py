"""The list of what Core ML cannot express: it is complete for core ATen, and short."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator

import pytest
import torch

import anec
import anec.passes.raise_nn
from anec.errors import UnsupportedError
from anec.passes.lower_to_mil import LowerToMil, refused
from anec.passes.lower_to_mil.refused import REFUSED, refusal
from anec.testing import check_lowering
from lowering import floats

# The frontend turns them into dimension expressions; torch.export leaves no others.
SIZES = frozenset("sym_size sym_numel sym_stride sym_storage_offset sym_is_contiguous".split())
# What no compiler to a program of values could give.
BY_NATURE = (refused.RANDOM, refused.ALLOCATION, refused.SIZED_BY_DATA, refused.NUMBER)


def core_overloads() -> Iterator[str]:
    for packet in dir(torch.ops.aten):
        found = getattr(torch.ops.aten, packet)
        for overload in found.overloads() if hasattr(found, "overloads") else ():
            # What writes in place is lifted as what it computes.
            if torch.Tag.core in getattr(found, overload).tags and not packet.endswith("_"):
                yield f"aten.{packet}.{overload}"


def handled() -> set[str]:
    """The ops with a lowering, a raise, or both parts computed."""
    roots = {root.name for rule in LowerToMil.all_rules() for root in rule.roots}
    for found in pkgutil.iter_modules(anec.passes.raise_nn.__path__):
        module = importlib.import_module(f"anec.passes.raise_nn.{found.name}")
        roots |= {root.name for rule in getattr(module, "RULES", ()) for root in rule.roots}
    importlib.import_module("anec.passes.split_complex")
    parts = importlib.import_module("anec.passes.split_complex.parts")
    return roots | {f"aten.{name}.default" for name in parts.HANDLERS if name.startswith("_fft")}


def test_every_core_op_is_lowered_or_refused_with_a_reason() -> None:
    known = handled()
    missing = {
        name
        for name in core_overloads()
        if name not in known and refusal(name) is None and name.split(".")[1] not in SIZES
    }
    assert not missing


def test_few_core_ops_are_refused_for_want_of_a_lowering() -> None:
    known = handled()
    core = [name for name in core_overloads() if name not in known and "_backward" not in name]
    others = [name for name in core if (found := refusal(name)) is not None and found not in BY_NATURE]
    assert len(others) < 10, others


def test_nothing_lowered_is_on_the_list() -> None:
    both = {name for name in handled() if name.startswith("aten.") and refusal(name) is not None}
    assert sorted(name for name in both if refusal(name) is not refused.BACKWARD) == []


def test_ops_of_other_dialects() -> None:
    assert refusal("torchvision.nms.default") is refused.BOXES
    assert refusal("torchvision.roi_align.default") is refusal("nn.layer_norm") is None


def test_every_packet_exists() -> None:
    """But for some that older or newer versions of torch have."""
    missing = [name for name in REFUSED if not hasattr(torch.ops.aten, name.partition(".")[0])]
    assert len(missing) < len(REFUSED) / 10, missing


def test_the_error_gives_reason_and_hint() -> None:
    with pytest.raises(UnsupportedError, match=r"draws random numbers[^$]*hint: make the random tensor an input"):
        check_lowering("aten.rand_like.default", floats(3))
    with pytest.raises(UnsupportedError, match=r"factorizes a matrix step by step"):
        check_lowering("aten.linalg_qr.default", floats(3, 3))
    with pytest.raises(UnsupportedError, match="belongs to the backward pass"):
        check_lowering("aten.threshold_backward.default", floats(3), floats(3), 0.5)


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (lambda x: x[x > 0], "keep the size fixed: torch.where"),
        (lambda x: x.view(1, 2, 1, 3, 1, 4), "the output %view has 6 axes: reshape it outside of the model"),
    ],
)
def test_the_hint_of_what_has_a_rule(function: Callable[[torch.Tensor], torch.Tensor], hint: str) -> None:
    """Another rule in a plugin would not help."""

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    with pytest.raises(UnsupportedError) as caught:
        anec.compile(Model(), (torch.randn(2, 3, 4),))
    assert hint in str(caught.value.hint)
    assert "plugin" not in str(caught.value.hint)
