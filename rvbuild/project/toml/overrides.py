"""`--set key.dotted=value`: keys of the project file overridden on the command line."""

from __future__ import annotations

from typing import Any

import tomli

from rvbuild.project.toml.keys import Key, dotted, show
from rvbuild.project.toml.lines import read_key
from rvbuild.project.toml.problems import Override
from rvbuild.project.toml.reading import MAX_DEPTH, unusable


class OverrideError(ValueError):
    """An override cannot be read, or does not fit into the file."""


def parse(argument: str, option: str = "--set") -> Override:
    """Parse an override `key=value`.

    The value is parsed as TOML; anything else is a string, so that `--set predict.blend=mean` needs no quotes.

    >>> parse("train.lr=1e-3").value, parse("predict.blend=mean").value
    (0.001, 'mean')

    Raises
    ------
    OverrideError
        There is no key, or no `=`.
    """
    try:
        parts, end = read_key(argument)
    except ValueError:
        parts, end = (), 0
    if not parts or argument[end : end + 1] != "=":
        raise OverrideError(f"expected KEY=VALUE, for example {option} train.lr=1e-3")
    value = _value(argument[end + 1 :])
    for _, problem in unusable(value):
        raise OverrideError(problem)
    if len(parts) > MAX_DEPTH:
        raise OverrideError(f"expected a key of at most {MAX_DEPTH} parts, found {len(parts)}")
    return Override(text=argument, key=parts, value=value, option=option)


def _value(text: str) -> object:
    """Return the value of one TOML expression, or the text itself."""
    try:
        document = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text


def apply(data: dict[str, Any], override: Override) -> Override:
    """Set the override's key in a parsed file, in place; missing tables are created.

    Returns
    -------
    Override
        The override, with integers in its key for positions in a list (`predict.vectors.0.class`).

    Raises
    ------
    OverrideError
        The key leads into a value that is not a table, or beyond the end of a list.
    """
    key: Key = ()
    current: Any = data
    for number, part in enumerate(override.key):
        last = number == len(override.key) - 1
        if isinstance(current, dict):
            step: str | int = str(part)
        elif isinstance(current, list):
            step = _position(str(part), current, key)
        else:
            raise OverrideError(
                f"{dotted(key)} is {show(current)}, not a table, so {dotted(override.key)} cannot be set"
            )
        key = (*key, step)
        if last:
            current[step] = override.value
        else:
            current = current.setdefault(step, {}) if isinstance(current, dict) else current[step]
    return Override(override.text, key, override.value, override.option)


def _position(part: str, items: list[Any], key: Key) -> int:
    """Return the position in a list from a part of a key."""
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    raise OverrideError(f"{dotted(key)} is a list of {len(items)}; expected a position in it, found {show(part)}")
