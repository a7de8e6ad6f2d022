"""Filters of features by their attributes, in two equivalent forms: expressions as lists, and SQL-like text.

    ["all", [">", "height", 3], ["in", "kind", "a", "b"]]
    height > 3 AND kind IN ('a', 'b')

Lists are the filters of Mapbox styles: == != < > <= >= in !in has !has all any none. `$type` is the geometry type of a
feature (Point, LineString or Polygon), `$id` its id; `a.b` is attribute `b` in attribute `a`, unless an attribute has
that name. Text also supports `IS NULL`, `BETWEEN`, `LIKE` and `ILIKE`, and is converted to a list, which may contain
`like` and `ilike`.

An attribute that is missing or null has no value: comparisons with it fail. The exceptions are `!=` and `!in` in
lists, which hold, as in Mapbox styles; in text they fail, as in SQL. Values of different types (text, number, boolean)
are different, and none of them is less than the other.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rvbuild.errors import nearest
from rvbuild.language.filter_text import MAX_DEPTH, SIGNS, TOO_DEEP, Filter, FilterError, brief, to_list

__all__ = ["OPERATORS", "TYPES", "Filter", "FilterError", "compared", "lookup", "matches", "parse"]

TYPES = ("Point", "LineString", "Polygon")
"""The values of `$type`."""

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_PATTERN_FLAGS = {"like": 0, "ilike": re.IGNORECASE}
_COMPARING = ("==", "!=", *_ORDER)
_LISTING = ("in", "!in")
_EXISTING = ("has", "!has")
_JOINING = ("all", "any", "none")
MAX_PARTS, MAX_LIKE = 100_000, 1000
"""Limits of a filter: operators, names and values in total, and characters of a text with % and _. They are far beyond
any filter written by hand, because the whole filter may be evaluated for each feature of a file."""

OPERATORS = (*_COMPARING, *_LISTING, *_EXISTING, *_JOINING, *_PATTERN_FLAGS)


def parse(value: object) -> Filter:
    """Convert a filter, a list or a text, to a list.

    >>> parse("kind = 'house'")
    ['==', 'kind', 'house']

    Raises
    ------
    FilterError
        It is neither, or is invalid.
    """
    if isinstance(value, str):
        return _List().filter(to_list(value))
    if isinstance(value, list | tuple):
        return _List().filter(value)
    raise FilterError(
        f'expected a filter such as "height > 3 AND kind = \'house\'" or ["==", "kind", "house"], found {brief(value)}'
    )


def compared(filter_: Sequence[Any]) -> set[str]:
    """Return the attributes whose values a filter compares; features without any of them cannot pass.

    Attributes that are only tested for existence, `$type` and `$id` do not count.

    >>> sorted(compared(["any", ["has", "height"], ["==", "$type", "Point"], [">", "floors", 2]]))
    ['floors']
    """
    if filter_[0] in _JOINING:
        return {name for part in filter_[1:] for name in compared(part)}
    return set() if filter_[0] in _EXISTING or filter_[1].startswith("$") else {filter_[1]}


def matches(filter_: Sequence[Any], get: Callable[[str], Any]) -> bool:
    """Tell whether a feature passes a filter.

    Parameters
    ----------
    filter_
        The result of `parse`.
    get
        Returns the value of an attribute, `$type` or `$id`; None if there is none. See `lookup`.
    """
    kind, *rest = filter_
    if kind == "all":
        return all(matches(part, get) for part in rest)
    if kind in ("any", "none"):
        return any(matches(part, get) for part in rest) is (kind == "any")
    actual, values = get(rest[0]), rest[1:]
    if kind in _EXISTING:
        return (actual is not None) is (kind == "has")
    if kind in _LISTING:
        return any(_equal(actual, value) for value in values) is (kind == "in")
    if kind in ("==", "!="):
        return _equal(actual, values[0]) is (kind == "==")
    if kind in _PATTERN_FLAGS:
        return isinstance(actual, str) and _pattern(values[0], _PATTERN_FLAGS[kind]).matches(actual)
    return _kind(actual) == _kind(values[0]) and _ORDER[kind](actual, values[0])


def lookup(properties: Mapping[str, Any], name: str) -> Any:
    """Return an attribute of a feature, or None; `a.b` is `b` in the attribute `a` unless `a.b` is an attribute."""
    if name in properties or "." not in name:
        return properties.get(name)
    value: Any = properties
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _equal(actual: Any, value: Any) -> bool:
    return bool(_kind(actual) == _kind(value) and actual == value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


class _Pattern:
    """A pattern with % and _, matched in time that grows only with the lengths of pattern and text.

    A regular expression would try all ways to divide a text among several %. It is enough to take the first match of
    each part between two of them.
    """

    def __init__(self, text: str, flags: int) -> None:
        parts = text.split("%")
        patterns = [
            re.compile("".join("." if letter == "_" else re.escape(letter) for letter in part), flags | re.DOTALL)
            for part in parts
        ]
        self._is_whole = len(parts) == 1
        self._first, self._between, self._last = patterns[0], patterns[1:-1], patterns[-1]
        self._end, self._least = len(parts[-1]), sum(map(len, parts))

    def matches(self, text: str) -> bool:
        """Tell whether the whole text matches."""
        if self._is_whole:
            return self._first.fullmatch(text) is not None
        if len(text) < self._least:
            return False
        match, stop = self._first.match(text), len(text) - self._end
        for pattern in self._between:
            if match is None:
                return False
            match = pattern.search(text, match.end(), stop)
        return match is not None and self._last.match(text, stop) is not None


@functools.lru_cache(maxsize=64)
def _pattern(text: str, flags: int) -> _Pattern:
    return _Pattern(text, flags)


class _List:
    """Validates a filter in the form of lists."""

    def __init__(self) -> None:
        self._count = 0

    def filter(self, value: Sequence[Any], depth: int = 1) -> Filter:
        """Return the filter, or raise a FilterError."""
        if depth > MAX_DEPTH:
            raise FilterError(TOO_DEEP)
        self._count += len(value)
        if self._count > MAX_PARTS:
            raise FilterError(_TOO_MANY)
        if not value or not isinstance(value[0], str):
            raise FilterError(
                f'expected a list that begins with an operator, like ["==", "kind", "house"], found {brief(value)}'
            )
        kind, *rest = value
        if kind not in OPERATORS:
            hint = f'; did you mean "{SIGNS[kind]}"?' if kind in SIGNS else nearest(kind, OPERATORS)
            hint = hint or f"; expected one of {' '.join(OPERATORS)}"
            raise FilterError(f"unknown operator {brief(kind)}{hint}")
        if kind in _JOINING:
            for part in rest:
                if not isinstance(part, list | tuple):
                    raise FilterError(
                        f'expected lists after "{kind}", like ["{kind}", ["==", "kind", "house"], …], '
                        f"found {brief(part)}"
                    )
            return [kind, *(self.filter(part, depth + 1) for part in rest)]
        if not rest or not isinstance(rest[0], str):
            actual = brief(rest[0]) if rest else "nothing"
            raise FilterError(f'expected the name of an attribute after "{kind}", found {actual}')
        name, *values = rest
        count_expected = 0 if kind in _EXISTING else None if kind in _LISTING else 1
        if count_expected is not None and len(values) != count_expected:
            count = "no value" if count_expected == 0 else "one value"
            raise FilterError(f'expected {count} after ["{kind}", {brief(name)}, found {len(values)}')
        for item in values:
            _check_value(kind, name, item)
        return [kind, name, *values]


_TOO_MANY = (
    f"expected at most {MAX_PARTS} operators and values in total; compare with one attribute that holds the result"
)


def _check_value(kind: str, name: str, value: Any) -> None:
    if not isinstance(value, bool | int | float | str):
        hint = " (write dates as text, like '2024-05-31')" if hasattr(value, "isoformat") else ""
        shown = str(value) if hint else brief(value)
        raise FilterError(f"expected a text, number or boolean to compare {name} with, found {shown}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise FilterError(f"expected a finite number to compare {name} with, found {value}")
    if kind in _PATTERN_FLAGS:
        if not isinstance(value, str):
            raise FilterError(f"expected a text with % and _ to compare {name} with, found {brief(value)}")
        if len(value) > MAX_LIKE:
            raise FilterError(f"expected at most {MAX_LIKE} characters to compare {name} with, found {len(value)}")
    if name == "$type" and kind in ("==", "!=", *_LISTING) and value not in TYPES:
        raise FilterError(f"$type is one of {', '.join(TYPES)}, found {brief(value)}{nearest(str(value), TYPES)}")
