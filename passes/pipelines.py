"""The named pipelines, and the one that every compilation ends with."""

from __future__ import annotations

PIPELINES: dict[str, str] = {
    "default": "raise-to-nn,canonicalize,fold-constants,cse,dce",
    "ane": "lower-to-mil,mil-cleanup,cse,dce",
    "finish": "lower-to-mil,mil-cleanup,cse,dce,to-fp16,legalize-target,legalize-io,dce",
}
DESCRIPTIONS: dict[str, str] = {
    "default": "raise to what models mean, clean up, fold constants",
    "ane": "lower to Core ML's ops and clean up among them",
    "finish": "appended to every compilation: lower, round to float16, make the boundary legal",
}


def finish(precision: str, io_dtype: str) -> str:
    """The text of the `finish` pipeline for a precision and a boundary dtype."""
    parts = PIPELINES["finish"].split(",")
    if precision == "fp32":
        parts.remove("to-fp16")
    if io_dtype == "fp16":
        parts[parts.index("legalize-io")] = "legalize-io{io-dtype=fp16}"
    return ",".join(parts)
