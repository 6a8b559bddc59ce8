"""The laws of the text form: parse(print(m)) is m, and canonical text prints back to itself."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anec.dialects import registry
from anec.ir.attrs import Attr, Literal, attr_key, format_attr, same_attr
from anec.ir.diff import differences, same
from anec.ir.graph import Module
from anec.ir.parser import parse_module, parse_type
from anec.ir.reading import LineReader
from anec.ir.types import Type
from anec.pipeline.clone import clone
from random_ir import attrs, literals, modules, types

laws = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def read_attr(text: str) -> Attr:
    reader = LineReader(text, "text")
    assert reader.next_line()
    found = reader.attribute()
    reader.end()
    return found


@laws
@given(modules())
def test_modules_survive_their_text(module: Module) -> None:
    text = str(module)
    text.encode()
    read = parse_module(text, registry)
    assert differences(module, read) == []
    assert str(read) == text
    assert read.meta == module.meta


@laws
@given(modules())
def test_a_copy_is_the_same_and_apart(module: Module) -> None:
    copy = clone(module)
    assert same(module, copy)
    assert list(copy.weights) == list(module.weights)
    text = str(module)
    for graph in copy.functions.values():
        for op in graph.ops():
            for index, operand in enumerate(op.operands):
                assert operand is None or isinstance(operand, Literal) or operand.graph is graph, (op, index)
        for value in list(graph.values.values()):
            graph.rename(value, "renamed")
    assert str(module) == text


@laws
@given(modules())
def test_names_do_not_count_when_told_so(module: Module) -> None:
    copy = clone(module)
    for graph in copy.functions.values():
        for op in graph.ops():
            for value in op.results:
                graph.rename(value, "other")
    assert same(module, copy, names=False)


@given(attrs)
def test_attributes_survive_their_text(value: Attr) -> None:
    text = format_attr(value)
    assert "\n" not in text
    assert same_attr(read_attr(text), value)


@given(attrs, attrs)
def test_keys_tell_attributes_apart(left: Attr, right: Attr) -> None:
    assert (attr_key(left) == attr_key(right)) == same_attr(left, right)


@given(literals)
def test_literals_are_hashable_and_equal_to_themselves(literal: Literal) -> None:
    twin = Literal(literal.value, literal.dtype)
    assert literal == twin
    assert hash(literal) == hash(twin)


@given(types)
def test_types_survive_their_text(type_: Type) -> None:
    assert parse_type(str(type_)) == type_


@laws
@given(modules(), st.data())
def test_any_change_of_an_attribute_is_seen(module: Module, data: st.DataObject) -> None:
    ops = [op for op in module.ops() if op.attrs]
    if not ops:
        return
    op = data.draw(st.sampled_from(ops))
    name = data.draw(st.sampled_from(sorted(op.attrs)))
    before = clone(module)
    new = data.draw(attrs.filter(lambda value: not same_attr(value, op.attrs[name])))
    op.set_attr(name, new)
    assert not same(before, module)
    assert not same(before, module, names=False)
