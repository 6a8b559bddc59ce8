"""Where each op runs: the cheapest way through the program, device by device.

Ops are first put in an order that changes devices as seldom as the data allow: an op that the Neural
Engine refuses starts a new level behind what runs there, small work in between two refused ops stays
with them, and everything else stays on the level of its operands. Along that order the way is a
shortest path over (op, device), with the costs of cost.py; what is left on the Neural Engine in pieces
below the dispatch floor goes to the CPU (rule B60).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from anec.ane.cost import Device, Work, cpu_milliseconds, transfer
from anec.ir.graph import Op


@dataclass(frozen=True, slots=True)
class Choice:
    """The device of an op, the segment it runs in, and the rule that moved it there."""

    device: Device
    segment: int
    rule: str = ""


def choose(
    ops: Sequence[Op],
    devices: Mapping[Op, Sequence[Device]],
    works: Mapping[Op, Work],
    dispatch: float,
) -> dict[Op, Choice]:
    """Choose a device for each op.

    Args:
        ops: in program order.
        devices: those an op may run on; the first is where it would stay for free.
        works: what each op does.
        dispatch: the milliseconds one run on the Neural Engine takes at least.

    Returns:
        A choice for each op; the time grows linearly with the ops.
    """
    order = _order(ops, devices, works)
    chosen = _shortest(order, devices, works)
    rules = {op: "B61" for op in order if Device.ANE in devices[op] and chosen[op] is not Device.ANE}
    for device, run in groupby(order, key=lambda op: chosen[op]):
        members = list(run)
        if device is Device.ANE and cpu_milliseconds([works[op] for op in members]) < dispatch:
            rules |= dict.fromkeys(members, "B60")
    chosen |= {op: Device.CPU for op, rule in rules.items() if rule == "B60"}
    found: dict[Op, Choice] = {}
    for number, (device, run) in enumerate(groupby(order, key=lambda op: chosen[op])):
        found |= {op: Choice(device, number, rules.get(op, "")) for op in run}
    return found


def _order(ops: Sequence[Op], devices: Mapping[Op, Sequence[Device]], works: Mapping[Op, Work]) -> list[Op]:
    """The ops by level, in program order within one. Even levels are the CPU's, odd ones the engine's."""
    refused = {op for op in ops if Device.ANE not in devices[op]}
    light = {op for op in ops if cpu_milliseconds([works[op]]) < transfer(Device.CPU, Device.ANE)}
    awaited = _awaited(ops, refused, light)
    level: dict[Op, int] = {}
    for op in ops:
        behind = max((level[value.op] for value in op.inputs if value.op in level), default=0)
        # What the CPU hands on to itself stays there.
        stays = op in refused or (op in light and op in awaited and behind % 2 == 0)
        wanted = 0 if stays else 1
        level[op] = behind if behind % 2 == wanted else behind + 1
    return sorted(ops, key=lambda op: level[op])


def _awaited(ops: Sequence[Op], refused: set[Op], light: set[Op]) -> set[Op]:
    """The ops that a refused op waits for: what it reads, and light work whose results all end there.

    In front of the first heavy op it is enough that some of them do: what a mask is made of.
    """
    heavy = set[Op]()
    for op in ops:
        if not (op in light or op in refused) or any(value.op in heavy for value in op.inputs):
            heavy.add(op)
    found = set[Op]()
    for op in reversed(ops):
        users = [user for result in op.results for user in result.users]
        passed = [user for user in users if user in light and user in found]
        if (
            any(user in refused for user in users)
            or len(passed) == len(users)
            or any(user not in heavy for user in passed)
        ):
            found.add(op)
    return found


def _shortest(
    order: Sequence[Op], devices: Mapping[Op, Sequence[Device]], works: Mapping[Op, Work]
) -> dict[Op, Device]:
    # Inputs come from the CPU.
    costs: dict[Device, float] = {Device.CPU: 0.0}
    steps: list[dict[Device, Device]] = []
    for op in order:
        step: dict[Device, Device] = {}
        reached: dict[Device, float] = {}
        for device in devices[op]:
            before = min(costs, key=lambda source: costs[source] + transfer(source, device))
            step[device] = before
            reached[device] = costs[before] + transfer(before, device) + works[op].milliseconds(device)
        steps.append(step)
        costs = reached
    chosen: dict[Op, Device] = {}
    if not order:
        return chosen
    device = min(costs, key=lambda found: costs[found])
    for op, step in zip(reversed(order), reversed(steps), strict=True):
        chosen[op] = device
        device = step[device]
    return chosen
