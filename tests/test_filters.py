from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.language.filters import FilterError, compared, lookup, matches, parse

HOUSE = {"kind": "house", "height": 4.5, "floors": 2, "old": True, "addr": {"street": "A"}, "a.b": 1, "none": None}


def passes(filter_: object, properties: dict[str, Any] = HOUSE) -> bool:
    known = {**properties, "$type": "Polygon", "$id": 7}
    return matches(parse(filter_), lambda name: lookup(known, name))


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        (["==", "kind", "house"], True),
        (["==", "kind", "road"], False),
        (["==", "floors", 2.0], True),
        (["==", "floors", "2"], False),
        (["==", "old", 1], False),
        (["!=", "kind", "road"], True),
        (["!=", "missing", "road"], True),
        ([">", "height", 4], True),
        ([">", "height", "4"], False),
        ([">", "missing", 4], False),
        (["<=", "missing", 4], False),
        (["in", "kind", "road", "house"], True),
        (["in", "kind"], False),
        (["!in", "kind", "road"], True),
        (["!in", "missing", "road"], True),
        (["has", "kind"], True),
        (["has", "none"], False),
        (["!has", "missing"], True),
        (["has", "addr.street"], True),
        (["==", "addr.street", "A"], True),
        (["==", "a.b", 1], True),
        (["==", "kind.x.y", 1], False),
        (["==", "$type", "Polygon"], True),
        (["==", "$id", 7], True),
        (["all"], True),
        (["any"], False),
        (["none"], True),
        (["all", ["has", "kind"], [">=", "height", 4.5]], True),
        (["any", ["has", "missing"], ["==", "old", True]], True),
        (["none", ["has", "missing"], ["==", "old", True]], False),
    ],
    ids=repr,
)
def test_lists(filter_: list[Any], expected: bool) -> None:
    assert passes(filter_) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind = 'house'", ["==", "kind", "house"]),
        ("kind == 'it''s'", ["==", "kind", "it's"]),
        ("\"addr:street\" = 'A'", ["==", "addr:street", "A"]),
        ("height > -3.5e1", [">", "height", -35.0]),
        ("old = TRUE or old=false", ["any", ["==", "old", True], ["==", "old", False]]),
        ("a = 1 AND b = 2 OR c = 3", ["any", ["all", ["==", "a", 1], ["==", "b", 2]], ["==", "c", 3]]),
        ("a = 1 AND (b = 2 OR c = 3)", ["all", ["==", "a", 1], ["any", ["==", "b", 2], ["==", "c", 3]]]),
        ("not (a < 1 and b >= 2)", ["any", [">=", "a", 1], ["<", "b", 2]]),
        ("a <> 1", ["all", ["has", "a"], ["!=", "a", 1]]),
        ("kind IN ('a', 'b')", ["in", "kind", "a", "b"]),
        ("kind NOT IN ('a')", ["all", ["has", "kind"], ["!in", "kind", "a"]]),
        ("a IS NULL", ["!has", "a"]),
        ("a IS NOT NULL", ["has", "a"]),
        ("NOT a IS NULL", ["has", "a"]),
        ("a BETWEEN 1 AND 2", ["all", [">=", "a", 1], ["<=", "a", 2]]),
        ("$type = 'Point'", ["==", "$type", "Point"]),
    ],
)
def test_text_becomes_a_list(text: str, expected: list[Any]) -> None:
    assert parse(text) == expected


def test_like() -> None:
    assert passes("kind LIKE 'h_us%'")
    assert not passes("kind LIKE 'H%'")
    assert passes("kind ILIKE 'H%'")
    assert passes("kind NOT LIKE 'r%'")
    assert not passes("height LIKE '4%'")
    assert not passes("kind LIKE 'h.use'"), "a dot is a dot"


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ("", "expected the name of an attribute at character 1 of '', found its end"),
        ("kind", r"expected a comparison of kind \(.*found its end"),
        ("kind = house", "found 'house'; write text in single quotes: 'house'"),
        ('kind = "house"', "write text in single quotes: 'house'"),
        ("kind = NULL", "write kind IS NULL"),
        ("kind = 'a' 'b'", "expected AND, OR or the end at character 12"),
        ("(a = 1", r'expected "\)"'),
        ("a IN 1", r'expected "\("'),
        ("a ~ 1", "cannot read '~ 1'"),
        ("__import__('os').system('x')", "cannot read"),
        ("a = 1; DROP TABLE x", "cannot read '; DROP TABLE x'"),
        ("$type = 'Pont'", "is one of Point, LineString, Polygon, found 'Pont'; did you mean \"Point\""),
        ([], "begins with an operator"),
        (["equals", "a", 1], "unknown operator 'equals'; expected one of =="),
        (["==", "a"], "expected one value"),
        (["==", "a", 1, 2], "expected one value"),
        (["has", "a", 1], "expected no value"),
        (["==", 1, "a"], "expected the name of an attribute"),
        (["==", "a", None], "expected a text, number or boolean"),
        (["all", "a"], 'expected lists after "all"'),
        (3, "expected a filter such as"),
    ],
)
def test_what_is_not_understood_is_told(filter_: object, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        parse(filter_)


def test_the_attributes_that_are_compared() -> None:
    filter_ = parse("a = 1 AND NOT (b.c LIKE 'x' OR $id IN (1, 2)) AND (d <> 1 OR e IS NULL)")
    assert compared(filter_) == {"a", "b.c", "d"}


NUMBERS, TEXTS = st.integers(-2, 2), st.sampled_from(["", "a", "ab", "b%"])


def quoted(text: str) -> str:
    return f"'{text}'"


COMPARISONS = st.one_of(
    st.builds("n {} {}".format, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), NUMBERS),
    st.builds("t {} {}".format, st.sampled_from(["=", "!=", "<", ">="]), TEXTS.map(quoted)),
    st.builds("t {} ({}, {})".format, st.sampled_from(["IN", "NOT IN"]), TEXTS.map(quoted), TEXTS.map(quoted)),
    st.builds("n {} {} AND {}".format, st.sampled_from(["BETWEEN", "NOT BETWEEN"]), NUMBERS, NUMBERS),
    st.sampled_from(["n IS NULL", "t IS NOT NULL", "t LIKE 'a%'", "t NOT LIKE '_b'"]),
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda parts: st.one_of(
        st.builds("NOT ({})".format, parts),
        st.builds("({}) AND ({})".format, parts, parts),
        st.builds("{} OR {}".format, parts, parts),
    ),
    max_leaves=6,
)
ROWS = [(n, t) for n in (None, -2, -1, 0, 1, 2) for t in (None, "", "a", "ab", "b%", "bb")]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS)
def test_text_selects_what_sql_selects(text: str) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE rows (n INTEGER, t TEXT)")
        database.executemany("INSERT INTO rows VALUES (?, ?)", ROWS)
        selected = database.execute(f"SELECT rowid FROM rows WHERE {text} ORDER BY rowid").fetchall()
    filter_ = parse(text)
    ours = [at for at, (n, t) in enumerate(ROWS, 1) if matches(filter_, {"n": n, "t": t}.get)]
    assert ours == [rowid for (rowid,) in selected]
    assert parse(filter_) == filter_, "a list is its own form"


def deep(count: int) -> list[Any]:
    filter_: list[Any] = ["has", "a"]
    for _ in range(count):
        filter_ = ["all", filter_]
    return filter_


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("(" * 5000 + "a = 1" + ")" * 5000, "nested too deeply"),
        ("(" * 5000, "nested too deeply"),
        (deep(5000), "nested too deeply"),
        (["in", "a", *range(1_000_000)], "at most 100000 operators"),
        ("a = " + "1" * 2_000_000, "at most 1000000 characters"),
        ("a < " + "9" * 5000, "a finite number"),
        (["<", "a", float("inf")], "a finite number"),
        (["<", "a", float("nan")], "a finite number"),
        ("a LIKE '" + "x" * 1001 + "'", "at most 1000 characters"),
        ("a = '" + "x" * 500_000, "cannot read"),
        ("a = " + "1" * 500_000 + "x", "cannot read"),
        (" " * 500_000 + "?", "cannot read"),
    ],
    ids=range(12),
)
def test_what_is_absurd_is_refused_at_once_and_shown_shortened(value: object, message: str) -> None:
    start = time.thread_time()
    with pytest.raises(FilterError, match=message) as caught:
        parse(value)
    assert time.thread_time() - start < 2
    assert len(str(caught.value)) < 500


def test_any_number_of_negations() -> None:
    assert parse("NOT " * 5001 + "a = 1") == ["all", ["has", "a"], ["!=", "a", 1]]


@pytest.mark.parametrize("operator", ["like", "ilike"])
def test_no_pattern_takes_long(operator: str) -> None:
    start = time.thread_time()
    assert not passes([operator, "t", "%a" * 200 + "%b"], {"t": "a" * 5000})
    assert not passes([operator, "t", "%_a%_a" * 100 + "b"], {"t": "ab" * 5000 + "a"})
    assert time.thread_time() - start < 1


LETTERS = st.text("ab%_.\n\\", max_size=8)


@given(LETTERS, LETTERS)
def test_like_is_the_expression_that_tries_everything(like: str, text: str) -> None:
    parts = {"%": ".*", "_": "."}
    expression = "".join(parts.get(letter, re.escape(letter)) for letter in like)
    expected = re.fullmatch(expression, text, re.DOTALL) is not None
    assert passes(["like", "t", like], {"t": text}) is expected
