"""A prediction of where Core ML runs each op, and why; nothing here is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from anec.ane.catalogue import CATALOGUE
from anec.ane.cost import Device, Work, transfer, work_of
from anec.ane.limits import Limits, limits_of
from anec.ane.rules import Confidence, Finding
from anec.ane.segments import choose
from anec.ane.site import Program, Site
from anec.errors import AnecError
from anec.ir.graph import Graph, Module, Op

Units = Literal["cpu-and-ne", "all"]
# What the compiler is known to run (ane-guide, appendix A); other ops go by analogy.
_KNOWN = frozenset(
    "conv conv_transpose linear matmul einsum avg_pool max_pool l2_pool batch_norm layer_norm instance_norm l2_norm "
    "local_response_norm add sub mul real_div floor_div pow square sqrt rsqrt inverse maximum minimum relu relu6 "
    "leaky_relu prelu clip elu sigmoid sigmoid_hard tanh gelu silu softmax softplus softsign erf exp exp2 log sign "
    "ceil floor round reduce_sum reduce_mean reduce_max reduce_min reduce_sum_square reduce_l1_norm reduce_l2_norm "
    "reduce_log_sum reduce_log_sum_exp reshape expand_dims squeeze transpose concat split stack pad slice_by_index "
    "slice_by_size slice_update reverse depth_to_space space_to_depth pixel_shuffle space_to_batch crop quantize "
    "dequantize atan".split()
)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one op is predicted to run.

    Args:
        op: the op.
        function: the function it stands in.
        supported: the devices that could run it.
        preferred: the device that Core ML is expected to choose.
        findings: the rules that apply; those that keep it off the Neural Engine first.
        work: what it does.
        segment: ops of one number run without a change of device.
        edge: it runs before anything on the Neural Engine, or behind everything: it splits nothing.
        waste: the bytes its results are padded with (A06).
    """

    op: Op
    function: str
    supported: tuple[Device, ...]
    preferred: Device
    findings: tuple[Finding, ...]
    work: Work
    segment: int
    edge: bool
    waste: int

    @property
    def on_ane(self) -> bool:
        return self.preferred is Device.ANE

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """Why it is off the Neural Engine; nothing where it is on it."""
        return () if self.on_ane else tuple(f for f in self.findings if f.rule.rejects or "segment" in f.rule.ops)

    @property
    def lints(self) -> tuple[Finding, ...]:
        """What else the rules say."""
        blockers = self.blockers
        return tuple(finding for finding in self.findings if finding not in blockers)

    @property
    def confidence(self) -> Confidence:
        """Who says so: of the first rule that decides, else of the list of ops that are known to run."""
        if self.blockers:
            return self.blockers[0].rule.confidence
        return Confidence.MEASURED if self.op.defn.root in _KNOWN else Confidence.FOLKLORE

    @property
    def name(self) -> str:
        """The name of its first result, as an op is called in the IR."""
        return f"%{self.op.results[0].name}" if self.op.results else self.op.name

    @property
    def place(self) -> str:
        """The user's source line, else the name."""
        return self.op.origin.place or self.name

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "op": self.op.name,
            "supported": [device.value for device in self.supported],
            "preferred": self.preferred.value,
            "confidence": self.confidence.value,
            "place": self.op.origin.place,
            "segment": self.segment,
            "edge": self.edge,
            "multiply_adds": self.work.products,
            "bytes": self.work.bytes,
            "rules": [finding_json(finding) for finding in self.findings],
        }


def finding_json(finding: Finding) -> dict[str, object]:
    """A rule that applies, as JSON."""
    rule = finding.rule
    return {
        "id": rule.id,
        "effect": rule.effect.value,
        "confidence": rule.confidence.value,
        "reason": finding.reason,
        "remedy": rule.remedy,
    }


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the ops, of their multiply-adds and of their bytes; 1 is all."""

    ops: float
    multiply_adds: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Ops that run without a change of device.

    Args:
        device: where.
        placements: the ops.
        taken_bytes: what it takes over from other devices; inputs of the function come from the CPU.
        transfer: the milliseconds that Core ML reckons with for the change of device (see cost.py).
    """

    device: Device
    placements: tuple[Placement, ...]
    taken_bytes: int
    transfer: float

    def as_json(self) -> dict[str, object]:
        return {
            "device": self.device.value,
            "ops": len(self.placements),
            "multiply_adds": sum(placement.work.products for placement in self.placements),
            "taken_bytes": self.taken_bytes,
            "transfer_ms": self.transfer,
            "first": self.placements[0].name,
            "last": self.placements[-1].name,
        }


@dataclass(frozen=True, slots=True)
class FunctionPrediction:
    """The prediction for one function.

    Args:
        name: of the function.
        placements: one for each op that runs, in program order; constants are not counted.
        route: the segments in the order they run.
        findings: the rules that apply to the function as a whole.
        weight_bytes: what the package holds for it.
        largest_bytes: the largest tensor that flows (B63).
        dispatch: the milliseconds one run on the Neural Engine takes at least (B60).
    """

    name: str
    placements: tuple[Placement, ...]
    route: tuple[Segment, ...]
    findings: tuple[Finding, ...]
    weight_bytes: int
    largest_bytes: int
    dispatch: float

    @property
    def share(self) -> Share:
        """What is predicted to run on the Neural Engine."""
        return _share(self.placements, [p for p in self.placements if p.on_ane])

    @property
    def supported_share(self) -> Share:
        """What could."""
        return _share(self.placements, [p for p in self.placements if Device.ANE in p.supported])

    @property
    def segments(self) -> int:
        """How many pieces there are on the Neural Engine."""
        return sum(segment.device is Device.ANE for segment in self.route)

    @property
    def taken_bytes(self) -> int:
        """What segments take over from other devices."""
        return sum(segment.taken_bytes for segment in self.route)

    @property
    def transfer(self) -> float:
        """The milliseconds that Core ML reckons with for all changes of device."""
        return sum(segment.transfer for segment in self.route)

    @property
    def floor(self) -> float:
        """The milliseconds that its runs on the Neural Engine take at least, whatever they do."""
        return self.segments * self.dispatch

    @property
    def moved_bytes(self) -> int:
        """What transposes and reshapes write."""
        return sum(p.work.bytes // 2 for p in self.placements if p.op.defn.root in ("transpose", "reshape"))

    @property
    def wasted_bytes(self) -> int:
        """What short rows are padded with."""
        return sum(placement.waste for placement in self.placements)

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "ops": len(self.placements),
            "ane_share": _share_json(self.share),
            "ane_supported_share": _share_json(self.supported_share),
            "segments": self.segments,
            "route": [segment.as_json() for segment in self.route],
            "transfer_ms": round(self.transfer, 4),
            "taken_bytes": self.taken_bytes,
            "dispatch_floor_ms": round(self.floor, 4),
            "largest_bytes": self.largest_bytes,
            "weight_bytes": self.weight_bytes,
            "moved_bytes": self.moved_bytes,
            "wasted_bytes": self.wasted_bytes,
            "rules": [finding_json(finding) for finding in self.findings],
            "placements": [placement.as_json() for placement in self.placements],
        }


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the ops of a module are predicted to run, on a generation."""

    limits: Limits
    units: Units
    functions: tuple[FunctionPrediction, ...]

    @property
    def share(self) -> Share:
        """What is predicted to run on the Neural Engine, of all functions."""
        placements = [placement for function in self.functions for placement in function.placements]
        return _share(placements, [placement for placement in placements if placement.on_ane])

    def as_json(self) -> dict[str, object]:
        return {
            "kind": "prediction",
            "generation": self.limits.generation,
            "family": self.limits.family,
            "limits_measured": self.limits.sure,
            "compute_units": self.units,
            "ane_share": _share_json(self.share),
            "functions": [function.as_json() for function in self.functions],
        }


def predict(module: Module, generation: str = "M1", units: Units = "cpu-and-ne") -> Prediction:
    """Predict where Core ML runs each op of a module.

    Args:
        module: holds ``mil`` ops only, as they are written into a package.
        generation: ``M1`` to ``M5``, or an iPhone chip.
        units: what Core ML may use: the CPU and the Neural Engine, or the GPU too.

    Returns:
        For every op the devices that could run it and the one expected, with the rules that say so.
        The same module gives the same prediction; the time grows linearly with its ops.

    Raises:
        UsageError: an unknown generation.
        AnecError: the module is not lowered.
    """
    limits = limits_of(generation)
    other = next((op for op in module.ops() if op.defn.dialect != "mil"), None)
    if other is not None:
        raise AnecError(
            f"{other.name} is not lowered, so its place cannot be predicted",
            where=other.origin.place or None,
            hint="run the pipeline finish first",
        )
    functions = (_predicted(module, graph, limits, units) for graph in module.functions.values())
    return Prediction(limits, units, tuple(functions))


def _predicted(module: Module, graph: Graph, limits: Limits, units: Units) -> FunctionPrediction:
    program = Program(module, graph, limits)
    sites = {site.op: site for site in program.sites}
    findings = {op: list(CATALOGUE.of_op(site)) for op, site in sites.items()}
    works = {op: work_of(site) for op, site in sites.items()}
    others = (Device.GPU, Device.CPU) if units == "all" else (Device.CPU,)
    devices = {
        op: others if any(finding.rule.rejects for finding in found) else (Device.ANE, *others)
        for op, found in findings.items()
    }
    choices = choose(list(sites), devices, works, limits.dispatch)
    for op, choice in choices.items():
        if choice.rule:
            findings[op].insert(0, Finding(CATALOGUE.by_id[choice.rule], _MOVED[choice.rule]))
    inner = _inner(list(sites), {op for op, choice in choices.items() if choice.device is Device.ANE})
    placements = tuple(
        Placement(
            op, graph.name, devices[op], choices[op].device, tuple(findings[op]), works[op], choices[op].segment,
            op not in inner, sum(map(site.padding, op.results)),
        )
        for op, site in sites.items()
    )  # fmt: skip
    largest = max((site.bytes(value) for site in sites.values() for value in site.values), default=0)
    return FunctionPrediction(
        graph.name, placements, _route(placements, sites), tuple(CATALOGUE.of_program(program)), program.weight_bytes,
        largest, limits.dispatch,
    )  # fmt: skip


def _route(placements: Sequence[Placement], sites: Mapping[Op, Site]) -> tuple[Segment, ...]:
    """The segments in the order they run, and what each takes over."""
    members: dict[int, list[Placement]] = {}
    for placement in placements:
        members.setdefault(placement.segment, []).append(placement)
    # Inputs have no op, and come from the CPU.
    device: dict[Op | None, Device] = {placement.op: placement.preferred for placement in placements}
    found: list[Segment] = []
    before = Device.CPU
    for _, run in sorted(members.items()):
        here = run[0].preferred
        used = {value: sites[placement.op] for placement in run for value in sites[placement.op].inputs}
        taken = sum(
            site.bytes(value)
            for value, site in used.items()
            if device.get(value.op, Device.CPU) is not here
        )
        found.append(Segment(here, tuple(run), taken, transfer(before, here)))
        before = here
    return tuple(found)


_MOVED = {
    "B60": "its segment is less work than one run on the Neural Engine takes",
    "B61": "moving the data would take longer than is saved",
}


def _inner(ops: list[Op], on_ane: set[Op]) -> set[Op]:
    """The ops with something on the Neural Engine both before and behind them."""
    behind, before = set[Op](), set[Op]()
    for op in ops:
        if any(value.op in on_ane or value.op in behind for value in op.inputs):
            behind.add(op)
    for op in reversed(ops):
        if any(user in on_ane or user in before for result in op.results for user in result.users):
            before.add(op)
    return behind & before


def _share(all_: Iterable[Placement], part: Iterable[Placement]) -> Share:
    whole, some = list(all_), list(part)

    def ratio(found: int, of: int) -> float:
        return found / of if of else 1.0

    return Share(
        ratio(len(some), len(whole)),
        ratio(sum(p.work.products for p in some), sum(p.work.products for p in whole)),
        ratio(sum(p.work.bytes for p in some), sum(p.work.bytes for p in whole)),
    )


def _share_json(share: Share) -> dict[str, float]:
    return {
        "ops": round(share.ops, 4),
        "multiply_adds": round(share.multiply_adds, 4),
        "bytes": round(share.bytes, 4),
    }
