"""Filters of features by their attributes, in two forms that mean the same: expressions as lists, and text like SQL.

    ["all", [">", "height", 3], ["in", "kind", "a", "b"]]
    height > 3 AND kind IN ('a', 'b')

Lists are the filters of Mapbox styles: == != < > <= >= in !in has !has all any none. `$type` is the type of a feature's
geometry (Point, LineString or Polygon), `$id` its id; `a.b` is attribute `b` in attribute `a`, unless there is an
attribute of that name. Text also knows `IS NULL`, `BETWEEN`, `LIKE` and `ILIKE`, and becomes a list, `like` and `ilike`
included.

An attribute that a feature lacks, or that is null, is no value: no comparison with it holds but `!=` and `!in`, which
do in lists, as in Mapbox styles, and do not in text, as in SQL. Values of different kinds (text, number, boolean) are
different, and none of them is less than the other.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rvbuild.errors import nearest

Filter = list[Any]
"""A filter as a list, `["==", "kind", "house"]`: checked, and of values that JSON knows."""

TYPES = ("Point", "LineString", "Polygon")
"""What `$type` can be."""

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "!in", "!in": "in"}
_LIKE = {"like": 0, "ilike": re.IGNORECASE}
_COMPARING = ("==", "!=", *_ORDER)
_LISTING = ("in", "!in")
_EXISTING = ("has", "!has")
_JOINING = ("all", "any", "none")
OPERATORS = (*_COMPARING, *_LISTING, *_EXISTING, *_JOINING, *_LIKE)


class FilterError(ValueError):
    """A filter is not understood; the message says why."""


def parse(value: object) -> Filter:
    """Return a filter, written as a list or as text, as a list.

    >>> parse("kind = 'house'")
    ['==', 'kind', 'house']

    Raises
    ------
    FilterError
        It is neither, or has an error.
    """
    try:
        if isinstance(value, str):
            return _Text(value).filter()
        if isinstance(value, list | tuple):
            return _checked(value)
    except RecursionError:
        raise FilterError("the filter is nested too deeply") from None
    raise FilterError(
        f'expected a filter such as "height > 3 AND kind = \'house\'" or ["==", "kind", "house"], found {value!r}'
    )


def compared(filter_: Sequence[Any]) -> set[str]:
    """Return the attributes whose values a filter compares: features that have none of them are no good for it.

    Not those of which it only asks whether they are there, `$type` and `$id`.

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
        What `parse` returns.
    get
        Gives the value of an attribute, `$type` or `$id`; None if there is none. See `lookup`.
    """
    kind, *rest = filter_
    if kind == "all":
        return all(matches(part, get) for part in rest)
    if kind in ("any", "none"):
        return any(matches(part, get) for part in rest) is (kind == "any")
    found, values = get(rest[0]), rest[1:]
    if kind in _EXISTING:
        return (found is not None) is (kind == "has")
    if kind in _LISTING:
        return any(_equal(found, value) for value in values) is (kind == "in")
    if kind in ("==", "!="):
        return _equal(found, values[0]) is (kind == "==")
    if kind in _LIKE:
        return isinstance(found, str) and _pattern(values[0], _LIKE[kind]).fullmatch(found) is not None
    return _kind(found) == _kind(values[0]) and _ORDER[kind](found, values[0])


def lookup(properties: Mapping[str, Any], name: str) -> Any:
    """Return an attribute of a feature, or None; `a.b` is `b` in the attribute `a` if no attribute is called `a.b`."""
    if name in properties or "." not in name:
        return properties.get(name)
    value: Any = properties
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _equal(found: Any, value: Any) -> bool:
    return bool(_kind(found) == _kind(value) and found == value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


@functools.lru_cache(maxsize=64)
def _pattern(like: str, flags: int) -> re.Pattern[str]:
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(letter, re.escape(letter)) for letter in like), flags | re.DOTALL)


def _checked(value: Sequence[Any]) -> Filter:
    """Return a filter given as a list, or raise a FilterError."""
    if not value or not isinstance(value[0], str):
        raise FilterError(
            f'expected a list that begins with an operator, like ["==", "kind", "house"], found {value!r}'
        )
    kind, *rest = value
    if kind not in OPERATORS:
        hint = f'; did you mean "{_SIGNS[kind]}"?' if kind in _SIGNS else nearest(kind, OPERATORS)
        hint = hint or f"; expected one of {' '.join(OPERATORS)}"
        raise FilterError(f"unknown operator {kind!r}{hint}")
    if kind in _JOINING:
        for part in rest:
            if not isinstance(part, list | tuple):
                raise FilterError(
                    f'expected lists after "{kind}", like ["{kind}", ["==", "kind", "house"], …], found {part!r}'
                )
        return [kind, *map(_checked, rest)]
    if not rest or not isinstance(rest[0], str):
        raise FilterError(f'expected the name of an attribute after "{kind}", found {rest[0] if rest else "nothing"!r}')
    name, *values = rest
    wanted = 0 if kind in _EXISTING else None if kind in _LISTING else 1
    if wanted is not None and len(values) != wanted:
        count = "no value" if wanted == 0 else "one value"
        raise FilterError(f'expected {count} after ["{kind}", "{name}", found {len(values)}')
    for item in values:
        _check_value(kind, name, item)
    return [kind, name, *values]


def _check_value(kind: str, name: str, value: Any) -> None:
    if not isinstance(value, bool | int | float | str):
        hint = " (write dates as text, like '2024-05-31')" if hasattr(value, "isoformat") else ""
        raise FilterError(f"expected a text, number or boolean to compare {name} with, found {value}{hint}")
    if kind in _LIKE and not isinstance(value, str):
        raise FilterError(f"expected a text with % and _ to compare {name} with, found {value}")
    if name == "$type" and kind in ("==", "!=", *_LISTING) and value not in TYPES:
        raise FilterError(f"$type is one of {', '.join(TYPES)}, found {value!r}{nearest(str(value), TYPES)}")


class _Token(NamedTuple):
    """A part of a text."""

    kind: str
    """`word`, `name` (in double quotes), `text`, `number`, `sign`, or `end`."""
    value: Any
    place: int


_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>'(?:[^']|'')*')|(?P<name>"(?:[^"]|"")*")
    |(?P<word>\$?[^\W\d][\w.]*)|(?P<sign><=|>=|<>|!=|==|[=<>(),]))""",
    re.VERBOSE,
)
_SIGNS = {"=": "==", "<>": "!="}
_WORDS = {"TRUE": True, "FALSE": False}
_KEYWORDS = {"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "BETWEEN", *_WORDS}


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while text[place:].strip():
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            raise FilterError(f"cannot read {text[place:].strip()[:20]!r} in {text!r}")
        kind, raw = found.lastgroup, found[found.lastgroup]
        value: Any = raw
        if kind == "number":
            # Python reads no whole number of thousands of digits.
            value = float(raw) if re.search(r"[.eE]", raw) or len(raw) > 1000 else int(raw)
        elif kind in ("text", "name"):
            value = raw[1:-1].replace(raw[0] * 2, raw[0])
        yield _Token(kind, value, found.start(kind))
        place = found.end()
    yield _Token("end", "", len(text))


class _Text:
    """Reads a filter that is written like SQL, by recursive descent.

    Negations are carried down to the comparisons (not (a and b) is not-a or not-b), so that a comparison with no value
    fails whether it is negated or not, which is what SQL selects.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0

    def filter(self) -> Filter:
        """Return all of it."""
        found = self._any(negated=False)
        if self._peek().kind != "end":
            raise self._unexpected("AND, OR or the end")
        return found

    def _any(self, negated: bool) -> Filter:
        return self._joined("OR", "all" if negated else "any", self._all, negated)

    def _all(self, negated: bool) -> Filter:
        return self._joined("AND", "any" if negated else "all", self._one, negated)

    def _joined(self, word: str, kind: str, part: Callable[[bool], Filter], negated: bool) -> Filter:
        parts = [part(negated)]
        while self._take_word(word):
            parts.append(part(negated))
        return parts[0] if len(parts) == 1 else [kind, *parts]

    def _one(self, negated: bool) -> Filter:
        if self._take_word("NOT"):
            return self._one(not negated)
        if self._take_sign("("):
            found = self._any(negated)
            self._need_sign(")")
            return found
        return self._comparison(negated)

    def _comparison(self, negated: bool) -> Filter:
        name = self._name()
        if self._take_word("IS"):
            return ["has" if self._take_word("NOT") != negated else "!has", self._null(name)]
        negated = self._take_word("NOT") != negated
        if self._take_word("IN"):
            return self._with_value(["!in" if negated else "in", name, *self._list(name)])
        if self._take_word("BETWEEN"):
            low = self._value(name)
            self._need_word("AND")
            high = self._value(name)
            return (
                ["any", ["<", name, low], [">", name, high]]
                if negated
                else ["all", [">=", name, low], ["<=", name, high]]
            )
        for kind in _LIKE:
            if self._take_word(kind.upper()):
                like = [kind, name, self._value(name)]
                _check_value(kind, name, like[2])
                return ["all", ["has", name], ["none", like]] if negated else like
        token = self._peek()
        kind = _SIGNS.get(token.value, token.value)
        if token.kind != "sign" or kind not in _COMPARING:
            raise self._unexpected(f"a comparison of {name} (= <> < > <= >= IN LIKE BETWEEN IS)")
        self._next += 1
        return self._with_value([_OPPOSITE[kind] if negated else kind, name, self._value(name)])

    @staticmethod
    def _with_value(comparison: Filter) -> Filter:
        """Return a comparison that fails without a value."""
        kind, name, *values = comparison
        for value in values:
            _check_value(kind, name, value)
        return ["all", ["has", name], comparison] if kind in ("!=", "!in") else comparison

    def _name(self) -> str:
        token = self._peek()
        if token.kind == "name" or (token.kind == "word" and token.value.upper() not in _KEYWORDS):
            self._next += 1
            return str(token.value)
        raise self._unexpected("the name of an attribute")

    def _null(self, name: str) -> str:
        self._need_word("NULL")
        return name

    def _list(self, name: str) -> list[Any]:
        self._need_sign("(")
        values = [self._value(name)]
        while self._take_sign(","):
            values.append(self._value(name))
        self._need_sign(")")
        return values

    def _value(self, name: str) -> Any:
        token = self._peek()
        if token.kind in ("text", "number") or (token.kind == "word" and token.value.upper() in _WORDS):
            self._next += 1
            return token.value if token.kind != "word" else _WORDS[token.value.upper()]
        hint = f"; a text stands in single quotes: '{token.value}'" if token.kind in ("name", "word") else ""
        if token.value.upper() == "NULL":
            hint = f"; write {name} IS NULL"
        raise self._unexpected(f"a value to compare {name} with", hint)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take_word(self, word: str) -> bool:
        token = self._peek()
        found = token.kind == "word" and token.value.upper() == word
        self._next += found
        return found

    def _take_sign(self, sign: str) -> bool:
        found = self._peek().kind == "sign" and self._peek().value == sign
        self._next += found
        return found

    def _need_word(self, word: str) -> None:
        if not self._take_word(word):
            raise self._unexpected(word)

    def _need_sign(self, sign: str) -> None:
        if not self._take_sign(sign):
            raise self._unexpected(f'"{sign}"')

    def _unexpected(self, expected: str, hint: str = "") -> FilterError:
        token = self._peek()
        found = "its end" if token.kind == "end" else repr(token.value)
        return FilterError(f"expected {expected} at character {token.place + 1} of {self._text!r}, found {found}{hint}")
