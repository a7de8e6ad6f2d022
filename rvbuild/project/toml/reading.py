"""Reading a project file: from bytes to parsed TOML and its line index."""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli

from rvbuild.errors import ProjectError, nearest
from rvbuild.project.toml.keys import Key, dotted
from rvbuild.project.toml.lines import line_index


def shown(path: Path) -> str:
    """Return a path for messages: relative if it is below the current directory."""
    if not path.is_absolute():
        return str(path)
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def read(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """Return the parsed file and the line of each of its keys.

    Raises
    ------
    ProjectError
        The file cannot be read, is not UTF-8, or is not TOML.
    """
    data, lines = _parsed(path, _text(path))
    return copied(data), dict(lines)


@functools.lru_cache(maxsize=4)
def _parsed(path: Path, text: str) -> tuple[dict[str, Any], dict[Key, int]]:
    """Return the content of a project file and the line of each key; kept, because watching reads it for each save."""
    if too_deep := _DEEP_KEY.search(text):
        raise ProjectError([f"{shown(path)}:{text.count(chr(10), 0, too_deep.start()) + 1}: {_TOO_DEEP}"])
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ProjectError([_syntax_problem(path, text, error)]) from None
    except RecursionError:
        raise ProjectError([f"{shown(path)}: {_TOO_DEEP}"]) from None
    except ValueError:  # raised by Python for a number with thousands of digits
        raise ProjectError([f"{shown(path)}: a number has too many digits"]) from None
    found = list(unusable(data))
    if any(len(key) > MAX_DEPTH for key, _ in found):
        raise ProjectError([f"{shown(path)}: {_TOO_DEEP}"])
    lines = line_index(text)
    problems = [f"{shown(path)}:{lines.get(key, 1)}: {dotted(key)}: {problem}" for key, problem in found]
    if problems:
        raise ProjectError(problems)
    return data, lines


def copied(value: Any) -> Any:
    """Copy tables and lists, so that changes of the copy do not change the original."""
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


MAX_BYTES, MAX_DEPTH = 16 << 20, 64
"""Maximum size of a project file, and maximum nesting depth of tables and lists."""

_TOO_DEEP = f"lists or tables are nested too deeply; expected at most {MAX_DEPTH} levels"

_WORD = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_DEEP_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_WORD}(?:[ \t]*+\.[ \t]*+{_WORD}){{{MAX_DEPTH},}}+[ \t]*+[=\]]")
"""A dotted key with so many parts that parsing it would take hours."""


def unusable(data: object) -> Iterator[tuple[Key, str]]:
    """Yield the key and the problem of values that are nested too deeply, and of numbers beyond TOML's range."""
    pending: list[tuple[Key, object]] = [((), data)]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict | list) and len(key) > MAX_DEPTH:
            yield key, _TOO_DEEP
        elif isinstance(value, dict):
            pending += [((*key, name), item) for name, item in value.items()]
        elif isinstance(value, list):
            pending += [((*key, number), item) for number, item in enumerate(value)]
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            yield key, "expected a whole number of at most 64 bits"


def _text(path: Path) -> str:
    """Return the text of a file, without a byte order mark."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ProjectError([f"{shown(path)}: is not a plain file; expected a project file (.toml)"])
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ProjectError([f"{shown(path)}: no such project file{_nearest_file(path)}"]) from None
    except IsADirectoryError:
        raise ProjectError(
            [f"{shown(path)}: is a directory; expected a project file (.toml){_projects_in(path)}"]
        ) from None
    except OSError as error:
        raise ProjectError([f"{shown(path)}: cannot be read: {error.strerror or error}"]) from None
    if len(data) > MAX_BYTES:
        raise ProjectError([f"{shown(path)}: is larger than {MAX_BYTES >> 20} MiB; is it a project file?"])
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ProjectError([f"{shown(path)}: is UTF-16; TOML files are UTF-8: save it with that encoding"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        byte = data[error.start]
        problem = f"not UTF-8: byte 0x{byte:02x} at byte {column} of the line; save the file with the encoding UTF-8"
        raise ProjectError([f"{shown(path)}:{line}: {problem}"]) from None


def _nearest_file(path: Path) -> str:
    """Return a hint at a project file with a similar name."""
    places = [path.parent, path.parent / "projects"]
    files = {file.name: file for place in places if place.is_dir() for file in place.glob("*.toml")}
    hint = nearest(path.name, files) or (nearest(f"{path.name}.toml", files) if path.suffix != ".toml" else "")
    if not hint:
        return ""
    return f'; did you mean "{shown(files[hint.split(chr(34))[1]])}"?'


def _projects_in(path: Path) -> str:
    """Return a hint at the project files in a directory."""
    files = sorted(path.glob("*.toml"))
    return f", for example {shown(files[0])}" if files else ""


_REPEATED = re.compile(r"Cannot declare \((.*)\) twice")


def _syntax_problem(path: Path, text: str, error: tomli.TOMLDecodeError) -> str:
    """Return the message about a document that is not TOML."""
    lines = text.replace("\r\n", "\n").split("\n")
    line = min(error.lineno, len(lines))
    content = lines[line - 1].strip()
    message = error.msg
    repeated = _REPEATED.fullmatch(message)
    if repeated:
        name = ".".join(re.findall(r"'([^']*)'", repeated[1]))
        before = (number for number, earlier in enumerate(lines[: line - 1], start=1) if _heads(earlier, name))
        at = next((f" in line {number}" for number in before), "")
        return f"{shown(path)}:{line}: the table [{name}] already exists{at}; merge the two"
    if message == "Cannot overwrite a value":
        message = "this key, or a part of it, already has a value"
    quoted = f": {content[:77]}…" if len(content) > 78 else f": {content}" if content else ""
    return (
        f"{shown(path)}:{line}: not valid TOML: {message}, column {error.colno}{quoted}{_syntax_hint(content, message)}"
    )


def _heads(line: str, name: str) -> bool:
    """Tell whether a line begins a table of this name."""
    head = line.split("#", 1)[0].strip()
    return head.startswith("[") and re.sub(r"[\s'\"\[\]]", "", head) == re.sub(r"\s", "", name)


def _syntax_hint(content: str, message: str) -> str:
    """Guess what the author of an invalid TOML line forgot."""
    value = content.split("=", 1)[1].strip() if "=" in content else None
    if "Illegal character '\\n'" in message:
        return "; the string has no closing quote on its line"
    if not content:
        return "; is a bracket or a quote missing above?"
    if value is None:
        return "; TOML writes key = value" if ":" in content else ""
    if re.match(r"(True|False)\b", value):
        return "; write true or false in lower case"
    if re.match(r"(None|null|nil)\b", value):
        return "; TOML has no null: leave the key out"
    if re.match(r"[A-Za-z_./~${]", value) and not re.match(r"(true|false|inf|nan)\b", value):
        return "; write strings in quotes"
    if re.match(r'"[^"]*\\', value):
        return r"; write \\ for a backslash, or put the string in single quotes"
    return ""
