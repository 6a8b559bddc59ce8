"""For each rule of the catalogue a tiny program that it speaks of, and one where it is silent."""

from __future__ import annotations

from collections.abc import Callable

from ane.ane_programs import Maker
from anec.dialects import mil
from anec.ir.graph import Value

Build = Callable[[Maker], Value | list[Value]] | str
X4 = "f16[1,64,1,64]"
COMPRESSED = "f16[64,64,1,1]"


def one(op: str, *inputs: str, **attrs: object) -> Build:
    """A program of one op over inputs of these types."""
    return lambda m: getattr(mil, op)(*(m.x(text) for text in inputs), **attrs)


def conv(x: str, weight: str, **attrs: object) -> Build:
    return lambda m: m.conv(m.x(x), weight, **attrs)


def scaled(scale: str, weight: str = COMPRESSED) -> Build:
    """A convolution whose weight is scaled integers."""
    return lambda m: mil.conv(
        m.x(X4), mil.constexpr_blockwise_shift_scale(m.w(weight.replace("f16", "i8")), m.w(scale))
    )


def palettes(lut: str, weight: str = "u4[64,64,1,1]") -> Build:
    return lambda m: mil.conv(m.x(X4), mil.constexpr_lut_to_dense(m.w(weight), m.w(lut)))


def _palette_with_scale(m: Maker) -> Value:
    dense = mil.constexpr_lut_to_dense(m.w("u4[64,64,1,1]"), m.w("f16[1,1,1,1,16,1]"))
    return mil.conv(m.x(X4), mil.constexpr_blockwise_shift_scale(dense, m.w("f16[64,1,1,1]")))


def _scaled_palette(m: Maker) -> Value:
    lut = mil.constexpr_blockwise_shift_scale(m.w("i8[1,1,1,1,16,1]"), m.w("f16[1,1,1,1,1,1]"))
    return mil.conv(m.x(X4), mil.constexpr_lut_to_dense(m.w("u4[64,64,1,1]"), lut))


def _attention(length: int) -> Build:
    return one("scaled_dot_product_attention", *[f"f16[1,4,{length},64]"] * 3)


def _squared(m: Maker) -> Value:
    x = m.x("f16[1,64,1,64]")
    return mil.reduce_mean(mil.mul(x, x), axes=[1], keep_dims=True)


def _log_softmax(m: Maker) -> Value:
    return mil.log(mil.softmax(m.x(X4), axis=1))


def _spelled_norm(m: Maker) -> Value:
    return mil.rsqrt(mil.add(mil.reduce_mean(m.x(X4), axes=[1], keep_dims=True), 1e-5))


def _branches(count: int) -> Build:
    def build(m: Maker) -> Value:
        x = m.x(X4)
        return mil.concat([mil.mul(x, float(n + 1)) for n in range(count)], axis=1)

    return build


def _written(shape: str) -> Build:
    return lambda m: mil.coreml_update_state(m.state(shape), m.x(shape))


def _states(count: int) -> Build:
    return lambda m: [mil.read_state(m.state("f16[1,64]")) for _ in range(count)]


def _weights(rows: int) -> Build:
    return lambda m: mil.linear(m.x("f16[1,16000]"), m.w(f"f16[{rows},16000]"))


def _chain(op: str, count: int) -> Build:
    def build(m: Maker) -> Value:
        x = y = m.x("f16[1,8,1,8]")
        for _ in range(count):
            y = mil.einsum([x, y], equation="nchw,nwhu->nchu") if op == "einsum" else getattr(mil, op)(y)
        return y

    return build


def _same(m: Maker) -> Value:
    x = m.x(X4)
    return mil.not_equal(x, x)


def _turned(rank: int) -> Build:
    lead = "1," * (rank - 2)

    def build(m: Maker) -> Value:
        turned = mil.transpose(m.x(f"f16[{lead}8,16]"), perm=[*range(rank - 2), rank - 1, rank - 2])
        return mil.matmul(m.x(f"f16[{lead}8,16]"), turned)

    return build


_MOVING_SLICE = """func main(%x: f16[1,64,1,64], %at: i32[4]) -> (%y: f16[1,8,1,8]) {
  %y = mil.slice_by_size(%x, %at, [1, 8, 1, 8]) : f16[1,8,1,8]
  return %y
}
"""


def _listed(build: Callable[[Value, Maker], Value], *shapes: tuple[int, ...]) -> Build:
    return lambda m: build(m.x("f16[1,8,S]", shapes), m)


# Rule: a program it speaks of, one where it is silent, and the generation.
CASES: dict[str, tuple[Build, Build, str]] = {
    "A01": (one("relu", "f32[1,64,1,64]"), one("relu", X4), "M1"),
    "A01i": (one("relu", "i32[1,64]"), one("relu", "f16[1,64]"), "M1"),
    "B31": (one("greater", X4, X4), one("maximum", X4, X4), "M1"),
    "A03": (one("relu", "f16[1,2,2,2,2,2]"), one("relu", "f16[1,2,2,2,2]"), "M1"),
    "A11": (one("relu", "f16[1,S]"), _listed(lambda x, m: mil.relu(x), (1, 8, 4), (1, 8, 8)), "M1"),
    "B01": (one("relu", "f16[1,240000]"), one("relu", "f16[1,240000,1,1]"), "M3"),
    "B02": (one("relu", "f16[1,65537,1,1]"), one("relu", "f16[1,65536,1,1]"), "M1"),
    "B03": (one("relu", "f16[65537,1,1,1]"), one("relu", "f16[65536,1,1,1]"), "M1"),
    "B04": (one("relu", "f16[1,20000,1,1,1]"), one("relu", "f16[1,16000,1,1,1]"), "M1"),
    "A06": (one("relu", "f16[1,768,128,1]"), one("relu", "f16[1,768,1,128]"), "M1"),
    "A08": (one("matmul", "f16[1,49,49]", "f16[1,49,49]"), one("matmul", "f16[1,64,64]", "f16[1,64,64]"), "M1"),
    "B63": (one("relu", "f16[1,64,256,128]"), one("relu", "f16[1,32,256,128]"), "M1"),
    "B32": (
        one("add", "f16[1,1,2,4,4]", "f16[1,3,2,4,4]"),
        one("add", "f16[1,1,2,4]", "f16[1,3,2,4]"),
        "M1",
    ),
    "B21": (one("cumsum", X4, axis=1), one("relu", X4), "M1"),
    "B22": (one("fill_like", X4, value=1.0), one("relu", X4), "M1"),
    "A13": (
        one("scatter", "f16[8,4]", "i32[2]", "f16[2,4]"),
        lambda m: mil.slice_update(m.x("f16[8,4]"), m.x("f16[2,4]"), [0, 0], [2, 4]),
        "M1",
    ),
    "A14": (
        lambda m: mil.gru.many(m.x("f16[4,1,8]"), m.x("f16[1,8]"), m.w("f16[24,8]"), m.w("f16[24,8]")),
        one("sigmoid", X4),
        "M1",
    ),
    "A16": (
        lambda m: mil.gather(m.w("f16[100,64]"), m.x("i32[1,8]"), axis=0),
        one("gather", "f16[100,64]", "i32[8]", axis=0),
        "M1",
    ),
    "A17": (one("gather_nd", "f16[8,4]", "i32[2,1]"), one("relu", X4), "M1"),
    "B23": (
        one("gather_along_axis", "f16[8,4]", "i32[8,4]", axis=1),
        lambda m: mil.gather(m.w("f16[100,64]"), m.x("i32[1,8]"), axis=0),
        "M5",
    ),
    "B17": (one("reduce_argmax", "f16[1,4096]", axis=-1), one("reduce_argmax", "f16[1,1000]", axis=-1), "M1"),
    "B12": (
        one("resize_bilinear", "f16[1,4,8,8]", target_size_height=12, target_size_width=12),
        one("upsample_nearest_neighbor", "f16[1,4,8,8]", scale_factor_height=2, scale_factor_width=2),
        "M1",
    ),
    "B12p": (
        lambda m: mil.pad(m.x("f16[1,4,8,8]"), [1, 1], mode="reflect"),
        lambda m: mil.pad(m.x("f16[1,4,8,8]"), [1, 1]),
        "M1",
    ),
    "B13": (one("sin", X4), one("tanh", X4), "M2"),
    "B14": (lambda m: mil.topk.many(m.x("f16[1,64]"), k=5), one("reduce_max", "f16[1,64]", axes=[1], keep_dims=True), "M3"),
    "B14s": (_MOVING_SLICE, lambda m: mil.slice_by_size(m.x(X4), [0, 0, 0, 0], [1, 8, 1, 8]), "M1"),
    "B20": (
        one("pixel_shuffle", "f16[1,25,4,4]", upscale_factor=5),
        one("pixel_shuffle", "f16[1,16,4,4]", upscale_factor=4),
        "M1",
    ),
    "B26": (
        lambda m: mil.pad(m.x("f16[1,4,8,8]"), [1, 1, 0, 0, 0, 0]),
        lambda m: mil.pad(m.x("f16[1,4,8,8]"), [1, 1, 0, 0]),
        "M1",
    ),
    "B56": (lambda m: mil.tile(m.x("f16[1,4,1,8]"), [1, 1, 4, 1]), one("relu", X4), "M1"),
    "F01": (
        one("upsample_nearest_neighbor", "f16[1,4,8,8]", scale_factor_height=4, scale_factor_width=4),
        one("upsample_nearest_neighbor", "f16[1,4,8,8]", scale_factor_height=2, scale_factor_width=2),
        "M1",
    ),
    "B25": (one("conv", "f16[1,4,8,8]", "f16[8,4,3,3]"), conv("f16[1,4,8,8]", "f16[8,4,3,3]"), "M1"),
    "B25v": (conv("f16[1,4,8,8,8]", "f16[8,4,3,3,3]"), conv("f16[1,4,8,8]", "f16[8,4,3,3]"), "M1"),
    "B05": (conv("f16[1,4,32,32]", "f16[8,4,1,15]"), conv("f16[1,4,32,32]", "f16[8,4,15,1]"), "M1"),
    "A27": (conv("f16[1,4,32,32]", "f16[8,4,1,11]"), conv("f16[1,4,32,32]", "f16[8,4,11,1]"), "M1"),
    "A26": (
        conv("f16[1,4,32,32]", "f16[8,4,7,7]", strides=[7, 7]),
        conv("f16[1,4,32,32]", "f16[8,4,8,8]", strides=[8, 8]),
        "M1",
    ),
    "B34": (
        lambda m: mil.conv_transpose(m.x("f16[1,4,8,8]"), m.w("f16[4,8,16,1]"), strides=[16, 1]),
        lambda m: mil.conv_transpose(m.x("f16[1,4,8,8]"), m.w("f16[4,8,2,2]"), strides=[2, 2]),
        "M1",
    ),
    "A28": (
        conv("f16[1,4,64,64]", "f16[8,4,3,3]", dilations=[12, 12]),
        conv("f16[1,4,64,64]", "f16[8,4,3,3]", dilations=[4, 4]),
        "M1",
    ),
    "A29": (
        one("max_pool", "f16[1,4,33,33]", kernel_sizes=[3, 3], strides=[3, 3], pad_type="valid"),
        one("max_pool", "f16[1,4,32,32]", kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
        "M1",
    ),
    "F01p": (
        one("max_pool", "f16[1,4,32,32]", kernel_sizes=[14, 14], strides=[2, 2], pad_type="valid"),
        one("max_pool", "f16[1,4,32,32]", kernel_sizes=[13, 13], strides=[2, 2], pad_type="valid"),
        "M1",
    ),
    "B10": (
        conv("f16[1,512,8,8]", "f16[512,256,3,3]", groups=2),
        conv("f16[1,512,8,8]", "f16[512,1,3,3]", groups=512),
        "M1",
    ),
    "B65": (conv("f16[1,4,8,8]", "f16[20,4,3,3]"), conv("f16[1,4,8,8]", "f16[32,4,3,3]"), "M1"),
    "B24": (
        one("matmul", "f16[1,2,3,4,8]", "f16[1,2,3,8,4]"),
        one("matmul", "f16[2,3,4,8]", "f16[2,3,8,4]"),
        "M1",
    ),
    "B27": (_turned(5), _turned(4), "M1"),
    "A20": (
        lambda m: mil.linear(m.x("f16[1,8,64]"), m.w("f16[32,64]")),
        conv("f16[1,64,1,8]", "f16[32,64,1,1]"),
        "M1",
    ),
    "B64": (
        lambda m: mil.matmul(m.x("f16[1,8,64]"), m.w("f16[64,32]")),
        one("matmul", "f16[1,8,64]", "f16[1,64,32]"),
        "M1",
    ),
    "A21": (
        one("matmul", "f16[1,12,64,32]", "f16[1,12,32,64]"),
        one("matmul", "f16[1,1,64,32]", "f16[1,1,32,64]"),
        "M1",
    ),
    "A22": (
        lambda m: mil.einsum([m.x("f16[4,3,8]"), m.x("f16[8,3,4]")], equation="chw,whr->chr"),
        lambda m: mil.einsum([m.x("f16[1,8,1,64]"), m.x("f16[1,64,1,8]")], equation="bkhc,bchq->bkhq"),
        "M1",
    ),
    "A54": (_attention(64), one("softmax", X4, axis=1), "M1"),
    "B35": (_attention(1024), _attention(1023), "M1"),
    "B50": (
        conv("f16[1,8192,1,8]", "f16[16,8192,1,1]"),
        conv("f16[1,4096,1,8]", "f16[16,4096,1,1]"),
        "M1",
    ),
    "A07": (
        one("layer_norm", "f16[1,128,64]", axes=[-1]),
        one("layer_norm", "f16[1,64,1,128]", axes=[1]),
        "M1",
    ),
    "A23": (one("softmax", "f16[1,12,128,128]", axis=-1), one("softmax", "f16[1,128,12,128]", axis=1), "M1"),
    "A30": (
        one("transpose", "f16[1,768,1,128]", perm=[0, 3, 2, 1]),
        one("transpose", "f16[1,768,12,128]", perm=[0, 2, 1, 3]),
        "M1",
    ),
    "B09": (
        one("transpose", "f16[1,20000,1,8]", perm=[0, 2, 1, 3]),
        one("transpose", "f16[1,16000,1,8]", perm=[0, 2, 1, 3]),
        "M1",
    ),
    "B16": (
        one("reduce_mean", "f16[1,8,1,256]", axes=[3], keep_dims=True),
        one("reduce_mean", "f16[1,256,1,8]", axes=[1], keep_dims=True),
        "M1",
    ),
    "B54": (_branches(12), _branches(11), "M1"),
    "B33": (
        lambda m: mil.slice_by_size(m.x(X4), [0, 0, 0, 8], [1, 64, 1, 8]),
        lambda m: mil.slice_by_size(m.x(X4), [0, 8, 0, 0], [1, 8, 1, 64]),
        "M2",
    ),
    "A31": (_spelled_norm, one("rsqrt", X4), "M1"),
    "A24": (
        lambda m: mil.add(m.x(X4), m.w("f16[1,64,1,64]", fill=float("-inf"))),
        lambda m: mil.add(m.x(X4), m.w("f16[1,64,1,64]", fill=-4e4)),
        "M1",
    ),
    "A51": (one("layer_norm", X4, axes=[1], epsilon=1e-12), one("layer_norm", X4, axes=[1], epsilon=1e-7), "M1"),
    "A34": (_squared, one("reduce_mean", X4, axes=[1], keep_dims=True), "M1"),
    "B36": (_log_softmax, one("log", X4), "M1"),
    "B36l": (
        one("reduce_log_sum_exp", X4, axes=[1], keep_dims=True),
        one("reduce_sum", X4, axes=[1], keep_dims=True),
        "M1",
    ),
    "B36s": (one("softplus", X4), one("relu", X4), "M1"),
    "B28": (lambda m: mil.pow(m.x(X4), 0.7), lambda m: mil.pow(m.x(X4), 3.0), "M1"),
    "B28s": (one("square", "f16[1,64,1,100]"), one("square", "f16[1,64,1,128]"), "M1"),
    "B30": (_same, one("not_equal", X4, X4), "M1"),
    "A37": (scaled("f16[64,2,1,1]"), scaled("f16[64,1,1,1]"), "M1"),
    "A35": (_palette_with_scale, palettes("f16[1,1,1,1,16,1]"), "M1"),
    "A36": (_scaled_palette, palettes("f16[1,1,1,1,16,1]"), "M1"),
    "A38": (palettes("f16[32,1,1,1,16,1]"), palettes("f16[8,1,1,1,16,1]"), "M1"),
    "B45": (palettes("f16[8,1,1,1,16,1]"), palettes("f16[1,1,1,1,16,1]"), "M5"),
    "B46": (scaled("f16[64,1,1,1]"), palettes("f16[1,1,1,1,16,1]"), "M1"),
    "A39": (
        lambda m: mil.quantize(m.x(X4), scale=m.w("f16[]"), output_dtype="int8"),
        one("relu", X4),
        "M3",
    ),
    "B47": (_weights(8000), _weights(7000), "M1"),
    "A43": (_weights(32000), _weights(8000), "M1"),
    "A44": (_weights(64000), _weights(32000), "M1"),
    "B55": (_chain("relu", 1001), _chain("relu", 1000), "M1"),
    "A46": (_chain("einsum", 513), _chain("einsum", 512), "M1"),
    "B40": (
        _listed(lambda x, m: mil.relu(x), (1, 8, 4), (1, 8, 8)),
        _listed(lambda x, m: mil.relu(x), (1, 8, 4)),
        "M1",
    ),
    "B39": (
        _listed(lambda x, m: mil.layer_norm(x, axes=[1]), (1, 8, 4), (1, 8, 8)),
        one("layer_norm", "f16[1,8,4]", axes=[1]),
        "M1",
    ),
    "A12": (
        lambda m: mil.read_state(m.state("f16[1,S]")),
        lambda m: mil.read_state(m.state("f16[1,64]")),
        "M1",
    ),
    "B41": (_written("f16[1,4,270]"), _written("f16[1,4,256]"), "M4"),
    "B41p": (_written("f16[1,80,256]"), _written("f16[3,64,256]"), "M1"),
    "B41m": (_states(56), _states(55), "M1"),
    "A55": (one("cast", "f32[1,64]", dtype="fp16"), one("relu", "f16[1,64]"), "M1"),
    "B70": (one("relu", "f16[1,172,88]"), one("relu", "f16[1,172,96]"), "M1"),
    "B38": (one("layer_norm", X4, axes=[1]), one("layer_norm", X4, axes=[3]), "M1"),
    "B71": (
        lambda m: [mil.softmax(mil.relu(m.x("f16[1,3,768,768]")), axis=1)],
        lambda m: [mil.softmax(mil.relu(m.x("f16[1,3,512,512]")), axis=1)],
        "M1",
    ),
}  # fmt: skip
# What placement decides by itself; test_placement.py has programs for them.
COST = {"B60", "B61"}
