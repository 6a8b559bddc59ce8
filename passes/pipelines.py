"""The named pipelines, and the one that every compilation ends with."""

from __future__ import annotations

PIPELINES: dict[str, str] = {
    "default": "raise-to-nn,canonicalize,fold-constants,custom-norms,activations,attention,static-attention-mask,"
    "bicubic,grid-sample,cse,dce",
    "ane": "ane-attention,lower-to-mil,mil-cleanup,cse,ane-layout,mil-cleanup,ane-legalize,cse,dce",
    "finish": "lower-to-mil,fp16-safe,mil-cleanup,cse,dce,to-fp16,legalize-target,legalize-io,dce",
}
DESCRIPTIONS: dict[str, str] = {
    "default": "raise to what models mean, clean up, fold constants, recognise what is spelled out",
    "ane": "split attention into heads, lower to Core ML's ops, lay them out as (B, C, 1, S), within the limits",
    "finish": "appended to every compilation: lower, make safe for float16 and round to it, make the boundary legal",
}


def finish(precision: str, io_dtype: str) -> str:
    """The text of the `finish` pipeline for a precision (fp16, fp32 or mixed) and a boundary dtype."""
    parts = PIPELINES["finish"].split(",")
    if precision == "mixed":
        parts[parts.index("to-fp16")] = "precision"
    elif precision == "fp32":
        parts = [part for part in parts if part not in ("fp16-safe", "to-fp16")]
    if io_dtype == "fp16":
        parts[parts.index("legalize-io")] = "legalize-io{io-dtype=fp16}"
    return ",".join(parts)
