"""Results as text: a line for the terminal, a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

Row = dict[str, Any]
PRECISIONS = ("fp32", "fp16")
FORMS = {"documented": "as documented", "best": "in best form"}
# What stops a model before either compiler sees it.
BEFORE = frozenset({"build", "eager", "export"})
LIBRARIES = ("torch", "coremltools", "torchvision", "timm", "transformers")


def is_good(row: Row) -> bool:
    """anec's side, or coremltools' in best form: both precisions within bounds."""
    found = row.get("best", row)
    return not row.get("error") and all(found.get(p, {}).get("ok") for p in PRECISIONS)


def exported(row: Row) -> bool:
    return row.get("phase") not in BEFORE


def figure(found: Row | None) -> str:
    """One precision in a few words."""
    if found is None:
        return "-"
    if found.get("error"):
        return "fails"
    if found.get("problem"):
        return str(found["problem"])[:60]
    return f"{'' if found['ok'] else 'off: '}{found['psnr']:.0f} dB{'*' if found['void'] else ''}"


def summary(row: Row) -> str:
    """A row for the terminal."""
    if row.get("error"):
        return f"[{row['phase']}] {row['error']} {row.get('hint', '')}"
    if row["side"] == "coremltools":
        return " | ".join(f"{form} {figure(row[form].get(p))}" for form in FORMS for p in PRECISIONS)
    first = " ".join(row[p].get("first", "") for p in PRECISIONS)
    void = " ".join(row["fp32"]["void"])
    return (
        f"fp32 {row['fp32']['rel']:.1e} {figure(row['fp32'])} | fp16 {figure(row['fp16'])} {first} | {row['ops']} ops "
        f"{sum(row['seconds'].values()):.0f} s {row['peak_mb']} MB {void}"
    )


def counts(found: Iterable[Row]) -> list[str]:
    """How many compiled, and how many agree in each precision."""
    rows = list(found)
    compiled = sum(any(p in row and not row[p].get("error") for p in PRECISIONS) for row in rows)
    return [str(compiled), *(str(sum(bool(row.get(p, {}).get("ok")) for row in rows)) for p in PRECISIONS)]


def _cells(ours: Row, theirs: Row) -> list[str]:
    if not ours or ours.get("error"):
        cells = ["fails" if ours else "-", "", "", "", ""]
    else:
        compiled = sum(seconds for phase, seconds in ours["seconds"].items() if phase.startswith("compile"))
        cells = [*(figure(ours[p]) for p in PRECISIONS), str(ours["ops"]), f"{compiled:.1f}", str(ours["peak_mb"])]
    for form in FORMS:
        found = theirs.get(form)
        cells += [figure(found.get(p)) if found else _why(theirs) for p in PRECISIONS]
    return cells


def _why(theirs: Row) -> str:
    if not theirs:
        return "-"
    return "no time" if theirs.get("phase") == "timeout" else "fails"


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


PAGE = """\
# The zoo

{models} architectures of torchvision, timm and transformers with random weights, batch 2. Each was exported
once. anec's package was saved, loaded, run by anec's evaluator and compared with eager PyTorch, and so was
the package that coremltools makes of the same `ExportedProgram`.

fp32 agrees within rel 1e-3 and 60 dB, fp16 within 40 dB (`psnr` of the worst output). A name with a slash
comes from that library, the others from transformers.

{date}, {versions}:

```bash
python benchmarks/zoo --results zoo.jsonl --jobs 2
python benchmarks/zoo --results zoo.jsonl --report docs/zoo.md
```

`torch.export` takes {exported} of them; of these:

{counts}

*As documented* is `coremltools.convert(program.run_decompositions({{}}))`; *in best form* is behind torch's
default decompositions, with `alias` ops taken out.

## What anec does not do

{failures}

## What torch.export refuses

{refused}

## For the Neural Engine

What `default,ane` makes of them beside `default` and coremltools (best form if it converts, else as documented), in
fp16: ops that run, the bytes that transposes and reshapes write, and the share of the multiply-adds that
the Neural Engine of an M1 can run by the rules of `anec analyze`. It is a prediction; nothing was measured on
hardware. The last column is the CPU seconds that `default,ane` and `default` take to compile.

{moves}

`ane-layout` by itself writes no more than the program did; `ane-legalize` takes lookups of relative positions apart
behind it. Deberta writes less in every layer, but its input and its output are turned once, which two layers do not
outweigh; from three layers on it writes less than `default`.

{layouts}

## All

The first five columns are anec's: both precisions, MIL ops in fp16, CPU seconds to compile and save twice,
peak memory over the imports in MB. Then coremltools. *Fails* is an error, *off* a wrong answer; with a
star, one of the outputs is too small or too even to tell a right answer from a wrong one.

{everything}
"""


def moves(names: list[str], ours: dict[str, Row], theirs: dict[str, Row]) -> str:
    """In how many models `default,ane` writes more than the others in moves."""
    lines = []
    for words, other in (
        ("`default`", {name: ours[name].get("default", {}) for name in names}),
        ("coremltools' program", {name: _converted(theirs[name]) for name in names}),
    ):
        both = [name for name in names if "moved" in ours[name] and "moved" in other[name]]
        more = [name for name in both if ours[name]["moved"] > other[name]["moved"]]
        total, its = (sum(row[name]["moved"] for name in both) for row in (ours, other))
        said = f": {', '.join(more)}" if more else ""
        lines.append(
            f"- Against {words}, in {len(both)} models: {total / 1e6:.1f} MB where it writes {its / 1e6:.1f} MB, "
            f"more in {len(more)} of them{said}."
        )
    laid = [ours[name] for name in names if "default" in ours[name]]
    if laid:
        behind = sum(row["share"] for row in laid) / len(laid)
        before = sum(row["default"]["share"] for row in laid) / len(laid)
        lines.append(f"- The share of multiply-adds is {behind:.1%} on average, {before:.1%} behind `default`.")
    return "\n".join(lines)


def _converted(theirs: Row) -> Row:
    return next((theirs[form] for form in ("best", "documented") if "moved" in theirs.get(form, {})), {})


def _layout(ours: Row, theirs: Row) -> list[str]:
    rows = (ours["default"], ours, _converted(theirs))
    cells = [
        *(str(row["ops"]) if row else "-" for row in rows),
        *(f"{row['moved'] / 1e6:.2f}" if row else "-" for row in rows),
        *(f"{row['share']:.0%}" if row else "-" for row in rows),
    ]
    seconds = ours["seconds"]
    return [*cells, f"{seconds['compile fp16']:.1f} / {seconds['default fp16']:.1f}"]


def report(rows: dict[tuple[str, str], Row]) -> str:
    """The page: counts, failures with their reasons, every model."""
    names = sorted({name for name, _ in rows})
    ours = {name: rows.get((name, "anec"), {}) for name in names}
    theirs = {name: rows.get((name, "coremltools"), {}) for name in names}
    able = [name for name in names if exported(ours[name] or theirs[name])]
    refused = [[name, _short((ours[name] or theirs[name])["error"])] for name in names if name not in able]
    header = ["model", "fp32", "fp16", "ops", "s", "MB", "documented fp32", "fp16", "best form fp32", "fp16"]
    figures = [f"{what} {who}" for what in ("ops", "MB moved", "share") for who in ("default", "ane", "Apple")]
    sides = ["model", *figures, "s"]
    return PAGE.format(
        models=len(names),
        date=datetime.now(tz=UTC).date(),
        versions=", ".join(f"{library} {version(library)}" for library in LIBRARIES),
        exported=len(able),
        counts=_table(["", "models", "compiled", "fp32 agrees", "fp16 agrees"], _counts(able, ours, theirs)),
        failures=_table(["model", "why"], _failures(able, ours)),
        refused=_table(["model", "why"], refused),
        moves=moves(able, ours, theirs),
        layouts=_table(sides, [[n, *_layout(ours[n], theirs[n])] for n in able if "default" in ours[n]]),
        everything=_table(header, [[name, *_cells(ours[name], theirs[name])] for name in able]),
    )


def _counts(names: list[str], ours: dict[str, Row], theirs: dict[str, Row]) -> list[list[str]]:
    tried = [name for name in names if ours[name]]
    lines = [["anec", str(len(tried)), *counts(ours[name] for name in tried)]]
    both = [name for name in tried if theirs[name] and theirs[name].get("phase") != "timeout"]
    if both:
        lines.append(["anec, where coremltools was tried", str(len(both)), *counts(ours[name] for name in both)])
    for form, words in FORMS.items():
        found = counts(theirs[name].get(form, {}) for name in both)
        lines += [[f"coremltools, {words}", str(len(both)), *found]] if both else []
    return lines


def _failures(names: list[str], ours: dict[str, Row]) -> Iterable[list[str]]:
    for name in names:
        row = ours[name]
        if not row or is_good(row):
            continue
        if row.get("error"):
            yield [name, _short(row["error"])]
            continue
        bad = [(p, row[p]) for p in PRECISIONS if not row[p]["ok"]]
        yield [name, "; ".join(f"{p}: {figure(found)} {found.get('first', '')}".strip() for p, found in bad)]


def _short(message: str) -> str:
    return message.split(" hint:")[0].split(" For more information")[0][:240].replace("`", "'")
