"""The paths of a project file: expanded, each with its place and its original text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvbuild.project.model import Written
from rvbuild.project.scenes.box_files import TABLES as BOX_FILES
from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.paths import Environment, PathError, expand
from rvbuild.project.toml.problems import Problems


class Paths:
    """Expands paths, and remembers their original form.

    Parameters
    ----------
    data
        The parsed file.
    problems
        Receives the problems of paths.
    environment
        The environment variables.
    """

    def __init__(self, data: dict[str, Any], problems: Problems, environment: Environment) -> None:
        self.data = data
        self.problems = problems
        self.environment = environment
        self.written: dict[tuple[str, str], tuple[Written, ...]] = {}
        self._tables: dict[int, bool] = {}
        self._placed: dict[tuple[tuple[str, ...], Key, str], tuple[Written, ...]] = {}

    def files(self, id_: str, part: str, texts: tuple[str, ...], at: Key) -> tuple[str, ...]:
        """Return the expanded paths of one part of a scene, and record their original form."""
        self.written[id_, part] = self.place(texts, at, part)
        return self.expand(texts, at, part, id_)

    def place(self, texts: tuple[str, ...], at: Key, part: str) -> tuple[Written, ...]:
        """Return places and original texts of paths; cached, since scenes without an override share them."""
        key = (texts, at, part)
        if key not in self._placed:
            where = self.problems.places.where
            self._placed[key] = tuple(Written(where(self._path_key(at, part, i)), text) for i, text in enumerate(texts))
        return self._placed[key]

    def expand(self, texts: tuple[str, ...], at: Key, part: str, id_: str | None) -> tuple[str, ...]:
        """Return expanded paths; problems are reported."""
        paths = []
        for number, text in enumerate(texts):
            try:
                paths.append(expand(text, self.environment, id_))
            except PathError as error:
                self.problems.add(self._path_key(at, part, number), str(error))
                paths.append(text)
        return tuple(paths)

    def _path_key(self, at: Key, part: str, number: int) -> Key:
        """Return the key of one path, in the form that the user has chosen."""
        key = (*at, part)
        value: Any = self.data
        for step in key:
            value = value[step]
        if isinstance(value, list) and self._holds_tables(value):
            # A list of tables, each with one or more paths.
            for position, item in enumerate(value):
                count = _count_of_paths(item)
                if number < count:
                    key, value = (*key, position), item
                    break
                number -= count
        if isinstance(value, dict):
            name = _name_of_paths(value)
            if name is None:
                return key
            key, value = (*key, name), value[name]
        if isinstance(value, list) and self._holds_tables(value):
            keys = _layer_keys(value, key)
            return keys[number] if number < len(keys) else key  # fewer if an invalid layer was removed
        return (*key, number) if isinstance(value, list) and len(value) > 1 else key

    def _holds_tables(self, value: list[Any]) -> bool:
        """Tell whether a list of the file contains tables; cached, since there may be thousands of paths."""
        if id(value) not in self._tables:
            self._tables[id(value)] = any(isinstance(item, dict) for item in value)
        return self._tables[id(value)]


def relative_to_workspace(workspace: Path, path: str) -> str:
    """Return a path relative to the workspace; a path outside of it begins with `..`."""
    return Path(os.path.relpath(workspace / path, workspace)).as_posix()


def _name_of_paths(table: Mapping[str, Any]) -> str | None:
    """Return the key with the paths of a table; None if there is none, which has been reported."""
    return next((name for name in ("files", "stac", "raster", "vector", *BOX_FILES) if name in table), None)


def _count_of_paths(item: Any) -> int:
    """Return the number of paths in an item of a list of tables."""
    if not isinstance(item, dict):
        return 1
    name = _name_of_paths(item)
    if name is None:
        return 0
    return len(item[name]) if isinstance(item[name], list) else 1


def _layer_keys(layers: list[Any], key: Key) -> list[Key]:
    """Return the key of each path of a stack; layers may be tables."""
    keys: list[Key] = []
    for number, layer in enumerate(layers):
        files = layer.get("files") if isinstance(layer, dict) else None
        if isinstance(files, list):
            keys += [(*key, number, "files", n) for n in range(len(files))]
        else:
            keys.append((*key, number, "files") if isinstance(layer, dict) else (*key, number))
    return keys
