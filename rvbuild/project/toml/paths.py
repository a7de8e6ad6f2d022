"""Paths in a project file: `{id}`, `${NAME}` and `${NAME:-default}`, and their expansion."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from rvbuild.files.address import SCHEMES, is_url, url_problem
from rvbuild.project.toml.keys import show

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-)?")
_PLAIN = re.compile(r"[^{}$]+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_OR_ADDRESS = f", or an address that begins with {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
_URL_SUFFIX = re.compile(r"(\.(?:vrt|shp|tab|mif))(?:$|[?#])", re.IGNORECASE)
"""Suffixes of files that GDAL reads together with others."""


class PathError(ValueError):
    """A path is malformed, or needs a variable that is not set."""


@dataclass
class Environment:
    """The environment variables during one load, which records those that are read.

    Attributes
    ----------
    variables
        The variables that can be read.
    read
        Each variable that was read, with its value, or None if it is not set.
    """

    variables: Mapping[str, str]
    read: dict[str, str | None] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """Return the value of a variable, or None if it is not set."""
        self.read[name] = self.variables.get(name)
        return self.read[name]


@dataclass(frozen=True)
class _SceneId:
    """`{id}`."""


@dataclass(frozen=True)
class _Variable:
    """`${name}`, or `${name:-default}` with the default's own parts."""

    name: str
    default: _Parts | None
    written: str


_Parts: TypeAlias = tuple[str | _Variable | _SceneId, ...]


def path_problem(text: str, may_be_remote: bool = False) -> str | None:
    """Return the problem of a path in its original form, or None. Nothing is read.

    Parameters
    ----------
    text
        The path.
    may_be_remote
        Whether it may be the address of a remote file.
    """
    if not text.strip():
        return "the path is empty"
    if text.startswith("~"):
        return f'"~" is not expanded; write ${{HOME}}{text[1:] if text.startswith("~/") else "/…"}'
    if text.startswith("/vsi"):
        expected = f"a path{_OR_ADDRESS if may_be_remote else ''}"
        return f"GDAL's virtual file names are not supported; expected {expected}, found {show(text)}"
    if _URL.match(text):
        if not may_be_remote or not is_url(text):
            allowed = (
                f"a path{_OR_ADDRESS}" if may_be_remote else "a path in the file system: this file cannot be remote"
            )
            return f"expected {allowed}, found {show(text)}"
        if suffix := _URL_SUFFIX.search(text):
            return (
                f"a remote {suffix[1].lower()} depends on other files, whose state cannot be tracked; expected a "
                f"format of a single file, such as .tif, .geojson or .gpkg, found {show(text)}"
            )
        if "{" not in text and (problem := url_problem(text)):
            return f"{problem}: {show(text)}"
    if any(ord(letter) < 32 for letter in text):
        return f"a path cannot hold a control character: {show(text)}"
    try:
        _parse(text)
    except PathError as error:
        return str(error)
    return None


def uses_id(text: str) -> bool:
    """Tell whether a path, or a default in it, contains `{id}`."""
    return any(isinstance(part, _SceneId) for part in _flat(_parse(text)))


def variables_of(text: str) -> dict[str, str]:
    """Return the variables in a path: name → original form, for example `${NAME:-default}`."""
    return {part.name: part.written for part in _flat(_parse(text)) if isinstance(part, _Variable)}


def expand(text: str, environment: Environment, scene: str | None = None) -> str:
    """Return a path with its variables and its scene id filled in.

    Parameters
    ----------
    text
        The path in its original form.
    environment
        The environment variables; an empty one counts as unset, as in a shell.
    scene
        The scene's id; None outside of scenes.

    Raises
    ------
    PathError
        A variable without a default is not set or is not text, or `{id}` is used outside of scenes.
    """
    return _join(_parse(text), text, environment, scene)


def _join(parts: _Parts, text: str, environment: Environment, scene: str | None) -> str:
    result = []
    for part in parts:
        if isinstance(part, str):
            result.append(part)
        elif isinstance(part, _SceneId):
            if scene is None:
                raise PathError(f"{{id}} has no meaning in the path {show(text)}, which does not belong to a scene")
            result.append(scene)
        else:
            result.append(_value(part, text, environment, scene))
    return "".join(result)


def _value(variable: _Variable, text: str, environment: Environment, scene: str | None) -> str:
    value = environment.get(variable.name)
    if value and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise PathError(f"environment variable {variable.name} is not valid UTF-8 (needed by {show(text)})")
    if value:
        return value
    if variable.default is not None:
        return _join(variable.default, text, environment, scene)
    state = "is empty" if value == "" else "is not set"
    raise PathError(
        f"environment variable {variable.name} {state} (needed by {show(text, 120)}); "
        f"set it, or write ${{{variable.name}:-default}}"
    )


def _flat(parts: _Parts) -> Iterator[str | _SceneId | _Variable]:
    for part in parts:
        yield part
        if isinstance(part, _Variable) and part.default is not None:
            yield from _flat(part.default)


@functools.lru_cache(maxsize=256)
def _parse(text: str) -> _Parts:
    parts, end = _parts(text, 0, nested=False)
    assert end == len(text)
    return parts


def _parts(text: str, start: int, *, nested: bool) -> tuple[_Parts, int]:
    """Read parts up to the end of the text, or up to the `}` that ends a default."""
    parts: list[str | _SceneId | _Variable] = []
    position = start
    while position < len(text):
        two = text[position : position + 2]
        if text[position] == "}" and nested:
            break
        if two == "${":
            variable, position = _variable(text, position)
            parts.append(variable)
        elif two in ("{{", "}}"):
            parts.append(two[0])
            position += 2
        elif text[position] == "{":
            position = _scene_id(text, position)
            parts.append(_SceneId())
        elif text[position] == "}":
            raise PathError(f"a }} without {{ in {show(text)}; write }}}} for a brace in a file name")
        else:
            plain = _PLAIN.match(text, position)
            end = plain.end() if plain else position + 1
            parts.append(text[position:end])
            position = end
    return tuple(parts), position


def _variable(text: str, start: int) -> tuple[_Variable, int]:
    """Read `${NAME}` or `${NAME:-default}`."""
    match = _VARIABLE.match(text, start)
    malformed = f"expected ${{NAME}} or ${{NAME:-default}}, found {show(text[start:])}"
    if match is None:
        raise PathError(malformed)
    default, end = _parts(text, match.end(), nested=True) if match[2] else (None, match.end())
    if text[end : end + 1] != "}":
        raise PathError(malformed)
    return _Variable(match[1], default, text[start : end + 1]), end + 1


def _scene_id(text: str, start: int) -> int:
    """Read `{id}` and return the position after it."""
    if text.startswith("{id}", start):
        return start + 4
    end = text.find("}", start)
    name = text[start + 1 : end] if end >= 0 else ""
    placeholder = f"{{{name}}}" if end >= 0 else text[start:]
    raise PathError(
        f"unknown placeholder {show(placeholder)}; only {{id}} is known; write {{{{ for a brace in a file name"
    )
