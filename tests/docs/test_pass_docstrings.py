"""The docstrings of pass files and of their rules show IR before and after; here it runs."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from pathlib import Path

import pytest
import torch

import anec
from anec.api.text import optimize
from anec.check.draw import draw
from anec.ir.graph import Module
from anec.ir.types import StateType
from anec.pipeline import registry
from docstring_ir import BadExample, examples, is_sketch, paragraphs
from docstring_modules import build, compare

ROOT = Path(__file__).parents[2]
# So many examples may be marked as not run.
SKETCHES = 1
# Packages whose rules show IR each, in their own docstrings; those of others may leave it to the file's.
RULES_SHOWN = (
    "activations",
    "attention",
    "attention_masks",
    "canonicalize",
    "custom_norms",
    "fp16_safe",
    "mil_cleanup",
)


def pass_of(path: Path) -> str:
    """The pass a file belongs to: registered in it, or in the package it is in; else nothing."""
    names = path.relative_to(ROOT).with_suffix("").parts
    module = ".".join(("anec", *(names[:-1] if names[-1] == "__init__" or len(names) > 2 else names)))
    found = [name for name, cls in registry.passes().items() if cls.__module__ == module]
    return found[0] if found else ""


def has_rules(path: Path) -> bool:
    """True for files that define a pass or a list of rules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    targets = [t for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign))
               for t in (node.targets if isinstance(node, ast.Assign) else [node.target])]  # fmt: skip
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    decorators = [d for node in tree.body if isinstance(node, ast.ClassDef) for d in node.decorator_list]
    return "RULES" in names or any(isinstance(d, ast.Name) and d.id == "register" for d in decorators)


FILES = [path for path in sorted((ROOT / "passes").rglob("*.py")) if pass_of(path) and has_rules(path)]


def blocks(path: Path) -> list[list[str]]:
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return list(paragraphs(doc))


@functools.cache
def rule_docstrings(path: Path) -> dict[str, str]:
    """By rule, its docstring; rules that a function makes too."""
    functions = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    ]
    rules = [node for node in functions if any(is_rewrite(decorator) for decorator in node.decorator_list)]
    return {node.name: ast.get_docstring(node) or "" for node in rules}


def rule_blocks(path: Path) -> dict[str, list[list[str]]]:
    """By rule, what its own docstring shows."""
    return {name: list(paragraphs(doc)) for name, doc in rule_docstrings(path).items()}


def is_rewrite(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "rewrite"


def inputs_of(module: Module) -> dict[str, torch.Tensor] | None:
    """Example inputs, for passes that measure; None where a size is symbolic."""
    generator = torch.Generator().manual_seed(0)
    values = [value for value in module.main.inputs if not isinstance(value.type, StateType)]
    return None if module.dims else {value.name: draw(value, generator) for value in values}


def run(lines: list[str], pass_name: str, rule: str = "") -> str:
    """Run the examples of a paragraph, in which ``rule`` must fire; what is wrong with them, or nothing."""
    try:
        found = examples(lines)
        for example in found:
            module = build(example)
            after, report = optimize(module, example.pass_name or pass_name, check="rewrites", inputs=inputs_of(module))
            problem = compare(example, after)
            if problem:
                return problem
            if rule and not any(rule in each.fired for each in report.passes):
                return f"{rule} does not fire in its own example"
    except (BadExample, anec.AnecError) as error:
        return str(error)
    return ""


RULE_FILES = [path for path in FILES if any(rule_blocks(path).values())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "passes")))
def test_before_becomes_after(path: Path) -> None:
    found = blocks(path)
    assert found, "the docstring shows no IR before and after"
    problems = [problem for lines in found if not is_sketch(lines) and (problem := run(lines, pass_of(path)))]
    assert not problems, "\n\n".join(problems)


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: str(path.relative_to(ROOT / "passes")))
def test_before_becomes_after_in_the_docstring_of_a_rule(path: Path) -> None:
    found = rule_blocks(path)
    if path.parent.name in RULES_SHOWN:
        assert all(found.values()), [rule for rule, shown in found.items() if not shown]
    problems = [
        f"{rule}: {problem}"
        for rule, shown in found.items()
        for lines in shown
        if not is_sketch(lines) and (problem := run(lines, pass_of(path), rule))
    ]
    assert not problems, "\n\n".join(problems)


def test_no_example_of_a_rule_is_left_out() -> None:
    """What looks like IR before and after is read as such, in a file whose examples run."""
    missed = []
    for path in sorted((ROOT / "passes").rglob("*.py")):
        for rule, doc in rule_docstrings(path).items():
            shown = [
                part for part in re.split(r"\n\s*\n", doc) if "%" in part and re.search(r"(?:^|\s)->(?:\s|$)", part)
            ]
            run_here = rule_blocks(path)[rule] if path in RULE_FILES else []
            if len(shown) != len(run_here):
                missed.append(f"{path.name}: {rule} shows {len(shown)} examples, of which {len(run_here)} run")
    assert not missed, missed
    assert {path.parent.name for path in RULE_FILES} >= {*RULES_SHOWN, "ane_layout", "ane_legalize"}


def test_plugin_example() -> None:
    path = ROOT / "examples" / "plugin" / "fuse_gelu.py"
    registry.load_plugin(str(path))
    (lines,) = blocks(path)
    assert run(lines, "fuse-gelu") == ""


def test_few_are_sketches() -> None:
    sketches = [path.name for path in FILES for lines in blocks(path) if is_sketch(lines)]
    assert len(sketches) <= SKETCHES, sketches
    only = [path.name for path in FILES if all(is_sketch(lines) for lines in blocks(path))]
    assert not only, f"{only} run nothing"


def test_a_wrong_example_is_found() -> None:
    lines = ["%1 = mil.mul(%x, 2.0)", "%y = mil.mul(%1, 3.0)     ->     %y = mil.mul(%x, 6.0)"]
    assert run(lines, "mil-cleanup") == ""
    assert "6.0" in run([lines[0], lines[1].replace("6.0", "5.0")], "mil-cleanup")
    assert "mil.add" in run([lines[0], lines[1].replace("->     %y = mil.mul", "->     %y = mil.add")], "mil-cleanup")


def test_every_pass_file_is_importable() -> None:
    for path in FILES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        importlib.import_module(".".join(("anec", *(p for p in parts if p != "__init__"))))
