"""Filters of features in SQL-like syntax, parsed into the lists of `rvbuild.language.filters`."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Filter = list[Any]
"""A filter as a list, `["==", "kind", "house"]`."""

MAX_DEPTH, MAX_LENGTH = 50, 1_000_000
"""Limits of a filter, in nesting depth and characters: far beyond any filter written by hand."""


class FilterError(ValueError):
    """An invalid filter; the message gives the reason."""


def to_list(text: str) -> Filter:
    """Parse a text into a list, whose values are not checked yet.

    >>> to_list("kind = 'house' AND height > 3")
    ['all', ['==', 'kind', 'house'], ['>', 'height', 3]]

    Raises
    ------
    FilterError
        The text has an error, or is too long or too deep.
    """
    return _Text(text).filter()


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def brief(value: object) -> str:
    """Return a value for messages, shortened if it is long or nested."""
    return _short.repr(value)


_COMPARING = ("==", "!=", "<", ">", "<=", ">=")
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "!in", "!in": "in"}

TOO_DEEP = f"the filter is nested too deeply; expected at most {MAX_DEPTH} levels"


class _Token(NamedTuple):
    """A token of the text."""

    kind: str
    """`word`, `name` (in double quotes), `text`, `number`, `sign`, or `end`."""
    value: Any
    place: int


# Possessive quantifiers: digits, letters and quotes are never tried twice.
_TOKEN = re.compile(
    r"""(?:(?P<number>[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?(?![\w.]))
    |(?P<text>'(?:[^']++|'')*+')|(?P<name>"(?:[^"]++|"")*+")
    |(?P<word>\$?[^\W\d][\w.]*+)|(?P<sign><=|>=|<>|!=|==|[=<>(),]))\s*+""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*+")
SIGNS = {"=": "==", "<>": "!="}
"""The SQL spellings of two operators."""

_WORDS = {"TRUE": True, "FALSE": False}
_KEYWORDS = {"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "BETWEEN", *_WORDS}


def _tokens(text: str) -> Iterator[_Token]:
    start = _SPACE.match(text)
    place = start.end() if start else 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise FilterError(f"cannot read {text[place : place + 20].rstrip()!r} in {_around(text, place)}")
        kind, raw = match.lastgroup, match[match.lastgroup]
        value: Any = raw
        if kind == "number":
            # Python refuses to parse whole numbers with thousands of digits.
            value = float(raw) if re.search(r"[.eE]", raw) or len(raw) > 1000 else int(raw)
        elif kind in ("text", "name"):
            value = raw[1:-1].replace(raw[0] * 2, raw[0])
        yield _Token(kind, value, match.start(kind))
        place = match.end()
    yield _Token("end", "", len(text))


def _around(text: str, place: int) -> str:
    """Return a text for messages; of a long text, only the part around a place."""
    if len(text) <= _SHOWN:
        return repr(text)
    first = max(0, place - _SHOWN // 2)
    last = first + _SHOWN
    return f"{'…' if first else ''}{text[first:last]!r}{'…' if last < len(text) else ''}"


_SHOWN = 200


class _Text:
    """Recursive-descent parser of SQL-like filters.

    Negations are pushed down to the comparisons: `NOT (a AND b)` becomes `NOT a OR NOT b`. A comparison with a missing
    value then fails whether it is negated or not, as in SQL.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise FilterError(f"expected at most {MAX_LENGTH} characters, found {len(text)}")
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = self._depth = 0

    def filter(self) -> Filter:
        """Parse the whole text."""
        parsed = self._disjunction(negated=False)
        if self._peek().kind != "end":
            raise self._unexpected("AND, OR or the end")
        return parsed

    def _disjunction(self, negated: bool) -> Filter:
        return self._joined("OR", "all" if negated else "any", self._conjunction, negated)

    def _conjunction(self, negated: bool) -> Filter:
        return self._joined("AND", "any" if negated else "all", self._term, negated)

    def _joined(self, word: str, kind: str, part: Callable[[bool], Filter], negated: bool) -> Filter:
        parts = [part(negated)]
        while self._take_word(word):
            parts.append(part(negated))
        return parts[0] if len(parts) == 1 else [kind, *parts]

    def _term(self, negated: bool) -> Filter:
        while self._take_word("NOT"):
            negated = not negated
        if self._take_sign("("):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise FilterError(TOO_DEEP)
            parsed = self._disjunction(negated)
            self._need_sign(")")
            self._depth -= 1
            return parsed
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
        for kind in ("like", "ilike"):
            if self._take_word(kind.upper()):
                like = [kind, name, self._value(name)]
                return ["all", ["has", name], ["none", like]] if negated else like
        token = self._peek()
        kind = SIGNS.get(token.value, token.value)
        if token.kind != "sign" or kind not in _COMPARING:
            raise self._unexpected(f"a comparison of {name} (= <> < > <= >= IN LIKE BETWEEN IS)")
        self._next += 1
        return self._with_value([_OPPOSITE[kind] if negated else kind, name, self._value(name)])

    @staticmethod
    def _with_value(comparison: Filter) -> Filter:
        """Return a comparison that fails for a missing value."""
        kind, name = comparison[:2]
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
        hint = f"; write text in single quotes: '{token.value}'" if token.kind in ("name", "word") else ""
        if token.value.upper() == "NULL":
            hint = f"; write {name} IS NULL"
        raise self._unexpected(f"a value to compare {name} with", hint)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take_word(self, word: str) -> bool:
        token = self._peek()
        matches = token.kind == "word" and token.value.upper() == word
        self._next += matches
        return matches

    def _take_sign(self, sign: str) -> bool:
        matches = self._peek().kind == "sign" and self._peek().value == sign
        self._next += matches
        return matches

    def _need_word(self, word: str) -> None:
        if not self._take_word(word):
            raise self._unexpected(word)

    def _need_sign(self, sign: str) -> None:
        if not self._take_sign(sign):
            raise self._unexpected(f'"{sign}"')

    def _unexpected(self, expected: str, hint: str = "") -> FilterError:
        token = self._peek()
        actual = "its end" if token.kind == "end" else brief(token.value)
        where = f"character {token.place + 1} of {_around(self._text, token.place)}"
        return FilterError(f"expected {expected} at {where}, found {actual}{hint}")
