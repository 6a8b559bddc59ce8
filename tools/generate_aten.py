"""Write src/anec/dialects/aten_ops.txt from the installed torch: python tools/generate_aten.py"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

TARGET = Path(__file__).parent.parent / "src" / "anec" / "dialects" / "aten_ops.txt"
# Ops of other devices and tensor kinds, by name; and schemas with types the IR does not have.
_ELSEWHERE = (
    r"cudnn|miopen|mkldnn|fbgemm|sparse|nested|quantize|fake_quant|Dimname|dimname|names|_cuda_|_mps|xpu|vulkan"
)
# Backward in name only: istft adds its windows with it.
_FORWARD = ("unfold_backward",)
_UNREADABLE = r"Dimname|Stream|Storage|Dict\(|__torch__|Future|\bt\[\]|\bAny\b|QScheme"


def schemas() -> list[str]:
    """The schemas of all functional ATen overloads, sorted; no backward, foreach or out variants."""
    found = []
    for name in torch._C._dispatch_get_all_op_names():
        library, _, rest = name.partition("::")
        packet, _, overload = rest.partition(".")
        if library != "aten" or overload.endswith("out") or packet.startswith(("_foreach", "_cudnn", "_sparse")):
            continue
        if packet.startswith("_fused") and packet != "_fused_rms_norm":
            continue
        if (packet.endswith("_") and not packet.startswith("__")) or ("backward" in packet and rest not in _FORWARD):
            continue
        if re.search(_ELSEWHERE, rest):
            continue
        try:
            schema = str(torch._C._get_schema(f"aten::{packet}", overload))
        except RuntimeError:
            continue
        if re.search(_UNREADABLE, schema) or "Tensor" not in schema:
            continue
        found.append(schema.partition("::")[2])
    return sorted(set(found))


def text() -> str:
    """The whole file."""
    head = f"# Functional ATen schemas of torch {torch.__version__.partition('+')[0]}; made by tools/generate_aten.py\n"
    return head + "\n".join(schemas()) + "\n"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    TARGET.write_text(text(), encoding="utf-8")
