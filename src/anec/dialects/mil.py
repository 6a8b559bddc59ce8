"""The `mil` dialect: the ops of Core ML's ML Programs.

The parameters come from ``mil_ops.json`` (``tools/generate_mil.py`` reads coremltools' registry);
what the registry does not say (results, effects, layout) stands here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from typing import Any

from anec.dialects.mil_infer import RULES
from anec.dialects.namespace import Dialect
from anec.ir.attrs import freeze
from anec.ir.opdef import Effect, Kind, Layout, LayoutKind, OpDef, Param, Version
from anec.ir.types import DTYPES

# None: as many as the arguments say.
_RESULTS: dict[str, int | None] = {
    "split": None,
    "lstm": 3,
    "gru": 2,
    "rnn": 2,
    "topk": 2,
    "non_maximum_suppression": 4,
    "classify": 2,
    "constexpr_lut_to_sparse": 2,
    "constexpr_sparse_blockwise_shift_scale": 2,
}
_COMMUTATIVE = frozenset("add mul maximum minimum equal not_equal logical_and logical_or logical_xor".split())
_EFFECTS = {
    "read_state": Effect.READ,
    "coreml_update_state": Effect.READ | Effect.WRITE,
    **dict.fromkeys(("random_bernoulli", "random_categorical", "random_normal", "random_uniform"), Effect.RANDOM),
}
_CONTROL = frozenset(
    "_const_ _const_symbolic const cond while_loop make_list list_gather list_length list_read list_scatter "
    "list_write conv_quantized".split()
)

_ELEMENTWISE = (
    "abs acos add asin atan atanh cast ceil clamped_relu clip cos cosh elu equal erf exp exp2 floor floor_div gelu "
    "greater greater_equal identity inverse leaky_relu less less_equal linear_activation log logical_and logical_not "
    "logical_or logical_xor maximum minimum mod mul not_equal pow real_div relu relu6 round rsqrt scaled_tanh select "
    "sigmoid sigmoid_hard sign silu sin sinh softplus softsign sqrt square sub tan tanh threshold thresholded_relu"
).split()
_REDUCE = (
    "reduce_l1_norm reduce_l2_norm reduce_log_sum reduce_log_sum_exp reduce_max reduce_mean reduce_min reduce_prod "
    "reduce_sum reduce_sum_square layer_norm reverse"
).split()
_AXIS = "concat split softmax cumsum reduce_argmax reduce_argmin gather gather_along_axis topk argsort".split()
_CONV = (
    "conv conv_transpose avg_pool max_pool l2_pool batch_norm instance_norm prelu softplus_parametric "
    "upsample_bilinear upsample_nearest_neighbor resize_bilinear resize_nearest_neighbor pixel_shuffle "
    "pixel_unshuffle depth_to_space space_to_depth"
).split()
_BARRIER = "reshape transpose expand_dims squeeze flatten2d reshape_like stack matmul einsum".split()


def _layouts() -> dict[str, Layout]:
    found = dict.fromkeys(_ELEMENTWISE, Layout(LayoutKind.ELEMENTWISE))
    found |= dict.fromkeys(_REDUCE, Layout(LayoutKind.AXES, axes=("axes",)))
    found |= dict.fromkeys(_AXIS, Layout(LayoutKind.AXES, axes=("axis",)))
    found |= dict.fromkeys(_CONV, Layout(LayoutKind.CONV))
    found |= dict.fromkeys(_BARRIER, Layout(LayoutKind.BARRIER))
    found["slice_by_index"] = Layout(
        LayoutKind.AXES, by_axis=("begin", "end", "stride", "begin_mask", "end_mask", "squeeze_mask")
    )
    found["slice_by_size"] = Layout(LayoutKind.AXES, by_axis=("begin", "size"))
    found["tile"] = Layout(LayoutKind.AXES, by_axis=("reps",))
    return found


def table() -> dict[str, Any]:
    """The checked-in registry; the entry ``""`` says where it comes from."""
    found = json.loads(resources.files(__package__).joinpath("mil_ops.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def _params(rows: list[list[Any]]) -> tuple[Param, ...]:
    return tuple(
        Param(name, Kind(kind), required, freeze(default), domain, tuple(DTYPES[d] for d in dtypes), const)
        for name, kind, required, default, domain, dtypes, const in rows
    )


def _merged(versions: tuple[Version, ...]) -> tuple[Param, ...]:
    """The newest parameters, then those that only older targets have; required if on every target."""
    params = {param.name: param for version in versions for param in version.params}
    newest = [param.name for param in versions[-1].params]
    order = [*newest, *(name for name in params if name not in newest)]
    always = set.intersection(*({p.name for p in version.params if p.required} for version in versions))
    return tuple(replace(params[name], required=name in always) for name in order)


def _make() -> dict[str, OpDef]:
    layouts = _layouts()
    ops: dict[str, OpDef] = {}
    for name, rows in table().items():
        if not name or name in _CONTROL:
            continue
        versions = tuple(Version(row["since"], _params(row["params"])) for row in rows)
        ops[name] = OpDef(
            f"mil.{name}",
            _merged(versions),
            results=_RESULTS.get(name, 1),
            commutative=name in _COMMUTATIVE,
            effects=_EFFECTS.get(name, Effect.NONE),
            layout=layouts.get(name, Layout()),
            versions=versions,
            infer=RULES.get(name),
        )
    # Not in coremltools' table of core ops: it belongs to its dialect `coreml`, from iOS18 on.
    update = (Param("state"), Param("value", domain="T"))
    ops["coreml_update_state"] = OpDef(
        "mil.coreml_update_state",
        update,
        effects=_EFFECTS["coreml_update_state"],
        versions=(Version(18, update),),
    )
    return ops


mil = Dialect("mil", _make)
