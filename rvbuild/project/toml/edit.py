"""Edits of a project file: values of keys change, and every other character stays, comments included."""

from __future__ import annotations

import json
import re
from typing import Any

import tomli

from rvbuild.project.toml.keys import Key, dotted
from rvbuild.project.toml.lines import Scanner


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

    A value that is there is replaced where it stands. A new key comes after the last one of its table; a new table
    comes last in the file.

    >>> set_value("[train]  # fast\nlr = 1e-3  # tried\n", ("train", "lr"), 0.01)
    '[train]  # fast\nlr = 0.01  # tried\n'

    Raises
    ------
    EditError
        The key is inside a list of tables or of an inline table that does not have it, or line endings are mixed.
    """
    ends = "\r\n" if "\r\n" in text else "\n"
    if ends == "\r\n" and len(re.findall(r"(?<!\r)\n", text)):
        raise EditError("the lines of the file end in two ways; convert them first")
    text = text.replace("\r\n", "\n")
    expected = _with_value(tomli.loads(text), key, value)
    edited = _replaced(text, key, toml_text(value))
    try:
        is_right = tomli.loads(edited) == expected
    except ValueError:
        is_right = False
    if not is_right:
        raise EditError(f"{dotted(key)} cannot be set without rewriting a table; set it by hand to {toml_text(value)}")
    return edited.replace("\n", ends)


def _with_value(data: dict[str, Any], key: Key, value: object) -> dict[str, Any]:
    """Return a parsed document with `key` set, as the edited text must read."""
    current: Any = data
    for step in key[:-1]:
        current = current.setdefault(step, {}) if isinstance(current, dict) else current[step]
    if not isinstance(current, dict | list):
        raise EditError(f"{dotted(key[:-1])} is no table")
    current[key[-1]] = value  # type: ignore[index]
    return data


def _replaced(text: str, key: Key, value: str) -> str:
    scanner = Scanner(text)
    scanner.document()
    if key in scanner.values:
        start, end = scanner.values[key]
        stays = text[start:end].rstrip()  # blanks before a comment
        return text[:start] + value + text[start + len(stays) :]
    if any(isinstance(step, int) for step in key):
        raise EditError(f"{dotted(key)} is not written in the file; set it by hand to {value}")
    for length in range(len(key) - 1, -1, -1):
        table, name = key[:length], dotted(key[length:])
        if table in scanner.values:  # an inline table
            start, end = scanner.values[table]
            inside = text[start + 1 : end - 1].rstrip()
            if "\n" in inside or not text[start:end].startswith("{"):
                break
            comma = "," if inside.strip() else ""
            return f"{text[: start + 1]}{inside}{comma} {name} = {value} {text[end - 1 :]}"
        if length and table in scanner.ends:
            end = scanner.ends[table]
            line_end = text.find("\n", end)
            line_end = len(text) if line_end < 0 else line_end
            return f"{text[:line_end]}\n{name} = {value}{text[line_end:]}"
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    *outer, last = key
    header = f"[{dotted(outer)}]\n" if outer else ""
    if not outer:
        return f"{last} = {value}\n{text}"
    return f"{text}{gap}{header}{dotted((last,))} = {value}\n"
