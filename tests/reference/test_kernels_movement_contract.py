"""The contract of the moving kernels: MIL's parameters, fake tensors, symbolic sizes, dtypes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import coremltools as ct
import pytest
import torch
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from anec.reference import lookup

FAMILIES = (
    "tensor_transformation",
    "tensor_operation",
    "scatter_gather",
    "image_resizing",
    "constexpr_ops",
    "compression",
    "quantization_ops",
    "states",
)
TARGETS = (ct.target.iOS15, ct.target.iOS16, ct.target.iOS17, ct.target.iOS18)
# Defaults that depend on other inputs.
DERIVED = {("crop_resize", "box_indices")}
_ONE_BOX = SimpleNamespace(shape=(1, 4))


@dataclass(frozen=True)
class Call:
    """A kernel with arguments; ``free``: axes of the first operand that may have symbolic sizes."""

    name: str
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    free: tuple[int, ...]


def kernel(name: str) -> Callable[..., Any]:
    found = lookup(f"mil.{name}")
    assert found is not None, name
    return found.function


def versions(name: str) -> list[Any]:
    by_target = SSAOpRegistry.core_ops[name]
    return list({id(by_target[t]): by_target[t] for t in TARGETS if t in by_target}.values())


def family(name: str) -> str:
    return str(versions(name)[-1].__module__.rpartition(".")[2]) if versions(name) else ""


OPS = sorted(name for name in SSAOpRegistry.core_ops if family(name) in FAMILIES)


def test_the_families_are_all_there() -> None:
    assert len(OPS) >= 60
    missing = [name for name in OPS if lookup(f"mil.{name}") is None]
    assert not missing
    assert lookup("mil.coreml_update_state") is not None


@pytest.mark.parametrize("name", OPS)
def test_parameters_and_defaults_are_mils(name: str) -> None:
    parameters = dict(inspect.signature(kernel(name)).parameters)
    parameters.pop("opset", None)
    specs = [version.input_spec.input_types for version in versions(name)]
    assert set(parameters) == {key for spec in specs for key in spec}
    newest = versions(name)[-1]
    # default_inputs looks at inputs the builder was given, so it needs an object with none.
    empty = object.__new__(newest)
    empty.__dict__ |= {"return_indices": None, "box_indices": None, "boxes": _ONE_BOX, "x": _ONE_BOX}
    defaults = dict(empty.default_inputs().items())
    for key, parameter in parameters.items():
        if all(key in spec and not spec[key].optional for spec in specs):
            assert parameter.default is inspect.Parameter.empty, f"{key} is required"
        elif key in defaults and (name, key) not in DERIVED:
            assert parameter.default == defaults[key], key
        else:
            assert parameter.default is None, key


def _random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    if dtype.is_floating_point:
        return torch.randn(list(shape), generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(0, 2, list(shape), generator=generator).to(dtype)


def of(op: str, /, *args: Any, free: tuple[int, ...] = (), **keywords: Any) -> Call:
    return Call(op, args, keywords, free)


def _calls() -> list[Call]:
    x, image = _random(3, 4, 6), _random(2, 8, 6, 4)
    index, line = _random(3, 2, dtype=torch.int32), _random(5, dtype=torch.int32)
    slices = {"begin": (0, 1, -1), "end": (3, 4, 0), "stride": (1, 2, -2)}
    open_slices = slices | {"begin_mask": (True, False, False), "end_mask": (True, False, True)}
    sampling = ("bilinear", "reflection", 0.0, "unnormalized", True)
    affine = ("bilinear", "constant", 0.0, "normalized_minus_one_to_one", True)
    anywhere, space = (0, 1, 2), (0, 2, 3)
    return [
        of("reshape", x, (0, -1, 2, 3), free=(0,)),
        of("reshape", x, (6, 0, 2, -1)),
        of("reshape_like", x, [_random(3, 24)], (0,), (0,), (True,)),
        of("flatten2d", x, axis=-1, free=anywhere),
        of("shape", x, free=anywhere),
        of("transpose", x, (2, 0, 1), free=anywhere),
        of("expand_dims", x, (0, -1), free=anywhere),
        of("squeeze", _random(3, 1, 6), axes=(1,), free=(0, 2)),
        of("reverse", x, axes=(0, 2), free=anywhere),
        of("reverse_sequence", x, _random(3, dtype=torch.int32), seq_axis=1, free=(1, 2)),
        of("sliding_windows", x, 1, 2, stride=2, free=(0, 2)),
        of("slice_by_index", x, **slices),
        of("slice_by_index", x, **open_slices, free=(0, 2)),
        of("slice_by_size", x, (0, 1, 2), (-1, 2, 3), free=(0,)),
        of("slice_update", x, _random(3, 2, 3), **slices),
        of("space_to_depth", image, 2, free=(0, 1)),
        of("depth_to_space", image, 2, free=space),
        of("pixel_shuffle", image, 2, free=space),
        of("pixel_unshuffle", image, 2, free=(0, 1)),
        of("space_to_batch", image, (2, 2), ((1, 1), (0, 0)), free=(0, 1)),
        of("batch_to_space", image, (2, 1), ((1, 0), (0, 0)), free=(1, 2, 3)),
        of("identity", x, free=anywhere),
        of("fill_like", x, value=3, free=anywhere),
        of("one_hot", index, 4, axis=0, on_value=True, off_value=False, free=(0, 1)),
        of("concat", [x, x + 1], 1, interleave=True),
        of("concat", [x, x[:, :2]], 1),
        of("stack", [x, x + 1], -1),
        of("split", x, 2, split_sizes=(1, 5), free=(0, 1)),
        of("tile", x, (1, 2, 3), free=anywhere),
        of("pad", x, (1, 2, 0, 3), free=anywhere),
        of("pad", x, (1, 2, 0, 3), mode="reflect", free=anywhere),
        of("pad", x, (1, 2, 0, 3), mode="replicate", free=anywhere),
        of("band_part", x, lower=0, upper=1, free=anywhere),
        of("cumsum", x, axis=1, exclusive=True, reverse=True, free=anywhere),
        of("argsort", x, axis=1, free=anywhere),
        of("topk", x, k=2, axis=-1, free=anywhere),
        of("gather", x, line, axis=1, free=anywhere),
        of("gather", x, index, axis=1, batch_dims=1, validate_indices=True, free=(1, 2)),
        of("gather_along_axis", x[:, :, 0], index, axis=1, free=(1,)),
        of("gather_nd", x, index, free=anywhere),
        of("gather_nd", x, index.reshape(3, 1, 2), batch_dims=1, opset=16, free=(1, 2)),
        of("scatter", x, line, _random(3, 5, 6), axis=1, free=(1,)),
        of("scatter_along_axis", x[:, :, 0], index, _random(3, 2), axis=1, mode="max"),
        of("scatter_nd", x, index, _random(3, 6), mode="div", free=(0, 1)),
        of("upsample_nearest_neighbor", image, scale_factor_height=2, scale_factor_width=3, free=space),
        of("upsample_nearest_neighbor", image, scale_factor_height=1.5, free=space),
        of("upsample_bilinear", image, scale_factor_height=2, scale_factor_width=3, free=space),
        of("resize_nearest_neighbor", image, 9, 7, free=space),
        of("resize_bilinear", image, target_size_height=9, sampling_mode="UNALIGN_CORNERS", free=space),
        of("resize", image, (0, 5), 2, sampling_mode="OFFSET_CORNERS", free=space),
        of("resize", image, (0, 5), 2, interpolation_mode="NEAREST_NEIGHBOR", free=space),
        of("crop", image, (1, 2), (0, 1), free=(0, 1)),
        of("resample", image, 2 * _random(2, 3, 5, 2), *sampling, free=(1, 2, 3)),
        of("affine", image, _random(2, 6), 5, 3, *affine, free=(1, 2, 3)),
        of("crop_resize", image, _random(2, 4), target_height=3, target_width=2, free=(1, 2, 3)),
        of("non_maximum_suppression", _random(2, 4, 6).abs(), _random(2, 3, 6), 0.3, 8),
        of("quantize", x, _random(4).abs() + 1, "int8", axis=1, free=(0, 2)),
        of("dequantize", _random(3, 4, dtype=torch.int8), _random(), free=(0, 1)),
        of("constexpr_affine_dequantize", index.to(torch.uint8), _random(2), _random(2), 1),
        of("constexpr_lut_to_dense", index.to(torch.uint8), _random(3, 1, 2, 4), vector_axis=1),
        of("constexpr_sparse_to_dense", _random(int(index.sum())), index),
        of("constexpr_lut_to_sparse", index, index[index != 0], _random(1, 1, 2, 1)),
        of("constexpr_blockwise_shift_scale", index.to(torch.int8), _random(1, 2)),
        of("constexpr_sparse_blockwise_shift_scale", index, index[index != 0], _random(3, 1)),
        of("constexpr_cast", x.half(), "fp32"),
        of("read_state", x, free=anywhere),
        of("coreml_update_state", x, x + 1),
    ]


CALLS = _calls()
FREE = [call for call in CALLS if call.free]
READ_THEIR_SHAPE_ONLY = {"fill", "range_1d"}


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    return [mapped(item, change) for item in value] if isinstance(value, list) else value


def call(entry: Call, change: Callable[[Tensor], Tensor] = lambda x: x) -> tuple[Tensor, ...]:
    result = kernel(entry.name)(*[mapped(arg, change) for arg in entry.args], **entry.keywords)
    return result if isinstance(result, tuple) else (result,)


def named(entry: Call) -> str:
    return entry.name


def test_every_kernel_is_called_here() -> None:
    called = {entry.name for entry in CALLS} | READ_THEIR_SHAPE_ONLY | {"non_zero"}
    assert called == {*OPS, "coreml_update_state"}


@pytest.mark.parametrize("entry", CALLS, ids=named)
def test_fake_tensors_give_the_types_of_real_ones(entry: Call) -> None:
    real = call(entry)
    mode = FakeTensorMode()
    with mode:
        fake = call(entry, mode.from_tensor)
    assert [(f.shape, f.dtype) for f in fake] == [(r.shape, r.dtype) for r in real]


@pytest.mark.parametrize("entry", CALLS, ids=named)
def test_operands_stay_as_they_are(entry: Call) -> None:
    kept: list[tuple[Tensor, Tensor]] = []

    def remember(x: Tensor) -> Tensor:
        kept.append((x, x.clone()))
        return x

    call(entry, remember)
    assert kept and all(torch.equal(now, before) for now, before in kept)


@pytest.mark.parametrize("entry", CALLS, ids=named)
def test_double_in_double_out(entry: Call) -> None:
    single = call(entry)
    double = call(entry, lambda x: x.double() if x.dtype == torch.float32 else x)
    for one, two in zip(single, double, strict=True):
        says_fp32 = entry.name == "constexpr_cast"
        assert two.dtype == (torch.float64 if one.dtype == torch.float32 and not says_fp32 else one.dtype)
        torch.testing.assert_close(two.double(), one.double(), rtol=1e-5, atol=1e-5, equal_nan=True)


def _example(size: int | torch.SymInt) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size


@pytest.mark.parametrize("entry", FREE, ids=named)
def test_symbolic_sizes_add_no_guard(entry: Call) -> None:
    environment = ShapeEnv()
    mode = FakeTensorMode(shape_env=environment)
    first = entry.args[0]
    dynamic = [DimDynamic.DYNAMIC if axis in entry.free else DimDynamic.STATIC for axis in range(first.dim())]

    def fake(x: Tensor) -> Tensor:
        if x is not first:
            return mode.from_tensor(x, static_shapes=True)
        return mode.from_tensor(x, symbolic_context=StatelessSymbolicContext(dynamic_sizes=dynamic))

    with mode:
        results = call(entry, fake)
    assert [guard.expr for guard in environment.guards] == []
    example = [tuple(_example(size) for size in r.shape) for r in results]
    assert example == [tuple(r.shape) for r in call(entry)]
