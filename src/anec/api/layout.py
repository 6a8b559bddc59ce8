"""What ``ane-layout`` decides about a model, and why."""

from __future__ import annotations

from itertools import takewhile

from anec.api import settings
from anec.errors import AnecError, UsageError
from anec.ir.graph import Module
from anec.passes.ane_layout import AneLayout
from anec.passes.ane_layout.decision import is_static
from anec.passes.ane_layout.report import Report, report
from anec.pipeline.base import Context
from anec.pipeline.clone import clone
from anec.pipeline.manager import Manager
from anec.pipeline.spec import FixStep


def layouts(module: Module, passes: str = "default,ane", target: str = "iOS18") -> dict[str, Report]:
    """The layout of each function where the pipeline comes to ``ane-layout``.

    Args:
        module: stays as it is. One that is lowered is judged as it is, anything else behind the passes
            in front of ``ane-layout``.
        passes: the pipeline.
        target: the target.

    Raises:
        UsageError: an unknown pass, or no ``ane-layout`` in the pipeline.
        AnecError: a pass failed, or a size is flexible.
    """
    copy, layout = clone(module), AneLayout()
    if any(op.defn.dialect != "mil" for op in module.ops()):
        copy.target = target
        steps = settings.build_pipeline(passes)
        before = tuple(takewhile(lambda step: isinstance(step, FixStep) or step.pass_.name != AneLayout.name, steps))
        if len(before) == len(steps):
            raise UsageError(f"{passes!r} has no pass {AneLayout.name}", hint="--passes default,ane")
        Manager().run(copy, before)
        step = steps[len(before)]
        assert not isinstance(step, FixStep)
        assert isinstance(step.pass_, AneLayout)
        layout = step.pass_
    found: dict[str, Report] = {}
    for name, graph in copy.functions.items():
        if not is_static(graph):
            raise AnecError(
                f"ane-layout leaves {name} as it is: a size is flexible", hint="compile one function for each size"
            )
        found[name] = report(layout.decide(graph, Context(copy, graph)))
    return found
