"""Write src/anec/dialects/mil_ops.json from the installed coremltools: python tools/generate_mil.py"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.input_type import TensorInputType, TupleInputType
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

TARGET = Path(__file__).parent.parent / "src" / "anec" / "dialects" / "mil_ops.json"
TARGETS = [t for t in ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26") if hasattr(ct.target, t)]

# Const inputs that are model data, not settings: they are operands (a weight), the rest attributes.
MODEL_DATA = {
    *("bias", "weight", "gamma", "beta", "mean", "variance", "alpha"),
    *("weight_ih", "weight_hh", "weight_ih_back", "weight_hh_back", "bias_back", "peephole", "peephole_back"),
    *("input_bias", "weight_hh_back", "lut", "indices", "mask", "nonzero_data", "data", "offset"),
    *("scale", "zero_point", "quantized_data", "indices_mask", "indices_nonzero_data", "data_mask"),
    "source_val",
}
# Where a const name of the list above is a scalar setting after all.
SETTINGS = {
    *((op, name) for op in ("elu", "leaky_relu", "sigmoid_hard", "linear_activation") for name in ("alpha", "beta")),
    *((op, name) for op in ("scaled_tanh", "clamped_relu", "thresholded_relu") for name in ("alpha", "beta")),
    *((op, name) for op in ("local_response_norm", "clip", "threshold") for name in ("alpha", "beta")),
    *((op, name) for op in ("random_normal", "resample") for name in ("mean", "stddev")),
}
DTYPES = {
    "fp16": "f16", "fp32": "f32", "fp64": "f64", "bool": "bool", "int4": "i4", "int8": "i8", "int16": "i16",
    "int32": "i32", "int64": "i64", "uint1": "u1", "uint2": "u2", "uint3": "u3", "uint4": "u4", "uint6": "u6",
    "uint8": "u8", "uint16": "u16", "uint32": "u32",
}  # fmt: skip


def dtypes(domain: tuple[type, ...]) -> list[str]:
    names = [types.builtin_to_string(t) for t in domain]
    return sorted({DTYPES[name] for name in names if name in DTYPES})


def plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def defaults(cls: Any) -> dict[str, Any]:
    """Defaults that do not depend on the rank of the op's inputs."""
    found = []
    for rank in (3, 4):
        x = SimpleNamespace(dtype=types.fp32, rank=rank, shape=(2,) * rank, val=None)
        try:
            found.append({k: plain(v) for k, v in cls.default_inputs(SimpleNamespace(x=x)).items()})
        except (AttributeError, TypeError):
            return {}
    return {key: value for key, value in found[0].items() if found[1].get(key) == value}


def parameters(name: str, cls: Any) -> list[list[Any]]:
    rows = []
    default = defaults(cls)
    for key, kind in cls.input_spec.input_types.items():
        const, domain, allowed = kind.const, None, []
        if isinstance(kind, TupleInputType):
            how = "variadic"
        elif not const or (key in MODEL_DATA and (name, key) not in SETTINGS):
            how = "operand"
        else:
            how = "attr"
        if isinstance(kind, TensorInputType):
            domain = kind.type_domain_id
            allowed = dtypes(cls.type_domains[domain] if domain else kind.type_domain)
        value = default.get(key) if how == "attr" else None
        rows.append([key, how, not kind.optional, value, domain, allowed, bool(const)])
    return rows


def table() -> dict[str, Any]:
    """Every op's parameters by target; a version is listed where it differs from the one before."""
    found: dict[str, Any] = {}
    for name, by_target in sorted(SSAOpRegistry.core_ops.items()):
        versions: list[dict[str, Any]] = []
        for target in TARGETS:
            cls = by_target.get(getattr(ct.target, target))
            if cls is None:
                continue
            rows = parameters(name, cls)
            if not versions or versions[-1]["params"] != rows:
                versions.append({"since": int(target[3:]), "params": rows})
        if versions:
            found[name] = versions
    return found


def text() -> str:
    """The whole file, an op a line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(versions)}" for name, versions in table().items()]
    head = json.dumps({"coremltools": ct.__version__, "targets": TARGETS})
    return "{\n" + f'  "": {head},\n' + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    TARGET.write_text(text(), encoding="utf-8")
