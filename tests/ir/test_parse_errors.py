"""What the parser says of bad text: the message, the line, the lines around it."""

from __future__ import annotations

import pytest

from anec.dialects import registry
from anec.errors import AnecError
from anec.ir.parser import parse_module

HEAD = "anec 1\nmodule target=iOS18\n\n"
GOOD = HEAD + "func main(%x: f32[2]) -> (%y: f32[2]) {\n  %y = mil.relu(%x) : f32[2]\n  return %y\n}\n"


def body(*lines: str) -> str:
    return (
        HEAD
        + "func main(%x: f32[2]) -> (%y: f32[2]) {\n"
        + "".join(f"  {line}\n" for line in lines)
        + "  return %y\n}\n"
    )


BAD = [
    ("", "the first line must be 'anec 1'", 1),
    ("anec 2\n", "the first line must be 'anec 1'", 1),
    (HEAD, "the module has no function", 4),
    (GOOD.replace("iOS18", "iOS"), "unknown target 'iOS'", 2),
    (GOOD.replace("iOS18", "iOS18 or so"), "unexpected 'or so' at the end of the line", 2),
    (GOOD.replace("module", "modul"), "unexpected 'modul'", 2),
    (GOOD.replace("anec 1\n", "anec 1\ndims S in 9..2\n"), "S has no size in 9..2", 2),
    (GOOD.replace("anec 1\n", "anec 1\ndims S 1..2\n"), "cannot read 'S 1..2'", 2),
    (GOOD.replace("anec 1\n", 'anec 1\nmeta "a" = "\\q"\n'), "cannot read the string", 2),
    (GOOD.replace("anec 1\n", 'anec 1\nweight "w" : f32[2] @ "f.bin" 3\n'), "expected `+offset sha256:digest`", 2),
    (GOOD + GOOD.removeprefix(HEAD), "two functions are called main", 11),
    (GOOD.replace("  return %y\n", ""), "has no return", 6),
    (GOOD.replace("return %y", "return %y, %x"), "1 outputs are declared, 2 returned", 6),
    (GOOD.replace("return %y\n}", "return %y\n  %z = mil.relu(%y) : f32[2]\n}"), "expected '}' behind return", 7),
    (GOOD.replace("(%x: f32[2])", "(%x: f32[2], %x: f32[2])", 1), "two inputs are called %x", 4),
    (GOOD.replace("(%x: f32[2])", "(%x: f33[2])", 1), "'f33[2]' is not a type", 4),
    (GOOD.replace("(%x: f32[2])", "(%x: f32[1//0])", 1), "a dimension is divided by 0", 4),
    (GOOD.replace("(%x: f32[2])", '(%x: f32[2] {kind="sound"})', 1), 'unknown kind "sound"', 4),
    (GOOD.replace("(%x: f32[2])", "(%x: f32[2] {boundary=3})", 1), "the boundary 3 is no dtype", 4),
    (GOOD.replace("(%x: f32[2])", "(%x: f32[2] {colour=3})", 1), "a port has no 'colour'", 4),
    (GOOD.replace("(%x: f32[2])", '(%x: f32[2] {scale="a"})', 1), "scale is a number", 4),
    (GOOD.replace("(%x: f32[2])", '(%x: f32[2] {type="f3"})', 1), "'f3' is not a type", 4),
    (GOOD.replace(") {\n", ") { %y\n"), "unexpected '%y' at the end of the line", 4),
    (body("%y = mil.reluu(%x) : f32[2]"), "there is no op mil.reluu", 5),
    (body("%y = mli.relu(%x) : f32[2]"), "there is no op mli.relu", 5),
    (body("%y = mil.relu(%z) : f32[2]"), "%z is used before it is defined", 5),
    (body("%x = mil.relu(%x) : f32[2]"), "%x is defined twice", 5),
    (body("%y, %y = mil.topk(%x) : f32[1], i32[1]"), "%y is defined twice", 5),
    (body("%y = mil.relu() : f32[2]"), "mil.relu needs 'x'", 5),
    (body("%y = mil.relu(%x, %x) : f32[2]"), "expected ')', found ','", 5),
    (body("%y = mil.relu(%x) {alpha=1.0} : f32[2]"), "mil.relu has no attribute 'alpha'", 5),
    (body("%y = mil.clip(%x) {alpha=1.0} : f32[2]"), "mil.clip needs 'beta'", 5),
    (body("%y = mil.clip(%x) {alpha=1.0, alpha=2.0} : f32[2]"), "alpha is given twice", 5),
    (body("%y = mil.clip(%x) {alpha=1.0.0} : f32[2]"), "expected '}'", 5),
    (body("%y = mil.clip(%x) {alpha=(S+)} : f32[2]"), "cannot read the dimension 'S+'", 5),
    (body("%y = mil.add(%x, 1.0:f31) : f32[2]"), "unknown dtype 'f31'", 5),
    (body("%y = mil.relu(%x)"), "expected ':', found 'the end of the line'", 5),
    (body("%y = mil.relu(%x) : f32[2], f32[2]"), "1 results, 2 types", 5),
    (body("%y = mil.relu(%x) : f32"), "expected a type at 'f32'", 5),
    (body("%y = mil.relu(%x) : f32[2] and more"), "unexpected 'and more' behind the op", 5),
    (body("%y = mil.relu(%x : f32[2]"), "expected ')', found ':'", 5),
    (body("%y = mil.concat(%x) : f32[2]"), "expected '[', found '%x'", 5),
    (body('%w = weight "w" : f32[2]', '%v = weight "w" : f32[2]'), "the weight 'w' is %w already", 6),
    (body('%w = weight "w" : state<f32[2]>'), "a weight is a tensor", 5),
    (body("%y = $mil.relu(%x) : f32[2]"), "unexpected '$mil.relu(%x) : f32['", 5),
]


@pytest.mark.parametrize(("text", "message", "line"), BAD, ids=[message[:40] for _, message, _ in BAD])
def test_bad_text(text: str, message: str, line: int) -> None:
    with pytest.raises(AnecError) as caught:
        parse_module(text, registry, source="model.anec")
    error = caught.value
    assert message in error.message
    assert error.where == f"model.anec:{line}"
    assert error.window is not None
    marked = [shown for shown in error.window.splitlines() if shown.startswith(">")]
    assert marked == [f"> {text.split(chr(10))[line - 1]}"]


def test_hints_name_the_nearest_op() -> None:
    with pytest.raises(AnecError) as caught:
        parse_module(body("%y = mli.relu(%x) : f32[2]"), registry)
    assert "'mil.relu'" in (caught.value.hint or "")


def test_a_bad_name_leaves_the_registry_as_it_was() -> None:
    before = set(registry.dialects)
    with pytest.raises(AnecError):
        parse_module(body("%y = nowhere.relu(%x) : f32[2]"), registry)
    assert set(registry.dialects) == before


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", "\n; a comment\n"])
def test_line_ends_and_comments_are_free(ending: str) -> None:
    read = parse_module(GOOD.replace("\n", ending), registry)
    assert str(read) == GOOD
