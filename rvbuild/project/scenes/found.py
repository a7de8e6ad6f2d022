"""Scenes found by their files: `train = { files = "images/{id}.tif" }` stands for the ids of all matching files."""

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


class FoundTable(Table):
    """Scenes that are found by their files."""

    files: str = Field(
        description="A path with {id} in the file name: each file that matches is a scene. Folders cannot hold {id}."
    )
    without: Annotated[tuple[str, ...], Strict(False)] = Field((), description="Ids to leave out.")


def _form(value: object) -> str | None:
    if isinstance(value, dict | FoundTable):
        return "<found>"
    return "<ids>" if isinstance(value, list | tuple) else None


FoundOrIds: TypeAlias = Annotated[
    Annotated[tuple[str, ...], Strict(False), Tag("<ids>")] | Annotated[FoundTable, Tag("<found>")],
    Discriminator(
        _form,
        custom_error_type="expected",
        custom_error_message='a list of scene ids like ["a", "b"], or a table like { files = "images/{id}.tif" }',
    ),
]
"""The ids of scenes, or where to find them."""


def find(
    data: dict[str, Any], workspace: Path, environment: Environment, problems: Problems
) -> dict[str, tuple[int, int, int, int]]:
    """Put the ids of scenes that are found by their files in place of the table that describes them.

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
        Problems are added.

    Returns
    -------
    dict
        The folder whose files decide which scenes there are, with its signature; see `Project.reads`.
    """
    scenes = data.get("scenes")
    given = scenes.get("train") if isinstance(scenes, dict) else None
    if not isinstance(scenes, dict) or not isinstance(given, dict):
        return {}
    try:
        table = FoundTable.model_validate(given)
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
    seen = pattern.parent.stat() if pattern.parent.is_dir() else None
    ids = _ids(pattern) if seen else []
    if not ids:
        general = data.get("project")
        hint = general.get("data_hint") if isinstance(general, dict) else None
        hint = f"; {hint}" if isinstance(hint, str) else ""
        like = os.path.relpath(pattern, workspace) if pattern.is_relative_to(workspace) else str(pattern)
        problems.add_missing_scenes(at, f"no file matches {like.replace(_MARK, '*')}{hint}")
    for number, one in enumerate(table.without):
        if ids and one not in ids:
            problems.add((*KEY, "without", number), f"no file matches scene {show(one)}")
    scenes["train"] = [one for one in ids if one not in table.without]
    if seen is None:
        return {}
    return {str(pattern.parent): (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)}


def _ids(pattern: Path) -> list[str]:
    """Return the ids of the files that fit, sorted: numbers in them by their value."""
    first, *rest = (re.escape(part) for part in pattern.name.split(_MARK))
    # If the path contains the id several times, all must be equal.
    name = re.compile(f"{first}(?P<id>.+){'(?P=id)'.join(rest)}")
    names = (entry.name for entry in os.scandir(pattern.parent) if entry.is_file())
    found = {match["id"] for text in names if (match := name.fullmatch(text))}
    return sorted(found, key=lambda one: [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", one)])
