"""Promotion of a point: its keys in the project file, where everything else stays as it is."""

from __future__ import annotations

import difflib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from rvbuild.errors import UsageError
from rvbuild.files.durable import sync
from rvbuild.files.marks import decoded
from rvbuild.project.model import Project
from rvbuild.project.toml import overrides
from rvbuild.project.toml.edit import EditError, set_value
from rvbuild.project.toml.problems import Override
from rvbuild.project.toml.reading import shown
from rvbuild.session.experiments.points import Point


@dataclass(frozen=True)
class Edit:
    """A change of a project file.

    Attributes
    ----------
    path
        The file.
    content
        What it will hold.
    lines
        The difference, as `diff -u` prints it; empty if there is none.
    shown
        The path for messages.
    """

    path: Path
    content: bytes
    lines: tuple[str, ...]
    shown: str

    def write(self) -> None:
        """Write the file, whole or not at all."""
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(self.content)
            temporary.chmod(self.path.stat().st_mode & 0o7777)
            sync(temporary)
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)


def _has(data: Any, override: Override) -> bool:
    """Tell whether a parsed file has the value of an override."""
    value = data
    for step in override.key:
        if isinstance(value, list) and str(step).isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return False
    return type(value) is type(override.value) and value == override.value


def edit(project: Project, point: Point) -> Edit:
    """Return the project file with the keys of a point written in.

    Raises
    ------
    UsageError
        The file no longer allows them, or one cannot be written without rewriting something else.
    """
    path = Path(os.path.realpath(project.path))
    if point.problems:
        raise UsageError("\n".join([f"{point.id} does not fit the project file any more:", *point.problems]))
    mark, before = decoded(path.read_bytes())  # TOML knows no mark
    text = before
    for argument in point.overrides():
        override = overrides.parse(argument)
        data = tomli.loads(text)
        if _has(data, override):
            continue  # perhaps spelled in another way, as 3e-3
        try:
            text = set_value(text, overrides.apply(data, override).key, override.value)
        except EditError as error:
            raise UsageError(f"{shown(project.path)}: {error}; nothing was written") from None
    name = shown(project.path)
    lines = difflib.unified_diff(before.splitlines(), text.splitlines(), name, name, lineterm="", n=1)
    return Edit(path, (mark + text).encode("utf-8"), tuple(lines), name)
