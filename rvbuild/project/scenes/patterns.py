"""Scenes from file patterns: `train = { files = "images/{id}.tif" }` stands for the ids of all matching files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Field, Strict, Tag, ValidationError

from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.paths import Environment, PathError, expand, path_problem, uses_id
from rvbuild.project.toml.problems import Problems
from rvbuild.project.toml.table import Table

KEY: Key = ("scenes", "train")

_MARK = "\N{INFORMATION SEPARATOR ONE}"
"""Placeholder of the id in an expanded path; no path of a user can contain it."""


class PatternTable(Table):
    """Scenes from the files that match a pattern."""

    files: str = Field(
        description="A path with {id} in the file name: each file that matches is a scene. Folders cannot hold {id}."
    )
    without: Annotated[tuple[str, ...], Strict(False)] = Field((), description="Ids to leave out.")


def _form(value: object) -> str | None:
    if isinstance(value, dict | PatternTable):
        return "<pattern>"
    return "<ids>" if isinstance(value, list | tuple) else None


PatternOrIds: TypeAlias = Annotated[
    Annotated[tuple[str, ...], Strict(False), Tag("<ids>")] | Annotated[PatternTable, Tag("<pattern>")],
    Discriminator(
        _form,
        custom_error_type="expected",
        custom_error_message='a list of scene ids like ["a", "b"], or a table like { files = "images/{id}.tif" }',
    ),
]
"""The ids of scenes, or a pattern of their files."""


def find(
    data: dict[str, Any], workspace: Path, environment: Environment, problems: Problems
) -> dict[str, tuple[int, int, int, int]]:
    """Replace a file pattern by the ids of the scenes whose files match it.

    An invalid table is left unchanged, so that validation reports it.

    Parameters
    ----------
    data
        The parsed file; changed in place.
    workspace
        Base of relative paths.
    environment
        The environment variables.
    problems
        Receives the problems.

    Returns
    -------
    dict
        The folder that was searched, with its signature; see `Project.reads`.
    """
    scenes = data.get("scenes")
    entry = scenes.get("train") if isinstance(scenes, dict) else None
    if not isinstance(scenes, dict) or not isinstance(entry, dict):
        return {}
    try:
        table = PatternTable.model_validate(entry)
    except ValidationError:
        return {}
    scenes["train"] = []
    at = (*KEY, "files")
    try:
        if problem := path_problem(table.files):
            raise PathError(problem)
        if not uses_id(table.files):
            raise PathError(f"expected a path with {{id}}, found {show(table.files)}")
        pattern = Path(os.path.normpath(workspace / expand(table.files, environment, _MARK)))
        if _MARK in str(pattern.parent):
            raise PathError(f"{{id}} must be in the name of the file, not of a folder: {show(table.files)}")
    except PathError as error:
        problems.add(at, str(error))
        return {}
    status = pattern.parent.stat() if pattern.parent.is_dir() else None
    ids = _ids(pattern) if status else []
    if not ids:
        general = data.get("project")
        hint = general.get("data_hint") if isinstance(general, dict) else None
        hint = f"; {hint}" if isinstance(hint, str) else ""
        shown = os.path.relpath(pattern, workspace) if pattern.is_relative_to(workspace) else str(pattern)
        problems.add_missing_scenes(at, f"no file matches {shown.replace(_MARK, '*')}{hint}")
    for number, id_ in enumerate(table.without):
        if ids and id_ not in ids:
            problems.add((*KEY, "without", number), f"no file matches scene {show(id_)}")
    scenes["train"] = [id_ for id_ in ids if id_ not in table.without]
    if status is None:
        return {}
    return {str(pattern.parent): (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)}


def _ids(pattern: Path) -> list[str]:
    """Return the ids of the matching files in natural order: numbers in ids are compared by value."""
    first, *others = (re.escape(part) for part in pattern.name.split(_MARK))
    # If the path contains the id several times, all must be equal.
    name = re.compile(f"{first}(?P<id>.+){'(?P=id)'.join(others)}")
    names = (entry.name for entry in os.scandir(pattern.parent) if entry.is_file())
    ids = {match["id"] for text in names if (match := name.fullmatch(text))}
    return sorted(ids, key=lambda id_: [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", id_)])
