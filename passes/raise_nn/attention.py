"""Scaled dot product attention, whole or as the kernel torch chose for it.

    %q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8]
    %y = aten.scaled_dot_product_attention.default(%q, %k, %v) {is_causal=true}
        ->
    %y = nn.attention(%q, %k, %v) {causal=true}

Dropout inside of it stays unraised, and says so.
"""

from __future__ import annotations

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.raise_nn.common import number, only_first, optional
from anec.rewrite import Rule, reject, rewrite

# torch's op, and what it calls the mask (None: it takes none).
_FORMS: dict[str, str | None] = {
    "scaled_dot_product_attention": "attn_mask",
    "_scaled_dot_product_attention_math": "attn_mask",
    "_scaled_dot_product_flash_attention": None,
    "_scaled_dot_product_flash_attention_for_cpu": "attn_mask",
    "_scaled_dot_product_efficient_attention": "attn_bias",
    "_scaled_dot_product_fused_attention_overrideable": "attn_bias",
}


def _attention(name: str, mask: str | None) -> Rule:
    @rewrite(getattr(aten, name).default, name=f"raise_{name.strip('_')}")
    def raise_attention(op: Op) -> Value:
        only_first(op)
        if number(op, "dropout_p") != 0:
            reject("it drops attention weights at random: pass dropout_p=0.0 outside of training")
        if "dropout_mask" in op.defn.by_name and op.operand("dropout_mask") is not None:
            reject("it has a dropout mask")
        given = None if mask is None else optional(op, mask)
        if given is not None and given.tensor.dtype is DType.BOOL and name.startswith("_"):
            reject("its mask is bool, which torch's inner ops add as numbers")
        scale = None if op.attr("scale") is None else number(op, "scale")
        return nn.attention(
            op.value("query"),
            op.value("key"),
            op.value("value"),
            given,
            scale=scale,
            causal=bool(op.attr("is_causal")),
        )

    return raise_attention


RULES: list[Rule] = [_attention(name, mask) for name, mask in _FORMS.items()]
