"""The line index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.lines import line_index, read_key

DOCUMENT = '''\
# a comment with [brackets] and = signs
title = "x = [1]"  # another

[a."b.c".'d']
"quoted \\u00e9" = 1
x . y . "z" = { p = 1, q.r = [1, 2], s = { t = "}" } }
text = """
[not.a.table]
no_key = 1 """"
after = \'\'\'
  'x' = "
\'\'\'\'\'
last = 1979-05-27 07:32:00

[[list]]
n = [
  1,  # one ]
  "two",
  [3,
   4],
]
[list.sub]
k = 1
[[list.inner]]
k = 1
[[list.inner]]
k = 2
[[list]]
n = 0
[list.sub]
k = 2
[e] # empty
'''


def keys_of(value: Any, key: Key = ()) -> Iterator[Key]:
    """Every key of parsed TOML, with the tables and list items that hold others."""
    if key:
        yield key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in items:
        yield from keys_of(item, (*key, step))


def test_every_construct() -> None:
    lines = line_index(DOCUMENT)
    assert set(lines) == set(keys_of(tomli.loads(DOCUMENT)))
    assert lines["title",] == 2
    assert lines["a",] == lines["a", "b.c", "d"] == 4
    assert lines["a", "b.c", "d", "quoted é"] == 5
    assert lines["a", "b.c", "d", "x", "y", "z", "q", "r", 1] == 6
    assert lines["a", "b.c", "d", "text"] == 7
    assert lines["a", "b.c", "d", "after"] == 10
    assert lines["a", "b.c", "d", "last"] == 13
    assert lines["list", 0] == 15
    assert [lines["list", 0, "n", n] for n in range(3)] == [17, 18, 19]
    assert lines["list", 0, "n", 2, 1] == 20
    assert lines["list", 0, "sub", "k"] == 23
    assert lines["list", 0, "inner", 1, "k"] == 27
    assert lines["list", 1, "sub", "k"] == 31
    assert lines["e",] == 32


def test_windows_line_ends() -> None:
    assert line_index(DOCUMENT.replace("\n", "\r\n")) == line_index(DOCUMENT)


def test_inline_tables_over_several_lines() -> None:
    document = 'x = {\n  a = 1, # one }\n  b = [\n    "c",\n  ],\n}\ny = 2\n'
    try:
        keys = set(keys_of(tomli.loads(document)))
    except tomli.TOMLDecodeError:
        pytest.skip("this version of tomli knows TOML 1.0 only")
    lines = line_index(document)
    assert set(lines) == keys
    assert (lines["x", "a"], lines["x", "b", 0], lines["y",]) == (2, 4, 7)


def test_a_parent_stands_where_it_is_first_named() -> None:
    lines = line_index("[a.b]\nx = 1\n[a]\ny = 1\n[a.c]\n")
    assert (lines["a",], lines["a", "b"], lines["a", "y"], lines["a", "c"]) == (1, 1, 4, 5)


def test_read_key() -> None:
    assert read_key('a . "b.c".d=1') == (("a", "b.c", "d"), 11)
    with pytest.raises(ValueError, match="no key at position 2"):
        read_key("a.=1")


# A writer of TOML that notes the line of every key, to compare with.

NAMES = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,4}", fullmatch=True), st.text(max_size=3))
VALUES = st.recursive(
    st.one_of(
        st.integers(-9, 9), st.booleans(), st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=4)
DOCUMENTS = st.fixed_dictionaries(
    {
        "keys": TABLES,
        "tables": st.dictionaries(NAMES, TABLES, max_size=3),
        "lists": st.dictionaries(NAMES, st.lists(TABLES, min_size=1, max_size=3), max_size=2),
    }
)


class Writer:
    """Writes TOML with line breaks, comments and quotes wherever `draw` wants them."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[Key, int] = {}

    def mark(self, key: Key) -> None:
        self.lines.setdefault(key, self.text.count("\n") + 1)

    def coin(self) -> bool:
        return bool(self.draw(st.booleans()))

    def gap(self) -> None:
        if self.coin():
            self.text += self.draw(st.sampled_from([" ", "\n", "# ] } = [\n", "\t# \"'\n\n"]))

    def string(self, value: str) -> str:
        """One of the four kinds of string, if it can hold the value."""
        kinds = [json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")]
        if any(ord(letter) > 0xFFFF for letter in value):  # JSON would write surrogates
            kinds = [json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")]
        plain = all(letter == "\n" or (ord(letter) >= 32 and letter != "\x7f") for letter in value)
        if plain and "'" not in value and "\n" not in value:
            kinds.append(f"'{value}'")
        if plain and "'''" not in value and not value.endswith("'"):
            kinds.append(f"'''\n{value}'''")
        if plain:
            escaped = value.replace("\\", "\\\\").replace('"""', '""\\"')
            kinds.append(f'"""{escaped[:-1]}\\""""' if escaped.endswith('"') else f'"""\n{escaped}"""')
        return str(self.draw(st.sampled_from(kinds)))

    def name(self, value: str) -> str:
        bare = value.isascii() and value.replace("-", "").replace("_", "").isalnum()
        if bare and self.coin():
            return value
        quoted = json.dumps(value, ensure_ascii=all(ord(letter) <= 0xFFFF for letter in value))
        return quoted.replace("\x7f", "\\u007f")

    def value(self, value: Any, key: Key) -> None:
        if isinstance(value, bool):
            self.text += str(value).lower()
        elif isinstance(value, int):
            self.text += str(value)
        elif isinstance(value, str):
            self.text += self.string(value)
        elif isinstance(value, list):
            self.text += "["
            for number, item in enumerate(value):
                self.gap()
                self.mark((*key, number))
                self.value(item, (*key, number))
                self.gap()
                self.text += ","
            self.gap()
            self.text += "]"
        else:
            self.text += "{ "
            for number, (name, item) in enumerate(value.items()):
                self.text += ", " if number else ""
                self.assign(name, item, key)
            self.text += " }"

    def assign(self, name: str, value: Any, key: Key) -> None:
        self.mark((*key, name))
        self.text += self.name(name) + " = "
        self.value(value, (*key, name))

    def table(self, table: dict[str, Any], key: Key) -> None:
        for name, value in table.items():
            self.assign(name, value, key)
            self.text += "\n"
            self.gap()


@pytest.mark.slow
@given(st.data())
def test_lines_of_random_documents(data: st.DataObject) -> None:
    document: dict[str, Any] = data.draw(DOCUMENTS)
    writer = Writer(data.draw)
    writer.table(document["keys"], ())
    for name, table in document["tables"].items():
        parent = f"t{name}"
        if parent not in document["keys"]:
            writer.text += "\n"
            writer.mark((parent,))
            writer.mark((parent, name))
            writer.text += f"[ {writer.name(parent)} . {writer.name(name)} ]\n"
            writer.table(table, (parent, name))
    for name, tables in document["lists"].items():
        parent = f"l{name}"
        for number, table in enumerate([] if parent in document["keys"] else tables):
            writer.text += "\n"
            writer.mark((parent,))
            writer.mark((parent, number))
            writer.text += f"[[{writer.name(parent)}]]\n"
            writer.table(table, (parent, number))
    assert set(writer.lines) == set(keys_of(tomli.loads(writer.text)))  # the writer is right
    assert line_index(writer.text) == writer.lines
