"""Rules about functions as wholes: weights, number of ops, states, flexible shapes, the boundary."""

from __future__ import annotations

from anec.ane.rules import Confidence, Effect, Rule
from anec.ane.site import Program, Site
from anec.ir.types import DType, StateType

_MANY_OPS = 1000
_MANY_EINSUMS = 512
_MANY_STATES = 56


def _heavy(program: Program) -> str | None:
    found = program.weight_bytes
    return f"{found / 1e6:.4g} MB of weights" if 250e6 < found <= 1e9 else None


def _too_heavy(program: Program) -> str | None:
    found = program.weight_bytes
    return f"{found / 1e9:.3g} GB of weights" if found > 1e9 else None


def _far_too_heavy(program: Program) -> str | None:
    found = program.weight_bytes
    return f"{found / 1e9:.3g} GB of weights" if found > 2e9 else None


def _many_ops(program: Program) -> str | None:
    return f"{len(program.sites)} ops" if len(program.sites) > _MANY_OPS else None


def _many_einsums(program: Program) -> str | None:
    found = sum(site.root == "einsum" for site in program.sites)
    return f"{found} einsums" if found > _MANY_EINSUMS else None


def _listed(program: Program) -> str | None:
    return f"{program.listed} shapes are listed" if program.listed > 1 else None


def _listed_norms(program: Program) -> str | None:
    found = sum(site.root == "layer_norm" for site in program.sites)
    return f"{found} layer_norm, {program.listed} shapes" if found and program.listed > 1 else None


def _flexible_states(program: Program) -> str | None:
    flexible = [state for state in program.graph.states() if not state.tensor.is_static]
    return f"%{flexible[0].name} is {flexible[0].type}" if flexible else None


def _state_width(site: Site) -> str | None:
    """Asked of the ops that read or write a state."""
    for value in site.op.inputs:
        if isinstance(value.type, StateType) and value.rank and site.shape(value)[-1] % 32:
            return f"the state %{value.name} is {site.shape(value)[-1]} wide, no multiple of 32"
    return None


def _state_powers(program: Program) -> str | None:
    for state in program.graph.states():
        shape = state.tensor.shape
        odd = [dim for dim in shape[1:] if isinstance(dim, int) and dim & (dim - 1)]
        if odd:
            return f"%{state.name} is {state.type}; {odd[0]} is no power of two"
    return None


def _many_states(program: Program) -> str | None:
    found = len(program.graph.states())
    return f"{found} states" if found >= _MANY_STATES else None


def _wide_boundary(program: Program) -> str | None:
    wide = [value for value in (*program.graph.inputs, *program.graph.outputs) if value.tensor.dtype is DType.F32]
    return f"{len(wide)} float32 inputs and outputs, %{wide[0].name} first" if wide else None


def _padded_rows(program: Program) -> str | None:
    for value in program.graph.outputs:
        last = value.tensor.shape[-1] if value.rank > 1 else 0
        if value.tensor.dtype is DType.F16 and isinstance(last, int) and last * 2 % 64:
            return f"rows of %{value.name} take {last * 2} bytes, stored as {-(-last * 2 // 64) * 64}"
    return None


def _early_norm(program: Program) -> str | None:
    if program.module.opset >= 17:
        return None
    found = [site for site in program.sites if site.root == "layer_norm" and site.ints("axes") == (1,)]
    return f"{len(found)} of them, and the target is {program.module.target}" if found else None


def _large_image(program: Program) -> str | None:
    attention = any(site.root in ("softmax", "scaled_dot_product_attention") for site in program.sites)
    for value in program.graph.inputs:
        shape = value.tensor.shape
        if attention and len(shape) == 4 and all(isinstance(dim, int) and dim >= 768 for dim in shape[-2:]):
            return f"attention over an image of {shape[-2]}x{shape[-1]}"
    return None


RULES = (
    Rule(
        "B47",
        "Packages of more than 250 MB may fail to load.",
        ("model",),
        Effect.LOAD,
        Confidence.MEASURED,
        "AB, ANM, FA",
        "split the model, or compress its weights",
        whole=_heavy,
    ),
    Rule(
        "A43",
        "On iOS a model for the Neural Engine is at most 1 GB.",
        ("model",),
        Effect.FAIL,
        Confidence.APPLE,
        "CMT, SD",
        "split the model, or compress its weights",
        whole=_too_heavy,
    ),
    Rule(
        "A44",
        "Models of more than 2 GB are too much for iOS.",
        ("model",),
        Effect.MEMORY,
        Confidence.APPLE,
        "CAI-g",
        "compress the weights",
        whole=_far_too_heavy,
    ),
    Rule(
        "B55",
        "The time to compile for the device grows faster than the number of ops.",
        ("model",),
        Effect.LOAD,
        Confidence.MEASURED,
        "CMT#1900, ANT",
        "split the model into several",
        whole=_many_ops,
    ),
    Rule(
        "A46",
        "Many heads times many chunks of queries compile for prohibitively long.",
        ("model",),
        Effect.LOAD,
        Confidence.APPLE,
        "SD",
        "larger chunks: ane-attention{chunk=512}",
        whole=_many_einsums,
    ),
    Rule(
        "B40",
        "Of several listed shapes only the default was seen to run on the Neural Engine.",
        ("model",),
        Effect.CPU,
        Confidence.MEASURED,
        "CMT#2370, SD#306",
        "one function for each shape: --function",
        whole=_listed,
    ),
    Rule(
        "B39",
        "layer_norm with listed shapes left the Neural Engine.",
        ("model",),
        Effect.CPU,
        Confidence.MEASURED,
        "CMT#1909",
        "one function for each shape: --function",
        whole=_listed_norms,
    ),
    Rule(
        "A12",
        "States have fixed shapes.",
        ("model",),
        Effect.FAIL,
        Confidence.APPLE,
        "CMT, CMT#2537",
        "fixed sizes",
        whole=_flexible_states,
    ),
    Rule(
        "B41",
        "States whose width is no multiple of 32 fail.",
        ("read_state", "coreml_update_state"),
        Effect.FAIL,
        Confidence.MEASURED,
        "CMT#2631",
        "pad the last axis",
        _state_width,
    ),
    Rule(
        "B41p",
        "States fail where a dimension but the first is no power of two.",
        ("model",),
        Effect.FAIL,
        Confidence.MEASURED,
        "SQB",
        "pad the state",
        whole=_state_powers,
    ),
    Rule(
        "B41m",
        "Too many states fail to compile.",
        ("model",),
        Effect.FAIL,
        Confidence.MEASURED,
        "SQB",
        "join them into few",
        whole=_many_states,
    ),
    Rule(
        "A55",
        "float32 inputs and outputs are converted and copied.",
        ("model",),
        Effect.SLOW,
        Confidence.APPLE,
        "WWDC22",
        "--io-dtype fp16",
        whole=_wide_boundary,
    ),
    Rule(
        "B70",
        "Rows of outputs are padded to 64 bytes: readers have to honour the strides.",
        ("model",),
        Effect.MEMORY,
        Confidence.MEASURED,
        "JR",
        "read by strides",
        whole=_padded_rows,
    ),
    Rule(
        "B38",
        "layer_norm over channels overflows before macOS 14 and iOS 17.",
        ("model",),
        Effect.NUMERICS,
        Confidence.MEASURED,
        "MAT",
        "--target iOS17",
        whole=_early_norm,
    ),
    Rule(
        "B71",
        "Vision transformers on images of 768 and more failed to run.",
        ("model",),
        Effect.FAIL,
        Confidence.FOLKLORE,
        "JR",
        "smaller images",
        whole=_large_image,
    ),
)
