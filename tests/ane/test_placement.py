"""Where whole programs are predicted to run: known models, edges and insides, cost, totals."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

import anec
from ane.ane_programs import Maker, distilbert, made
from anec.ane import CATALOGUE, Confidence, Device, Placement, limits_of, predict
from anec.dialects import mil
from anec.errors import AnecError, UsageError
from anec.ir.graph import Module, Value

HEAVY = "f16[1,256,64,64]"


def heavy(m: Maker, x: Value) -> Value:
    """1.2 billion multiply-adds, which no device does in no time."""
    return m.conv(x, "f16[256,256,3,3]", pad_type="same")


def placements(module: Module, generation: str = "M1") -> list[Placement]:
    return list(predict(module, generation).functions[0].placements)


def off(module: Module, generation: str = "M1") -> dict[str, list[str]]:
    """The deciding rules of what is off the Neural Engine, by op."""
    found: dict[str, list[str]] = {}
    for placement in placements(module, generation):
        if not placement.on_ane:
            found.setdefault(placement.op.defn.root, []).append(placement.blockers[0].rule.id)
    return found


# -- known models --------------------------------------------------------------------------------------


def test_the_structure_of_apple_s_distilbert() -> None:
    """What its authors wrote by hand, six layers of twelve heads: what is asked of the rules below is asked of this."""
    module = distilbert()
    counts = Counter(op.defn.root for op in module.ops())
    wanted = {
        "conv": 6 * 6 + 2,
        "einsum": 2 * 6 * 12,
        "transpose": 6 + 1,
        "softmax": 6 * 12,
        "layer_norm": 2 * 6 + 1,
        "split": 3 * 6,
        "concat": 6,
        "gelu": 6,
        "gather": 1,
    }
    assert {op: counts[op] for op in wanted} == wanted
    assert not counts.keys() & {"linear", "matmul", "reshape"}
    assert {op.attr("axis") for op in module.ops() if op.defn.root == "softmax"} == {1}
    assert len(predict(module).functions[0].placements) == 473


@pytest.mark.parametrize("generation", ["M1", "M2", "M3", "M4", "M5"])
def test_apple_s_distilbert_runs_there_but_for_its_embedding(generation: str) -> None:
    """Apple reports 602 of 606 ops: four are left, the lookup and what stands at the edges."""
    function = predict(distilbert(), generation).functions[0]
    left = {placement.op.defn.root: placement for placement in function.placements if not placement.on_ane}
    assert sum(not placement.on_ane for placement in function.placements) == 4
    assert {op: left[op].blockers[0].rule.id for op in ("gather", "sub")} == {"gather": "A16", "sub": "A01i"}
    assert left.keys() == {"gather", "sub", "cast"}
    assert all(placement.edge for placement in left.values())
    assert [segment.device for segment in function.route] == [Device.CPU, Device.ANE, Device.CPU]
    assert function.share.multiply_adds == 1
    assert function.share.ops > 0.99


def test_heads_in_one_product_are_named() -> None:
    """What the hand-written form avoids: linear, products of many heads, softmax over the last axis."""

    def build(m: Maker) -> Value:
        x = m.x("f16[1,128,768]")
        q, k, v = (
            mil.transpose(mil.reshape(mil.linear(x, m.w("f16[768,768]")), [1, 128, 12, 64]), perm=[0, 2, 1, 3])
            for _ in range(3)
        )
        weights = mil.softmax(mil.matmul(q, k, transpose_y=True), axis=-1)
        return mil.layer_norm(mil.reshape(mil.matmul(weights, v), [1, 128, 768]), axes=[-1])

    module = made(build)
    assert not off(module)
    notes = {finding.rule.id for placement in placements(module) for finding in placement.lints}
    assert {"A20", "A21", "A23", "A30", "A07"} <= notes


def test_resnet18() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18().eval()
    compiled = anec.compile(model, (torch.randn(1, 3, 224, 224),), io_dtype="fp16")
    function = predict(compiled.module).functions[0]
    assert function.share.ops == 1
    assert function.segments == 1
    assert 1.8e9 < sum(placement.work.products for placement in function.placements) < 1.85e9
    assert 23e6 < function.weight_bytes < 24e6


def test_float32_inputs_and_outputs_cost_two_casts_at_the_edge() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 7, padding=3), torch.nn.ReLU(), torch.nn.Conv2d(64, 64, 3)
    ).eval()
    compiled = anec.compile(model, (torch.randn(1, 3, 96, 96),))
    left = [placement for placement in placements(compiled.module) if not placement.on_ane]
    assert [(p.op.defn.root, p.blockers[0].rule.id, p.edge) for p in left] == [("cast", "A01", True)] * 2
    assert "--io-dtype fp16" in left[0].blockers[0].rule.remedy


def test_lstm() -> None:
    compiled = anec.compile(torch.nn.LSTM(64, 64, batch_first=True).eval(), (torch.randn(1, 40, 64),))
    assert off(compiled.module)["lstm"] == ["A14"]


# -- single ops inside a network -----------------------------------------------------------------------

BLOCKERS = {
    "topk": (lambda x, m: mil.topk.many(x, k=5, axis=1, return_indices=False)[0], "B14"),
    "gather_along_axis": (lambda x, m: mil.gather_along_axis(x, m.w("i32[1,256,64,64]"), axis=1), "B23"),
    "tile": (lambda x, m: mil.tile(x, [1, 2, 1, 1]), "B56"),
    "select": (lambda x, m: mil.select(m.x("bool[1,1,64,64]"), x, 0.0), "B31"),
    "equal": (lambda x, m: mil.cast(mil.equal(x, 0.0), dtype="fp16"), "B31"),
    "cast": (lambda x, m: mil.cast(mil.cast(x, dtype="int32"), dtype="fp16"), "B31"),
    "cumsum": (lambda x, m: mil.cumsum(x, axis=1), "B21"),
    "mod": (lambda x, m: mil.mod(x, 2.0), "B21"),
}  # fmt: skip


@pytest.mark.parametrize("op", BLOCKERS)
def test_a_blocker_inside_splits_the_program(op: str) -> None:
    step, rule = BLOCKERS[op]

    def build(m: Maker) -> Value:
        found = step(heavy(m, m.x(HEAVY)), m)
        channels = found.shape[1]
        return m.conv(mil.relu(found), f"f16[256,{channels},3,3]", pad_type="same")

    module = made(build)
    found = off(module)
    assert set(found[op]) == {rule}
    blocker = next(p for p in placements(module) if p.op.defn.root == op)
    assert not blocker.edge
    assert blocker.supported == (Device.CPU,)
    assert CATALOGUE.by_id[rule].remedy
    assert predict(module).functions[0].segments == 2


def test_a_blocker_at_the_end_splits_nothing() -> None:
    def build(m: Maker) -> Value:
        return mil.reduce_argmax(heavy(m, m.x(HEAVY)), axis=1)

    function = predict(made(build)).functions[0]
    assert function.segments == 1
    assert function.placements[-1].edge


def test_masks_made_beside_the_network_do_not_split_it() -> None:
    """Program order is no schedule: what needs nothing from the Neural Engine runs before it."""

    def build(m: Maker) -> Value:
        x = heavy(m, m.x(HEAVY))
        mask = mil.mul(mil.cast(mil.logical_not(m.x("bool[1,1,64,64]")), dtype="fp16"), -1e4)
        return heavy(m, mil.add(x, mask))

    function = predict(made(build)).functions[0]
    assert function.segments == 1
    assert all(placement.edge for placement in function.placements if not placement.on_ane)


def test_a_mask_that_is_used_and_looked_into() -> None:
    """Rows that see nothing are found by a comparison, which runs where the mask is made."""

    def build(m: Maker) -> Value:
        mask = mil.mul(mil.sub(mil.cast(m.x("i32[1,1,64,64]"), dtype="fp16"), 1.0), 4e4)
        sees = mil.cast(mil.greater(mil.reduce_max(mask, axes=[-1], keep_dims=True), -4e4), dtype="fp16")
        return heavy(m, mil.mul(mil.add(heavy(m, m.x(HEAVY)), mask), sees))

    function = predict(made(build)).functions[0]
    assert function.segments == 1
    assert all(placement.edge for placement in function.placements if not placement.on_ane)


def test_small_work_between_two_refused_ops_stays_with_them() -> None:
    def build(m: Maker) -> Value:
        small = mil.mul(mil.cast(m.x("i32[1,64]"), dtype="fp16"), 2.0)
        rows = mil.gather(m.w("f16[100,64]"), mil.cast(small, dtype="int32"), axis=0)
        return m.conv(mil.expand_dims(rows, axes=[0]), "f16[2048,1,3,3]", pad_type="same")

    found = off(made(build))
    assert found["mul"] == ["B61"]
    assert "conv" not in found


def test_too_little_work_stays_on_the_cpu() -> None:
    """Supported and preferred are two things."""
    module = made(lambda m: mil.matmul(m.x("f16[4,4]"), m.x("f16[4,4]")))
    (placement,) = placements(module)
    assert placement.supported == (Device.ANE, Device.CPU)
    assert placement.preferred is Device.CPU
    assert placement.blockers[0].rule.id in ("B60", "B61")

    def several(m: Maker) -> Value:
        x = m.x("f16[4,4]")
        for _ in range(10):
            x = mil.matmul(x, x)
        return x

    assert {rule for rules in off(made(several)).values() for rule in rules} == {"B60"}


def test_all_units_bring_in_the_gpu() -> None:
    module = made(lambda m: heavy(m, mil.cumsum(heavy(m, m.x(HEAVY)), axis=1)))
    found = predict(module, "M1", "all").functions[0].placements
    assert found[1].supported == (Device.GPU, Device.CPU)
    assert found[1].preferred is Device.GPU
    assert found[0].preferred is found[2].preferred is Device.ANE


# -- totals --------------------------------------------------------------------------------------------


def test_totals() -> None:
    def build(m: Maker) -> Value:
        x = m.conv(m.x("f16[1,256,1,128]"), "f16[512,256,1,1]")
        return mil.transpose(x, perm=[0, 3, 2, 1])

    function = predict(made(build)).functions[0]
    conv, transpose = function.placements
    assert conv.work.products == 512 * 256 * 128
    assert conv.work.flops == 2 * conv.work.products
    assert conv.work.bytes == 2 * (256 * 128 + 512 * 256 + 512 * 128)
    assert transpose.work.products == 0
    assert function.moved_bytes == 2 * 512 * 128
    assert function.weight_bytes == 2 * 512 * 256


def test_segments_and_what_moving_between_devices_takes() -> None:
    """By the numbers of cost.py: 0.09 ms to the Neural Engine, 0.23 ms to the CPU."""
    module = made(lambda m: heavy(m, mil.cumsum(heavy(m, m.x(HEAVY)), axis=1)))
    function = predict(module).functions[0]
    size = 2 * 256 * 64 * 64
    assert [(s.device, len(s.placements), s.taken_bytes, s.transfer) for s in function.route] == [
        (Device.ANE, 1, size, 0.09), (Device.CPU, 1, size, 0.23), (Device.ANE, 1, size, 0.09),
    ]  # fmt: skip
    assert function.segments == 2
    assert function.taken_bytes == 3 * size
    assert function.transfer == pytest.approx(0.41)
    assert function.floor == pytest.approx(2 * limits_of("M1").dispatch)
    assert function.largest_bytes == size


def test_a_tensor_is_taken_over_once() -> None:
    """Two ops of one segment share it; what a segment made itself is none."""

    def build(m: Maker) -> Value:
        x = m.x(HEAVY)
        return mil.add(heavy(m, x), heavy(m, x))

    (segment,) = predict(made(build)).functions[0].route
    assert segment.taken_bytes == 2 * 256 * 64 * 64


@pytest.mark.parametrize(("last", "waste"), [(1, 62 * 64), (32, 0), (33, 62 * 64), (96, 0)])
def test_padding_of_rows(last: int, waste: int) -> None:
    function = predict(made(lambda m: mil.relu(m.x(f"f16[1,64,1,{last}]")))).functions[0]
    assert function.wasted_bytes == waste


@pytest.mark.parametrize(
    ("build", "products"),
    [
        (lambda m: mil.matmul(m.x("f16[2,3,4]"), m.x("f16[2,4,5]")), 2 * 3 * 4 * 5),
        (lambda m: mil.matmul(m.x("f16[2,4,3]"), m.x("f16[2,5,4]"), transpose_x=True, transpose_y=True), 2 * 3 * 4 * 5),
        (lambda m: mil.linear(m.x("f16[2,3,4]"), m.w("f16[5,4]")), 2 * 3 * 4 * 5),
        (lambda m: m.conv(m.x("f16[1,8,9,9]"), "f16[6,4,3,3]", groups=2), 6 * 7 * 7 * 4 * 9),
        (lambda m: mil.conv_transpose(m.x("f16[1,8,5,5]"), m.w("f16[8,6,2,2]"), strides=[2, 2]), 8 * 25 * 6 * 4),
        (lambda m: mil.einsum([m.x("f16[1,5,2,4]"), m.x("f16[1,4,2,3]")], equation="nchw,nwhu->nchu"), 5 * 2 * 3 * 4),
        (lambda m: mil.scaled_dot_product_attention(*[m.x(f"f16[1,2,{n},8]") for n in (3, 5, 5)]), 2 * 2 * 3 * 5 * 8),
    ],
)
def test_multiply_adds(build: object, products: int) -> None:
    assert placements(made(build))[0].work.products == products


def test_constants_are_no_ops() -> None:
    """What is folded, and what unpacks weights, runs on no device."""

    def build(m: Maker) -> Value:
        weight = mil.constexpr_blockwise_shift_scale(m.w("i8[64,64,1,1]"), m.w("f16[64,1,1,1]"))
        return mil.conv(m.x("f16[1,64,1,64]"), weight, mil.cast(m.w("f32[64]"), dtype="fp16"))

    function = predict(made(build)).functions[0]
    assert [placement.op.defn.root for placement in function.placements] == ["conv"]
    assert function.weight_bytes == 64 * 64 + 2 * 64 + 2 * 64, "compressed weights as they are stored"


def test_a_lookup_reads_what_it_returns() -> None:
    (found,) = placements(made(lambda m: mil.gather(m.w("f16[30000,64]"), m.x("i32[1,8]"), axis=0)))
    assert found.work.bytes == 2 * 2 * 8 * 64


# -- form ----------------------------------------------------------------------------------------------


def test_the_same_every_time_and_linear_in_ops() -> None:
    def chain(count: int) -> Module:
        def build(m: Maker) -> Value:
            x = m.x("f16[1,8,8,8]")
            for _ in range(count):
                x = mil.add(mil.relu(x), x)
            return x

        return made(build)

    module = chain(200)
    assert predict(module).as_json() == predict(module).as_json()
    assert predict(module).as_json() == predict(chain(200)).as_json()


def test_json_says_that_it_is_a_prediction() -> None:
    found = predict(distilbert(), "M3").as_json()
    assert (found["kind"], found["generation"], found["family"]) == ("prediction", "M3", "H15")
    assert found["limits_measured"] is False
    (function,) = found["functions"]  # type: ignore[misc]
    assert sum(segment["ops"] for segment in function["route"]) == function["ops"]
    gather = next(row for row in function["placements"] if row["op"] == "mil.gather")
    assert (gather["preferred"], gather["supported"], gather["edge"]) == ("CPU", ["CPU"], True)
    assert gather["rules"][0]["id"] == "A16"
    assert gather["confidence"] == "A"
    assert gather["rules"][0]["remedy"]


def test_confidence_of_what_no_list_names() -> None:
    known, unknown = placements(made(lambda m: mil.abs(heavy(m, m.x(HEAVY)))))
    assert known.confidence is Confidence.MEASURED
    assert unknown.confidence is Confidence.FOLKLORE


def test_functions_are_judged_one_by_one() -> None:
    module = made(lambda m: heavy(m, m.x(HEAVY)))
    module.functions["other"] = made(lambda m: mil.cumsum(m.x(HEAVY), axis=1)).main
    module.functions["other"].name = "other"
    first, second = predict(module).functions
    assert (first.name, first.share.ops) == ("main", 1.0)
    assert (second.name, second.share.ops) == ("other", 0.0)
    assert predict(module).share.ops == 0.5


def test_an_empty_function() -> None:
    assert predict(made(lambda m: m.x(HEAVY))).share.ops == 1


def test_what_is_not_lowered_has_no_place() -> None:
    text = "anec 1\nmodule target=iOS18\n\nfunc main(%x: f32[4]) -> (%y: f32[4]) {\n  %y = aten.relu(%x) : f32[4]\n  return %y\n}\n"
    with pytest.raises(AnecError, match="aten.relu.* is not lowered"):
        predict(anec.read(text))


def test_an_unknown_generation() -> None:
    with pytest.raises(UsageError, match="'M7'"):
        limits_of("M7")
