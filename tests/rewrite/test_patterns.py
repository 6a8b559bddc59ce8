"""Every feature of the pattern language: what fires, what must not, what is captured."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anec import any_of, aten, constant, mil, optional, rest, rewrite, var
from anec.errors import AnecError
from anec.ir.attrs import Attr, Literal
from anec.ir.build import Builder
from anec.ir.graph import Op, Value
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight
from anec.rewrite import Rule
from anec.rewrite.pattern import as_pattern, depth
from rewriting import fires, lines, module_of, run

x, y, z = var("x"), var("y"), var("z")


def to_abs(*patterns: Any, **settings: Any) -> Rule:
    """A rule that puts abs of the capture x in the place of what it matches."""

    def replace(x: Value) -> Value:
        return mil.abs(x)

    return rewrite(*patterns, **settings)(replace)


def test_an_op_and_its_operand() -> None:
    rule = to_abs(mil.relu(mil.relu(x)))
    assert fires(rule, lambda a: mil.relu(mil.relu(a)))
    assert not fires(rule, lambda a: mil.relu(mil.tanh(a)))
    assert not fires(rule, lambda a: mil.relu(a))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_commutative_ops_match_both_ways(swapped: bool, inner: bool) -> None:
    rule = to_abs(mil.add(mil.tanh(x), mil.mul(x, 2.0)))

    def program(a: Value) -> Value:
        left, right = mil.tanh(a), mil.mul(2.0, a) if inner else mil.mul(a, 2.0)
        return mil.add(right, left) if swapped else mil.add(left, right)

    assert fires(rule, program)


def test_other_ops_match_one_way() -> None:
    rule = to_abs(mil.sub(x, 1.0))
    assert fires(rule, lambda a: mil.sub(a, 1.0))
    assert not fires(rule, lambda a: mil.sub(1.0, a))


def test_torch_add_with_alpha_is_not_commutative() -> None:
    @rewrite(aten.add.Tensor(aten.relu.default(x), y, alpha=var("alpha")))
    def scaled(x: Value, y: Value, alpha: float) -> Value:
        return aten.add.Tensor(x, y, alpha=alpha)

    assert fires(scaled, lambda a, b: aten.add.Tensor(aten.relu.default(a), b, alpha=2), "f32[2]", "f32[2]")
    assert fires(scaled, lambda a, b: aten.add.Tensor(b, aten.relu.default(a)), "f32[2]", "f32[2]")
    assert not fires(scaled, lambda a, b: aten.add.Tensor(b, aten.relu.default(a), alpha=2), "f32[2]", "f32[2]")


def test_commutative_ops_match_both_ways_when_only_one_operand_is_named() -> None:
    def replace(op: Op) -> Value:
        return mil.sub(op.operand("x"), op.operand("y"))

    rule = rewrite(mil.mul(mil.tanh(x), rest))(replace)
    assert fires(rule, lambda a, b: mil.mul(mil.tanh(a), b), "f32[2]", "f32[2]")
    assert fires(rule, lambda a, b: mil.mul(b, mil.tanh(a)), "f32[2]", "f32[2]")


def test_the_same_name_is_the_same_value() -> None:
    rule = to_abs(mil.mul(x, mil.tanh(x)))
    assert fires(rule, lambda a, b: mil.mul(a, mil.tanh(a)), "f32[2]", "f32[2]")
    assert not fires(rule, lambda a, b: mil.mul(a, mil.tanh(b)), "f32[2]", "f32[2]")


@pytest.mark.parametrize(
    ("number", "hit"), [(1.702, True), (1.7020001, True), (1.7021, False), (1.5, False), (-1.702, False), (2, False)]
)
def test_numbers_match_with_a_tolerance(number: float, hit: bool) -> None:
    assert fires(to_abs(mil.mul(x, 1.702)), lambda a: mil.mul(a, number)) is hit


@pytest.mark.parametrize(
    ("wanted", "number", "hit"),
    [(0, 0.0, True), (0, 1e-13, True), (0, 1e-9, False), (2, 2.0, True), (float("inf"), float("inf"), True),
     (float("-inf"), float("inf"), False), (True, 1.0, False), (1, True, False)],
)  # fmt: skip
def test_numbers_of_every_kind(wanted: float, number: float, hit: bool) -> None:
    assert fires(to_abs(mil.add(x, wanted)), lambda a: mil.add(a, Literal(number, DType.F32))) is hit


@pytest.mark.parametrize(
    ("shape", "number", "hit"),
    [
        ((), 2.0, True),
        ((1,), 2.0, True),
        ((1, 1), 2.0, True),
        ((2,), 2.0, False),
        ((1,), 3.0, False),
        ((1, 1, 1), 2.0, False),
    ],
)
def test_numbers_match_weights_of_one_element(shape: tuple[int, ...], number: float, hit: bool) -> None:
    """One with more axes than the other operand decides the result's rank, and is no plain number."""

    weight = Weight("w", TensorType(DType.F32, shape), TensorData(torch.full(shape, number)))
    module = module_of(mil.tanh, "f32[4,2]")
    graph = module.main
    constant = graph.add_weight(module.add_weight(weight))
    with Builder(graph).active():
        graph.outputs = [mil.mul(graph.inputs[0], constant)]
    assert bool(run(module, to_abs(mil.mul(x, 2.0))).fired) is hit


def test_any_of_takes_the_first_that_fits() -> None:
    rule = to_abs(mil.relu(any_of(mil.tanh(x), mil.sigmoid(x), mil.add(x, any_of(1, 2)))))
    for function in (mil.tanh, mil.sigmoid, lambda a: mil.add(a, 2.0)):
        assert fires(rule, lambda a, f=function: mil.relu(f(a)))
    assert not fires(rule, lambda a: mil.relu(mil.add(a, 3.0)))
    either = to_abs(any_of(mil.tanh(x), mil.sigmoid(x)))
    assert [root.name for root in either.roots] == ["mil.tanh", "mil.sigmoid"]
    assert fires(either, mil.sigmoid)


def test_any_of_attributes() -> None:
    rule = to_abs(mil.gelu(x, mode=any_of("TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")))
    assert fires(rule, lambda a: mil.gelu(a, mode="SIGMOID_APPROXIMATION"))
    assert not fires(rule, lambda a: mil.gelu(a, mode="EXACT"))


def linear(a: Value, weight: Value, bias: Value) -> tuple[Value, Value]:
    return aten.linear.default(a, weight), aten.linear.default(a, weight, bias)


def test_optional_absent_and_required_operands() -> None:
    seen: list[Any] = []

    @rewrite(aten.linear.default(x, y, optional(var("bias"))))
    def either(x: Value, y: Value, bias: Value | None) -> Value:
        seen.append(bias)
        made = aten.matmul.default(x, aten.t.default(y))
        return made if bias is None else aten.add.Tensor(made, bias)

    module = module_of(linear, "f32[2,3]", "f32[4,3]", "f32[4]")
    assert run(module, either).fired == {"either": 2}
    assert seen == [None, module.main.inputs[2]]
    without = rewrite(aten.linear.default(x, y, None))(lambda x, y: aten.matmul.default(x, aten.t.default(y)))
    assert run(module_of(linear, "f32[2,3]", "f32[4,3]", "f32[4]"), without).fired == {without.name: 1}
    given = rewrite(aten.linear.default(x, y, z))(lambda x, y, z: aten.addmm.default(z, x, aten.t.default(y)))
    assert run(module_of(linear, "f32[2,3]", "f32[4,3]", "f32[4]"), given).fired == {given.name: 1}


def test_what_is_not_mentioned_must_be_at_its_default() -> None:
    """An operand or attribute that a pattern does not name is absent, or what it is by default."""
    plain = rewrite(aten.linear.default(x, y))(lambda x, y: aten.matmul.default(x, aten.t.default(y)))
    assert run(module_of(linear, "f32[2,3]", "f32[4,3]", "f32[4]"), plain).fired == {plain.name: 1}
    added = rewrite(aten.add.Tensor(x, y))(lambda x, y: aten.sub.Tensor(x, y))
    assert fires(added, lambda a: aten.add.Tensor(a, a))
    assert fires(added, lambda a: aten.add.Tensor(a, a, alpha=1))
    assert not fires(added, lambda a: aten.add.Tensor(a, a, alpha=2))


def test_rest_lets_it_be_anything() -> None:
    free = rewrite(aten.linear.default(x, rest))(
        lambda x, op: aten.sigmoid.default(aten.mm.default(x, aten.t.default(op.value("weight"))))
    )
    assert run(module_of(linear, "f32[2,3]", "f32[4,3]", "f32[4]"), free).fired == {free.name: 2}
    scaled = rewrite(aten.add.Tensor(x, y, rest))(lambda x, y: aten.sub.Tensor(x, y))
    assert fires(scaled, lambda a: aten.add.Tensor(a, a, alpha=2))


def test_an_op_alone_matches_any_such_op() -> None:
    scaled = rewrite(aten.add.Tensor)(lambda op: aten.sub.Tensor(op.value("self"), op.value("other")))
    assert fires(scaled, lambda a: aten.add.Tensor(a, a, alpha=2))
    packet = rewrite(aten.relu)(lambda op: aten.abs.default(op.value("self")))
    assert fires(packet, aten.relu.default)


def test_attributes_are_compared_and_bound() -> None:
    seen: list[Attr] = []

    @rewrite(mil.softmax(mil.clip(x, alpha=0.0, beta=var("top")), axis=var("axis")))
    def clipped(x: Value, top: float, axis: int) -> Value:
        seen.extend((top, axis))
        return mil.softmax(x, axis=axis)

    assert fires(clipped, lambda a: mil.softmax(mil.clip(a, alpha=0.0, beta=6.0), axis=-1))
    assert fires(clipped, lambda a: mil.softmax(mil.clip(a, alpha=1e-9 - 1e-9, beta=7.0), axis=0))
    assert not fires(clipped, lambda a: mil.softmax(mil.clip(a, alpha=0.5, beta=6.0), axis=1))
    assert seen == [6.0, -1, 7.0, 0]


def test_an_attribute_bound_twice_must_be_equal() -> None:
    rule = to_abs(mil.softmax(mil.softmax(x, axis=var("axis")), axis=var("axis")))
    assert fires(rule, lambda a: mil.softmax(mil.softmax(a, axis=1), axis=1))
    assert not fires(rule, lambda a: mil.softmax(mil.softmax(a, axis=0), axis=1))


def test_lists_of_operands() -> None:
    two = to_abs(mil.concat([x, mil.tanh(y)], axis=0))
    assert not fires(two, lambda a: mil.concat([a, mil.tanh(a), a], axis=0))
    assert not fires(two, lambda a: mil.concat([mil.tanh(a), a], axis=0))

    @rewrite(mil.concat([mil.tanh(x), mil.tanh(y)], axis=var("axis")))
    def after(x: Value, y: Value, axis: int) -> Value:
        return mil.tanh(mil.concat([x, y], axis=axis))

    assert fires(after, lambda a: mil.concat([mil.tanh(a), mil.tanh(a)], axis=0))
    assert not fires(after, lambda a: mil.concat([mil.tanh(a), a], axis=0))


def test_a_list_bound_whole() -> None:
    @rewrite(mil.concat(var("parts"), axis=1))
    def magnitudes(parts: tuple[Value, ...]) -> Value:
        return mil.concat([mil.abs(part) for part in parts], axis=-1)

    module = module_of(lambda a, b: mil.concat([a, b, a], axis=1), "f32[2,2]", "f32[2,3]")
    assert run(module, magnitudes).fired == {"magnitudes": 1}
    assert lines(module)[-1] == "%concat = mil.concat([%concat_abs, %concat_abs_1, %concat_abs_2]) {axis=-1}"
    same = to_abs(mil.add(mil.concat(var("parts"), axis=0), mil.relu(mil.concat(var("parts"), axis=0))).named("x"))
    assert same.parameters == ("x",)


def test_lists_of_attributes() -> None:
    rule = to_abs(mil.transpose(mil.transpose(x, perm=[1, 0]), perm=[1, 0]))
    assert fires(rule, lambda a: mil.transpose(mil.transpose(a, perm=[1, 0]), perm=[1, 0]))
    assert not fires(rule, lambda a: mil.transpose(mil.transpose(a, perm=[0, 1]), perm=[1, 0]), "f32[2,2]")
    shaped = to_abs(mil.reshape(mil.reshape(x, [8]), [2, 4]))
    assert fires(shaped, lambda a: mil.reshape(mil.reshape(a, [8]), [2, 4]))
    assert not fires(shaped, lambda a: mil.reshape(mil.reshape(a, [8]), [2, -1]))


@pytest.mark.parametrize("index", [0, 1])
def test_a_result_by_its_index(index: int) -> None:
    rule = rewrite(mil.relu(mil.split(x, num_splits=2, axis=1)[1]))(lambda x: mil.slice_by_index(x, [0, 2], [2, 4]))
    assert fires(rule, lambda a: mil.relu(mil.split.many(a, num_splits=2, axis=1)[index])) is (index == 1)


def test_constants_only() -> None:
    rule = rewrite(mil.add(x, constant("c")))(
        lambda x, c: mil.sub(x, mil.mul(c, -1.0) if isinstance(c, Value) else -c.value)
    )
    assert fires(rule, lambda a: mil.add(a, 2.0))
    assert not fires(rule, lambda a: mil.add(a, mil.tanh(a)))


def test_conditions_on_values() -> None:
    rule = to_abs(mil.relu(var("x", where=lambda value: value.rank == 2)))
    assert fires(rule, mil.relu, "f32[2,2]")
    assert not fires(rule, mil.relu, "f32[2]")


def test_a_named_interior_value() -> None:
    @rewrite(mil.add(mil.tanh(x).named("inner"), 1.0))
    def keep(inner: Value) -> Value:
        return mil.sub(inner, -1.0)

    module = module_of(lambda a: mil.add(mil.tanh(a), 1.0))
    run(module, keep)
    assert lines(module) == ["%tanh = mil.tanh(%x0)", "%add = mil.sub(%tanh, -1.0)"]


def two_products(a: Value) -> tuple[Value, Value]:
    return mil.mul(a, 2.0), mil.mul(a, 3.0)


def test_several_roots() -> None:
    @rewrite(mil.mul(x, 2.0), mil.mul(x, 3.0))
    def both(x: Value) -> tuple[Value, Value]:
        twice = mil.add(x, x)
        return twice, mil.add(twice, x)

    module = module_of(two_products)
    assert run(module, both).fired == {"both": 1}
    assert lines(module) == ["%mul = mil.add(%x0, %x0)", "%mul_1 = mil.add(%mul, %x0)"]
    apart = module_of(lambda a, b: (mil.mul(a, 2.0), mil.mul(b, 3.0)), "f32[2]", "f32[2]")
    missed = run(apart, both)
    assert not missed.fired
    assert missed.misses["both"].reason == "no mil.mul beside it fits"


def test_several_roots_share_attributes() -> None:
    """Equal lists are equal captures, whichever objects they are."""

    @rewrite(mil.reduce_sum(x, axes=var("axes")), mil.reduce_max(x, axes=var("axes")))
    def both(x: Value, axes: Attr) -> tuple[Value, Value]:
        return mil.reduce_mean(x, axes=axes), mil.reduce_min(x, axes=axes)

    assert fires(both, lambda a: (mil.reduce_sum(a, axes=[0, 1]), mil.reduce_max(a, axes=[0, 1])))
    assert not fires(both, lambda a: (mil.reduce_sum(a, axes=[0, 1]), mil.reduce_max(a, axes=[0])))


def test_several_roots_with_a_user_in_between() -> None:
    """New ops stand where all captures are defined and no user has passed; if nowhere, the rule does not fire."""

    @rewrite(mil.mul(x, 2.0), mil.mul(y, mil.tanh(x)))
    def both(x: Value, y: Value) -> tuple[Value, Value]:
        return mil.add(x, x), mil.sub(y, x)

    early = module_of(lambda a, b: (mil.relu(mil.mul(a, 2.0)), mil.mul(b, mil.tanh(a))), "f32[2]", "f32[2]")
    assert run(early, both).fired == {"both": 1}
    late = module_of(lambda a: (mil.mul(mil.relu(mil.mul(a, 2.0)), mil.tanh(a)),), "f32[2]")
    statistics = run(late, both)
    assert not statistics.fired
    assert statistics.misses["both"].reason == "what stands between its roots uses them"


def test_patterns_know_their_captures_and_depth() -> None:
    pattern = mil.add(any_of(mil.tanh(x), y), optional(mil.concat([z, mil.relu(mil.relu(x))], axis=0)))
    assert depth(as_pattern(pattern)) == 4
    assert list(as_pattern(pattern).captures()) == ["x", "y", "z", "x"]


def test_wrong_patterns_are_refused_where_they_are_written() -> None:
    with pytest.raises(AnecError, match="asks for 'w', which its pattern does not capture") as caught:
        rewrite(mil.relu(x))(lambda w: w)
    assert "captures: x; also op, ops, opts, ctx" in (caught.value.hint or "")
    assert "test_patterns.py:" in (caught.value.where or "")
    with pytest.raises(AnecError, match="root of a rule's pattern must be an op"):
        rewrite(x)(lambda x: x)
    with pytest.raises(AnecError, match="mil.relu has no parameter 'alpha'"):
        mil.relu(x, alpha=1)
    with pytest.raises(AnecError, match="takes 1 arguments, got 2"):
        mil.relu(x, y)
    with pytest.raises(AnecError, match="got 'x' twice"):
        mil.relu(x, x=y)
