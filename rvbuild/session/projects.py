"""Selection and loading of projects; the problems of all of them are reported at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rvbuild.errors import NoScenesError, ProjectError, UsageError
from rvbuild.project.load import load
from rvbuild.project.missing import missing_files
from rvbuild.project.model import Project
from rvbuild.project.workspaces import every_project


def project_paths(words: Sequence[str]) -> list[Path]:
    """Return the project files that `words` name, or every one in `projects/` if there are none."""
    if words:
        # A project that is named twice counts once.
        return list({os.path.abspath(w): Path(w) for w in words}.values())  # noqa: PTH100 - keeps symbolic links
    paths = [Path(p) for p in every_project()]
    if not paths:
        raise UsageError("no project file given, and there is no projects/*.toml here; try `rvbuild new NAME`")
    return paths


def load_available(words: Sequence[str], overrides: Sequence[str], notify: Callable[[str], None]) -> list[Project]:
    """Load the projects that `words` name, or else all in `projects/` whose data exist.

    Projects that were not named and whose data are missing are skipped and reported.
    """
    absent: list[str] = []
    projects = load_all(project_paths(words), overrides, None if words else absent)
    for line in absent:
        notify(f"left out: {line}")
    return projects


def load_all(paths: Sequence[Path], overrides: Sequence[str], absent: list[str] | None = None) -> list[Project]:
    """Load projects; the problems of all of them are reported at once.

    With `absent`, projects without scenes are skipped and their problems are added to it, unless all are without
    scenes.
    """
    projects: list[Project] = []
    problems: list[str] = []
    for path in paths:
        try:
            projects.append(load(path, overrides))
        except NoScenesError as error:
            (problems if absent is None else absent).extend(error.problems)
        except ProjectError as error:
            problems += error.problems
    if problems or not projects:
        raise ProjectError(problems or absent or [])
    roots = {p.workspace for p in projects}
    if len(roots) > 1:
        raise UsageError(f"these projects belong to {len(roots)} workspaces; build one workspace at a time")
    names: dict[str, Path] = {}
    for project in projects:
        if project.name in names:
            raise UsageError(
                f"{names[project.name]} and {project.path} are both named {project.name!r}: set project.name"
            )
        names[project.name] = project.path
    return projects


def require_files(projects: Sequence[Project]) -> None:
    """Require that all files that projects name exist, the weights of the encoders of drafts as well.

    Raises
    ------
    ProjectError
        With all missing files.
    """
    problems = [problem for project in projects for problem in missing_files(project, drafts=True)]
    if problems:
        raise ProjectError(problems)


def one_project(words: Sequence[str], command: str) -> Project:
    """Load the one project that a command is about.

    Raises
    ------
    UsageError
        None is named and there are several, or a word names none.
    """
    for word in words:
        if not word.endswith(".toml"):
            raise UsageError(f"{command} {word}: not a project file (.toml)")
    paths = project_paths(words)
    if len(paths) > 1:
        raise UsageError(f"{command}: one project at a time: {', '.join(map(str, paths))}")
    return load_all(paths, ())[0]
