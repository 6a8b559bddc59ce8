"""Where passes come from: built in, plugin files, modules; and what goes wrong on the way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import anec
from anec import Pass, mil, rewrite, var
from anec.errors import UsageError
from anec.pipeline import registry
from anec.pipeline.spec import PassSpec, make_pass, parse_pipeline

HEAD = "from __future__ import annotations\nfrom anec import Pass, mil, register, rewrite, var\n"


def write(folder: Path, name: str, body: str) -> str:
    path = folder / name
    path.write_text(HEAD + body, encoding="utf-8")
    return str(path)


def simple(name: str) -> str:
    return f'@register\nclass P(Pass):\n    """Does nothing."""\n    name = "{name}"\n'


def test_built_in_passes_are_there() -> None:
    known = registry.passes()
    assert {"lower-to-mil", "to-fp16", "legalize-io", "legalize-target", "dce", "cse"} <= set(known)
    assert list(known) == sorted(known)
    assert registry.owner("to-fp16") == "anec.passes.to_fp16"


def test_a_plugin_file(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.py", simple("mine"))
    registry.load_plugin(path)
    assert registry.find("mine").name == "mine"
    assert registry.owner("mine") == path
    before = registry.find("mine")
    registry.load_plugin(path)
    assert registry.find("mine") is before, "a plugin is imported once"


def test_a_plugin_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "plugin_module_of_a_test.py", simple("of-a-module"))
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.load_plugin("plugin_module_of_a_test")
    assert registry.owner("of-a-module") == "plugin_module_of_a_test"


def test_options_are_typed_by_names_the_plugin_imports(tmp_path: Path) -> None:
    body = (
        "from typing import Literal\nfrom collections.abc import Sequence\n"
        + simple("typed")
        + '    kind: Literal["a", "b"] = "a"\n    sizes: tuple[int, ...] = ()\n'
    )
    registry.load_plugin(write(tmp_path, "typed.py", body))
    (spec,) = parse_pipeline("typed{kind=b sizes=[1,2]}")
    assert isinstance(spec, PassSpec)
    made = make_pass(spec)
    assert (made.kind, made.sizes) == ("b", (1, 2))  # type: ignore[attr-defined]


def test_two_plugins_with_one_name(tmp_path: Path) -> None:
    first, second = write(tmp_path, "first.py", simple("same")), write(tmp_path, "second.py", simple("same"))
    registry.load_plugin(first)
    with pytest.raises(UsageError) as caught:
        registry.load_plugin(second)
    assert caught.value.message == f"two passes are called 'same': one in {first}, one in {second}"
    assert registry.owner("same") == first


def test_a_plugin_may_not_take_a_built_in_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two passes are called 'dce': one in anec.passes.dce, one in "):
        registry.load_plugin(write(tmp_path, "mine.py", simple("dce")))


FAILING = [
    ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'", 3),
    ("x = 1\ny = x / 0\n", "ZeroDivisionError: division by zero", 4),
    ("def f(:\n", "SyntaxError: invalid syntax", 3),
    ('x = var("x")\n@rewrite(mil.relu(x))\ndef r(y):\n    return y\n', "the rule r asks for 'y'", 4),
    ('x = var("x")\np = mil.reluu(x)\n', "there is no op mil.reluu", 4),
    ("import sys\nsys.exit(3)\n", "SystemExit: 3", 4),
    ("def deep():\n    raise ValueError('here')\nimport re\nre.sub('a', lambda m: deep(), 'a')\n", "ValueError: here", 4),
]


@pytest.mark.parametrize(("body", "message", "line"), FAILING, ids=[message[:20] for _, message, _ in FAILING])
def test_a_plugin_that_does_not_import(tmp_path: Path, body: str, message: str, line: int) -> None:
    path = write(tmp_path, "broken.py", body)
    modules = set(sys.modules)
    with pytest.raises(UsageError) as caught:
        registry.load_plugin(path)
    assert caught.value.message.startswith(f"the plugin {path} does not import: {message}")
    lines = (HEAD + body).splitlines()
    assert caught.value.where in (f"{path}:{line}", f"{path}:{line}: {lines[line - 1].strip()}")
    assert not {name for name in set(sys.modules) - modules if name.startswith("anec_plugin_")}
    Path(path).write_text(HEAD + simple("mended"), encoding="utf-8")
    registry.load_plugin(path)
    assert registry.find("mended")


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.py does not exist"):
        registry.load_plugin(str(tmp_path / "none.py"))
    with pytest.raises(UsageError, match="No module named 'nowhere_to_be_found'"):
        registry.load_plugin("nowhere_to_be_found")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(UsageError, match="is not a Python file"):
        registry.load_plugin(str(text))


def test_a_pass_without_a_name() -> None:
    class Nameless(Pass):
        pass

    with pytest.raises(UsageError, match="the pass Nameless has no name"):
        registry.register(Nameless)


def test_a_plain_class_gets_its_options() -> None:
    @registry.register
    class Plain(Pass):
        name = "plain"
        size: int = 3

    assert list(Plain.options()) == ["size"]
    assert Plain(size=4).spec() == "plain{size=4}"  # type: ignore[call-arg]


def test_the_dialects_a_pass_works_on() -> None:
    x = var("x")
    rule = rewrite(mil.relu(x))(lambda x: mil.abs(x))

    class ByRules(Pass):
        name = "by-rules"
        rules = (rule,)

    class Imperative(Pass):
        name = "imperative"

    assert ByRules.works_on() == {"mil"}
    assert Imperative.works_on() is None


def test_lowerings_of_plugins_come_first() -> None:
    x = var("x")
    one = rewrite(anec.aten.relu.default(x), name="one")(lambda x: mil.abs(x))
    two = rewrite(anec.aten.relu.default(x), name="two")(lambda x: mil.tanh(x))
    anec.register_lowering(one)
    anec.register_lowering(two, one)
    assert registry.lowerings()[:2] == [two, one]


def test_finding_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        registry.find("lower-to-mill")
    assert "'lower-to-mil'" in (caught.value.hint or "")
