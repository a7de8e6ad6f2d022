from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.language.expressions import FUNCTIONS, ExpressionError, parse

MATH: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "sqrt": math.sqrt,
    "log": math.log,
    "log10": math.log10,
    "exp": math.exp,
    "min": min,
    "max": max,
    "clip": lambda value, low, high: min(max(value, low), high),
    "where": lambda condition, yes, no: yes if condition else no,
}


def value_of(text: str, **bands: float) -> Any:
    return parse(text).evaluate(bands, MATH)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(B4 - B3) / (B4 + B3)", 0.5),
        (" B3 ** 2 ** 0.5 ", 2**2**0.5),
        ("-B3 + +B4 * 2", 10),
        ("2.5 * (B4 - B3) / (B4 + 6 * B3 - 7.5 * B4 + 1)", 2.5 * 4 / (6 + 12 - 45 + 1)),
        ("where(B3 < B4, sqrt(B4 - B3), clip(B3, 0, 1))", 2),
        ("(B3 == 2) + (B4 >= 7) + (B3 != B4)", 2),
        ("max(min(B3, 1), log10(100)) + abs(-B4) + log(exp(1))", 9),
    ],
)
def test_value(text: str, expected: float) -> None:
    assert value_of(text, B3=2, B4=6) == pytest.approx(expected)
    assert set(FUNCTIONS) == set(MATH)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B1 +", "is not an expression"),
        ("", "is not an expression"),
        ("B1; B2", "is not an expression"),
        ("B1\0", "is not an expression"),
        ("(" * 900 + "B1" + ")" * 90, "is not an expression"),
        ("B1 + " * 300 + "B1", "1502 characters; expected at most 1000"),
        ("-" * 50 + "B1", "nested more than 40 deep"),
        ("1 / 2", "does not use a band"),
        ("1e999 * B1", "1e999 is too large"),
        ("9" * 400 + " * B1", "is too large"),
        ("B1 and B2", '"B1 and B2" is not allowed'),
        (" B1 + [" + "not " * 200 + "B1]", "is not allowed"),
        ("[" * 180 + "B1" + "]" * 180, "is not allowed"),
        ("B1 < B2 < B3", "is not allowed"),
        ("B1 // 2", "is not allowed"),
        ("B1 @ B2", "is not allowed"),
        ("B1[0]", "is not allowed"),
        ("'a' * B1", "is not allowed"),
        ("1j * B1", "is not allowed"),
        ("True * B1", "is not allowed"),
        ("lambda: B1", "is not allowed"),
        ("[B1 for x in B1]", "is not allowed"),
        ("B1.__class__", "is not allowed"),
        ("f'{B1}'", "is not allowed"),
        ("(B2 := B1)", "is not allowed"),
        ("abs(*B1)", "is not allowed"),
        ("clip(B1, low=0, high=1)", "is not allowed"),
        ("eval(B1)", 'unknown function "eval"'),
        ("sqr(B1)", 'unknown function "sqr"; did you mean "sqrt"'),
        ("abs + B1", r"abs is a function: write abs\(a\)"),
        ("min(B1)", "min takes 2 arguments, found 1"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        parse(text)


BANDS = st.sampled_from(["B1", "B2", "B3"])
NUMBERS = st.integers(1, 9).map(str)
EXPRESSIONS = st.recursive(
    BANDS | NUMBERS,
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "<", "=="]), inner).map(
        lambda t: f"({' '.join(t)})"
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(EXPRESSIONS)
def test_the_value_is_that_of_python(text: str) -> None:
    text = f"B1 + {text}"
    bands = {"B1": 3.0, "B2": 5.0, "B3": 7.0}
    expression = parse(text)
    assert expression.evaluate(bands, MATH) == eval(text, {}, bands)
    assert set(expression.names) == {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        parse(text)
