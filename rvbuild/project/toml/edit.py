"""Edits of a project file: values of keys change, and every other character stays, comments included."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import tomli

from rvbuild.project.toml.keys import Key, dotted
from rvbuild.project.toml.lines import Scanner

_COMMENT = re.compile(r"#[^\n]*")


class EditError(ValueError):
    """A key cannot be set in this file without changing something else."""


def toml_text(value: object) -> str:
    """Return a value as TOML writes it, in one line.

    >>> toml_text({"fraction": 0.2, "by": "block"}), toml_text([True, 1e-05])
    ('{ fraction = 0.2, by = "block" }', '[true, 1e-05]')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _escaped(json.dumps(value, ensure_ascii=False))
    if isinstance(value, dict):
        items = ", ".join(f"{_escaped(dotted((name,)))} = {toml_text(item)}" for name, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    return str(value)


def _escaped(text: str) -> str:
    """Return text in JSON's escapes with the one that TOML has besides."""
    return text.replace("\x7f", "\\u007f")


def set_value(text: str, key: Key, value: object) -> str:
    r"""Return a TOML document with `key` set to `value`.

    A value that is there is replaced where it stands. A new key comes after the last one of its table, in the same
    form: below a header, in an inline table, or dotted. A new table comes last in the file.

    >>> set_value("[train]  # fast\nlr = 1e-3  # tried\n", ("train", "lr"), 0.01)
    '[train]  # fast\nlr = 0.01  # tried\n'
    >>> set_value('train.lr = 1e-3\nname = "x"\n', ("train", "epochs"), 5)
    'train.lr = 1e-3\ntrain.epochs = 5\nname = "x"\n'

    Raises
    ------
    EditError
        TOML has no place for the key unless something else is rewritten, or line endings are mixed.
    """
    ends = "\r\n" if "\r\n" in text else "\n"
    if ends == "\r\n" and len(re.findall(r"(?<!\r)\n", text)):
        raise EditError("the lines of the file end in two ways; convert them first")
    text = text.replace("\r\n", "\n")
    expected = _with_value(tomli.loads(text), key, value)
    for edited in _edits(text, key, toml_text(value)):
        try:
            is_right = tomli.loads(edited) == expected
        except ValueError:
            continue
        if is_right:
            return edited.replace("\n", ends)
    raise EditError(f"{dotted(key)} cannot be set without rewriting a table; set it by hand to {toml_text(value)}")


def _with_value(data: dict[str, Any], key: Key, value: object) -> dict[str, Any]:
    """Return a parsed document with `key` set, as the edited text must read."""
    current: Any = data
    for step in key[:-1]:
        current = current.setdefault(step, {}) if isinstance(current, dict) else current[step]
    if not isinstance(current, dict | list):
        raise EditError(f"{dotted(key[:-1])} is no table")
    current[key[-1]] = value  # type: ignore[index]
    return data


def _edits(text: str, key: Key, value: str) -> Iterator[str]:
    """Yield texts that may set `key`, the nearest to what is written first; some may not be valid."""
    scanner = Scanner(text)
    scanner.document()
    if key in scanner.values:
        start, end = scanner.values[key]
        stays = text[start:end].rstrip()  # blanks before a comment
        yield text[:start] + value + text[start + len(stays) :]
        return
    for length in range(len(key) - 1, -1, -1):
        table = key[:length]
        if table in scanner.values:
            start, end = scanner.values[table]
            if text[start:end].strip("{} \t\n") == "":
                yield f"{text[:start]}{{ {dotted(key[length:])} = {value} }}{text[end:]}"
                return
        if table in scanner.ends and (length or len(key) == 1):
            base = scanner.ends[table].base
            assignment = f"{dotted(key[len(base) :])} = {value}"
            if base in scanner.values:
                yield _inside(text, scanner.ends[base].position, scanner.values[base][1] - 1, assignment)
            else:
                yield _below(text, scanner.ends[table].position, assignment)
    *outer, last = key
    if not outer:
        yield f"{dotted(key)} = {value}\n{text}"
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    yield f"{text}{gap}[{dotted(outer)}]\n{dotted((last,))} = {value}\n"


def _below(text: str, position: int, assignment: str) -> str:
    """Return the text with a line after that of `position`."""
    line_end = text.find("\n", position)
    line_end = len(text) if line_end < 0 else line_end
    return f"{text[:line_end]}\n{assignment}{text[line_end:]}"


def _inside(text: str, position: int, end: int, assignment: str) -> str:
    """Return the text with an assignment after the last one of an inline table, which ends at `position`."""
    position = len(text[:position].rstrip())
    rest = text[position:end]  # blanks and, over several lines, a comma and comments
    if "\n" not in rest:
        return f"{text[:position]}, {assignment}{text[position:]}"
    comma = "" if "," in _COMMENT.sub("", rest) else ","
    line = text[text.rfind("\n", 0, position) + 1 : position]
    indent = line[: len(line) - len(line.lstrip())]
    return _below(f"{text[:position]}{comma}{text[position:]}", position, f"{indent}{assignment},")
