"""``anec explain``: why a pass left a program as it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from anec.cli import console

if TYPE_CHECKING:
    from anec.ir.graph import Op
    from anec.passes.ane_layout.moves import Move
    from anec.passes.ane_layout.report import Report


def explain_layout(options: argparse.Namespace) -> int:
    """``anec explain --layout``."""
    from anec.api.layout import layouts
    from anec.api.settings import TARGETS, load_plugins, one_of
    from anec.cli.commands import opened

    one_of("target", options.target, TARGETS)
    load_plugins(options.plugin)
    module, _ = opened(options)
    with console.progress(f"laying out {options.source}"):
        found = layouts(module, options.passes, options.target)
    if options.json:
        functions = [{"name": name, **_as_json(report)} for name, report in found.items()]
        console.show_json({"kind": "layout", "functions": functions})
        return 0
    for name, report in found.items():
        if len(found) > 1:
            print(f"function {name}")
        _show(report)
    return 0


def _show(report: Report) -> None:
    cut = [move for move in report.moves if move.is_cut]
    own = [move for move in report.moves if not move.is_cut]
    print(
        f"{_ops(len(report.turned))} held in another form, {len(report.kept)} as written by choice, "
        f"{len(report.fixed)} as written by need\n"
        f"cut edges: {len(cut)} that move {_bytes(cut)} in float16, {report.views} views; "
        f"moves within a form: {len(own)}, {_bytes(own)}"
    )
    if report.note is not None:
        print(report.note)
    for title, moves in (("the cut goes through", cut), ("moved within a form", own)):
        if moves:
            print(f"\n{title}")
            rows = [
                (f"%{move.value.name}", move.held.value, move.wanted.value, move.price, _users(move), _made_at(move))
                for move in moves
            ]
            console.table(("value", "held", "wanted", "bytes", "by", "source line"), rows)
    if report.fixed:
        print("\nas written by need")
        console.table(("op", "count", "reason", "source line"), _grouped(report.fixed))
    if report.kept:
        print("\nas written by choice")
        reason = "with what stands around it, the written form moves least"
        console.table(("op", "count", "reason", "source line"), _grouped((op, reason) for op in report.kept))


def _grouped(found: Iterable[tuple[Op, str]]) -> list[tuple[object, ...]]:
    groups: dict[tuple[str, str], list[Op]] = {}
    for op, reason in found:
        groups.setdefault((op.name, reason), []).append(op)
    return [(name, len(ops), reason, console.few(list(map(_place, ops)))) for (name, reason), ops in groups.items()]


def _place(op: Op) -> str:
    return op.origin.place or (f"%{op.results[0].name}" if op.results else op.name)


def _made_at(move: Move) -> str:
    return _place(move.value.op) if move.value.op is not None else "an input"


def _users(move: Move) -> str:
    """The ops that share the move, by name and number: ``mil.conv x3, the output``."""
    names = [user.name if user is not None else "the output" for user in move.users]
    return ", ".join(f"{name} x{names.count(name)}" if names.count(name) > 1 else name for name in dict.fromkeys(names))


def _ops(count: int) -> str:
    return f"{count} op{'s' * (count != 1)}"


def _bytes(moves: Iterable[Move]) -> str:
    return console.megabytes(sum(move.price for move in moves))


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "turned": len(report.turned),
        "note": report.note,
        "kept": [_op_json(op) for op in report.kept],
        "fixed": [{**_op_json(op), "reason": reason} for op, reason in report.fixed],
        "cut_views": report.views,
        "moves": [
            {
                "value": f"%{move.value.name}",
                "place": move.value.op.origin.place if move.value.op is not None else "",
                "held": move.held.value,
                "wanted": move.wanted.value,
                "cut": move.is_cut,
                "bytes": move.price,
                "users": [None if user is None else _op_json(user) for user in move.users],
            }
            for move in report.moves
        ],
    }


def _op_json(op: Op) -> dict[str, str]:
    return {"op": op.name, "name": f"%{op.results[0].name}" if op.results else "", "place": op.origin.place}
