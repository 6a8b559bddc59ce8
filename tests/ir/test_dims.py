"""Dimensions: the normal form, the text, and laws against plain arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anec.errors import AnecError
from anec.ir.dims import Bounds, Dim, Expr, evaluate, floordiv, maximum, minimum, mod, parse_dim, symbol
from random_ir import SYMBOLS, dims

S, T = symbol("S"), symbol("T")
sizes = st.fixed_dictionaries({name: st.integers(0, 40) for name in SYMBOLS})


@given(dims(positive_divisors=False), sizes)
def test_text_means_the_same(dim: Dim, at: dict[str, int]) -> None:
    assert evaluate(parse_dim(str(dim)), at) == evaluate(dim, at)


@given(dims(positive_divisors=False))
def test_text_is_canonical(dim: Dim) -> None:
    assert parse_dim(str(dim)) == dim
    assert str(parse_dim(str(dim))) == str(dim)


@given(dims(), dims(), sizes)
def test_arithmetic(a: Dim, b: Dim, at: dict[str, int]) -> None:
    left, right = evaluate(a, at), evaluate(b, at)
    assert evaluate(a + b, at) == left + right
    assert evaluate(a - b, at) == left - right
    assert evaluate(a * b, at) == left * right
    assert evaluate(maximum(a, b), at) == max(left, right)
    assert evaluate(minimum(a, b), at) == min(left, right)


@given(dims(), st.integers(-7, 7).filter(bool), sizes)
def test_division_rounds_down(dim: Dim, divisor: int, at: dict[str, int]) -> None:
    quotient, rest = divmod(evaluate(dim, at), divisor)
    assert evaluate(floordiv(dim, divisor), at) == quotient
    assert evaluate(mod(dim, divisor), at) == rest


@given(dims(), dims(), dims())
def test_equal_sums_are_equal(a: Dim, b: Dim, c: Dim) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a * b == b * a
    assert a * (b + c) == a * b + a * c
    assert a - a == 0
    assert hash(a + b) == hash(b + a)


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (S + S, "2*S"),
        ((S * 2 + 1) // 2, "S"),
        ((S * 2 + 2) // 2, "S+1"),
        ((S - 1) // 2 + 1, "(S-1)//2+1"),
        (1 - S // 2, "-(S//2)+1"),
        (S // 2 * T, "(S//2)*T"),
        (S % 2, "S%2"),
        ((S * 4 + 3) % 2, "1"),
        (maximum(S, S + 1), "S+1"),
        (minimum(S, T) * 2, "2*min(S, T)"),
        (maximum(T, S), "max(S, T)"),
        (minimum((S - 1) // 2 * 2 + 2, S), "S"),
        (minimum(S // 8 * 8, S), "8*(S//8)"),
        (maximum(S // 8 * 8, S - 6), "max(8*(S//8), S-6)"),
        (maximum(S // 8 * 8, S - 7), "8*(S//8)"),
        (minimum(S, S + (3 * S) % 4), "S"),
        (maximum(S - 3, S - (3 * S) % 4), "-((3*S)%4)+S"),
        (S - S, "0"),
        (S // S, "1"),
        (S % S, "0"),
        (-S, "-S"),
        (S * T - T * S + 3, "3"),
    ],
)
def test_normal_form(dim: Dim, text: str) -> None:
    assert str(dim) == text


@pytest.mark.parametrize(
    "text", ["", "+", "S+", "(S", "S)", "2S", "S..T", "max(S)", "max(S,", "S**2", "1//0", "S%0", "é$"]
)
def test_what_is_no_dimension(text: str) -> None:
    with pytest.raises(AnecError):
        parse_dim(text)


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(AnecError, match="symbol T has no size"):
        evaluate(S + T, {"S": 2})
    with pytest.raises(AnecError, match="divided by 0"):
        floordiv(S, 0)
    with pytest.raises(AnecError, match="divided by 0"):
        evaluate(S // T, {"S": 2, "T": 0})


def test_symbols() -> None:
    dim = maximum(S // 2, T) + 1
    assert isinstance(dim, Expr)
    assert dim.symbols() == {"S", "T"}
    assert str(Bounds(1, None)) == "1.."
    assert str(Bounds(2, 8)) == "2..8"
