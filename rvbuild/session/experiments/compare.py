"""Comparison of two points or projects: the keys that differ, and what each has given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvbuild.project.model import Project
from rvbuild.project.toml import overrides
from rvbuild.project.toml.keys import dotted
from rvbuild.project.toml.reading import read
from rvbuild.session.experiments.points import Point
from rvbuild.session.experiments.results import Row, row_of


@dataclass(frozen=True)
class Side:
    """One of two that are compared.

    Attributes
    ----------
    label
        The id of a point, or the path of a project file.
    keys
        Dotted key → value, of all keys that are set.
    row
        What it has given.
    """

    label: str
    keys: Mapping[str, object]
    row: Row


def side(project: Project, point: Point | None, label: str, notify: Callable[[str], None]) -> Side:
    """Return a point of a project, or the project itself."""
    words = [] if point is None else point.overrides()
    return Side(label, _written(project.path, words), row_of(project, point, notify))


def _written(path: Path, words: list[str]) -> dict[str, object]:
    data, _ = read(path)
    for word in words:
        overrides.apply(data, overrides.parse(word))
    return dict(_flat(data, ()))


def _flat(value: Any, key: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, (*key, name))
    else:
        yield dotted(key), value


def different_keys(a: Side, b: Side) -> list[str]:
    """Return the keys whose values differ, or that only one of them sets, in the order of the files."""
    missing = object()
    return [key for key in dict.fromkeys([*a.keys, *b.keys]) if a.keys.get(key, missing) != b.keys.get(key, missing)]
