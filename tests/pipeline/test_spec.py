"""Pipelines as text: reading, printing, options, named pipelines, order."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anec.errors import UsageError
from anec.pipeline import registry
from anec.pipeline.base import Lossy, Pass
from anec.pipeline.options import canonical, convert, format_option
from anec.pipeline.spec import (
    DropSpec,
    FixSpec,
    FixStep,
    Item,
    PassSpec,
    build,
    flatten,
    format_pipeline,
    make_pass,
    parse_pipeline,
    with_option,
)  # fmt: skip

names = st.from_regex(r"[a-z][a-z0-9]{0,4}(-[a-z0-9]{1,4}){0,2}", fullmatch=True).filter(lambda name: name != "fix")
values = st.recursive(
    st.text(max_size=6) | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
options = st.lists(st.tuples(names, values.map(format_option)), max_size=3, unique_by=lambda pair: pair[0]).map(tuple)
simple: st.SearchStrategy[Item] = st.builds(PassSpec, names, options) | st.builds(DropSpec, names)
pipelines = st.lists(
    st.recursive(simple, lambda inner: st.builds(FixSpec, st.lists(inner, max_size=3).map(tuple)), max_leaves=4), max_size=4
).map(tuple)


@given(pipelines)
def test_pipelines_survive_their_text(items: tuple[Item, ...]) -> None:
    text = format_pipeline(items)
    assert parse_pipeline(text) == items
    assert format_pipeline(parse_pipeline(text)) == text


@given(values)
def test_option_texts_are_canonical(value: Any) -> None:
    text = format_option(value)
    assert canonical(text) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (" a , b ", "a,b"),
        ("a{x=1,y=2}", "a{x=1 y=2}"),
        ("a{ x = 1  y }", "a{x=1 y=true}"),
        ('a{x="1"}', "a{x=1}"),
        ('a{x="one two"}', 'a{x="one two"}'),
        ("a{x=[1, 2 ,3]}", "a{x=[1,2,3]}"),
        ('a{x=["b c", "d"]}', 'a{x=["b c",d]}'),
        ("a{x=[[1,2],[3]]}", "a{x=[[1,2],[3]]}"),
        ('a{x="say \\"hi\\" \\\\"}', 'a{x="say \\"hi\\" \\\\"}'),
        ("fix( a , -b ),-c", "fix(a,-b),-c"),
        ("fix(fix(a))", "fix(fix(a))"),
        ("fix", "fix"),
        ("a{keep=*softmax*}", "a{keep=*softmax*}"),
        ("a,", "a"),
        ("", ""),
    ],
)
def test_spellings(text: str, printed: str) -> None:
    assert format_pipeline(parse_pipeline(text)) == printed


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("a,,b", "expected the name of a pass", 2),
        ("a b", "unexpected text", 2),
        ("a{x=1", "a brace is not closed", 5),
        ("a{x=}", "expected a value", 4),
        ("a{x=[1,2}", "expected a value", 4),
        ("a{x=[1,2", "a bracket is not closed", 4),
        ('a{x="1}', "expected a value", 4),
        ("a{x=1 x=2}", "x is given twice", 6),
        ("fix(a", "a parenthesis is not closed", 5),
        ("a)", "unexpected text", 1),
        ("-", "expected the name of a pass", 1),
        ("a{=1}", "expected the name of a pass", 2),
    ],
)
def test_errors_point_at_the_place(text: str, message: str, column: int) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(text)
    assert message in caught.value.message
    assert caught.value.window is not None
    assert caught.value.window.split("\n") == [text, " " * column + "^"]


# -- options -------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


@dataclass
class Every(Pass):
    """One option of each type."""

    name = "every"

    count: int = 1
    scale: float = 0.5
    on: bool = False
    word: str = "w"
    maybe: int | None = None
    either: int | str = 0
    kind: Literal["a", "b", 3] = "a"
    several: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    nested: tuple[tuple[int, ...], ...] = ()
    many: list[int] = field(default_factory=list)
    colour: Colour = Colour.RED
    path: Path = Path()


@dataclass
class Auto(Pass):
    """A number, or a word in its place."""

    name = "auto"

    count: int | Literal["auto"] = "auto"


@dataclass
class Needs(Pass):
    """An option without a default."""

    name = "needs"

    size_limit: int


@pytest.fixture(autouse=True)
def passes(fresh_registry: None) -> None:
    for cls in (Every, Auto, Needs, First, Second, Rough):
        registry.register(cls)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("count=-3 scale=1e-4 on=true word=x", {"count": -3, "scale": 1e-4, "on": True, "word": "x"}),
        ("on", {"on": True}),
        ("scale=inf", {"scale": float("inf")}),
        ("maybe=4", {"maybe": 4}),
        ("maybe=none", {"maybe": None}),
        ("either=4", {"either": 4}),
        ("either=four", {"either": "four"}),
        ("kind=b", {"kind": "b"}),
        ("kind=3", {"kind": 3}),
        ("several=a", {"several": ("a",)}),
        ('several="a, b"', {"several": ("a", "b")}),
        ('several=["a, b",c]', {"several": ("a, b", "c")}),
        ("several=[]", {"several": ()}),
        ("pair=[3,4]", {"pair": (3, 4.0)}),
        ("nested=[[1,2],[],[3]]", {"nested": ((1, 2), (), (3,))}),
        ("many=[1,2]", {"many": [1, 2]}),
        ('colour="dark blue"', {"colour": Colour.DARK_BLUE}),
        ('word="true"', {"word": "true"}),
        ('word="[a]"', {"word": "[a]"}),
        ('word=""', {"word": ""}),
        ("path=a/b.txt", {"path": Path("a/b.txt")}),
    ],
)
def test_options_become_values_and_text_again(text: str, values: dict[str, Any]) -> None:
    (spec,) = parse_pipeline(f"every{{{text}}}")
    assert isinstance(spec, PassSpec)
    made = make_pass(spec)
    assert {name: getattr(made, name) for name in values} == values
    (again,) = parse_pipeline(made.spec())
    assert isinstance(again, PassSpec)
    assert make_pass(again) == made


def test_a_pass_prints_what_differs_from_its_defaults() -> None:
    assert Every().spec() == "every"
    assert Every(several=("a b", "none"), pair=(1, 0.5), on=True).spec() == 'every{on=true several=["a b","none"] pair=[1,0.5]}'
    assert Needs(size_limit=3).spec() == "needs{size-limit=3}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("every{count=one}", "every{count=...}: 'one' is not an integer"),
        ("every{count=1.5}", "'1.5' is not an integer"),
        ("every{scale=a}", "'a' is not a number"),
        ("every{on=1}", "'1' is neither true nor false"),
        ("every{kind=c}", "'c' is not among a, b, 3"),
        ("every{pair=[1,2,3]}", "3 values, wanted 2"),
        ("every{pair=[1,x]}", "'x' is not a number"),
        ("every{colour=green}", "'green' is not among red, dark blue"),
        ("every{maybe=x}", "'x' is not an integer"),
        ("auto{count=x}", "auto{count=...}: 'x' is neither an integer nor auto"),
        ("every{cuont=1}", "the pass every has no option 'cuont'"),
        ("needs", "the pass needs needs the option size-limit"),
    ],
)
def test_bad_options(text: str, message: str) -> None:
    (spec,) = parse_pipeline(text)
    assert isinstance(spec, PassSpec)
    with pytest.raises(UsageError) as caught:
        make_pass(spec)
    assert message in caught.value.message
    if "cuont" in text:
        assert "'count'" in (caught.value.hint or "")


def test_options_are_spelled_either_way() -> None:
    for text in ("needs{size-limit=2}", "needs{size_limit=2}"):
        (spec,) = parse_pipeline(text)
        assert isinstance(spec, PassSpec)
        assert make_pass(spec) == Needs(size_limit=2)


def test_unknown_types_are_called() -> None:
    assert convert("3", int, "here") == 3
    with pytest.raises(UsageError, match="here: 'x' is not a complex"):
        convert("x", complex, "here")


# -- building ------------------------------------------------------------------------------------------


@dataclass
class First(Pass):
    """Comes first."""

    name = "first"

    level: int = 0


@dataclass
class Second(Pass):
    """Comes after first."""

    name = "second"
    after = ("first",)

    level: int = 0


@dataclass
class Rough(Pass):
    """Loses something."""

    name = "rough"
    fidelity = Lossy("on purpose")


def built(text: str, **named: str) -> str:
    return ",".join(str(step) for step in build(text, {key.replace("_", "-"): value for key, value in named.items()}))


def test_named_pipelines_expand() -> None:
    assert built("every,start,second", start="first,every") == "every,first,every,second"
    assert built("outer", outer="inner,second", inner="first") == "first,second"
    assert built("fix(start)", start="first,second") == "fix(first,second)"


def test_options_go_to_the_passes_that_have_them() -> None:
    assert built("start{level=2}", start="first,every,second") == "first{level=2},every,second{level=2}"
    assert built("start{level=2}", start="first{level=1},fix(second)") == "first{level=2},fix(second{level=2})"
    assert built("outer{level=3}", outer="inner,every", inner="first") == "first{level=3},every"
    with pytest.raises(UsageError, match="no pass of the pipeline start has the option 'lovel'") as caught:
        built("start{lovel=2}", start="first,every")
    assert "'level'" in (caught.value.hint or "")
    assert caught.value.window == "first: level\nevery: " + ", ".join(Every.options())
    with pytest.raises(UsageError, match="no pass of the pipeline outer has the option 'x'"):
        built("outer{x=2}", outer="inner", inner="rough")


NAMED = {"start": "first,every", "outer": "start,rough"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("every,start", "every,start{level=2}"),
        ("outer", "outer{level=2}"),
        (" fix( rough,second ) ,-every", "fix(rough,second{level=2}),-every"),
        ("start{count=3}", "start{count=3 level=2}"),
        ("start{level=2},first", "start{level=2},first{level=2}"),
        ("every,rough", None),
        ("", None),
    ],
)
def test_an_option_for_all_that_have_it(text: str, wanted: str | None) -> None:
    assert with_option(text, "level", "2", NAMED) == wanted
    assert wanted is None or with_option(wanted, "level", "2", NAMED) == wanted


def test_an_option_that_is_given_another_value() -> None:
    with pytest.raises(UsageError, match="start is given level=1 and level=2"):
        with_option("start{level=1}", "level", "2", NAMED)
    with pytest.raises(UsageError, match="there is no pass 'strat'"):
        with_option("strat", "level", "2", NAMED)


def test_dropping() -> None:
    assert built("first,every,-first") == "every"
    assert built("-every,start,fix(every,second)", start="first,every") == "first,fix(second)"
    assert built("start,every", start="first,every,-every") == "first,every", "a drop stays in its pipeline"
    assert built("first,-start,start", start="every") == "first"
    with pytest.raises(UsageError, match="there is no pass 'evry'"):
        built("first,-evry")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is no pass 'evrey'") as caught:
        built("evrey")
    assert "'every'" in (caught.value.hint or "")
    with pytest.raises(UsageError) as caught:
        built("strat", start="first")
    assert "'start'" in (caught.value.hint or "")


def test_a_pipeline_that_contains_itself() -> None:
    with pytest.raises(UsageError, match="the pipeline a -> b -> a contains itself"):
        built("a", a="first,b", b="fix(a)")
    with pytest.raises(UsageError, match="contains itself"):
        built("a", a="a")


def test_the_order_that_a_pass_asks_for() -> None:
    assert built("second") == "second", "after counts only where the other pass is there"
    assert built("first,second,first") == "first,second,first"
    with pytest.raises(UsageError, match="second must come after first") as caught:
        built("second,first")
    assert caught.value.hint == "the pipeline is second,first"


def test_steps_know_who_typed_them() -> None:
    steps = build("every,start,fix(second)", {"start": "rough,fix(first)"})
    assert [(step.pass_.name, step.typed) for step in flatten(steps)] == [
        ("every", True), ("rough", False), ("first", False), ("second", True),
    ]  # fmt: skip
    assert isinstance(steps[2], FixStep)
