"""The line index of a TOML document: key → line number, which TOML parsers do not provide.

The document has been parsed before, so this scanner relies on its validity and only needs to find where keys and
list items begin. It supports tables, arrays of tables, dotted and quoted keys, inline tables, lists and all strings.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import tomli

from rvbuild.project.toml.keys import Key

_KEY_PART = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s.=\[\]{}"',#]+)[ \t]*""")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?""""{0,2}'''  # a multi-line string may end in up to two quotes of its own
    r"""|'''.*?''''{0,2}"""
    r'''|"(?:[^"\\]|\\.)*"'''
    r"""|'[^']*'""",
    re.DOTALL,
)
_ATOM = re.compile(r"[^,\]}#\n]+")  # numbers, dates (which may hold a space), booleans


def line_index(text: str) -> dict[Key, int]:
    r"""Return the line, counted from 1, where each key and each list item of a valid TOML document begins.

    >>> line_index("[chip]\nsize_px = 300\n")
    {('chip',): 1, ('chip', 'size_px'): 2}
    """
    scanner = Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.lines


def read_key(text: str, start: int = 0) -> tuple[tuple[str, ...], int]:
    """Read a dotted key and return its parts and the position after it.

    Raises
    ------
    ValueError
        No key begins at `start`.
    """
    parts = []
    position = start
    while True:
        match = _KEY_PART.match(text, position)
        if match is None:
            raise ValueError(f"no key at position {position}")
        parts.append(_unquote(match[1]))
        position = match.end()
        if text[position : position + 1] != ".":
            return tuple(parts), position
        position += 1


def _unquote(word: str) -> str:
    """Return the name in a key's text; tomli handles the escapes."""
    if word[0] not in "\"'":
        return word
    return str(next(iter(tomli.loads(f"{word} = 0"))))


class End(NamedTuple):
    """Where a table of the text ends: the position after its last assignment, or after its header.

    `base` is the table whose header, braces or file these assignments stand in: keys are written relative to it.
    """

    position: int
    base: Key


class Scanner:
    """A scan of a document, whose lines end in line feeds alone.

    Attributes
    ----------
    lines
        The line of each key and list item.
    values
        Where the value of each assigned key and each list item is in the text: its first character, and the one after
        its last.
    ends
        Of each table that a header, an inline table or a dotted key makes.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: dict[Key, int] = {}
        self.values: dict[Key, tuple[int, int]] = {}
        self.ends: dict[Key, End] = {}
        self.position = 0
        self._line = 1
        self._counted = 0  # newlines are counted in _line up to this position
        self._tables: dict[Key, int] = {}  # arrays of tables: how many tables each has so far

    def document(self) -> None:
        """Scan statements until the end."""
        table: Key = ()
        while self._skip_blank():
            if self.text[self.position] == "[":
                table = self._header()
                self.ends[table] = End(self.position, table)
            else:
                self._assignment(table)

    def _skip_blank(self) -> bool:
        """Go to the next token; return False at the end."""
        match = _BLANK.match(self.text, self.position)
        assert match is not None  # the pattern also matches the empty string
        self.position = match.end()
        return self.position < len(self.text)

    def _mark(self, key: Key) -> None:
        """Record that `key` begins here, unless it is already recorded."""
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        self.lines.setdefault(key, self._line)

    def _mark_all(self, base: Key, parts: tuple[str, ...]) -> Key:
        """Mark `base` extended part by part, entering the last table of an array of tables."""
        key = base
        for part in parts:
            if key in self._tables:
                key = (*key, self._tables[key] - 1)
            key = (*key, part)
            self._mark(key)
        return key

    def _header(self) -> Key:
        """Scan `[table]` or `[[array]]` and return the key of the table that follows."""
        brackets = 2 if self.text.startswith("[[", self.position) else 1
        parts, end = read_key(self.text, self.position + brackets)
        key = self._mark_all((), parts)
        if brackets == 2:
            count = self._tables.get(key, 0)
            self._tables[key] = count + 1
            key = (*key, count)
            self._mark(key)
        self.position = end + brackets
        return key

    def _assignment(self, table: Key) -> None:
        """Scan `key = value`."""
        parts, end = read_key(self.text, self.position)
        key = self._mark_all(table, parts)
        self.position = end + 1  # past "="
        self._skip_blank()
        start = self.position
        self._value(key)
        self.values[key] = (start, self.position)
        for length in range(len(table), len(key)):
            self.ends[key[:length]] = End(self.position, table)

    def _value(self, key: Key) -> None:
        """Scan the value of `key`, of any type."""
        self._skip_blank()
        first = self.text[self.position]
        if first == "[":
            self._list(key)
        elif first == "{":
            self._inline_table(key)
        else:
            match = (_STRING if first in "\"'" else _ATOM).match(self.text, self.position)
            assert match is not None, "the document is valid TOML"
            self.position = match.end()

    def _list(self, key: Key) -> None:
        """Scan `[a, b]`, over any number of lines."""
        self.position += 1
        count = 0
        while self._skip_blank():
            if self.text[self.position] == "]":
                break
            if self.text[self.position] == ",":
                self.position += 1
                continue
            item = (*key, count)
            self._mark(item)
            start = self.position
            self._value(item)
            self.values[item] = (start, self.position)
            count += 1
        self.position += 1

    def _inline_table(self, key: Key) -> None:
        """Scan `{ a = 1, b.c = 2 }`."""
        self.position += 1
        while self._skip_blank():
            if self.text[self.position] == "}":
                break
            if self.text[self.position] == ",":
                self.position += 1
                continue
            self._assignment(key)
        self.position += 1
