"""Write what docs/*.md and README.md take from the code: python tools/generate_docs.py

Tables stand between ``<!-- generated: NAME -->`` and ``<!-- end -->``. In a block that opens with
```` ```console run ```` every line that begins with ``$`` is run by a shell, in a folder that holds
``examples/``, and what it prints is put below it; a file's blocks run in order in one folder.

    python tools/generate_docs.py              everything, in place
    python tools/generate_docs.py --tables     the tables only
    python tools/generate_docs.py --check      name the files whose tables are not current
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
_REGION = re.compile(r"(<!-- generated: ([\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_CONSOLE = re.compile(r"(```console run\n)(.*?)(```)", re.DOTALL)


def pages() -> list[Path]:
    """Every page a user reads."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


# -- tables ----------------------------------------------------------------------------------------


def _table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    head = list(headers)
    return "\n".join([line(head), line(["---"] * len(head)), *(line(row) for row in rows)]) + "\n"


def _builtin_passes() -> dict[str, type]:
    from anec.pipeline import registry

    return {name: cls for name, cls in registry.passes().items() if registry.owner(name).startswith("anec.passes")}


def passes_table() -> str:
    """Every built-in pass: what it does, its promise, its options."""
    rows = []
    for name, cls in _builtin_passes().items():
        dialects = ", ".join(sorted(cls.works_on() or [])) or "any"
        options = ", ".join(f"`{_option(cls, key)}`" for key in cls.options())
        rows.append((f"`{name}`", (cls.__doc__ or "").partition("\n")[0], dialects, cls.fidelity, options))
    return _table(("pass", "what it does", "works on", "fidelity", "options"), rows)


def _option(cls: type, key: str) -> str:
    from anec.pipeline.options import format_option

    default = getattr(cls, cls.options()[key].name, None)
    return f"{key}={format_option(default)}"


def pipelines_table() -> str:
    """The named pipelines."""
    from anec.passes.pipelines import DESCRIPTIONS, PIPELINES

    rows = [(f"`{name}`", DESCRIPTIONS[name], f"`{text}`") for name, text in PIPELINES.items()]
    return _table(("pipeline", "what it does", "passes"), rows)


def commands() -> dict[str, argparse.ArgumentParser]:
    """The commands of the command line and their parsers."""
    from anec.cli.parser import make_parser

    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise SystemExit("the command line has no commands")


def options_table(command: str) -> str:
    """The arguments of a command, as --help lists them."""
    rows = []
    for action in commands()[command]._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        metavar = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else "")
        if not action.option_strings:
            form = f"`{metavar or action.dest}`"
        else:
            value = "" if action.nargs == 0 else f" {metavar or action.dest.upper()}"
            form = ", ".join(f"`{flag}{value}`" for flag in action.option_strings)
        rows.append((form, action.help or ""))
    return _table(("argument", "meaning"), rows)


def lowerings_table() -> str:
    """The ops that the built-in rules lower, by family."""
    import importlib

    from anec.passes.lower_to_mil.families import FAMILIES

    rows, seen = [], set()
    for family in FAMILIES:
        if family == "high_rank":
            continue  # the same ops again, on more axes than Core ML has
        module = importlib.import_module(f"anec.passes.lower_to_mil.{family}")
        names = sorted({root.name for rule in module.RULES for root in rule.roots} - seen)
        seen.update(names)
        if names:
            rows.append((f"`{family}`", _short(names)))
    return _table(("family", "ops"), rows) + f"\n{len(seen)} ops in all.\n"


def refused_table() -> str:
    """The ATen ops that are refused, by kind, with the reason and the hint."""
    from anec.passes.lower_to_mil.refused import REFUSED, Refusal

    groups: dict[Refusal, list[str]] = {}
    for packet, refusal in REFUSED.items():
        groups.setdefault(refusal, []).append(f"`{packet}`")
    rows = [(kind.kind, f"{kind.reason}: {kind.hint}", ", ".join(sorted(ops))) for kind, ops in groups.items()]
    return _table(("kind", "why, and what to do", "ops"), rows)


def raised_table() -> str:
    """The ATen ops that become nn ops."""
    import importlib

    from anec.pipeline import registry

    package = importlib.import_module(registry.find("raise-to-nn").__module__)
    rows = []
    for path in sorted(Path(package.__path__[0]).glob("[!_]*.py")):
        module = importlib.import_module(f"{package.__name__}.{path.stem}")
        names = sorted({root.name for rule in getattr(module, "RULES", ()) for root in rule.roots})
        if names:
            rows.append((f"`{path.stem}`", _short(names)))
    return _table(("family", "ops"), rows)


def ane_rules_table() -> str:
    """The rules of the Neural Engine, by topic."""
    from anec.ane import GENERATIONS, TOPICS

    parts = []
    for topic, rules in TOPICS.items():
        rows = []
        for rule in rules:
            shown = rule.ops if len(rule.ops) <= 6 else rule.ops[:5]
            more = f" and {len(rule.ops) - len(shown)} more" if len(shown) < len(rule.ops) else ""
            ops = ", ".join(f"`{name}`" for name in shown) + more or "any op"
            where = "" if rule.generations == GENERATIONS else f" ({', '.join(rule.generations)})"
            effect = f"{rule.effect.value} ({rule.confidence.value})"
            rows.append((rule.id, rule.statement + where, ops, effect, rule.remedy, rule.source))
        headers = ("rule", "what it says", "of", "effect", "remedy", "source")
        parts.append(f"### {topic.capitalize()}\n\n" + _table(headers, rows))
    return "\n".join(parts)


def ane_limits_table() -> str:
    """The limits of each generation."""
    import dataclasses

    from anec.ane import GENERATIONS, Limits, limits_of

    found = [limits_of(name) for name in GENERATIONS]
    fields = [field.name for field in dataclasses.fields(Limits) if field.name != "generation"]
    rows = [(name.replace("_", " "), *(_cell(getattr(limits, name)) for limits in found)) for name in fields]
    return _table(("limit", *GENERATIONS), rows)


def _cell(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _short(names: Iterable[str]) -> str:
    """``aten.add.Tensor, aten.add.Scalar`` as ``add (Scalar, Tensor)``; other dialects keep their prefix."""
    overloads: dict[str, list[str]] = {}
    for name in names:
        dialect, _, rest = name.partition(".")
        packet, _, overload = rest.partition(".")
        key = packet if dialect == "aten" else f"{dialect}.{packet}"
        overloads.setdefault(key, []).append(overload)
    parts = []
    for packet, found in overloads.items():
        others = [overload for overload in found if overload not in ("", "default")]
        parts.append(f"`{packet}`" + (f" ({', '.join(others)})" if others else ""))
    return ", ".join(parts)


def nn_table() -> str:
    """The ops of the nn dialect."""
    from anec.dialects import nn
    from anec.ir.attrs import format_attr
    from anec.ir.opdef import Kind

    rows = []
    for defn in nn:
        operands, attrs = [], []
        for param in defn.params:
            if param.kind is Kind.ATTR:
                attrs.append(param.name if param.required else f"{param.name}={format_attr(param.default)}")
            else:
                operands.append(param.name + ("..." if param.kind is Kind.VARIADIC else "" if param.required else "?"))
        call = f"`{defn.name}({', '.join(operands)})`" + (f" `{{{', '.join(attrs)}}}`" if attrs else "")
        rows.append((call, defn.doc))
    return _table(("op", "meaning"), rows)


def table(name: str) -> str:
    """The text of a generated region.

    Raises:
        SystemExit: nothing is generated under that name.
    """
    made: dict[str, Callable[[], str]] = {
        "passes": passes_table,
        "pipelines": pipelines_table,
        "lowerings": lowerings_table,
        "raised": raised_table,
        "refused": refused_table,
        "nn ops": nn_table,
        "ane rules": ane_rules_table,
        "ane limits": ane_limits_table,
    }
    if name.startswith("options "):
        return options_table(name.removeprefix("options "))
    if name not in made:
        raise SystemExit(f"nothing is generated under the name {name!r}")
    return made[name]()


def with_tables(text: str) -> str:
    """A page with its tables made anew."""
    return _REGION.sub(lambda match: match[1] + table(match[2]) + match[3], text)


# -- console blocks --------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """What the commands of a page find in their folder: the examples."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignored)


def console_commands(text: str) -> Iterator[tuple[str, int]]:
    """The commands of a page's console blocks, and the exit code the page shows for each."""
    for match in _CONSOLE.finditer(text):
        for part in re.split(r"^\$ ", match[2], flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            shown = re.search(r"^\[exit code (\d+)\]$", output, re.MULTILINE)
            yield command, int(shown[1]) if shown else 0


def with_output(text: str) -> str:
    """A page with the output of its console blocks made anew."""
    if not _CONSOLE.search(text):
        return text
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        prepare(folder)

        def run(match: re.Match[str]) -> str:
            commands = re.findall(r"^\$ (.*)$", match[2], re.MULTILINE)
            return match[1] + "\n".join(_run(command, folder) for command in commands) + match[3]

        return _CONSOLE.sub(run, text)


def _run(command: str, folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PATH": path, "COLUMNS": "120"}, check=False,
    )  # fmt: skip
    output = "\n".join(line.rstrip() for line in done.stdout.replace(f"{folder}/", "").splitlines())
    lines = [f"$ {command}", *([output] if output else [])]
    if done.returncode:
        lines.append(f"[exit code {done.returncode}]")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tables", action="store_true", help="leave the output of commands as it is")
    parser.add_argument("--check", action="store_true", help="name the files whose tables are not current")
    parser.add_argument("page", nargs="*", type=Path, help="pages (default: all)")
    options = parser.parse_args()
    stale = []
    for path in options.page or pages():
        text = path.read_text(encoding="utf-8")
        made = with_tables(text)
        if not (options.tables or options.check):
            made = with_output(made)
        if made != text:
            stale.append(path)
            if not options.check:
                path.write_text(made, encoding="utf-8")
    for path in stale:
        print(("stale: " if options.check else "wrote ") + path.name)
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
